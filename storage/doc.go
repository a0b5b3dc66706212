// Package storage is the replicated state of a node: the directory of domains,
// accounts and aliases, the mailboxes and messages, and the bodies beside them.
//
// Four types carry the model:
//
//   - [Store] is the door for everybody else. Its reads come from a bounded pool
//     of read-only connections and see every change that was applied on this
//     node; its writes settle whatever is random, slow or outside (ids, the
//     clock, MIME structure, compression), encode the decision as a command and
//     propose it to the [Log]. A write returns when the command is durable and
//     applied, or with an [Error] that says what became of it.
//   - [Machine] is the other side of that log: it applies committed commands,
//     in order, a batch in one transaction, with short and deterministic SQL.
//     Two machines that applied the same commands hold the same logical state,
//     and [Store.Checksum] is how that is compared.
//   - [Content] is a message on its way in: read once, hashed, scanned by
//     storage/message, compressed, and spooled to disk when it is large.
//   - [Body] is a message on its way out: random access to exactly the bytes
//     that came in.
//
// mail.db holds all but the bodies, packs/N.db hold the bodies as compressed
// chunks. DESIGN.md says how the two stay consistent through a power cut.
package storage
