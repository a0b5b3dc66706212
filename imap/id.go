package imap

import "strings"

// Bounds of RFC 2971 section 3.3.
const (
	maxIDFields = 30
	maxIDValue  = 1024
)

// id answers ID (RFC 2971). What the client says of itself is logged, and changes nothing but which capabilities are
// withheld from it.
func (s *session) id(c *call) error {
	fields, err := idArguments(c)
	if err != nil {
		return err
	}
	if len(fields) > 0 {
		s.log.Debug("imap client", "id", strings.Join(fields, " "))
	}
	s.client = strings.Join(fields, " ")
	s.withhold()
	s.w.Raw(`* ID ("name" "Trivet"`)
	if v := s.server.cfg.Version; v != "" {
		s.w.Raw(` "version" `)
		s.w.String(v)
	}
	s.w.Raw(")\r\n")
	return nil
}

func idArguments(c *call) ([]string, error) {
	c.SP()
	if c.TryWord("NIL") {
		return nil, c.End()
	}
	var fields []string
	c.List(func() {
		name := c.String()
		c.SP()
		value, _ := c.NString()
		if len(fields) == maxIDFields || len(value) > maxIDValue {
			c.Fail("Too much in ID")
		}
		fields = append(fields, name+"="+value)
	})
	return fields, c.End()
}
