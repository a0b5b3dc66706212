package storage

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"

	"zombiezen.com/go/sqlite"
)

// Peer fetches the octets of a message from another node. Ids are the same on
// all nodes of a cluster.
type Peer func(ctx context.Context, messageID int64) (io.ReadCloser, error)

// SetPeer says where the body of a message comes from when this node's own is
// damaged. Without it, or when it fails, the damage is an error of the read.
func (s *Store) SetPeer(p Peer) { s.peer.Store(&p) }

// repair replaces the chunks of a body by what a peer has, after checking that
// those octets are the ones recorded.
func (s *Store) repair(ctx context.Context, messageID int64) error {
	peer := s.peer.Load()
	if peer == nil {
		return errors.New("there is no other node to fetch it from")
	}
	s.repairing.Lock() // damage is rare, but comes in clusters
	defer s.repairing.Unlock()
	var hash []byte
	var size int64
	var chunks []int64
	err := s.with(ctx, func(c *conn) error {
		found, err := c.row("SELECT hash, size, chunks FROM message WHERE id = ?", func(st *sqlite.Stmt) {
			hash, size, chunks = columnBytes(st, 0), st.ColumnInt64(1), decodeChunks(messageID, columnBytes(st, 2))
		}, messageID)
		if err == nil && !found {
			err = fail("repair", KindNotFound, "it was collected meanwhile")
		}
		return err
	})
	if err != nil {
		return err
	}
	if err := s.fetch(ctx, *peer, messageID, hash, size, chunks); err != nil {
		return fmt.Errorf("fetch message %d from another node: %w", messageID, err)
	}
	s.cfg.Logger.Warn("a damaged message was repaired from another node", "message", messageID, "octets", size)
	return nil
}

// fetch spools a peer's body to disk, so that nothing is replaced before all of
// it is known to be right, and then replaces the chunks.
func (s *Store) fetch(ctx context.Context, peer Peer, messageID int64, hash []byte, size int64, chunks []int64) error {
	r, err := peer(ctx, messageID)
	if err != nil {
		return err
	}
	defer r.Close()
	c, err := s.Prepare(ctx, io.LimitReader(r, size+1))
	if err != nil {
		return err
	}
	defer c.Close()
	if sum := c.Hash(); c.Size() != size || string(sum[:]) != string(hash) {
		return errors.New("it does not have the SHA-256 recorded of it there either")
	}
	body := c.reader()
	plain := make([]byte, ChunkSize)
	for n, id := range chunks {
		got, err := io.ReadFull(body, plain)
		if err != nil && !errors.Is(err, io.ErrUnexpectedEOF) && !(errors.Is(err, io.EOF) && size == 0) {
			return fmt.Errorf("chunk %d: %w", n, err)
		}
		if err := s.machine.replaceChunk(id, s.intake.encoder.EncodeAll(plain[:got], nil)); err != nil {
			return err
		}
	}
	return nil
}

// replaceChunk writes a chunk anew between two batches. It changes nothing of
// the logical state.
func (m *Machine) replaceChunk(id int64, data []byte) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if err := m.reopen(); err != nil {
		return err
	}
	packs := m.files.packs
	f, ok := packs.find(id)
	if !ok {
		return fmt.Errorf("chunk %d: no pack holds it", id)
	}
	const sql = "INSERT OR REPLACE INTO chunk (id, data) VALUES (?, ?)"
	if f.id == packs.id {
		_, err := packs.current.exec(sql, id, data)
		return err
	}
	c, err := openWriter(packs.path(f.id))
	if err != nil {
		return err
	}
	defer c.close()
	if _, err := c.exec(sql, id, data); err != nil {
		return err
	}
	return syncWAL(packs.path(f.id))
}

// hashOf digests a body as it is read.
func hashOf(b *Body) (sum []byte, octets int64, err error) {
	h := sha256.New()
	octets, err = io.Copy(h, io.NewSectionReader(b, 0, b.Size()))
	return h.Sum(nil), octets, err
}
