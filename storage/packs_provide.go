package storage

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"

	"zombiezen.com/go/sqlite"
)

// A state that is sent to another node does not contain the sealed packs. The
// node asks for what it lacks of them beforehand, in these words:
//
//	packs                  the sealed packs: how many, the id of each
//	list PACK              the chunks in one: how many, the id of each and the CRC-32C of its octets
//	chunks PACK FROM TO    chunks of these ids, from the first on: the id, how many octets, these
//
// Numbers are uvarints, ids of chunks the difference to the one before, CRCs
// four octets. An answer to the last may stop short of TO; an id 0 ends it.
const (
	askPacks  = "packs"
	askList   = "list %d"
	askChunks = "chunks %d %d %d"
	// provideBytes is about how much one answer holds.
	provideBytes = 4 << 20
	// maxChunkBytes bounds a compressed chunk, which has [ChunkSize] octets at most before.
	maxChunkBytes = 2 * ChunkSize
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// Provide answers another node that gets this state, see [Machine.Prepare].
func (m *Machine) Provide(ctx context.Context, query string, w io.Writer) error {
	m.swap.RLock()
	defer m.swap.RUnlock()
	if err := m.readable(); err != nil || m.shut {
		return errors.Join(err, errClosed)
	}
	var pack, from, to int64
	if query == askPacks {
		ids := m.files.packs.sealed()
		b := binary.AppendUvarint(nil, uint64(len(ids)))
		for _, id := range ids {
			b = binary.AppendUvarint(b, uint64(id))
		}
		_, err := w.Write(b)
		return err
	}
	if n, _ := fmt.Sscanf(query, askChunks, &pack, &from, &to); n == 3 {
		return m.provideChunks(ctx, pack, from, to, w)
	}
	if n, _ := fmt.Sscanf(query, askList, &pack); n == 1 {
		list, err := m.listSealed(ctx, pack)
		if err != nil {
			return err
		}
		_, err = w.Write(list.encode())
		return err
	}
	return fmt.Errorf("unknown question %q", query)
}

// sealed returns the ids of the sealed packs.
func (p *packs) sealed() (ids []int64) {
	p.mu.RLock()
	defer p.mu.RUnlock()
	for _, f := range p.table[:len(p.table)-1] {
		ids = append(ids, f.id)
	}
	return ids
}

// sealedReader opens a sealed pack.
func (m *Machine) sealedReader(pack int64) (*conn, error) {
	for _, id := range m.files.packs.sealed() {
		if id == pack {
			return openReader(m.files.packs.path(pack))
		}
	}
	return nil, fmt.Errorf("there is no sealed pack %d", pack)
}

func (m *Machine) listSealed(ctx context.Context, pack int64) (packList, error) {
	c, err := m.sealedReader(pack)
	if err != nil {
		return packList{}, err
	}
	defer c.close()
	return listPack(ctx, c)
}

// provideChunks collects them first: no read transaction waits for the network.
func (m *Machine) provideChunks(ctx context.Context, pack, from, to int64, w io.Writer) error {
	c, err := m.sealedReader(pack)
	if err != nil {
		return err
	}
	defer c.close()
	var out bytes.Buffer
	last := int64(0)
	err = c.rows("SELECT id, data FROM chunk WHERE id BETWEEN ? AND ? ORDER BY id", func(st *sqlite.Stmt) bool {
		data := columnBytes(st, 1)
		head := binary.AppendUvarint(nil, uint64(st.ColumnInt64(0)-last))
		out.Write(binary.AppendUvarint(head, uint64(len(data))))
		out.Write(data)
		last = st.ColumnInt64(0)
		return out.Len() < provideBytes && ctx.Err() == nil
	}, from, to)
	if err == nil {
		err = ctx.Err()
	}
	if err != nil {
		return err
	}
	out.WriteByte(0)
	_, err = w.Write(out.Bytes())
	return err
}

// packList is what a pack contains.
type packList struct {
	ids  []int64 // ascending
	sums []uint32
}

// listPack reads a whole pack. With an error it returns what came before.
func listPack(ctx context.Context, c *conn) (packList, error) {
	var l packList
	var buffer []byte
	err := c.rows("SELECT id, data FROM chunk ORDER BY id", func(st *sqlite.Stmt) bool {
		buffer = readColumn(st, 1, buffer)
		l.ids, l.sums = append(l.ids, st.ColumnInt64(0)), append(l.sums, crc32.Checksum(buffer, castagnoli))
		return ctx.Err() == nil
	})
	if err == nil {
		err = ctx.Err()
	}
	return l, err
}

// readColumn reads a BLOB into buffer, which grows when it must.
func readColumn(st *sqlite.Stmt, col int, buffer []byte) []byte {
	n := st.ColumnLen(col)
	if cap(buffer) < n {
		buffer = make([]byte, n, 2*n)
	}
	buffer = buffer[:n]
	if n > 0 {
		st.ColumnBytes(col, buffer)
	}
	return buffer
}

func (l packList) encode() []byte {
	b := binary.AppendUvarint(make([]byte, 0, 8+7*len(l.ids)), uint64(len(l.ids)))
	last := int64(0)
	for i, id := range l.ids {
		b = binary.AppendUvarint(b, uint64(id-last))
		b = binary.BigEndian.AppendUint32(b, l.sums[i])
		last = id
	}
	return b
}

func (l packList) equal(other packList) bool {
	return bytes.Equal(l.encode(), other.encode())
}
