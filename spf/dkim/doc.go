// Package dkim makes and checks signatures of domains on messages (RFC 6376, with the
// algorithms of RFC 8301 and RFC 8463).
//
// Its mental model is four types:
//
//   - A [Splitter] takes a message as it is written, in pieces of any size. It
//     gives the [Header] away when it is complete and passes the body on, so a message
//     is read once, and only its header is in memory.
//   - [Bodies] are the hashes of that body under all canonicalisations that somebody
//     asks for, each made once.
//   - A [Verifier] is an [io.Writer] of these parts. When the message is complete its
//     Verify looks up the keys and returns one [Result] for each signature, with
//     the reason: what DNS could not say is temporary, what the signature or key
//     says is not.
//   - A [Signer] is the same for signing, with any number of keys in one pass.
//
// What ARC has in common with DKIM (canonicalisation, keys, signatures over chosen
// fields) is exported for spf/arc. Every message, signature and key here was written by
// whoever wants to be believed.
package dkim
