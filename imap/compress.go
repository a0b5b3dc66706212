package imap

import (
	"github.com/klauspost/compress/flate"
)

// compress answers COMPRESS (RFC 4978). What the client pipelined behind the command in the clear would be taken for compressed;
// such a client is refused.
func (s *session) compress(c *call) error {
	c.SP()
	mechanism := c.Word()
	if err := c.End(); err != nil {
		return err
	}
	switch {
	case mechanism != "DEFLATE":
		return no("", "Unknown compression")
	case s.stream.deflated != nil:
		return no("COMPRESSIONACTIVE", "The connection is compressed already")
	case s.r.Buffered() > 0:
		return bad("Nothing may follow COMPRESS before its answer")
	}
	s.w.Raw(c.tag + " OK DEFLATE active\r\n")
	if err := s.w.Flush(); err != nil {
		return err
	}
	s.stream.deflate()
	return errAnswered
}

// deflate compresses from here on, in both directions. The compressor keeps nothing between two
// writes, so that a silent session costs the window of what it receives and no more.
func (t *transport) deflate() {
	t.inflated = &inflater{src: plainReader{t}}
	t.deflated = flate.NewStatelessWriter(plainWriter{t})
}

// plainReader and plainWriter are the connection below the compression.
type (
	plainReader struct{ t *transport }
	plainWriter struct{ t *transport }
)

func (r plainReader) Read(p []byte) (int, error)  { return r.t.readPlain(p) }
func (w plainWriter) Write(p []byte) (int, error) { return w.t.writePlain(p) }
