// Package queue sends mail to other systems: what storage has queued goes out,
// and the sender hears when it does not.
//
// Five types carry the model:
//
//   - A [Queue] runs on every node. It finds destinations that are due, and has
//     a worker for each as far as the limits allow; no destination can use up
//     the workers that the others need.
//   - A worker knows where a destination's mail goes (its route), takes a lease
//     of recipients, sends them over a connection that it uses for several
//     messages, and records what became of each under the lease's token.
//   - A route is the hosts of a destination in the order they are to be tried,
//     and what TLS must prove: by DANE, by MTA-STS, by REQUIRETLS, or nothing.
//   - A client is one SMTP connection. Each step has a deadline, each reply a
//     bound, and what a host says it can do is believed only until it fails.
//   - A report is what the sender gets (RFC 3464). It goes through
//     storage.Deliver like any message, in the command that marks it as sent.
//
// DESIGN.md says what happens when a node dies in the middle.
package queue
