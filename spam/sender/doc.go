// Package sender judges mail by who brings it and what is remembered of them.
//
// Its mental model is five things:
//
//   - [Guard] is the [spam.Check] that looks at a message from outside once: the client's name and greeting, what
//     was proven of the sender, block lists, reputation, links and attachments (package threat). It is
//     the [spam.Reviewer] too that counts what the verdicts came to.
//   - [Acquaintance] is the [spam.Personal] check: whether the recipient knows the sender, or a name that
//     the sender borrows.
//   - [Ledger] gathers what is to be remembered and writes it in batches: no message costs a command of its own.
//   - [Greylist] is a [spam.Reviewer] that puts off first contacts that look wrong.
//   - [Challenge] is a [spam.Reviewer] that asks a sender nobody knows to press a button, and keeps a copy
//     meanwhile.
//
// What is remembered is replicated, so every node says the same. All a node has by itself is what it
// has not written yet, and how much came from a network in the last minutes.
package sender
