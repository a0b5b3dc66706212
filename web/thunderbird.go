package web

import (
	"encoding/xml"
	"net/http"
	"strings"
)

// clientConfig is what Thunderbird, Evolution, KMail and others read:
// https://www.bucksch.org/1/projects/thunderbird/autoconfiguration/config-file-format.html
type clientConfig struct {
	XMLName  xml.Name       `xml:"clientConfig"`
	Version  string         `xml:"version,attr"`
	Provider clientProvider `xml:"emailProvider"`
}

type clientProvider struct {
	ID        string         `xml:"id,attr"`
	Domain    string         `xml:"domain"`
	Name      string         `xml:"displayName"`
	ShortName string         `xml:"displayShortName"`
	Incoming  []clientServer `xml:"incomingServer"`
	Outgoing  []clientServer `xml:"outgoingServer"`
}

type clientServer struct {
	Type           string `xml:"type,attr"`
	Host           string `xml:"hostname"`
	Port           int    `xml:"port"`
	SocketType     string `xml:"socketType"`
	Authentication string `xml:"authentication"`
	UserName       string `xml:"username"`
}

// autoconfigPrefix is in front of a domain in the name of the host that clients ask.
const autoconfigPrefix = "autoconfig."

// serveThunderbird answers for the domain of the host, or of the address in the query.
func (d *discovery) serveThunderbird(w http.ResponseWriter, r *http.Request) {
	domain := strings.TrimPrefix(d.hostOf(r), autoconfigPrefix)
	if address := r.URL.Query().Get("emailaddress"); address != "" {
		named, ok := domainOfAddress(address)
		if !ok {
			answer(w, http.StatusBadRequest, "emailaddress is no address")
			return
		}
		domain = named
	}
	services, ok := d.services(w, r, domain)
	if !ok {
		return
	}
	answerXML(w, clientConfig{Version: "1.1", Provider: clientProvider{
		ID: services.Domain, Domain: services.Domain, Name: "Mail of " + services.Domain, ShortName: services.Domain,
		Incoming: thunderbirdServers("imap", services.Host, services.IMAPS, services.IMAP),
		Outgoing: thunderbirdServers("smtp", services.Host, services.Submissions, services.Submission),
	}})
}

// thunderbirdServers are the ways to one service, the best one first (RFC 8314 section 3).
func thunderbirdServers(kind, host string, implicit, starttls int) []clientServer {
	var servers []clientServer
	add := func(port int, socket string) {
		if port != 0 {
			// The password is in clear inside of TLS, as every client can do it.
			servers = append(servers, clientServer{kind, host, port, socket, "password-cleartext", "%EMAILADDRESS%"})
		}
	}
	add(implicit, "SSL")
	add(starttls, "STARTTLS")
	return servers
}

// answerXML answers with a document.
func answerXML(w http.ResponseWriter, v any) {
	body, err := xml.MarshalIndent(v, "", "  ")
	if err != nil {
		answer(w, http.StatusInternalServerError, "internal error")
		return
	}
	w.Header().Set("Content-Type", "application/xml; charset=utf-8")
	w.Header().Set("X-Content-Type-Options", "nosniff")
	w.Header().Set("Cache-Control", "no-store")
	_, _ = w.Write(append([]byte(xml.Header), body...)) // fails only when the client has gone away
}
