// Package raft keeps a sequence of opaque entries in the same order on every node of a cluster and hands them, once they
// are fsynced on a majority, to a state machine. Bytes in, bytes out: it knows nothing of mail or SQL.
//
// The mental model has four things:
//
//   - [Node] is this machine's membership: Propose puts bytes into the order and returns what applying them answered.
//   - [StateMachine] is the state the entries are applied to. It keeps its own files, and is its own snapshot: Raft keeps a
//     small marker saying up to which index those files are fsynced, and may drop log entries only up to there.
//   - [Entry] is one position of the order: index, term, bytes.
//   - A fault, which [Node.Fault] returns, is what this node cannot do at the moment: apply, append or remember its vote. It is
//     never an answer to a proposal. The node says so, refuses work, tries again by itself, and goes on from the same entry.
//
// Without Config.Listener a node is alone. With one it is a [Member] of a cluster: nodes speak to each other on one port, over
// mutual TLS, and each takes proposals. One that does not lead has the leader put them into the order, and answers when it has
// applied them itself. A node joins as a learner, gets the entries it lacks or a [State], and votes once it is close.
//
// What a caller may conclude from an error of Propose is decided by its kind alone; see the Err variables.
//
// DESIGN.md, beside this file, has the durability argument and the defects of the libraries that are worked around here.
package raft
