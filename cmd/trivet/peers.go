package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strconv"
	"time"

	"trivet/raft"
	"trivet/storage"
)

// What nodes with a certificate ask of each other, beside Raft.
const (
	pathBody  = "/body"  // ?message=ID: the octets of a message
	pathAudit = "/audit" // ?index=N: the checksum of the state as of an audit
)

// How long they may take.
const (
	bodyPatience  = 30 * time.Second
	auditPatience = 10 * time.Minute // a node reads all of its state for it
	auditPoll     = 50 * time.Millisecond
	maxAudit      = 1 << 20 // octets of an answer
)

func (n *node) peerHandlers() map[string]http.Handler {
	return map[string]http.Handler{pathDoubt: http.HandlerFunc(n.serveDoubt), pathBody: http.HandlerFunc(n.serveBody), pathAudit: http.HandlerFunc(n.serveAudit),
		storage.SQLRun: http.HandlerFunc(n.serveSQL), storage.SQLHold: http.HandlerFunc(n.serveSQL), storage.SQLRelease: http.HandlerFunc(n.serveSQL)}
}

// serveBody answers a node whose own copy of a message is damaged.
func (n *node) serveBody(w http.ResponseWriter, r *http.Request) {
	ctx, cancel := context.WithTimeout(r.Context(), bodyPatience)
	defer cancel()
	id, err := strconv.ParseInt(r.URL.Query().Get("message"), 10, 64)
	if err != nil {
		http.Error(w, "message is no number", http.StatusBadRequest)
		return
	}
	body, err := n.store.OpenBody(ctx, id)
	if err != nil {
		http.Error(w, err.Error(), http.StatusNotFound)
		return
	}
	defer body.Close()
	w.Header().Set("Content-Length", strconv.FormatInt(body.Size(), 10)) // so that a part is never taken for all
	_, _ = io.Copy(w, io.NewSectionReader(body, 0, body.Size()))         // who asked sees that it is too short
}

// fetchBody is the [storage.Peer] of this node: the first other node that has the message.
func (n *node) fetchBody(ctx context.Context, messageID int64) (io.ReadCloser, error) {
	members, err := n.raft.Members(ctx)
	if err != nil {
		return nil, err
	}
	err = errors.New("there is no other node")
	for _, m := range members {
		if m.ID == string(n.settings.Node) {
			continue
		}
		var response *http.Response
		if response, err = n.get(ctx, m.ID, fmt.Sprintf("%s?message=%d", pathBody, messageID)); err == nil {
			return response.Body, nil
		}
	}
	return nil, err
}

// get asks another node for something. The caller closes the body.
func (n *node) get(ctx context.Context, id, path string) (*http.Response, error) {
	client := n.raft.Client()
	if client == nil {
		return nil, errors.New("this node has no listener for other nodes")
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, n.raft.PeerURL(id, path), nil)
	if err != nil {
		return nil, err
	}
	response, err := client.Do(request)
	if err != nil {
		return nil, err
	}
	if response.StatusCode != http.StatusOK {
		response.Body.Close()
		return nil, fmt.Errorf("node %s answers %s", id, response.Status)
	}
	return response, nil
}

// serveAudit answers with this node's checksum as of an audit, once it is known.
func (n *node) serveAudit(w http.ResponseWriter, r *http.Request) {
	index, err := strconv.ParseUint(r.URL.Query().Get("index"), 10, 64)
	if err != nil {
		http.Error(w, "index is no number", http.StatusBadRequest)
		return
	}
	sum, err := n.ownAudit(r.Context(), index)
	if err != nil {
		http.Error(w, err.Error(), http.StatusServiceUnavailable)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(sum) // fails only when the other node has gone away
}

func (n *node) ownAudit(ctx context.Context, index uint64) (storage.Checksum, error) {
	ctx, cancel := context.WithTimeout(ctx, auditPatience)
	defer cancel()
	for {
		if sum, ok := n.store.AuditResult(index); ok {
			return sum, nil
		}
		if !sleep(ctx, auditPoll) {
			return storage.Checksum{}, fmt.Errorf("the state as of %d is not digested: %w", index, ctx.Err())
		}
	}
}

func (n *node) peerAudit(ctx context.Context, id string, index uint64) (sum storage.Checksum, err error) {
	ctx, cancel := context.WithTimeout(ctx, auditPatience)
	defer cancel()
	response, err := n.get(ctx, id, fmt.Sprintf("%s?index=%d", pathAudit, index))
	if err != nil {
		return sum, err
	}
	defer response.Body.Close()
	return sum, json.NewDecoder(io.LimitReader(response.Body, maxAudit)).Decode(&sum)
}

// compareEvery is how often the leader has all nodes compare their states.
const compareEvery = 6 * time.Hour

func (n *node) reportDifferences(ctx context.Context) {
	index, compared, err := n.compare(ctx)
	if err != nil {
		n.log.Warn("the states of the nodes are not compared; it is tried again", "error", err)
	}
	for _, c := range compared {
		if len(c.Differs) > 0 {
			n.log.Error("the states of two nodes differ; see 'trivet verify --compare' on both", "node", c.Node, "tables", c.Differs)
		}
	}
	n.doubt(ctx, index, compared)
}

// comparison is what one node says of its state as of an audit.
type comparison struct {
	Node     string   `json:"node"`
	Checksum string   `json:"checksum,omitempty"`
	Differs  []string `json:"differs,omitempty"` // tables that are not as on this node
	Problem  string   `json:"problem,omitempty"` // why it is not known
}

// compare has all nodes digest their state as of one and the same change.
func (n *node) compare(ctx context.Context) (index uint64, compared []comparison, err error) {
	members, err := n.raft.Members(ctx)
	if err != nil || len(members) < 2 {
		return 0, nil, err
	}
	if index, err = n.store.Audit(ctx); err != nil {
		return 0, nil, err
	}
	compared, err = n.compareAs(ctx, index, members)
	return index, compared, err
}

// compareAs compares as of an audit.
func (n *node) compareAs(ctx context.Context, index uint64, members []raft.Member) ([]comparison, error) {
	own, err := n.ownAudit(ctx, index)
	if err != nil {
		return nil, err
	}
	compared := make([]comparison, len(members))
	answered := make(chan struct{}, len(members))
	for i, m := range members {
		go func() {
			compared[i] = n.compareWith(ctx, m, own, index)
			answered <- struct{}{}
		}()
	}
	for range members {
		<-answered
	}
	return compared, nil
}

func (n *node) compareWith(ctx context.Context, m raft.Member, own storage.Checksum, index uint64) comparison {
	if m.ID == string(n.settings.Node) {
		return comparison{Node: m.ID, Checksum: own.Sum}
	}
	sum, err := n.peerAudit(ctx, m.ID, index)
	if err != nil {
		return comparison{Node: m.ID, Problem: err.Error()}
	}
	if sum.Schema != own.Schema {
		return comparison{Node: m.ID, Problem: "it runs another release; the states are compared once all nodes run the same"}
	}
	c := comparison{Node: m.ID, Checksum: sum.Sum}
	for table, digest := range own.Tables {
		if sum.Tables[table] != digest {
			c.Differs = append(c.Differs, table)
		}
	}
	slices.Sort(c.Differs)
	return c
}
