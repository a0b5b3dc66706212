package storage

import (
	"context"
	"strings"
	"time"

	"zombiezen.com/go/sqlite"
)

// Limits of certificate files.
const (
	MaxCertificateName  = 500     // octets
	MaxCertificateValue = 1 << 20 // octets
	// maxCertificateLocks bounds the locks that one change is made under.
	maxCertificateLocks = 16
)

// CertificateFile is a file of the ACME client, without its content.
type CertificateFile struct {
	Name     string // a path with slashes
	Size     int64  // octets
	Modified time.Time
}

// CertificateLock is a lock somebody holds, or held. The later of two holders has
// the greater Token.
type CertificateLock struct {
	Name  string `cbor:"1,keyasint"`
	Token uint64 `cbor:"2,keyasint"`
}

type (
	putCertificateFile struct {
		Name  string            `cbor:"1,keyasint"`
		Value []byte            `cbor:"2,keyasint"`
		Locks []CertificateLock `cbor:"3,keyasint,omitempty"`
	}
	deleteCertificateFiles struct {
		Name  string            `cbor:"1,keyasint"`
		Locks []CertificateLock `cbor:"2,keyasint,omitempty"`
	}
	lockCertificates struct {
		Name   string `cbor:"1,keyasint"`
		Holder string `cbor:"2,keyasint"`
		Life   int64  `cbor:"3,keyasint"`           // milliseconds from when it was decided
		Token  uint64 `cbor:"4,keyasint,omitempty"` // of the lock to extend; 0: take it
	}
	unlockCertificates struct {
		Lock CertificateLock `cbor:"1,keyasint"`
	}
)

// PutCertificateFile replaces a file. KindDenied: one of the locks was lost; then nothing is changed.
func (s *Store) PutCertificateFile(ctx context.Context, name string, value []byte, locks []CertificateLock) error {
	if name == "" || len(name) > MaxCertificateName || len(value) > MaxCertificateValue || len(locks) > maxCertificateLocks {
		return fail("put certificate file "+quote(name), KindTooLarge, "a name has 1 to 500 octets, a value at most 1 MiB")
	}
	return s.decide(ctx, kindPutCertificateFile, putCertificateFile{name, value, locks})
}

// DeleteCertificateFiles deletes a file, if there is one, and all below it.
// KindDenied: one of the locks was lost.
func (s *Store) DeleteCertificateFiles(ctx context.Context, name string, locks []CertificateLock) error {
	return s.decide(ctx, kindDeleteCertificateFiles, deleteCertificateFiles{name, locks})
}

// CertificateFile returns the content of a file, or KindNotFound. Some are
// private keys: they are for the ACME client and for TLS.
func (s *Store) CertificateFile(ctx context.Context, name string) ([]byte, error) {
	var value []byte
	err := s.with(ctx, func(c *conn) error {
		found, err := c.row("SELECT value FROM certificate_file WHERE name = ?", func(st *sqlite.Stmt) { value = columnBytes(st, 0) }, name)
		if err == nil && !found {
			err = fail("read certificate file "+quote(name), KindNotFound, "")
		}
		return err
	})
	return value, readError("read certificate file", err)
}

// CertificateFiles lists the file of a name and those below it, in order; all with an empty name.
func (s *Store) CertificateFiles(ctx context.Context, name string) ([]CertificateFile, error) {
	var files []CertificateFile
	err := s.with(ctx, func(c *conn) error {
		return c.rows("SELECT name, length(value), modified FROM certificate_file WHERE ?1 = '' OR name = ?1 OR (name > ?1 || '/' AND name < ?1 || '0') ORDER BY name",
			func(st *sqlite.Stmt) bool {
				files = append(files, CertificateFile{st.ColumnText(0), st.ColumnInt64(1), time.UnixMilli(st.ColumnInt64(2))})
				return true
			}, strings.TrimSuffix(name, "/"))
	})
	return files, readError("list certificate files", err)
}

