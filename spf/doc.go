// Package spf says whether a host may send mail for a domain: the Sender Policy
// Framework, RFC 7208, whole.
//
// Its mental model is four steps:
//
//   - [Check] takes a [Query], which is who connected and what they said, and returns a
//     [Verdict]. It asks nothing but the [Resolver] that it is given.
//   - A record is parsed as a whole before any of it is evaluated (record.go): an error
//     anywhere in it is one of all of it (section 4.6).
//   - Mechanisms are then tried from left to right (evaluate.go), with the limits of
//     section 4.6.4 on what an evaluation may ask of the DNS, over all records that
//     it is led to.
//   - Macros (macro.go) are parsed with the record and expanded when needed. What they
//     expand to is under the control of whoever connected.
//
// The domain, the sender and all records are hostile.
package spf
