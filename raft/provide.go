package raft

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"time"

	hraft "github.com/hashicorp/raft"
)

// prepare has a follower that needs the state get what that does not contain, from this node, for as long as this one leads.
// Nothing is held open meanwhile: neither a read transaction nor the log.
func (n *Node) prepare(id hraft.ServerID) error {
	if _, ok := n.applier.machine.(Provider); !ok {
		return nil
	}
	ctx, cancel := context.WithCancel(n.stop)
	defer cancel()
	go func() {
		for ctx.Err() == nil {
			if n.transport.pause(refusedPause); !n.transport.leads(id) {
				cancel()
			}
		}
	}()
	body, err := json.Marshal(change{n.cfg.NodeID, n.cfg.Address})
	if err != nil {
		return err
	}
	began := time.Now()
	if _, err = n.rpc.call(ctx, nodeURL(string(id), pathPrepare), body, maxControlBody); err != nil {
		return &Error{Op: "send state", Kind: ErrUnavailable, Cause: fmt.Errorf("%q prepares for it: %w", id, err)}
	}
	n.cfg.Logger.Debug("raft: a follower has got what the state does not contain", "node", id, "took", time.Since(began))
	return nil
}

// servePrepare answers prepare: this node needs the state of who asks.
func (n *Node) servePrepare(w http.ResponseWriter, r *http.Request) {
	const op = "prepare for a state"
	var from change
	raw, err := readBody(r.Body, r.ContentLength, maxControlBody)
	if err == nil {
		err = json.Unmarshal(raw, &from)
	}
	machine, ok := n.applier.machine.(Provider)
	if err == nil && (!ok || from.ID != PeerID(r)) {
		err = errors.New("nothing to prepare, or not by who asks")
	}
	if err == nil {
		n.sender.Store(&from)
		err = machine.Prepare(r.Context(), func(ctx context.Context, query string) (io.ReadCloser, error) {
			return n.askProvider(ctx, from.ID, query)
		})
	}
	if err != nil {
		if r.Context().Err() == nil {
			n.cfg.Logger.Warn("the state that this node needs cannot be prepared; it is tried again", "from", from.ID, "error", err)
		}
		encodeError(w, &Error{Op: op, Kind: ErrUnavailable, Cause: err})
	}
}

// askProvider asks another node's machine. The caller closes the answer.
func (n *Node) askProvider(ctx context.Context, id, query string) (io.ReadCloser, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, nodeURL(id, pathProvide)+"?q="+url.QueryEscape(query), nil)
	if err != nil {
		return nil, err
	}
	response, err := n.rpc.client.Do(request)
	if err != nil {
		return nil, err
	}
	if response.StatusCode != http.StatusOK {
		raw, _ := readBody(response.Body, response.ContentLength, maxControlBody)
		return nil, errors.Join(decodeError(response.StatusCode, raw), response.Body.Close())
	}
	return response.Body, nil
}

// serveProvide answers askProvider.
func (n *Node) serveProvide(w http.ResponseWriter, r *http.Request) {
	machine, ok := n.applier.machine.(Provider)
	if !ok {
		http.NotFound(w, r)
		return
	}
	counted := &begunWriter{w: w}
	err := machine.Provide(r.Context(), r.URL.Query().Get("q"), counted)
	switch {
	case err == nil:
	case counted.begun:
		panic(http.ErrAbortHandler) // the other node sees that it is cut off
	default:
		encodeError(w, &Error{Op: "provide", Kind: ErrUnavailable, Cause: err})
	}
}

// begunWriter knows whether something was written.
type begunWriter struct {
	w     io.Writer
	begun bool
}

func (b *begunWriter) Write(p []byte) (int, error) {
	b.begun = true
	return b.w.Write(p)
}
