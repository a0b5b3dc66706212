// Package wire is the syntax of IMAP (RFC 3501, RFC 9051, RFC 7888) and nothing of its meaning.
//
// Four types carry it:
//
//   - Reader finds where a command ends. A command is a chain of lines; a line that ends in
//     "{n}", "{n+}" or "~{n}" is followed by a literal of n octets and then by another line.
//     The framing is decided by the line's end alone, never by what a command's grammar makes of
//     it, so the octets of a literal that was refused cannot become commands (Reader.Finish).
//   - Decoder reads tokens from the current line and asks the Reader for the next literal only
//     when the grammar reaches it. Its error sticks: a handler decodes everything, then asks End.
//   - Writer collects responses in a pooled buffer and writes when the session says so, not per line.
//   - Set, Section, Partial and friends are the values the grammar yields.
//
// Everything is bounded by Limits. Nothing here knows a session, a mailbox or a clock.
package wire
