// Package database is the users' own SQL databases: SQLite files that are the
// same, octet for octet, on every node.
//
// Its mental model is four types. A [File] is the replicated side: it applies
// committed effects, in log order, and lends read-only connections. A [Session]
// is one client's conversation with a database: statements, transactions,
// limits. A transaction that writes runs on an overlay, a private copy-on-write
// view of the file. What the overlay differs in when the transaction commits is
// its [Effect]: the changed octets of pages, with the version of the file that
// they were computed on. [Session] hands it to its Proposer, and every node,
// this one among them, applies it if the file still has that version.
//
// So a statement is executed once, by one node; random(), datetime('now'),
// triggers, cascades, virtual tables and VACUUM are over before anything is
// replicated, and a runaway statement meets its limit before it reaches the log.
//
// DESIGN.md says why pages, and not rows or statements.
package database
