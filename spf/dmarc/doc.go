// Package dmarc says whether the domain that readers see, that of From, stands behind a
// message, and what it wants done if it does not: RFC 7489, and the tree walk, np= and t= of
// its successor (DMARCbis).
//
// Its mental model is four types:
//
//   - A [Record] is what a domain publishes at _dmarc.
//   - [Evaluate] takes an [Input], the results of SPF and DKIM for a message, finds the
//     record and compares domains (alignment). The [Verdict] says what came out, and
//     what the domain asks for (Policy) and is to be done after pct= and t= (Disposition).
//   - The organisational domain, under which domains count as one, is found by walking up the
//     DNS tree; the public suffix list corrects what nobody would want (organization.go).
//   - A [Report] is what receivers tell the domain once a day (report*.go): made, written as XML, and
//     read, which is the dangerous part. All of this is pure: who sends and stores it is elsewhere.
package dmarc
