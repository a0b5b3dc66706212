package smtp

import (
	"strings"

	"trivet/storage/message"
)

// Correspondent is somebody whom an account wrote to.
type Correspondent struct {
	Address string // in lower case
	Name    string // as it is in To or Cc, decoded; may be empty
}

// tellWritten says whom an account wrote to, when a person did: not a program that answers (RFC 3834).
func (s *session) tellWritten(p *parcel) {
	if s.server.cfg.Wrote == nil || s.who.AccountID == 0 {
		return
	}
	if auto, found := message.FindHeader(p.header, "Auto-Submitted"); found && !strings.EqualFold(strings.TrimSpace(auto), "no") {
		return
	}
	names := map[string]string{}
	for _, field := range [...]string{"To", "Cc"} {
		for _, value := range message.AllHeaders(p.header, field) {
			for _, a := range message.ParseAddressList(value) {
				if a.Kind == message.Mailbox && a.Name != "" {
					names[strings.ToLower(a.Addr())] = message.DecodeHeader(a.Name)
				}
			}
		}
	}
	to := make([]Correspondent, 0, len(s.rcpts))
	for _, r := range s.rcpts {
		address := strings.ToLower(r.path.local + "@" + r.path.domain)
		to = append(to, Correspondent{address, names[address]})
	}
	s.server.cfg.Wrote(s.who.AccountID, to)
}