// LockCertificates takes a lock for life. KindExists: somebody has it, the hint
// says who. Whoever holds it extends it before its end, or loses it to the next.
func (s *Store) LockCertificates(ctx context.Context, name, holder string, life time.Duration) (CertificateLock, error) {
	if name == "" || len(name) > MaxCertificateName || len(holder) > MaxCertificateName {
		return CertificateLock{}, fail("lock "+quote(name), KindTooLarge, "a name has 1 to 500 octets")
	}
	lock := CertificateLock{Name: name}
	_, err := s.propose(ctx, kindLockCertificates, nil, lockCertificates{name, holder, life.Milliseconds(), 0}, &lock.Token)
	return lock, err
}

// ExtendCertificateLock lets a lock live for life from now. KindDenied: it was lost.
func (s *Store) ExtendCertificateLock(ctx context.Context, lock CertificateLock, life time.Duration) error {
	return s.decide(ctx, kindLockCertificates, lockCertificates{lock.Name, "", life.Milliseconds(), lock.Token})
}

// UnlockCertificates gives a lock back; one that was lost stays whose it is.
func (s *Store) UnlockCertificates(ctx context.Context, lock CertificateLock) error {
	return s.decide(ctx, kindUnlockCertificates, unlockCertificates{lock})
}

// holds refuses a change under a lock that another has taken since.
func (t *tx) holds(locks []CertificateLock) error {
	for _, l := range locks {
		found, err := t.mail.row("SELECT 1 FROM certificate_lock WHERE name = ? AND token = ?", func(*sqlite.Stmt) {}, l.Name, int64(l.Token))
		if err != nil {
			return err
		}
		if !found {
			return fail("change certificates", KindDenied, "the lock "+quote(l.Name)+" was lost")
		}
	}
	return nil
}

func applyPutCertificateFile(t *tx, b putCertificateFile) (any, error) {
	if err := t.holds(b.Locks); err != nil {
		return nil, err
	}
	_, err := t.mail.exec(`INSERT INTO certificate_file (name, value, modified) VALUES (?, ?, ?)
		ON CONFLICT (name) DO UPDATE SET value = excluded.value, modified = excluded.modified`, b.Name, b.Value, t.at)
	return nil, err
}

func applyDeleteCertificateFiles(t *tx, b deleteCertificateFiles) (any, error) {
	if err := t.holds(b.Locks); err != nil {
		return nil, err
	}
	_, err := t.mail.exec("DELETE FROM certificate_file WHERE name = ?1 OR (name > ?1 || '/' AND name < ?1 || '0')", b.Name)
	return nil, err
}

// applyLockCertificates takes a lock that nobody holds, or extends one that the
// same holder still has. Whether it has ended is judged by the clock of who asks: a
// clock that is wrong takes a lock too early, and the fencing makes that safe.
func applyLockCertificates(t *tx, b lockCertificates) (any, error) {
	var token, expires int64
	var holder string
	found, err := t.mail.row("SELECT token, holder, expires FROM certificate_lock WHERE name = ?", func(st *sqlite.Stmt) {
		token, holder, expires = st.ColumnInt64(0), st.ColumnText(1), st.ColumnInt64(2)
	}, b.Name)
	switch {
	case err != nil:
		return nil, err
	case b.Token != 0 && (!found || uint64(token) != b.Token):
		return nil, fail("extend lock "+quote(b.Name), KindDenied, "it was lost")
	case b.Token != 0:
		_, err := t.mail.exec("UPDATE certificate_lock SET expires = ? WHERE name = ?", t.at+b.Life, b.Name)
		return b.Token, err
	case found && expires > t.at:
		return nil, fail("lock "+quote(b.Name), KindExists, "it is held by "+holder)
	}
	_, err = t.mail.exec(`INSERT INTO certificate_lock (name, token, holder, expires) VALUES (?, ?, ?, ?)
		ON CONFLICT (name) DO UPDATE SET token = excluded.token, holder = excluded.holder, expires = excluded.expires`,
		b.Name, int64(t.index), b.Holder, t.at+b.Life)
	return t.index, err
}

func applyUnlockCertificates(t *tx, b unlockCertificates) (any, error) {
	_, err := t.mail.exec("DELETE FROM certificate_lock WHERE name = ? AND token = ?", b.Lock.Name, int64(b.Lock.Token))
	return nil, err
}
