package main

import (
	"net/http"
	"net/http/pprof"
	"strings"
)

// profilePrefix is where the control socket, which only the owner of the data
// folder can reach, answers Go's profiler:
//
//	curl --unix-socket DATA/control.sock 'http://trivet/debug/pprof/profile?seconds=10' > cpu.prof
const profilePrefix = "/debug/pprof/"

// withProfiles answers the profiler's paths and leaves the others to next.
func withProfiles(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch name := strings.TrimPrefix(r.URL.Path, profilePrefix); {
		case name == r.URL.Path:
			next.ServeHTTP(w, r)
		case name == "profile":
			pprof.Profile(w, r)
		case name == "trace":
			pprof.Trace(w, r)
		default:
			pprof.Index(w, r)
		}
	})
}
