package storage

import (
	"context"
	"fmt"
	"strings"

	"zombiezen.com/go/sqlite"
)

// Limits of annotations.
const (
	MaxAnnotation     = 64 << 10 // octets of one value
	MaxAnnotationName = 255      // octets of an entry's name
	MaxAnnotations    = 1000     // of one account, all its mailboxes together
)

// Annotation is one entry of RFC 5464 with its value.
type Annotation struct {
	Mailbox int64  // 0: of the server, that is of the account as a whole
	Entry   string // "/private/…" or "/shared/…", in lower case
	Value   []byte // nil, given to [Store.Annotate]: the entry goes
}

// annotate is the body of kindAnnotate.
type annotate struct {
	Account int64        `cbor:"1,keyasint"` // that the annotations are kept with: the mailbox's
	Reader  int64        `cbor:"2,keyasint"` // whose the /private ones are
	Entries []annotation `cbor:"3,keyasint"`
}

type annotation struct {
	Mailbox int64  `cbor:"1,keyasint,omitempty"`
	Private bool   `cbor:"2,keyasint,omitempty"`
	Entry   string `cbor:"3,keyasint"`
	Value   []byte `cbor:"4,keyasint"`
}

// Annotations lists the annotations of a mailbox, or with mailbox 0 of the
// account, that reader may see: the shared ones and their own.
func (s *Store) Annotations(ctx context.Context, account, mailbox, reader int64) ([]Annotation, error) {
	var out []Annotation
	err := s.with(ctx, func(c *conn) error {
		return c.rows(`SELECT entry, value FROM annotation WHERE account_id = ? AND mailbox_id = ? AND reader IN (0, ?) ORDER BY entry`, func(st *sqlite.Stmt) bool {
			value := columnBytes(st, 1)
			if value == nil {
				value = []byte{}
			}
			out = append(out, Annotation{mailbox, st.ColumnText(0), value})
			return true
		}, account, mailbox, reader)
	})
	return out, readError("list annotations", err)
}

// Annotate sets or removes annotations, all or none. KindTooLarge: a value, or
// the number of them; KindInvalid: a name that is none.
func (s *Store) Annotate(ctx context.Context, account, reader int64, entries []Annotation) error {
	b := annotate{Account: account, Reader: reader}
	for _, e := range entries {
		name := strings.ToLower(e.Entry)
		private := strings.HasPrefix(name, "/private/")
		if !validEntry(name) || !private && !strings.HasPrefix(name, "/shared/") {
			return fail("annotate "+quote(name), KindInvalid, "entries begin with /private/ or /shared/")
		}
		if len(e.Value) > MaxAnnotation {
			return fail("annotate "+quote(name), KindTooLarge, fmt.Sprintf("a value has at most %d octets", MaxAnnotation))
		}
		b.Entries = append(b.Entries, annotation{e.Mailbox, private, name, e.Value})
	}
	return s.decide(ctx, kindAnnotate, b)
}

// validEntry checks the form of an entry's name (RFC 5464 section 4.1).
func validEntry(name string) bool {
	if len(name) > MaxAnnotationName || !strings.HasPrefix(name, "/") || strings.HasSuffix(name, "/") || strings.Contains(name, "//") {
		return false
	}
	return !strings.ContainsFunc(name, func(r rune) bool { return r <= 0x19 || r >= 0x7f || r == '*' || r == '%' })
}

func applyAnnotate(t *tx, b annotate) (any, error) {
	for _, e := range b.Entries {
		reader := int64(0)
		if e.Private {
			reader = b.Reader
		}
		if e.Mailbox != 0 {
			m, err := t.mailbox("annotate", e.Mailbox)
			if err != nil {
				return nil, err
			}
			t.touch(m.ID, m.AccountID)
		}
		sql, args := "DELETE FROM annotation WHERE account_id = ? AND mailbox_id = ? AND reader = ? AND entry = ?", []any{b.Account, e.Mailbox, reader, e.Entry}
		if e.Value != nil {
			sql = `INSERT INTO annotation (account_id, mailbox_id, reader, entry, value) VALUES (?, ?, ?, ?, ?)
				ON CONFLICT DO UPDATE SET value = excluded.value`
			args = append(args, e.Value)
		}
		if _, err := t.mail.exec(sql, args...); err != nil {
			return nil, err
		}
	}
	var count int64
	if _, err := t.mail.row("SELECT count(*) FROM annotation WHERE account_id = ?", func(st *sqlite.Stmt) { count = st.ColumnInt64(0) }, b.Account); err != nil {
		return nil, err
	}
	if count > MaxAnnotations {
		return nil, fail("annotate", KindTooLarge, fmt.Sprintf("an account has at most %d annotations", MaxAnnotations))
	}
	return nil, nil
}
