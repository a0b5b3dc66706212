package web

import (
	"encoding/json"
	"encoding/xml"
	"net/http"
	"time"
)

// maxAutodiscoverBody bounds a request of Outlook, in octets; real ones have some hundred.
const maxAutodiscoverBody = 16 << 10

// The schemas of Outlook's autodiscover (MS-OXDSCLI section 2.2.4).
const (
	outlookResponse = "http://schemas.microsoft.com/exchange/autodiscover/outlook/responseschema/2006a"
	outlookEnvelope = "http://schemas.microsoft.com/exchange/autodiscover/responseschema/2006"
)

type autodiscoverRequest struct {
	Request struct {
		Address string `xml:"EMailAddress"`
		Schema  string `xml:"AcceptableResponseSchema"`
	} `xml:"Request"`
}

type autodiscoverResponse struct {
	XMLName  xml.Name        `xml:"Autodiscover"`
	XMLNS    string          `xml:"xmlns,attr"`
	Response outlookSettings `xml:"Response"`
}

type outlookSettings struct {
	XMLNS   string          `xml:"xmlns,attr,omitempty"`
	Account *outlookAccount `xml:"Account,omitempty"`
	Error   *outlookError   `xml:"Error,omitempty"`
}

type outlookAccount struct {
	Type      string            `xml:"AccountType"`
	Action    string            `xml:"Action"`
	Protocols []outlookProtocol `xml:"Protocol"`
}

type outlookProtocol struct {
	Type         string `xml:"Type"` // IMAP or SMTP
	Server       string `xml:"Server"`
	Port         int    `xml:"Port"`
	LoginName    string `xml:"LoginName"`
	DomainNeeded string `xml:"DomainRequired"`
	SPA          string `xml:"SPA"`
	SSL          string `xml:"SSL"`
	Encryption   string `xml:"Encryption"` // SSL or TLS, which is STARTTLS
	AuthRequired string `xml:"AuthRequired"`
}

type outlookError struct {
	Time      string `xml:"Time,attr"`
	ID        string `xml:"Id,attr"`
	Code      int    `xml:"ErrorCode"`
	Message   string `xml:"Message"`
	DebugData string `xml:"DebugData"`
}

// The error codes of MS-OXDSCLI section 2.2.4.2.3.
const (
	outlookInvalid    = 600
	outlookNoProvider = 601
)

// serveAutodiscover answers Outlook's POST.
func (d *discovery) serveAutodiscover(w http.ResponseWriter, r *http.Request) {
	var in autodiscoverRequest
	err := xml.NewDecoder(http.MaxBytesReader(w, r.Body, maxAutodiscoverBody)).Decode(&in)
	domain, ok := domainOfAddress(in.Request.Address)
	if err != nil || !ok {
		answerOutlookError(w, outlookInvalid, "Invalid Request")
		return
	}
	if in.Request.Schema != "" && in.Request.Schema != outlookResponse {
		answerOutlookError(w, outlookNoProvider, "Provider is not available")
		return
	}
	services, ok := d.services(w, r, domain)
	if !ok {
		return
	}
	protocols := outlookProtocols("IMAP", in.Request.Address, services.Host, services.IMAPS, services.IMAP)
	protocols = append(protocols, outlookProtocols("SMTP", in.Request.Address, services.Host, services.Submissions, services.Submission)...)
	answerXML(w, autodiscoverResponse{XMLNS: outlookEnvelope, Response: outlookSettings{XMLNS: outlookResponse,
		Account: &outlookAccount{Type: "email", Action: "settings", Protocols: protocols}}})
}

// outlookProtocols has one entry of a type: Outlook takes the first.
func outlookProtocols(kind, login, host string, implicit, starttls int) []outlookProtocol {
	p := outlookProtocol{Type: kind, Server: host, Port: implicit, LoginName: login, DomainNeeded: "off", SPA: "off", SSL: "on", Encryption: "SSL", AuthRequired: "on"}
	switch {
	case implicit != 0:
		return []outlookProtocol{p}
	case starttls != 0:
		p.Port, p.Encryption = starttls, "TLS"
		return []outlookProtocol{p}
	}
	return nil
}

func answerOutlookError(w http.ResponseWriter, code int, message string) {
	answerXML(w, autodiscoverResponse{XMLNS: outlookEnvelope, Response: outlookSettings{
		Error: &outlookError{Time: time.Now().UTC().Format("15:04:05.0000000"), ID: "0", Code: code, Message: message}}})
}

// serveAutodiscoverJSON answers autodiscover v2, which only says where v1 is.
func (d *discovery) serveAutodiscoverJSON(w http.ResponseWriter, r *http.Request) {
	query := r.URL.Query()
	address := r.PathValue("address")
	if address == "" {
		address = query.Get("Email")
	}
	domain, ok := domainOfAddress(address)
	if !ok {
		answerJSON(w, http.StatusBadRequest, map[string]string{"ErrorCode": "InvalidUserId", "ErrorMessage": "The address is not valid."})
		return
	}
	if query.Get("Protocol") != "AutodiscoverV1" {
		answerJSON(w, http.StatusBadRequest, map[string]string{"ErrorCode": "InvalidProtocol",
			"ErrorMessage": "The given protocol value is invalid. Supported values are 'AutodiscoverV1'."})
		return
	}
	services, ok := d.services(w, r, domain)
	if !ok {
		return
	}
	answerJSON(w, http.StatusOK, map[string]string{"Protocol": "AutodiscoverV1",
		"Url": "https://autodiscover." + services.Domain + "/autodiscover/autodiscover.xml"})
}

func answerJSON(w http.ResponseWriter, status int, v any) {
	w.Header().Set("Content-Type", "application/json; charset=utf-8")
	w.Header().Set("X-Content-Type-Options", "nosniff")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(v) // fails only when the client has gone away
}
