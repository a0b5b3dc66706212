package web

import (
	"context"
	"net"
	"net/http"
	"strings"
)

// Services is what a hosted domain offers, for clients that set themselves up
// and servers that ask how to send to it.
type Services struct {
	Domain string // A-labels
	Host   string // the name of the host that clients connect to
	// Ports; 0: not offered.
	IMAPS, IMAP, Submissions, Submission int
	STS                                  STSPolicy
}

// Directory finds what a domain offers. ok: it is hosted here. It is called for
// names that anybody may send.
type Directory func(ctx context.Context, domain string) (s Services, ok bool, err error)

// discovery answers those who want to know how to reach mail of a domain. What
// a request names is looked up, and only what was found is answered with: the
// Host field, like all of it, is the client's word.
type discovery struct {
	directory Directory
}

// routes adds its paths to a mux.
func (d *discovery) routes(mux *http.ServeMux) {
	mux.HandleFunc("GET /.well-known/mta-sts.txt", d.serveSTS)
	mux.HandleFunc("GET /mail/config-v1.1.xml", d.serveThunderbird)
	mux.HandleFunc("GET /.well-known/autoconfig/mail/config-v1.1.xml", d.serveThunderbird)
	mux.HandleFunc("GET "+mobileConfigPath, d.serveMobileConfig)
	// Outlook writes these in several cases.
	for _, name := range []string{"autodiscover", "Autodiscover", "AutoDiscover"} {
		for _, file := range []string{"autodiscover", "Autodiscover"} {
			mux.HandleFunc("POST /"+name+"/"+file+".xml", d.serveAutodiscover)
			mux.HandleFunc("GET /"+name+"/"+file+".json", d.serveAutodiscoverJSON)
			mux.HandleFunc("GET /"+name+"/"+file+".json/v1.0/{address}", d.serveAutodiscoverJSON)
		}
	}
}

// hostOf is the host that a request is for, in lower case and without its port.
func (*discovery) hostOf(r *http.Request) string {
	host := r.Host
	if name, _, err := net.SplitHostPort(host); err == nil {
		host = name
	}
	return strings.ToLower(strings.TrimSuffix(host, "."))
}

// services finds what a domain offers, or answers that nothing of it is known here.
func (d *discovery) services(w http.ResponseWriter, r *http.Request, domain string) (Services, bool) {
	s, ok, err := d.directory(r.Context(), domain)
	switch {
	case err != nil:
		answer(w, http.StatusServiceUnavailable, "not available now; try again later")
		return s, false
	case !ok:
		http.NotFound(w, r)
		return s, false
	}
	return s, true
}

// maxAddress bounds an address that a client sends (RFC 5321 section 4.5.3.1).
const maxAddress = 320

// domainOfAddress is what is behind the last @ of a plausible address. Whether there
// is such an account is nobody's business: it is not looked up.
func domainOfAddress(address string) (string, bool) {
	at := strings.LastIndexByte(address, '@')
	if at < 1 || at == len(address)-1 || len(address) > maxAddress || strings.ContainsFunc(address, func(r rune) bool { return r <= ' ' || r == 0x7f || r == 0xfffd }) {
		return "", false
	}
	return strings.ToLower(address[at+1:]), true
}
