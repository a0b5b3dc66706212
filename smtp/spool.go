package smtp

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"sync"
)

// spoolMemory is how much of a message is kept in memory, in octets; what is
// more goes to a file.
const spoolMemory = 256 << 10

// spool keeps a message that has to be read more than once: to be signed, or to
// be stored in several forms.
type spool struct {
	dir   string // where the file is made; empty: the system's
	head  []byte
	file  *os.File // nil: all is in head
	size  int64
	eight bool // it has octets above 127

	pool    *sync.Pool // where buffers go back to; nil: nowhere
	buffers *buffers
}

// buffers are what a spool needs in memory, used again by the next.
type buffers struct {
	head  []byte
	piece []byte // for copying
}

// The sizes of new buffers, and how large a head may be to be used again, in octets.
const (
	headSize  = 16 << 10
	headMost  = 64 << 10
	pieceSize = 16 << 10
)

func newBuffers() any { return &buffers{make([]byte, 0, headSize), make([]byte, pieceSize)} }

// newSpool is empty; it is to be closed, and nothing of it used after that.
func (s *Server) newSpool() *spool {
	b := s.buffers.Get().(*buffers)
	return &spool{dir: s.cfg.SpoolDir, head: b.head[:0], pool: &s.buffers, buffers: b}
}

// Write implements io.Writer.
func (s *spool) Write(p []byte) (int, error) {
	for _, c := range p {
		if c > 0x7f {
			s.eight = true
			break
		}
	}
	s.size += int64(len(p))
	if s.file == nil && len(s.head)+len(p) <= spoolMemory {
		s.head = append(s.head, p...)
		return len(p), nil
	}
	if s.file == nil {
		if err := s.open(); err != nil {
			return 0, err
		}
	}
	return s.file.Write(p)
}

// open makes the file, without a name: it is gone with the process.
func (s *spool) open() (err error) {
	if s.file, err = os.CreateTemp(s.dir, "smtp-*"); err != nil {
		return fmt.Errorf("spool message: %w", err)
	}
	return os.Remove(s.file.Name())
}

// from reads the message from an offset on.
func (s *spool) from(offset int64) io.Reader {
	if s.file == nil {
		return bytes.NewReader(s.head[offset:])
	}
	memory := int64(len(s.head))
	rest := io.NewSectionReader(s.file, max(0, offset-memory), s.size-max(memory, offset))
	if offset >= memory {
		return rest
	}
	return io.MultiReader(bytes.NewReader(s.head[offset:]), rest)
}

// first reads the first n octets.
func (s *spool) first(n int64) ([]byte, error) {
	if n <= int64(len(s.head)) {
		return s.head[:n], nil
	}
	b := make([]byte, n)
	_, err := io.ReadFull(s.from(0), b)
	return b, err
}

// Close throws the message away.
func (s *spool) Close() {
	if s.file != nil {
		s.file.Close() // it has no name
	}
	if s.pool != nil && cap(s.head) <= headMost {
		s.buffers.head = s.head
		s.pool.Put(s.buffers)
	}
}

// ReadAt implements io.ReaderAt.
func (s *spool) ReadAt(b []byte, off int64) (n int, err error) {
	if off < int64(len(s.head)) {
		n = copy(b, s.head[off:])
	}
	if n == len(b) {
		return n, nil
	}
	if s.file == nil {
		return n, io.EOF
	}
	more, err := s.file.ReadAt(b[n:], off+int64(n)-int64(len(s.head)))
	return n + more, err
}
