// Package pgwire speaks the PostgreSQL protocol, version 3, in front of the
// users' databases and the mail views. The dialect is SQLite's.
//
// Its mental model is four types. A [Server] accepts connections. A session is
// one of them: it logs in through package auth, opens a [storage.SQLSession] and
// answers messages one after the other. A statement is a text with the types
// that client and server agreed on; a portal is a statement with its parameters.
// What programs ask of the system catalogues, which SQLite does not have, is
// answered from a catalogue in memory that is made of the schema when it is asked
// for (catalog.go), and SET, SHOW and their like by the session itself
// (utility.go).
//
// See https://www.postgresql.org/docs/current/protocol.html; names in comments
// are those of its messages.
package pgwire
