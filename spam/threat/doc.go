// Package threat looks for what harms a reader: files that run, macros, links that lead
// elsewhere than they say, senders who borrow a name, viruses.
//
// Everything here is a [spam.Reason] with points, or none. Three things carry it:
//
//   - [Attachments] looks at the octets of the files a message brings, whatever their names say, and
//     into archives as far as the limits of this package go.
//   - [Phishing] compares who a message says it is from, and where its links lead, with the names that
//     the reader knows ([Known]).
//   - [Clamd] and [Rspamd] ask a program beside this one.
//
// All of it is bounded: octets decoded, entries of archives, their nesting, links. What lies beyond a
// limit is not looked at, and never an error.
package threat
