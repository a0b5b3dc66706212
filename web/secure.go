package web

import (
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"strings"
)

// policy is the Content-Security-Policy of every page: nothing but what comes
// from here as a file, nothing inline, nobody may put it into a frame.
const policy = "default-src 'none'; style-src 'self'; script-src 'self'; img-src 'self' data:; font-src 'self'; connect-src 'self'; " +
	"manifest-src 'self'; form-action 'self'; frame-src 'self'; frame-ancestors 'none'; base-uri 'none'"

// stsSeconds is how long a browser remembers to come over TLS: half a year.
const stsSeconds = "15552000"

// secureHeaders are those of every page. A handler may tighten the policy.
func secureHeaders(h http.Header, tls bool) {
	h.Set("Content-Security-Policy", policy)
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Referrer-Policy", "same-origin")
	h.Set("Cross-Origin-Opener-Policy", "same-origin")
	h.Set("Cross-Origin-Resource-Policy", "same-origin")
	h.Set("Permissions-Policy", "camera=(), microphone=(), geolocation=()")
	h.Set("Cache-Control", "no-store")
	if tls {
		h.Set("Strict-Transport-Security", "max-age="+stsSeconds)
	}
}

// elsewhere sends whoever comes without TLS from another machine to where there
// is TLS, and reports whether it did. The Host field is not taken over: it is the
// client's word.
func (s *Shell) elsewhere(w http.ResponseWriter, r *http.Request) bool {
	if secure(r) {
		return false
	}
	if r.Method != http.MethodGet && r.Method != http.MethodHead || s.host == nil {
		answer(w, http.StatusForbidden, "this needs https")
		return true
	}
	target := url.URL{Scheme: "https", Host: s.host(), Path: r.URL.Path, RawQuery: r.URL.RawQuery}
	http.Redirect(w, r, target.String(), http.StatusMovedPermanently)
	return true
}

// secure reports whether nobody can read along: TLS, or a client of this machine.
func secure(r *http.Request) bool {
	return r.TLS != nil || remoteIP(r).IsLoopback()
}

// remoteIP is the zero value for what is no address.
func remoteIP(r *http.Request) netip.Addr {
	from, err := netip.ParseAddrPort(r.RemoteAddr)
	if err != nil {
		return netip.Addr{}
	}
	return from.Addr().Unmap()
}

func remoteAddr(r *http.Request) net.Addr {
	from, err := netip.ParseAddrPort(r.RemoteAddr)
	if err != nil {
		return &net.TCPAddr{}
	}
	return net.TCPAddrFromAddrPort(from)
}

// loginURL leads to the login page and from there back to u.
func loginURL(u *url.URL) string {
	return "/login?next=" + url.QueryEscape(u.RequestURI())
}

// loginPath leads to the login page and from there to a path of this server.
func loginPath(next string) string { return "/login?next=" + url.QueryEscape(next) }

// secondURL leads to the page that asks for the second factor.
func secondURL(next string) string { return "/login/second?next=" + url.QueryEscape(next) }

// localPath is target if it is a path of this server, else "/".
func localPath(target string) string {
	u, err := url.Parse(target)
	if err != nil || u.Scheme != "" || u.Host != "" || u.User != nil || !strings.HasPrefix(target, "/") || strings.HasPrefix(target, "//") ||
		strings.ContainsAny(target, "\\\r\n\t") {
		return "/"
	}
	return target
}
