package main

import (
	"context"
	"fmt"
	"time"

	"trivet/storage"
)

const (
	// searchPatience bounds the question how far the index is.
	searchPatience = 2 * time.Second
	// searchLagLongest is what a lag is said to be when the log does not remember any more how long it is.
	searchLagLongest = time.Hour
	// searchLagWarning is when the index of an idle node should have come along many times over.
	searchLagWarning = 10 * time.Minute
)

// searchStatus is how far this node's search index is; one that does not say is taken for complete.
func (n *node) searchStatus() storage.SearchStatus {
	ctx, cancel := context.WithTimeout(context.Background(), searchPatience)
	defer cancel()
	st, err := n.store.SearchStatus(ctx)
	if err != nil {
		return storage.SearchStatus{}
	}
	return st
}

func (n *node) searchLag(st storage.SearchStatus) time.Duration {
	switch {
	case st.Waiting == 0:
		return 0
	case st.Since.IsZero():
		return searchLagLongest
	}
	return min(max(n.now().Sub(st.Since), 0), searchLagLongest)
}

// searchIndex looks at how far behind the search index of this node is. It costs time only: searches read what waits.
func (d *doctor) searchIndex(ctx context.Context) []finding {
	st, err := d.node.store.SearchStatus(ctx)
	if err != nil {
		return failing("search index", err)(ctx)
	}
	f := finding{Check: "search index", Status: statusOK, Found: fmt.Sprintf("%d messages in it, none waits", st.Messages)}
	if st.Waiting > 0 {
		lag := d.node.searchLag(st)
		f.Found = fmt.Sprintf("%d messages in it, %d wait, for %s", st.Messages, st.Waiting, lag.Round(time.Second))
		if lag >= searchLagWarning {
			f.Status, f.Advice = statusWarn, "searches are right but slow until it has come along; it waits while much mail comes in"
		}
	}
	return []finding{f}
}
