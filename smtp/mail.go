package smtp

import (
	"strconv"
	"strings"

	gosmtp "github.com/emersion/go-smtp"

	"trivet/storage"
)

// mailCommand is MAIL as the client sent it.
type mailCommand struct {
	from path
	size int64 // what SIZE= declares; 0: it does not
	utf8 bool  // SMTPUTF8 (RFC 6531 section 3.4)

	// For submission only.
	requireTLS bool               // REQUIRETLS (RFC 8689)
	ret        storage.ReturnKind // RET (RFC 3461 section 4.3)
	envelopeID string             // ENVID (RFC 3461 section 4.4), as xtext
}

// mail checks MAIL and gives go-smtp the path alone: the rest is in s.mail.
func (g *gate) mail(arg []byte) ([]byte, *reply) {
	switch {
	case g.s.helo == "":
		return nil, errHelloFirst
	case g.s.accepted:
		return nil, errNested // RFC 5321 section 4.1.4
	}
	if g.s.submits() && g.s.who.AccountID == 0 {
		return nil, errNeedAuth // RFC 6409 section 4.3
	}
	rest, ok := cutFold(arg, "FROM:")
	if !ok {
		return nil, errMailSyntax
	}
	from, params, ok := parsePath(string(rest))
	if !ok || from != (path{}) && from.domain == "" {
		return nil, errSender
	}
	m := mailCommand{from: from}
	if refusal := m.parameters(params, g.s); refusal != nil {
		return nil, refusal
	}
	if from.international && !m.utf8 {
		return nil, errNeedUTF8
	}
	g.s.mail = m
	return []byte("MAIL FROM:<" + from.String() + ">\r\n"), nil
}

// parameters reads what follows the path. BODY=BINARYMIME is not offered and so
// not taken; nor are those that are about sending on, where others deliver to us.
func (m *mailCommand) parameters(s string, session *session) *reply {
	seen := ""
	for field := range strings.FieldsSeq(s) {
		name, value, _ := strings.Cut(field, "=")
		name = strings.ToUpper(name)
		if strings.Contains(seen, " "+name+" ") {
			return errParamValue
		}
		seen += " " + name + " "
		if refusal := m.parameter(name, value, session); refusal != nil {
			return refusal
		}
	}
	if s != "" && s[0] != ' ' {
		return errMailSyntax
	}
	return nil
}

func (m *mailCommand) parameter(name, value string, session *session) *reply {
	switch name {
	case "SIZE": // RFC 1870
		return m.declare(value, session.gate.limits)
	case "BODY": // RFC 6152: octets are kept as they come in either case
		switch strings.ToUpper(value) {
		case "7BIT", "8BITMIME":
			return nil
		case "BINARYMIME":
			return errParameter
		}
		return errParamValue
	case "SMTPUTF8":
		m.utf8 = true
		if value != "" {
			return errParamValue
		}
		return nil
	}
	if session.submits() {
		return m.submissionParameter(name, value, session)
	}
	return errParameter
}

// submissionParameter reads what a user may say about sending on.
func (m *mailCommand) submissionParameter(name, value string, session *session) *reply {
	switch name {
	case "AUTH": // RFC 4954 section 5: who it is from is known already
		if _, ok := decodeXtext(value); !ok || value == "" {
			return errParamValue
		}
		return nil
	case "RET":
		switch strings.ToUpper(value) {
		case "FULL":
			m.ret = storage.ReturnFull
		case "HDRS":
			m.ret = storage.ReturnHeaders
		default:
			return errParamValue
		}
		return nil
	case "ENVID":
		if id, ok := decodeXtext(value); !ok || value == "" || len(value) > storage.MaxEnvelopeID || !isPrintable(id) {
			return errParamValue
		}
		m.envelopeID = value
		return nil
	case "REQUIRETLS":
		if session.tls == nil || value != "" {
			return errParamValue
		}
		m.requireTLS = true
		return nil
	}
	return errParameter
}

// decodeXtext undoes xtext (RFC 3461 section 4).
func decodeXtext(s string) (string, bool) {
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		c := s[i]
		switch {
		case c == '+':
			if i+2 >= len(s) {
				return "", false
			}
			n, err := strconv.ParseUint(s[i+1:i+3], 16, 8)
			if err != nil || strings.ToUpper(s[i+1:i+3]) != s[i+1:i+3] {
				return "", false
			}
			b.WriteByte(byte(n))
			i += 2
		case c < '!' || c > '~' || c == '=':
			return "", false
		default:
			b.WriteByte(c)
		}
	}
	return b.String(), true
}

func isPrintable(s string) bool {
	return !strings.ContainsFunc(s, func(c rune) bool { return c < ' ' || c == 0x7f })
}

// declare takes the value of SIZE, up to 20 digits long (RFC 1870 section 5).
func (m *mailCommand) declare(value string, limits *Limits) *reply {
	if value == "" || len(value) > 20 || strings.Trim(value, "0123456789") != "" {
		return errParamValue
	}
	n, err := strconv.ParseInt(value, 10, 64)
	if err != nil || limits.MaxMessageBytes > 0 && n > limits.MaxMessageBytes {
		return errTooLarge
	}
	m.size = n
	return nil
}

// Mail opens a transaction for the MAIL that the gate let through.
func (s *session) Mail(string, *gosmtp.MailOptions) error {
	if healthy := s.server.cfg.Healthy; healthy != nil {
		if err := healthy(s.server.ctx); err != nil {
			return failure(err)
		}
	}
	if s.submits() {
		if r := s.maySubmit(); r != nil {
			return r
		}
	}
	s.begin()
	return nil
}

// maySubmit refuses a sender that is not the account's own, and one who has sent
// too much in this hour. What counts is counted when the message is stored.
func (s *session) maySubmit() *reply {
	if s.mail.from != (path{}) {
		if r := s.mayUse(s.mail.from.String()); r != nil {
			return r
		}
	}
	state, err := s.server.cfg.Store.Submitted(s.server.ctx, s.who.AccountID, s.server.cfg.Submission)
	if err != nil {
		return failure(err)
	}
	messages, recipients := state.Left()
	s.mayAddress = recipients
	if messages < 1 || recipients < 1 {
		return answer(450, 4, 7, 1, "You have sent as much as you may in an hour, try again after "+state.Until.Format("15:04 MST"))
	}
	return nil
}
