package storage

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"hash"
	"io"
	"os"
	"runtime"
	"sync"

	"github.com/klauspost/compress/zstd"

	"trivet/storage/message"
)

const (
	// ChunkSize is how much of a body is compressed as one piece, in octets. A
	// body of one chunk rides in the command that delivers it, each chunk of a
	// larger one ahead of it in a command of its own: small writes then wait
	// for one chunk at the most, not for a whole large message.
	ChunkSize = 128 << 10
	// SpoolMemory is how much of a message is held in memory while it comes
	// in, in octets; a larger one goes to a file in DATA/local/spool.
	SpoolMemory = 1 << 20
	// partsInFlight bounds the part commands of one body that wait for the log at a time. With two, large messages come in as
	// fast as with four, and small ones beside them wait a third as long (BenchmarkCluster).
	partsInFlight = 2
)

// Content is a message that was read whole and is ready to be written. Close
// it when done, whether it was written or not.
type Content struct {
	hash    [sha256.Size]byte
	message *message.Message
	header  []byte // part of buffer
	buffer  *[]byte
	file    *os.File // holds the message when it is large

	buffers *sync.Pool // where buffer goes back to
}

// Size is the number of octets.
func (c *Content) Size() int64 { return c.message.Size }

// Message is what the scanner found in it.
func (c *Content) Message() *message.Message { return c.message }

// Header is the header with its empty line, or the first [SpoolMemory] octets
// of it, until Close.
func (c *Content) Header() []byte { return c.header }

// Hash is the SHA-256 of the octets.
func (c *Content) Hash() [sha256.Size]byte { return c.hash }

// Close gives back what the content holds.
func (c *Content) Close() error {
	if c.buffer != nil {
		c.buffers.Put(c.buffer)
		c.buffer, c.header = nil, nil
	}
	if c.file == nil {
		return nil
	}
	f := c.file
	c.file = nil
	return f.Close() // the name went when it was created
}

func (c *Content) reader() io.Reader {
	if c.file != nil {
		return io.NewSectionReader(c.file, 0, c.message.Size)
	}
	return bytes.NewReader(*c.buffer)
}

// intake reads messages: it holds what is worth reusing between them.
type intake struct {
	spoolDir string
	encoder  *zstd.Encoder
	copies   sync.Pool // *[]byte, for copying
	buffers  sync.Pool // *[]byte, for messages in memory
}

func newIntake(spoolDir string) (*intake, error) {
	// Attachments are Base64, in which nothing repeats: entropy coding alone takes a quarter off them.
	e, err := zstd.NewWriter(nil, zstd.WithEncoderLevel(zstd.SpeedFastest), zstd.WithAllLitEntropyCompression(true), zstd.WithWindowSize(ChunkSize),
		zstd.WithEncoderCRC(true), zstd.WithEncoderConcurrency(runtime.GOMAXPROCS(0)), zstd.WithLowerEncoderMem(true))
	if err != nil {
		return nil, err
	}
	return &intake{spoolDir: spoolDir, encoder: e,
		copies:  sync.Pool{New: func() any { b := make([]byte, 32<<10); return &b }},
		buffers: sync.Pool{New: func() any { b := make([]byte, 0, 16<<10); return &b }}}, nil
}

// Prepare reads a message to the end of r, once. The error is r's, or that of
// the spool (KindDiskFull when there is no room). Nothing is written to the log.
func (s *Store) Prepare(ctx context.Context, r io.Reader) (*Content, error) {
	c, err := s.intake.read(ctx, r)
	if err != nil {
		if IsDiskFull(err) {
			return nil, &Error{Op: "spool message", Kind: KindDiskFull, Err: err}
		}
		return nil, err
	}
	return c, nil
}

func (in *intake) read(ctx context.Context, r io.Reader) (c *Content, err error) {
	piece := in.copies.Get().(*[]byte)
	defer in.copies.Put(piece)
	sp := &spool{dir: in.spoolDir, scanner: message.NewScanner(), hash: sha256.New(), memory: in.buffers.Get().(*[]byte)}
	*sp.memory = (*sp.memory)[:0]
	defer func() {
		if err == nil {
			return
		}
		in.buffers.Put(sp.memory)
		if sp.file != nil {
			sp.file.Close()
		}
	}()
	for {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		n, rerr := r.Read(*piece)
		if err := sp.write((*piece)[:n]); err != nil {
			return nil, err
		}
		if errors.Is(rerr, io.EOF) {
			return sp.content(&in.buffers), nil
		}
		if rerr != nil {
			return nil, rerr
		}
	}
}

// spool is a message while it is being read.
type spool struct {
	dir     string
	scanner *message.Scanner
	hash    hash.Hash
	memory  *[]byte
	file    *os.File
}

func (sp *spool) write(p []byte) error {
	sp.hash.Write(p)
	if _, err := sp.scanner.Write(p); err != nil {
		return err
	}
	if sp.file == nil && len(*sp.memory)+len(p) > SpoolMemory {
		if err := sp.spill(); err != nil {
			return err
		}
	}
	if sp.file != nil {
		_, err := sp.file.Write(p)
		return err
	}
	*sp.memory = append(*sp.memory, p...)
	return nil
}

