package web

import (
	"io"
	"net/http"
	"net/netip"
)

// healthz says that the process is alive, and no more: whoever restarts what
// does not answer here must not restart a node that waits for its peers.
func healthz(w http.ResponseWriter, _ *http.Request) {
	answer(w, http.StatusOK, "ok")
}

// readyz says whether the node can do its work, or why not.
func readyz(ready func() error) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		if err := ready(); err != nil {
			answer(w, http.StatusServiceUnavailable, err.Error())
			return
		}
		answer(w, http.StatusOK, "ready")
	}
}

func answer(w http.ResponseWriter, status int, text string) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.Header().Set("X-Content-Type-Options", "nosniff")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(status)
	_, _ = io.WriteString(w, text+"\n") // fails only when the client has gone away
}

// nearby answers loopback and private networks only: figures say much of who is
// hosted here, and the listener is open to the internet.
func nearby(h http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		from, err := netip.ParseAddrPort(r.RemoteAddr)
		ip := from.Addr().Unmap()
		if err != nil || !ip.IsLoopback() && !ip.IsPrivate() && !ip.IsLinkLocalUnicast() {
			answer(w, http.StatusForbidden, "only for loopback and private networks")
			return
		}
		h.ServeHTTP(w, r)
	})
}
