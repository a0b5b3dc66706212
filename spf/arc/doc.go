// Package arc checks and makes Authenticated Received Chains (RFC 8617): what those who
// passed a message on say of how it came to them, each sealing what was there before.
//
// Its mental model is three things:
//
//   - A set is three header fields of one instance: results, signature of the message,
//     and seal over all sets so far. A chain is the sets 1 to n.
//   - A [Verifier] takes the message like that of spf/dkim, and says whether the chain is
//     whole and the newest signature fits the message. It does not say whether to
//     believe those who sealed it: that is for who asks.
//   - A [Sealer] adds a set when a message is passed on.
//
// One broken set breaks the chain for good (section 5.2).
package arc
