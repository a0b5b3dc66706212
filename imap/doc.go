// Package imap serves mailboxes by IMAP4rev1 and IMAP4rev2 (RFC 3501, RFC 9051).
//
// Four types carry it:
//
//   - Server accepts connections, counts them against its Limits and ends them in order.
//   - session is one connection: who it is, what it enabled, which mailbox it has selected. One
//     goroutine runs it, command after command; IDLE borrows a second one to wait for DONE.
//   - call is one command while it runs. The table in dispatch.go maps a name to the states in which
//     it may be given and to its handler; a new command is a file and a line there.
//   - view is the selected mailbox as the client was told it is: UIDs in the order of sequence
//     numbers. Storage moves on by itself; view.go tells the client at the moments the protocol
//     allows, which is the only way sequence numbers change.
//
// A handler decodes all its arguments before it does anything, writes untagged responses, and returns
// how the command ended; dispatch writes the tagged response. Nothing is written to a client while
// anything of the database is held: rows are read a batch at a time, released, then written.
//
// What a failure of storage means to a client is one table, in errors.go.
package imap
