// Package dns asks the domain name system, for every room that has to: who sends
// for a domain, where its mail goes, which keys sign for it.
//
// Its mental model is four things:
//
//   - A [Resolver] is a stub: it asks recursive servers and believes what they say. Its
//     methods have the signatures of [net.Resolver], so that a room declares the
//     interface it needs, and its tests put a map in this place.
//   - A question (type and name) is asked once: whoever asks the same meanwhile waits
//     for that answer (singleflight), and whoever asks later gets it from the
//     cache, which keeps answers, the absence of an answer (RFC 2308) and, for some
//     seconds, failures (RFC 9520).
//   - A server that does not answer is asked again seldom (server.go), so that a
//     resolver that is gone costs a lookup nothing rather than its time-out.
//   - Answers are hostile: an answer to another question is not read, a chain of
//     aliases has an end, and what is kept is bounded.
//
// Errors are *[net.DNSError]: IsNotFound says that the name or the type does not exist, which
// is an answer; IsTemporary says that there is no answer, and asking later may help.
package dns
