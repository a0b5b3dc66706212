package main

import (
	"context"
	"fmt"
	"net/http"
	"strconv"
	"time"
)

// pathDoubt asks a node to compare its state with the others' as of an audit, and to
// get it anew if most of them agree on another: ?index=N.
const pathDoubt = "/doubt"

// doubtPatience is for a node that answers at once and compares afterwards.
const doubtPatience = 10 * time.Second

// majority returns the checksum that more than half of the members have. Two of
// three are; two that differ, or three, are none.
func majority(compared []comparison) (checksum string, ok bool) {
	votes := map[string]int{}
	for _, c := range compared {
		if c.Checksum == "" {
			continue
		}
		if votes[c.Checksum]++; votes[c.Checksum] > len(compared)/2 {
			return c.Checksum, true
		}
	}
	return "", false
}

// doubt has the nodes whose state is not the majority's look for themselves.
func (n *node) doubt(ctx context.Context, index uint64, compared []comparison) {
	right, ok := majority(compared)
	if !ok {
		return
	}
	for _, c := range compared {
		switch {
		case c.Checksum == "" || c.Checksum == right:
		case c.Node == string(n.settings.Node):
			n.abandon(index)
		default:
			if err := n.askToDoubt(ctx, c.Node, index); err != nil {
				n.log.Warn("a node whose state differs is not told", "node", c.Node, "error", err)
			}
		}
	}
}

func (n *node) askToDoubt(ctx context.Context, id string, index uint64) error {
	ctx, cancel := context.WithTimeout(ctx, doubtPatience)
	defer cancel()
	response, err := n.get(ctx, id, fmt.Sprintf("%s?index=%d", pathDoubt, index))
	if err != nil {
		return err
	}
	return response.Body.Close()
}

// serveDoubt takes nobody's word for it: this node asks all others itself.
func (n *node) serveDoubt(w http.ResponseWriter, r *http.Request) {
	index, err := strconv.ParseUint(r.URL.Query().Get("index"), 10, 64)
	if err != nil {
		http.Error(w, "index is no number", http.StatusBadRequest)
		return
	}
	if _, known := n.store.AuditResult(index); !known {
		http.Error(w, "there is no such audit", http.StatusNotFound)
		return
	}
	ctx := r.Context()
	members, err := n.raft.Members(ctx)
	if err != nil {
		http.Error(w, err.Error(), http.StatusServiceUnavailable)
		return
	}
	compared, err := n.compareAs(ctx, index, members)
	if err != nil {
		http.Error(w, err.Error(), http.StatusServiceUnavailable)
		return
	}
	own, _ := n.store.AuditResult(index)
	if right, ok := majority(compared); ok && right != own.Sum {
		n.abandon(index)
	}
}

func (n *node) abandon(index uint64) {
	n.store.Machine().Abandon(fmt.Errorf("as of %d most nodes have another state than this one", index))
}
