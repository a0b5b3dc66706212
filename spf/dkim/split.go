package dkim

import (
	"bytes"
	"errors"
)

// MaxHeaderBytes is the largest header section that is looked at.
const MaxHeaderBytes = 1 << 20

// ErrHeaderTooLarge says that a message has more than [MaxHeaderBytes] of header.
var ErrHeaderTooLarge = errors.New("the header section has more than 1 MiB")

// Splitter takes a message in pieces of any size. Its zero value with the two
// functions is ready for use.
type Splitter struct {
	// Begin is called once, with the header, before the first of the body.
	Begin func(Header)
	// Body is called with the body, piece by piece; the pieces are not to be kept.
	Body func([]byte)

	section []byte
	line    int // where the line that is not complete begins in section
	inBody  bool
	err     error
}

// Write takes more of the message. It never fails; see Close.
func (s *Splitter) Write(p []byte) (int, error) {
	n := len(p)
	for len(p) > 0 && s.err == nil {
		if s.inBody {
			s.Body(p)
			break
		}
		p = s.headerLine(p)
	}
	return n, nil
}

// headerLine takes the rest of one line, and returns what is behind it.
func (s *Splitter) headerLine(p []byte) []byte {
	end := bytes.IndexByte(p, '\n') + 1
	if end == 0 {
		end = len(p)
	}
	if len(s.section)+end > MaxHeaderBytes {
		s.err, s.section = ErrHeaderTooLarge, nil
		return nil
	}
	s.section = append(s.section, p[:end]...)
	if p[end-1] == '\n' {
		if isEmptyLine(s.section[s.line:]) {
			s.begin()
		}
		s.line = len(s.section)
	}
	return p[end:]
}

func (s *Splitter) begin() {
	s.inBody = true
	s.Begin(ParseHeader(s.section))
	s.section = nil
}

// Close says that the message is complete. It fails when there was no telling
// the header.
func (s *Splitter) Close() error {
	if s.err == nil && !s.inBody {
		s.begin()
	}
	return s.err
}
