// Package auth answers one question for every protocol: who is this?
//
// Its mental model is five types. An [Authenticator] is the one of a node; it
// reads credentials from a [Directory], which is storage. An [Exchange] is one
// attempt to log in with one SASL mechanism. An [Identity] is the answer. A
// [Throttle] says how guessing is slowed down.
//
// A [Channel] is the connection a client logs in over: what ties SCRAM to it
// (SCRAM-SHA-256-PLUS with tls-exporter, RFC 9266, or tls-server-end-point, RFC
// 5929), whether PLAIN and LOGIN may be used, and for which service.
//
// What is stored of a password is a SCRAM-SHA-256 verifier (RFC 5802, RFC 7677);
// it serves PLAIN as well, so that one secret is enough. Users that do not exist
// get a salt of their own that never changes and cost the same time, so that
// nobody finds out by asking who has an account.
//
// An account may have app passwords besides its own, each for one program and
// perhaps one service. They share the account's salt, so that SCRAM, which tells
// the salt first, finds out by the proof which of them the client has. CRAM-MD5
// needs a secret that is as good as the password; it is stored only for accounts
// that have the mechanism switched on.
//
// A password is never logged and never part of an error. A storage that cannot
// answer is [ErrUnavailable], never a wrong password.
package auth
