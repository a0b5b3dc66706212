package database

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
)

// Frozen is a file as of one moment.
type Frozen struct{ s *snapshot }

// Freeze opens a read transaction on the file at path.
func Freeze(path string) (*Frozen, error) {
	s, err := openSnapshot(path)
	if err != nil {
		return nil, err
	}
	if err := s.refresh(); err != nil {
		return nil, errors.Join(err, s.close())
	}
	return &Frozen{s}, nil
}

// Digest is the SHA-256 of the content, in hexadecimal: the same on all nodes
// whose files contain the same effects.
func (f *Frozen) Digest(ctx context.Context) (string, error) {
	h := sha256.New()
	var page [pageSize]byte
	for number := uint32(1); number <= f.s.pages; number++ {
		if err := f.s.page(number, page[:]); err != nil {
			return "", err
		}
		if number == 1 {
			for i := range headerEnd {
				if ours(i) && (i < headerVersion || i >= headerIndex) { // the version counts
					page[i] = 0
				}
			}
		}
		h.Write(page[:])
		if err := ctx.Err(); err != nil {
			return "", err
		}
	}
	return hex.EncodeToString(h.Sum(nil)), nil
}

// Problems runs SQLite's integrity check and returns what it says but "ok".
func (f *Frozen) Problems(ctx context.Context) (problems []string, err error) {
	stop := f.s.c.within(ctx)
	defer stop()
	st, _, err := f.s.c.prepare("PRAGMA integrity_check", 0)
	if err != nil {
		return nil, err
	}
	defer st.finalize()
	for {
		row, err := st.step()
		if err != nil || !row {
			return problems, err
		}
		if line := st.text(0); line != "ok" {
			problems = append(problems, line)
		}
	}
}

// Close ends the read transaction.
func (f *Frozen) Close() error { return f.s.close() }
