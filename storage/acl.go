package storage

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"zombiezen.com/go/sqlite"
)

// Rights are what somebody may do with a mailbox: letters of RFC 4314 section
// 2.1, sorted, each once.
type Rights string

// The rights, all of which an owner has.
const (
	RightLookup  Rights = "l"
	RightRead    Rights = "r"
	RightSeen    Rights = "s"
	RightWrite   Rights = "w" // flags other than \Seen and \Deleted
	RightInsert  Rights = "i"
	RightPost    Rights = "p"
	RightCreate  Rights = "k" // mailboxes below it
	RightDelete  Rights = "x" // the mailbox
	RightMark    Rights = "t" // \Deleted
	RightExpunge Rights = "e"
	RightAdmin   Rights = "a"
	RightsAll    Rights = "aeiklprstwx"
)

// Anyone is the identifier that stands for everybody who has an account here.
const Anyone = "anyone"

// Has reports whether all rights of want are among r.
func (r Rights) Has(want Rights) bool {
	for _, c := range want {
		if !strings.ContainsRune(string(r), c) {
			return false
		}
	}
	return true
}

// ParseRights sorts rights. KindInvalid: a letter that is none; "c" and "d" of
// RFC 2086 stand for "kx" and "te" (RFC 4314 section 2.1.1).
func ParseRights(text string) (Rights, error) {
	text = strings.NewReplacer("c", "kx", "d", "te").Replace(text)
	letters := []byte(text)
	slices.Sort(letters)
	r := Rights(slices.Compact(letters))
	if !RightsAll.Has(r) {
		return "", fail("set rights", KindInvalid, "the rights are "+string(RightsAll))
	}
	return r, nil
}

// Grant is a line of a mailbox's access control list.
type Grant struct {
	Identifier string // an account's address, or "anyone"
	Rights     Rights
}

// MaxGrants bounds the access control list of one mailbox.
const MaxGrants = 1000

// Grants lists who has rights on a mailbox besides its owner.
func (s *Store) Grants(ctx context.Context, mailbox int64) ([]Grant, error) {
	var out []Grant
	err := s.with(ctx, func(c *conn) error {
		return c.rows("SELECT identifier, rights FROM acl WHERE mailbox_id = ? ORDER BY identifier", func(st *sqlite.Stmt) bool {
			out = append(out, Grant{st.ColumnText(0), Rights(st.ColumnText(1))})
			return true
		}, mailbox)
	})
	return out, readError("list rights", err)
}

// RightsOf returns what somebody other than the owner may do with a mailbox:
// what they and anyone were granted.
func (s *Store) RightsOf(ctx context.Context, mailbox int64, address string) (Rights, error) {
	letters := ""
	err := s.with(ctx, func(c *conn) error {
		return c.rows("SELECT rights FROM acl WHERE mailbox_id = ? AND identifier IN (?, 'anyone')", func(st *sqlite.Stmt) bool {
			letters += st.ColumnText(0)
			return true
		}, mailbox, address)
	})
	if err != nil {
		return "", readError("read rights", err)
	}
	return ParseRights(letters)
}

// Shared is a mailbox of somebody else.
type Shared struct {
	Mailbox
	Owner  string // address
	Rights Rights // of whoever asked
}

// SharedMailboxes lists the mailboxes of other accounts that an account may see, by
// owner and name.
func (s *Store) SharedMailboxes(ctx context.Context, account int64, address string) ([]Shared, error) {
	var out []Shared
	err := s.with(ctx, func(c *conn) error {
		return c.rows(`SELECT `+prefixed("m.", mailboxColumns)+`, o.address, group_concat(a.rights, '') FROM acl a
			JOIN mailbox m ON m.id = a.mailbox_id JOIN account o ON o.id = m.account_id
			WHERE a.identifier IN (?, 'anyone') AND m.account_id <> ? GROUP BY m.id ORDER BY o.address, m.name`, func(st *sqlite.Stmt) bool {
			rights, err := ParseRights(st.ColumnText(mailboxColumnCount + 1))
			if err == nil && rights.Has(RightLookup) {
				out = append(out, Shared{scanMailbox(st), st.ColumnText(mailboxColumnCount), rights})
			}
			return true
		}, address, account)
	})
	return out, readError("list shared mailboxes", err)
}

func prefixed(prefix, columns string) string {
	return prefix + strings.ReplaceAll(columns, ", ", ", "+prefix)
}

// setRights is the body of kindSetRights.
type setRights struct {
	Mailbox    int64  `cbor:"1,keyasint"`
	Identifier string `cbor:"2,keyasint"`
	Change     byte   `cbor:"3,keyasint,omitempty"` // '+', '-' or 0: replace
	Rights     Rights `cbor:"4,keyasint,omitempty"`
}

// SetRights gives somebody rights on a mailbox: these with change 0, these as
// well with '+', all but these with '-'. No rights: they are off the list.
// KindNotFound: the identifier is neither an account here nor "anyone".
func (s *Store) SetRights(ctx context.Context, mailbox int64, identifier string, change byte, rights Rights) error {
	if identifier != Anyone {
		local, domain, err := CanonicalAddress(identifier)
		if err != nil {
			return err
		}
		identifier = local + "@" + domain
	}
	return s.decide(ctx, kindSetRights, setRights{mailbox, identifier, change, rights})
}

func applySetRights(t *tx, b setRights) (any, error) {
	op := "set rights of " + quote(b.Identifier)
	m, err := t.mailbox(op, b.Mailbox)
	if err != nil {
		return nil, err
	}
	if b.Identifier != Anyone && b.Rights != "" && b.Change != '-' {
		if _, err := t.account(op, b.Identifier); err != nil {
			return nil, err
		}
	}
	rights := Rights("")
	if _, err := t.mail.row("SELECT rights FROM acl WHERE mailbox_id = ? AND identifier = ?",
		func(st *sqlite.Stmt) { rights = Rights(st.ColumnText(0)) }, b.Mailbox, b.Identifier); err != nil {
		return nil, err
	}
	if rights, err = changeRights(rights, b.Change, b.Rights); err != nil {
		return nil, err
	}
	if rights == "" {
		_, err = t.mail.exec("DELETE FROM acl WHERE mailbox_id = ? AND identifier = ?", b.Mailbox, b.Identifier)
	} else {
		_, err = t.mail.exec(`INSERT INTO acl (mailbox_id, identifier, rights) SELECT ?1, ?2, ?3
			WHERE (SELECT count(*) FROM acl WHERE mailbox_id = ?1) < ?4 OR EXISTS (SELECT 1 FROM acl WHERE mailbox_id = ?1 AND identifier = ?2)
			ON CONFLICT DO UPDATE SET rights = excluded.rights`, b.Mailbox, b.Identifier, string(rights), MaxGrants)
		if err == nil && t.mail.db.Changes() == 0 {
			err = fail(op, KindTooLarge, fmt.Sprintf("a mailbox has at most %d entries in its list", MaxGrants))
		}
	}
	t.touch(m.ID, m.AccountID)
	return nil, err
}

func changeRights(old Rights, change byte, given Rights) (Rights, error) {
	switch change {
	case '+':
		return ParseRights(string(old + given))
	case '-':
		return Rights(strings.Map(func(r rune) rune {
			if strings.ContainsRune(string(given), r) {
				return -1
			}
			return r
		}, string(old))), nil
	}
	return ParseRights(string(given))
}
