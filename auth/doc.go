// Package auth answers one question for every protocol: who is this?
//
// Its mental model is four types. An [Authenticator] is the one of a node; it
// reads credentials from a [Directory], which is storage. An [Exchange] is one
// attempt to log in with one SASL mechanism. An [Identity] is the answer. A
// [Throttle] says how guessing is slowed down.
//
// What is stored of a password is a SCRAM-SHA-256 verifier (RFC 5802, RFC 7677);
// it serves PLAIN as well, so that one secret is enough. Users that do not exist
// get a salt of their own that never changes and cost the same time, so that
// nobody finds out by asking who has an account.
//
// A password is never logged and never part of an error. A storage that cannot
// answer is [ErrUnavailable], never a wrong password.
package auth