// spill moves what was read so far to a file without a name: nothing is left
// of it after a crash.
func (sp *spool) spill() error {
	f, err := os.CreateTemp(sp.dir, "message-*")
	if err != nil {
		return err
	}
	sp.file = f
	if err := os.Remove(f.Name()); err != nil {
		return err
	}
	_, err = f.Write(*sp.memory)
	return err
}

func (sp *spool) content(buffers *sync.Pool) *Content {
	c := &Content{message: sp.scanner.Finish(), buffer: sp.memory, file: sp.file, buffers: buffers}
	sp.hash.Sum(c.hash[:0])
	c.header = (*sp.memory)[:min(c.message.HeaderSize, int64(len(*sp.memory)))]
	return c
}

// content is a message as a command carries it.
type content struct {
	Hash          []byte `cbor:"1,keyasint"`
	Size          int64  `cbor:"2,keyasint"`
	Inline        []byte `cbor:"3,keyasint,omitempty"` // the one chunk, when there is just one
	Parts         int    `cbor:"4,keyasint,omitempty"` // how many chunks came ahead, otherwise
	Sent          int64  `cbor:"5,keyasint,omitempty"` // Date field, Unix seconds; 0: none
	Preview       string `cbor:"6,keyasint,omitempty"`
	Envelope      []byte `cbor:"7,keyasint"`
	BodyStructure []byte `cbor:"8,keyasint"`
	Structure     []byte `cbor:"9,keyasint"`
	Thread        string `cbor:"10,keyasint,omitempty"` // see [Thread]
}

// record describes c for a command. The body is inline, or was uploaded before.
func (s *Store) record(c *Content) content {
	m := c.message
	r := content{Hash: c.hash[:], Size: m.Size, Preview: m.Preview,
		Envelope:      m.Envelope.AppendIMAP(nil),
		BodyStructure: m.Root.AppendBodyStructure(nil, true),
		Structure:     m.AppendStructure(nil), Thread: references(c.header)}
	if !m.Date.IsZero() {
		r.Sent = m.Date.Unix()
	}
	if m.Size <= ChunkSize {
		r.Inline = s.intake.encoder.EncodeAll(*c.buffer, make([]byte, 0, len(*c.buffer)/2+256))
	} else {
		r.Parts = int((m.Size + ChunkSize - 1) / ChunkSize)
	}
	return r
}

// putPart is the body of kindPutPart: chunk N of the body with a hash.
type putPart struct {
	Hash []byte `cbor:"1,keyasint"`
	N    int    `cbor:"2,keyasint"`
	Data []byte `cbor:"3,keyasint"`
}

// upload proposes the parts of a large body, a few at a time.
func (s *Store) upload(ctx context.Context, c *Content) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var wg sync.WaitGroup
	slots := make(chan struct{}, partsInFlight)
	r := c.reader()
	for n := 0; ctx.Err() == nil; n++ {
		plain := make([]byte, ChunkSize)
		size, err := io.ReadFull(r, plain)
		if size == 0 {
			break
		}
		if err != nil && !errors.Is(err, io.ErrUnexpectedEOF) {
			cancel(err)
			break
		}
		slots <- struct{}{}
		wg.Go(func() {
			defer func() { <-slots }()
			part := putPart{Hash: c.hash[:], N: n, Data: s.intake.encoder.EncodeAll(plain[:size], nil)}
			if _, err := s.propose(ctx, kindPutPart, nil, part, nil); err != nil {
				cancel(err)
			}
		})
	}
	wg.Wait()
	return context.Cause(ctx)
}

// writeContent proposes a command that carries c, after its parts if it is
// large. Parts that went missing meanwhile (a collection ran in between) are
// sent once more.
func (s *Store) writeContent(ctx context.Context, c *Content, k kind, request []byte, body func(content) any, answer any) (repeated bool, err error) {
	r := s.record(c)
	known := r.Parts == 0
	for range 2 {
		if !known {
			if known, err = s.hasMessage(ctx, r.Hash); err != nil {
				return false, err
			}
		}
		if !known {
			if err := s.upload(ctx, c); err != nil {
				return false, err
			}
		}
		repeated, err = s.propose(ctx, k, request, body(r), answer)
		var e *Error
		if !errors.As(err, &e) || e.Op != opMissingParts {
			return repeated, err
		}
		known = false
	}
	return repeated, err
}

// opMissingParts marks the refusal of a command whose body is not here whole.
const opMissingParts = "find the parts of the body"

func applyPutPart(t *tx, b putPart) (any, error) {
	if len(b.Hash) != sha256.Size || b.N < 0 || len(b.Data) == 0 {
		return nil, fail("put part", KindInvalid, "")
	}
	known, err := t.mail.row("SELECT 1 FROM message WHERE hash = ?", nil, b.Hash)
	if err != nil || known {
		return nil, err
	}
	id := t.newID()
	n, err := t.mail.exec("INSERT OR IGNORE INTO part (hash, n, chunk, at) VALUES (?, ?, ?, ?)", b.Hash, b.N, id, t.at)
	if err == nil && n > 0 {
		t.chunks = append(t.chunks, chunk{id, b.Data})
	}
	return nil, err
}
