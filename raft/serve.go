package raft

import (
	"context"
	"net/http"
	"strings"
	"time"
)

// serveHTTP gives a request of the cluster's port to whom it is for. Without a certificate only Config.Public is there;
// Raft's own RPCs are for members, but asking to become one is for whoever has a certificate.
func (n *Node) serveHTTP(w http.ResponseWriter, r *http.Request) {
	if h := route(n.cfg.Public, r.URL.Path); h != nil {
		control := http.NewResponseController(w)
		_ = control.SetReadDeadline(time.Now().Add(publicTimeout))
		_ = control.SetWriteDeadline(time.Now().Add(publicTimeout))
		ctx, cancel := context.WithTimeout(r.Context(), publicTimeout)
		defer cancel()
		r.Body = http.MaxBytesReader(w, r.Body, maxPublicBody)
		h.ServeHTTP(w, r.WithContext(ctx))
		return
	}
	peer := PeerID(r)
	if peer == "" || n.refuses(peer) {
		http.Error(w, errNoCertificate.Error(), http.StatusForbidden)
		return
	}
	if h := route(n.own, r.URL.Path); h != nil {
		if _, known := n.member(peer); !known && r.URL.Path != pathLearner && !n.expectant(r.URL.Path) {
			encodeError(w, &Error{Op: "call", Kind: ErrNotMember, Hint: "join this node to the cluster"})
			return
		}
		h.ServeHTTP(w, r)
		return
	}
	if h := route(n.cfg.Handlers, r.URL.Path); h != nil {
		if _, known := n.member(peer); !known {
			encodeError(w, &Error{Op: "call", Kind: ErrNotMember})
			return
		}
		h.ServeHTTP(w, r)
		return
	}
	http.NotFound(w, r)
}

// expectant says whether this node knows of no member yet, so that any node may ask for its report, and send it the state.
func (n *Node) expectant(path string) bool {
	return (path == pathReport || path == pathPrepare) && len(n.servers()) == 0
}

// route returns the handler of exactly that path, or of the longest one above it that ends in a slash.
func route(handlers map[string]http.Handler, path string) http.Handler {
	if h := handlers[path]; h != nil {
		return h
	}
	for i := strings.LastIndexByte(path, '/'); i >= 0; i = strings.LastIndexByte(path[:i], '/') {
		if h := handlers[path[:i+1]]; h != nil {
			return h
		}
	}
	return nil
}

// ownHandlers are the RPCs of this package.
func (n *Node) ownHandlers() map[string]http.Handler {
	return map[string]http.Handler{
		pathPropose:   http.HandlerFunc(n.servePropose),
		pathReadIndex: http.HandlerFunc(n.serveReadIndex),
		pathReport:    http.HandlerFunc(n.serveReport),
		pathMembers:   http.HandlerFunc(n.serveMembers),
		pathPrepare:   http.HandlerFunc(n.servePrepare),
		pathProvide:   http.HandlerFunc(n.serveProvide),
		pathState:     http.HandlerFunc(n.serveState),
		pathLearner:   n.control("add learner", n.serveLearner),
		pathRemove:    n.control("remove", func(ctx context.Context, _ string, c change) error { return n.remove(ctx, c.ID) }),
		pathTransfer:  n.control("transfer", func(ctx context.Context, _ string, c change) error { return n.transfer(ctx, c.ID) }),
	}
}

// Client returns a client for calling Config.Handlers on other nodes, over mutual TLS; see PeerURL. It is nil on a node
// without a Listener.
func (n *Node) Client() *http.Client {
	if n.rpc == nil {
		return nil
	}
	return n.rpc.client
}

// PeerURL returns the URL of path on the node named id.
func (n *Node) PeerURL(id, path string) string { return nodeURL(id, path) }
