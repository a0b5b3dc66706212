package storage

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"sync"
	"time"

	"github.com/fxamacker/cbor/v2"

	"trivet/storage/database"
)

// SQLElsewhere asks the node that leads for something, by a path that its
// [Store.ServeSQL] knows, and returns once this node has applied what the other
// had then. asked is false if nothing was asked, because this node leads or
// because nobody can be reached.
type SQLElsewhere func(ctx context.Context, path string, body []byte) (answer []byte, asked bool, err error)

// The paths of ServeSQL.
const (
	SQLRun     = "/sql/run"
	SQLHold    = "/sql/hold"
	SQLRelease = "/sql/release"
)

// Bounds of what is asked, in octets.
const (
	// MaxSQLAsked bounds jobs that are sent together.
	MaxSQLAsked = 32 << 20
	// MaxSQLAnswer bounds an answer.
	MaxSQLAnswer = 64 << 20
	// maxSQLRows is what the rows in one may take: their encoding is not longer.
	maxSQLRows = 48 << 20
	// sqlElsewhereLevel is the level from which all nodes know what is asked.
	sqlElsewhereLevel = 3
)

// SetSQLElsewhere says how the node that leads is asked; without it, everything
// is run on this node.
func (s *Store) SetSQLElsewhere(f SQLElsewhere) { s.sql.elsewhere = f }

// askedJobs is the body of SQLRun.
type askedJobs struct {
	Database int64          `cbor:"1,keyasint"`
	Jobs     []database.Job `cbor:"2,keyasint"`
}

// The encoding of what nodes ask: values keep their type, and text may be any octets.
var (
	askEncoding = mustAskEncoding()
	askDecoding = mustAskDecoding()
)

func mustAskEncoding() cbor.EncMode {
	m, err := cbor.EncOptions{}.EncMode()
	if err != nil {
		panic(err) // constant options
	}
	return m
}

func mustAskDecoding() cbor.DecMode {
	m, err := cbor.DecOptions{IntDec: cbor.IntDecConvertSignedOrFail, UTF8: cbor.UTF8DecodeInvalid, MaxArrayElements: 1 << 24, MaxNestedLevels: 16}.DecMode()
	if err != nil {
		panic(err) // constant options
	}
	return m
}

// askable reports whether there is a node to ask.
func (h *sqlHost) askable() bool {
	return h.store.sql.elsewhere != nil && h.store.Level() >= sqlElsewhereLevel
}

// RunElsewhere implements [database.Host].
func (h *sqlHost) RunElsewhere(ctx context.Context, jobs []database.Job) (answers []database.Answer, asked bool, err error) {
	if !h.askable() {
		return nil, false, nil
	}
	body, err := askEncoding.Marshal(askedJobs{h.id, jobs})
	if err != nil || len(body) > MaxSQLAsked {
		return nil, false, nil
	}
	raw, asked, err := h.store.sql.elsewhere(ctx, SQLRun, body)
	if !asked {
		return nil, false, nil
	}
	if err != nil {
		return nil, true, SQLErrorOf(err)
	}
	if err := askDecoding.Unmarshal(raw, &answers); err != nil {
		return nil, true, &SQLError{State: database.StateUnknown, Message: "the node that leads gave an answer that makes no sense", Err: err}
	}
	return answers, true, nil
}

// held is a [database.Database.Hold] of another node.
type held struct {
	ID  int64  `cbor:"1,keyasint"` // of the database
	Key uint64 `cbor:"2,keyasint"`
}

// HoldElsewhere implements [database.Host].
func (h *sqlHost) HoldElsewhere(ctx context.Context) (release func(), asked bool) {
	if !h.askable() {
		return nil, false
	}
	var key [8]byte
	rand.Read(key[:])
	body, err := askEncoding.Marshal(held{h.id, binary.NativeEndian.Uint64(key[:])})
	if err != nil {
		return nil, false
	}
	_, asked, err = h.store.sql.elsewhere(ctx, SQLHold, body)
	if !asked || err != nil {
		return nil, asked
	}
	return func() {
		// Without this answer the other node lets go by itself, a moment later.
		go func() { _, _, _ = h.store.sql.elsewhere(context.WithoutCancel(ctx), SQLRelease, body) }()
	}, true
}

// holds are those that other nodes have on this one.
type holds struct {
	mu  sync.Mutex
	all map[held]func()
}

func (h *holds) put(key held, release func()) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.all == nil {
		h.all = map[held]func(){}
	}
	h.all[key] = release
}

func (h *holds) release(key held) {
	h.mu.Lock()
	release := h.all[key]
	delete(h.all, key)
	h.mu.Unlock()
	if release != nil {
		release()
	}
}

// ServeSQL answers what the store of another node asks.
func (s *Store) ServeSQL(ctx context.Context, path string, body []byte) ([]byte, error) {
	if path == SQLRun {
		return s.serveJobs(ctx, body)
	}
	var key held
	if err := askDecoding.Unmarshal(body, &key); err != nil {
		return nil, fail("run SQL for another node", KindInvalid, "the request makes no sense")
	}
	if path == SQLRelease {
		s.sql.holds.release(key)
		return nil, nil
	}
	release, err := s.database(key.ID).Hold(ctx)
	if err != nil {
		return nil, err
	}
	s.sql.holds.put(key, release)
	time.AfterFunc(database.HoldTime, func() { s.sql.holds.release(key) })
	return nil, nil
}

func (s *Store) serveJobs(ctx context.Context, body []byte) ([]byte, error) {
	var in askedJobs
	if err := askDecoding.Unmarshal(body, &in); err != nil {
		return nil, fail("run SQL for another node", KindInvalid, "the request makes no sense")
	}
	answers := s.database(in.Database).Here(ctx, in.Jobs)
	rows := int64(0)
	for i, a := range answers {
		for _, r := range a.Result.Rows {
			rows += r.Size()
		}
		if rows > maxSQLRows {
			answers[i] = database.Answer{Err: &SQLError{State: database.StateUnknown, Message: "it was done, but the rows that it returned are too large together with those of others",
				Hint: "return less of each row"}}
		}
	}
	return askEncoding.Marshal(answers)
}
