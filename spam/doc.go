// Package spam says of a message from outside whether its recipients want it, and why.
//
// Five types carry it.
//
//   - A [Message] is what is known of one message at the end of DATA: who brought it, what
//     was proven of the sender, its header, its structure and its octets.
//   - A [Check] looks at it and gives [Reason] values: a name, points, and a sentence. Points are
//     log-odds: 0 says nothing, 2.2 by itself is a probability of 0.9 that the message is
//     unwanted, negative points speak for it. A [Personal] check speaks for each account by itself.
//   - A [Filter] runs all checks side by side and adds the points up. Their sum is a
//     probability, which a [Policy] of the account, its domain or the host maps to an [Action].
//   - A [Verdict] is the outcome for one recipient, with all reasons.
//   - A [Reviewer] sees the verdicts before they are final: it may put off what it wants to see
//     again (greylisting), or ask the sender something (a challenge).
//
// Who calls whom: smtp calls [Filter.Judge] once for a message, on the session's goroutine,
// after the authentication of the sender and before anything is stored. It refuses the
// message only where the verdicts of all recipients say so; else it goes to the mailbox for junk of those
// who do not want it. What was found is stored with the message, a row for each reason and account.
//
// The content itself is judged by a classifier that learns: see DESIGN.md.
package spam
