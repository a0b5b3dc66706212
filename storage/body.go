package storage

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"

	"github.com/klauspost/compress/zstd"
	"zombiezen.com/go/sqlite"
)

// Body is the octets of one message, exactly as they came in. It reads and
// decompresses a chunk at a time and holds nothing of the database between
// calls. It is for one goroutine.
type Body struct {
	store  *Store
	id     int64
	size   int64
	chunks []int64

	n     int // which chunk plain holds; -1: none
	plain []byte
	ahead []byte // the first chunk, compressed, when it was read with others
}

var bodyBuffers = sync.Pool{New: func() any { return new([]byte) }}

// OpenBody opens the content with an [Item.MessageID]. KindNotFound: it was
// expunged everywhere and collected.
func (s *Store) OpenBody(ctx context.Context, messageID int64) (*Body, error) {
	b := &Body{store: s, id: messageID, n: -1}
	err := s.with(ctx, func(c *conn) error {
		found, err := c.row("SELECT size, chunks FROM message WHERE id = ?", func(st *sqlite.Stmt) {
			b.size = st.ColumnInt64(0)
			b.chunks = decodeChunks(messageID, columnBytes(st, 1))
		}, messageID)
		if err == nil && !found {
			return fail(fmt.Sprintf("open message %d", messageID), KindNotFound, "")
		}
		return err
	})
	if err != nil {
		return nil, readError("open message", err)
	}
	return b, nil
}

// Size is the number of octets.
func (b *Body) Size() int64 { return b.size }

// Close lets the memory of the last chunk be reused.
func (b *Body) Close() error {
	if b.plain != nil {
		plain := b.plain[:0]
		bodyBuffers.Put(&plain)
		b.plain, b.n = nil, -1
	}
	return nil
}

// ReadAt implements [io.ReaderAt].
func (b *Body) ReadAt(p []byte, off int64) (int, error) {
	if off < 0 {
		return 0, fail("read message", KindInvalid, "negative offset")
	}
	done := 0
	for done < len(p) {
		piece, err := b.at(off + int64(done))
		if err != nil {
			return done, err
		}
		done += copy(p[done:], piece)
	}
	return done, nil
}

// WriteRange writes n octets from off to w, less when the body ends before.
func (b *Body) WriteRange(w io.Writer, off, n int64) error {
	for n > 0 && off < b.size {
		piece, err := b.at(off)
		if err != nil {
			return err
		}
		piece = piece[:min(int64(len(piece)), n)]
		if _, err := w.Write(piece); err != nil {
			return err
		}
		off, n = off+int64(len(piece)), n-int64(len(piece))
	}
	return nil
}

// at returns the rest of the chunk that holds off.
func (b *Body) at(off int64) ([]byte, error) {
	if off >= b.size {
		return nil, io.EOF
	}
	n := int(off / ChunkSize)
	if n != b.n {
		if err := b.load(n); err != nil {
			return nil, err
		}
	}
	return b.plain[off%ChunkSize:], nil
}

// load reads a chunk, and has it repaired from another node if it is damaged.
func (b *Body) load(n int) error {
	err := b.read(n)
	if err == nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), repairPatience)
	defer cancel()
	if rerr := b.store.repair(ctx, b.id); rerr != nil {
		return &Error{Op: "read message", Err: errors.Join(err, rerr)}
	}
	if err := b.read(n); err != nil {
		return &Error{Op: "read message", Err: err}
	}
	return nil
}

// repairPatience is how long a read waits for another node's copy.
const repairPatience = 30 * time.Second

func (b *Body) read(n int) error {
	if n >= len(b.chunks) {
		return fmt.Errorf("message %d has %d chunks for %d octets", b.id, len(b.chunks), b.size)
	}
	data := b.ahead
	b.ahead = nil // what does not decompress is read again once it was repaired
	if n > 0 || data == nil {
		var err error
		if data, err = b.store.chunk(context.Background(), b.chunks[n]); err != nil {
			return err
		}
	}
	if b.plain == nil {
		b.plain = *bodyBuffers.Get().(*[]byte)
	}
	b.n = -1
	var err error
	if b.plain, err = b.store.decoder.DecodeAll(data, b.plain[:0]); err != nil {
		return fmt.Errorf("message %d, chunk %d: %w", b.id, b.chunks[n], err)
	}
	if want := min(ChunkSize, b.size-int64(n)*ChunkSize); int64(len(b.plain)) != want {
		return fmt.Errorf("message %d, chunk %d: %d octets, not %d", b.id, b.chunks[n], len(b.plain), want)
	}
	b.n = n
	return nil
}

func newDecoder() (*zstd.Decoder, error) {
	// Nothing in a pack may make the decoder allocate more than a chunk.
	return zstd.NewReader(nil, zstd.WithDecoderConcurrency(0), zstd.WithDecoderMaxMemory(2*ChunkSize), zstd.WithDecoderLowmem(true))
}
