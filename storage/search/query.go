package search

import (
	"cmp"
	"slices"
)

// Query says what a message must have: all of All, one of Any, and the text of Needle in a field. An empty Query
// is had by every message.
type Query struct {
	Field  Field
	Needle string // folded
	All    []Query
	Any    []Query
}

// Narrows reports whether the query rules out anything: needles of less than three octets do not.
func (q Query) Narrows() bool {
	if len(q.Needle) >= 3 || slices.ContainsFunc(q.All, Query.Narrows) {
		return true
	}
	return len(q.Any) > 0 && !slices.ContainsFunc(q.Any, func(alternative Query) bool { return !alternative.Narrows() })
}

// matches returns the local numbers of the messages of a segment that the query does not rule out. all: it rules out
// none.
func (q Query) matches(s *segment) (docs []uint32, all bool, err error) {
	all = true
	narrow := func(found []uint32) {
		if all {
			docs, all = found, false
		} else {
			docs = intersect(docs, found)
		}
	}
	if len(q.Needle) >= 3 {
		found, err := s.having(q.Field, q.Needle)
		if err != nil {
			return nil, false, err
		}
		narrow(found)
	}
	for _, part := range q.All {
		if !all && len(docs) == 0 {
			break
		}
		found, every, err := part.matches(s)
		if err != nil {
			return nil, false, err
		}
		if !every {
			narrow(found)
		}
	}
	if len(q.Any) > 0 {
		found, every, err := anyOf(q.Any, s)
		if err != nil {
			return nil, false, err
		}
		if !every {
			narrow(found)
		}
	}
	return docs, all, nil
}

func anyOf(alternatives []Query, s *segment) (docs []uint32, all bool, err error) {
	for _, part := range alternatives {
		found, every, err := part.matches(s)
		if err != nil || every {
			return nil, every, err
		}
		docs = union(docs, found)
	}
	return docs, false, nil
}

// enough is how few messages are left when it costs less to read them than to look at more postings.
const enough = 16

// having returns the messages that have every trigram of a needle, the rarest first.
func (s *segment) having(f Field, needle string) ([]uint32, error) {
	type list struct{ offset, size int64 }
	keys := keysOf(nil, f, []byte(needle))
	slices.Sort(keys)
	keys = slices.Compact(keys)
	lists := make([]list, 0, len(keys))
	for _, k := range keys {
		offset, size, err := s.find(k)
		if err != nil || size == 0 {
			return nil, err
		}
		lists = append(lists, list{offset, size})
	}
	slices.SortFunc(lists, func(a, b list) int { return cmp.Compare(a.size, b.size) })
	var docs, other []uint32
	var err error
	for i, l := range lists {
		if i == 0 {
			if docs, err = s.postings(nil, l.offset, l.size); err != nil {
				return nil, err
			}
			continue
		}
		if len(docs) <= enough {
			break
		}
		if other, err = s.postings(other[:0], l.offset, l.size); err != nil {
			return nil, err
		}
		docs = intersect(docs, other)
	}
	return docs, nil
}

// intersect keeps in a, ascending, what is in b as well.
func intersect(a, b []uint32) []uint32 {
	out, j := a[:0], 0
	for _, v := range a {
		for j < len(b) && b[j] < v {
			j++
		}
		if j < len(b) && b[j] == v {
			out = append(out, v)
		}
	}
	return out
}

func union(a, b []uint32) []uint32 {
	out := append(slices.Clone(a), b...)
	slices.Sort(out)
	return slices.Compact(out)
}
