package storage

import (
	"context"
	"crypto/sha256"
	"time"

	"zombiezen.com/go/sqlite"
)

// Limits of settings.
const (
	MaxSettingName  = 200     // octets
	MaxSettingValue = 1 << 20 // octets
)

type (
	setSetting struct {
		Name  string `cbor:"1,keyasint"`
		Value []byte `cbor:"2,keyasint"`
	}
	createInvitation struct {
		Hash    []byte `cbor:"1,keyasint"`
		Expires int64  `cbor:"2,keyasint"` // Unix milliseconds
		Replica bool   `cbor:"3,keyasint,omitempty"`
	}
	useInvitation struct {
		Hash []byte `cbor:"1,keyasint"`
		Node string `cbor:"2,keyasint"`
	}
)

// Setting returns what all nodes share under a name, or KindNotFound. Some
// values are secrets: they are for the code that made them, and in no view.
func (s *Store) Setting(ctx context.Context, name string) ([]byte, error) {
	var value []byte
	err := s.with(ctx, func(c *conn) error {
		found, err := c.row("SELECT value FROM setting WHERE name = ?", func(st *sqlite.Stmt) { value = columnBytes(st, 0) }, name)
		if err == nil && !found {
			err = fail("read setting "+quote(name), KindNotFound, "")
		}
		return err
	})
	return value, readError("read setting", err)
}

// SetSetting replaces the value under a name.
func (s *Store) SetSetting(ctx context.Context, name string, value []byte) error {
	if name == "" || len(name) > MaxSettingName || len(value) > MaxSettingValue {
		return fail("set "+quote(name), KindTooLarge, "a name has 1 to 200 octets, a value at most 1 MiB")
	}
	return s.decide(ctx, kindSetSetting, setSetting{name, value})
}

// InitSetting is SetSetting for what is made once, by whichever node needs it first: of
// calls at the same time on several nodes one counts, whose value all read then.
func (s *Store) InitSetting(ctx context.Context, name string, value []byte) error {
	if name == "" || len(name) > MaxSettingName || len(value) > MaxSettingValue {
		return fail("set "+quote(name), KindTooLarge, "a name has 1 to 200 octets, a value at most 1 MiB")
	}
	request := sha256.Sum256([]byte("init setting " + name))
	_, err := s.propose(ctx, kindSetSetting, request[:], setSetting{name, value}, nil)
	return err
}

// CreateInvitation remembers that whoever shows the secret with this hash
// before expires may join the cluster, once; replica: never to vote.
func (s *Store) CreateInvitation(ctx context.Context, hash [sha256.Size]byte, expires time.Time, replica bool) error {
	return s.decide(ctx, kindCreateInvitation, createInvitation{hash[:], expires.UnixMilli(), replica})
}

// UseInvitation takes an invitation for a node. KindDenied: there is none, it
// expired, or another node took it. The same node may take it again, so that a
// lost answer does no harm.
func (s *Store) UseInvitation(ctx context.Context, hash [sha256.Size]byte, node string) (replica bool, err error) {
	_, err = s.propose(ctx, kindUseInvitation, nil, useInvitation{hash[:], node}, &replica)
	return replica, err
}

func applySetSetting(t *tx, b setSetting) (any, error) {
	_, err := t.mail.exec("INSERT INTO setting (name, value) VALUES (?, ?) ON CONFLICT (name) DO UPDATE SET value = excluded.value", b.Name, b.Value)
	return nil, err
}

// applyCreateInvitation also clears away what expired a day ago.
func applyCreateInvitation(t *tx, b createInvitation) (any, error) {
	if _, err := t.mail.exec("DELETE FROM invitation WHERE expires < ?", t.at-24*time.Hour.Milliseconds()); err != nil {
		return nil, err
	}
	_, err := t.mail.exec("INSERT INTO invitation (hash, expires, replica, used_by) VALUES (?, ?, ?, '')", b.Hash, b.Expires, b.Replica)
	return nil, err
}

func applyUseInvitation(t *tx, b useInvitation) (any, error) {
	replica := false
	found, err := t.mail.row(`UPDATE invitation SET used_by = ?2 WHERE hash = ?1 AND expires >= ?3 AND used_by IN ('', ?2) RETURNING replica`,
		func(st *sqlite.Stmt) { replica = st.ColumnBool(0) }, b.Hash, b.Node, t.at)
	if err == nil && !found {
		err = fail("join", KindDenied, "the token is unknown, used or expired; make a new one with 'trivet cluster invite'")
	}
	return replica, err
}
