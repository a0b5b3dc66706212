package smtp

import (
	"strconv"
	"strings"

	gosmtp "github.com/emersion/go-smtp"
)

// mailCommand is MAIL as the client sent it.
type mailCommand struct {
	from path
	size int64 // what SIZE= declares; 0: it does not
	utf8 bool  // SMTPUTF8 (RFC 6531 section 3.4)
}

// mail checks MAIL and gives go-smtp the path alone: the rest is in s.mail.
func (g *gate) mail(arg []byte) ([]byte, *reply) {
	switch {
	case g.s.helo == "":
		return nil, errHelloFirst
	case g.s.accepted:
		return nil, errNested // RFC 5321 section 4.1.4
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
	if refusal := m.parameters(params, g.limits); refusal != nil {
		return nil, refusal
	}
	if from.international && !m.utf8 {
		return nil, errNeedUTF8
	}
	g.s.mail = m
	return []byte("MAIL FROM:<" + from.String() + ">\r\n"), nil
}

// parameters reads what follows the path. REQUIRETLS, BODY=BINARYMIME, AUTH
// and those of DSN are not offered and so not taken.
func (m *mailCommand) parameters(s string, limits *Limits) *reply {
	seen := ""
	for field := range strings.FieldsSeq(s) {
		name, value, _ := strings.Cut(field, "=")
		name = strings.ToUpper(name)
		if strings.Contains(seen, " "+name+" ") {
			return errParamValue
		}
		seen += " " + name + " "
		if refusal := m.parameter(name, value, limits); refusal != nil {
			return refusal
		}
	}
	if s != "" && s[0] != ' ' {
		return errMailSyntax
	}
	return nil
}

func (m *mailCommand) parameter(name, value string, limits *Limits) *reply {
	switch name {
	case "SIZE": // RFC 1870
		return m.declare(value, limits)
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
	return errParameter
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
	s.begin()
	return nil
}
