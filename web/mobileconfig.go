package web

import (
	"bytes"
	"cmp"
	"crypto/sha256"
	"encoding/xml"
	"fmt"
	"net/http"
)

// mobileConfigPath gives Apple's clients a profile for the address in the query.
const mobileConfigPath = "/apple.mobileconfig"

// serveMobileConfig answers with an unsigned profile: the client says so when it
// asks its user, and the connection says whom it is from.
func (d *discovery) serveMobileConfig(w http.ResponseWriter, r *http.Request) {
	address := r.URL.Query().Get("email")
	domain, ok := domainOfAddress(address)
	if !ok {
		answer(w, http.StatusBadRequest, "email is no address; ask for "+mobileConfigPath+"?email=YOU@DOMAIN")
		return
	}
	services, ok := d.services(w, r, domain)
	if !ok {
		return
	}
	header := w.Header()
	header.Set("Content-Type", "application/x-apple-aspen-config")
	header.Set("Content-Disposition", `attachment; filename="mail.mobileconfig"`)
	header.Set("X-Content-Type-Options", "nosniff")
	header.Set("Cache-Control", "no-store")
	_, _ = w.Write(mobileConfig(address, services)) // fails only when the client has gone away
}

// entry is a key of a property list with its value: string, int, bool, []entry (dict) or [][]entry (array of dicts).
type entry struct {
	key   string
	value any
}

// mobileConfig is a configuration profile with one mail account
// (https://developer.apple.com/documentation/devicemanagement/mail).
func mobileConfig(address string, s Services) []byte {
	// Where TLS does not begin at once, Apple's clients do STARTTLS by themselves.
	in, out := cmp.Or(s.IMAPS, s.IMAP), cmp.Or(s.Submissions, s.Submission)
	account := []entry{
		{"PayloadType", "com.apple.mail.managed"}, {"PayloadVersion", 1}, {"PayloadIdentifier", "mail.trivet." + s.Domain + ".account"},
		{"PayloadUUID", stableUUID("account", address)}, {"PayloadDisplayName", "Mail of " + s.Domain},
		{"EmailAccountType", "EmailTypeIMAP"}, {"EmailAccountDescription", address}, {"EmailAddress", address},
		{"IncomingMailServerAuthentication", "EmailAuthPassword"}, {"IncomingMailServerHostName", s.Host},
		{"IncomingMailServerPortNumber", in}, {"IncomingMailServerUseSSL", true}, {"IncomingMailServerUsername", address},
		{"OutgoingMailServerAuthentication", "EmailAuthPassword"}, {"OutgoingMailServerHostName", s.Host},
		{"OutgoingMailServerPortNumber", out}, {"OutgoingMailServerUseSSL", true}, {"OutgoingMailServerUsername", address},
		{"OutgoingPasswordSameAsIncomingPassword", true},
	}
	var b bytes.Buffer
	b.WriteString(xml.Header)
	b.WriteString(`<!DOCTYPE plist PUBLIC "-//Apple//DTD PLIST 1.0//EN" "http://www.apple.com/DTDs/PropertyList-1.0.dtd">` + "\n")
	b.WriteString(`<plist version="1.0">` + "\n")
	writeDict(&b, []entry{
		{"PayloadType", "Configuration"}, {"PayloadVersion", 1}, {"PayloadIdentifier", "mail.trivet." + s.Domain},
		{"PayloadUUID", stableUUID("profile", address)}, {"PayloadDisplayName", "Mail of " + s.Domain}, {"PayloadOrganization", s.Domain},
		{"PayloadDescription", "Sets up mail for " + address}, {"PayloadContent", [][]entry{account}},
	})
	b.WriteString("</plist>\n")
	return b.Bytes()
}

func writeDict(b *bytes.Buffer, entries []entry) {
	b.WriteString("<dict>\n")
	for _, e := range entries {
		fmt.Fprintf(b, "<key>%s</key>", e.key)
		switch value := e.value.(type) {
		case string:
			b.WriteString("<string>")
			_ = xml.EscapeText(b, []byte(value)) // a buffer takes all
			b.WriteString("</string>\n")
		case int:
			fmt.Fprintf(b, "<integer>%d</integer>\n", value)
		case bool:
			fmt.Fprintf(b, "<%t/>\n", value)
		case [][]entry:
			b.WriteString("<array>\n")
			for _, dict := range value {
				writeDict(b, dict)
			}
			b.WriteString("</array>\n")
		}
	}
	b.WriteString("</dict>\n")
}

// stableUUID is the same for the same address, so that a profile replaces the one before (RFC 9562 section 5.8).
func stableUUID(kind, address string) string {
	sum := sha256.Sum256([]byte(kind + " " + address))
	sum[6] = sum[6]&0x0f | 0x80
	sum[8] = sum[8]&0x3f | 0x80
	return fmt.Sprintf("%X-%X-%X-%X-%X", sum[:4], sum[4:6], sum[6:8], sum[8:10], sum[10:16])
}
