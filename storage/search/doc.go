// Package search is this node's index of the text of messages: which messages may contain a string. It is derived
// from the replicated state, rebuilt when it is lost or damaged, and never replicated.
//
// It is a filter, not an answer. [Index.Search] returns every message that has all three-octet runs (trigrams) of
// the folded string, so that searches by substring, which RFC 9051 asks for, need to read only those; the
// message decides. Messages behind [Index.Mark] are not in it yet and have to be read as well.
//
// Three types carry it:
//
//   - [Index] is a chain of segments and the goroutine that extends it, [Index.Run].
//   - segment is an immutable file: for each trigram, which of its messages have it. Segments are
//     merged as they grow in number, eight at a time.
//   - builder collects the trigrams of the messages of the next segment in memory.
//
// DESIGN.md says why it is built like this, and what it costs.
package search
