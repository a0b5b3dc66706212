// Package smtp receives mail for local domains, the MX side of RFC 5321, and takes
// mail from users for anywhere, the submission of RFC 6409. A [Server] does one of
// the two: with an [Authenticator] it is for users.
//
// Five types carry it.
//
//   - A [Server] is a listener's configuration and the set of its sessions. Its
//     door lets connections in, or tells them 421 at once.
//   - A wire is the octets of one connection: input not yet used, replies not
//     yet sent, deadlines, the TLS below. It knows lines but no commands.
//   - A gate stands above the wire and is the net.Conn that go-smtp has. It
//     hands over one checked command at a time, answers some itself, and
//     closes the defects of go-smtp that are listed at its declaration.
//   - A session is what is known of one client: who it says it is, its
//     transaction, its recipients. Its verbs (Mail, Rcpt, Data, Reset) are
//     called by go-smtp, which keeps the order and speaks for us.
//   - A body is one message coming in, by DATA or BDAT: strict about line ends
//     and limits, hashed and spooled as it passes by.
//
// So a command takes this way, on the one goroutine of its connection:
//
//	network > wire > gate.execute (syntax, place) > go-smtp > session verb > Store
//	network < wire < gate.Write                   < go-smtp < reply
//
// and a message this one, while go-smtp waits in Data:
//
//	network > wire > body (transparency, checks, digest) > Store.Prepare, Store.Deliver
//
// # What a 250 means
//
// The reply to a message is 250 only after [Store.Deliver] has returned nil.
// A message that did not come whole is delivered to nobody. One that is
// refused is read to its end first, so the next command is found where it
// starts; where that cannot be had (timeouts, a broken chunk, more than twice
// the size limit) the connection is closed, and what was left of the message is
// never executed. A client that sends the same envelope and the same octets
// again within an hour gets a 250 and no second copy.
//
// # What is accepted
//
// Lines end with CRLF. A CR or LF alone is refused, in a command (500) and in
// a message (550 5.6.0), and never ends anything: only CRLF.CRLF ends DATA. A
// NUL in a message is refused: IMAP could not show it. Octets above 127 are
// accepted in messages whether or not BODY=8BITMIME was said, and in addresses
// with SMTPUTF8. A message need not end with CRLF in BDAT. Header and body are
// kept as they came; Return-Path and Received go in front.
//
// From other servers AUTH is not taken: there is nothing to guess. BINARYMIME, DSN
// and REQUIRETLS are not either: they are promises about sending on.
//
// # Users
//
// A user logs in before MAIL, in their own TLS session or from this machine; the
// gate answers AUTH itself. The reverse path and every author in From is the
// account's own address, or the message is refused. Then a draft is made of its
// header: what only servers say goes, what is missing comes, two of what may be
// once are refused. A message is a parcel from here on, read once and kept in a
// spool, and stored as one or more postings: itself, signed, for its recipients
// here and elsewhere in one command; a copy for the members of each group; and for
// who is away, an answer. From other servers, too, a message is spooled when it is
// stored in more than one form.
//
// Each posting has a transaction id of its own, derived from that of the message:
// where the second of two fails, the client is told to come again, and the first
// is recognised.
//
// # Limits
//
// All are in [Limits].
package smtp
