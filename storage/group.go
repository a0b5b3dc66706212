package storage

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"zombiezen.com/go/sqlite"
)

// Limits of groups.
const (
	MaxGroupMembers = 1000
	MaxGroupSenders = 1000
	MaxGroupName    = 200 // octets
)

// GroupSenders says who may send to a group. Those whom it lists by name may always.
type GroupSenders uint8

// The policies.
const (
	SendersAnyone  GroupSenders = iota
	SendersDomain               // accounts of this system that have logged in
	SendersMembers              // its members
	SendersListed               // only those who are listed
)

var groupSenders = [...]string{"anyone", "local", "members", "listed"}

func (p GroupSenders) String() string {
	if int(p) < len(groupSenders) {
		return groupSenders[p]
	}
	return "unknown"
}

// MarshalText implements encoding.TextMarshaler.
func (p GroupSenders) MarshalText() ([]byte, error) { return []byte(p.String()), nil }

// UnmarshalText implements encoding.TextUnmarshaler.
func (p *GroupSenders) UnmarshalText(text []byte) error {
	i := slices.Index(groupSenders[:], string(text))
	if i < 0 {
		return fail("read senders "+quote(string(text)), KindInvalid, "the policies are "+strings.Join(groupSenders[:], ", "))
	}
	*p = GroupSenders(i)
	return nil
}

// Group is an address whose mail goes to many, as from a mailing list.
type Group struct {
	ID      int64        `json:"-"`
	Address string       `json:"address"`
	Name    string       `json:"name,omitempty"`
	Owner   string       `json:"owner"` // who gets what cannot be delivered; an address
	Senders GroupSenders `json:"senders"`
	SendAs  bool         `json:"send_as"` // its members may send in its name
	Members []string     `json:"members"` // addresses here or elsewhere
	Listed  []string     `json:"listed"`  // who may send besides those whom Senders names
	Created time.Time    `json:"created"`

	// Where the members' mail goes, as [Store.Resolve] finds it.
	Accounts []Account `json:"-"`
	Remote   []string  `json:"-"`
}

const groupColumns = "id, address, name, owner, senders, send_as, created"

func scanGroup(st *sqlite.Stmt) Group {
	return Group{ID: st.ColumnInt64(0), Address: st.ColumnText(1), Name: st.ColumnText(2), Owner: st.ColumnText(3),
		Senders: GroupSenders(st.ColumnInt(4)), SendAs: st.ColumnBool(5), Created: millis(st.ColumnInt64(6))}
}

func (g *Group) readAddresses(c *conn) (err error) {
	if g.Members, err = c.texts("SELECT address FROM mail_group_member WHERE group_id = ? ORDER BY address", g.ID); err != nil {
		return err
	}
	g.Listed, err = c.texts("SELECT address FROM mail_group_sender WHERE group_id = ? ORDER BY address", g.ID)
	return err
}

type (
	setGroup struct {
		Address string       `cbor:"1,keyasint"`
		Name    string       `cbor:"2,keyasint,omitempty"`
		Owner   string       `cbor:"3,keyasint"`
		Senders GroupSenders `cbor:"4,keyasint"`
		SendAs  bool         `cbor:"5,keyasint"`
		New     bool         `cbor:"6,keyasint"`
		Members []string     `cbor:"7,keyasint"`
		Listed  []string     `cbor:"8,keyasint"`
	}
)

// Groups lists the groups by address.
func (s *Store) Groups(ctx context.Context) ([]Group, error) {
	groups := []Group{}
	err := s.snapshot(ctx, func(c *conn) error {
		err := c.rows("SELECT "+groupColumns+" FROM mail_group ORDER BY address", func(st *sqlite.Stmt) bool {
			groups = append(groups, scanGroup(st))
			return true
		})
		for i := range groups {
			if err == nil {
				err = groups[i].readAddresses(c)
			}
		}
		return err
	})
	return groups, readError("list groups", err)
}

// Group returns the group of an address, or KindNotFound.
func (s *Store) Group(ctx context.Context, address string) (Group, error) {
	var g Group
	address, err := canonical(address)
	if err != nil {
		return g, err
	}
	err = s.snapshot(ctx, func(c *conn) error {
		found, err := c.row("SELECT "+groupColumns+" FROM mail_group WHERE address = ?", func(st *sqlite.Stmt) { g = scanGroup(st) }, address)
		if err == nil && !found {
			err = fail("find group "+address, KindNotFound, "see 'trivet group list'")
		}
		if err == nil {
			err = g.readAddresses(c)
		}
		return err
	})
	return g, readError("find group", err)
}

// CreateGroup makes a group. KindExists: the address is in use.
func (s *Store) CreateGroup(ctx context.Context, g Group) error { return s.setGroup(ctx, g, true) }

// SetGroup replaces what is known of a group, its members among it.
func (s *Store) SetGroup(ctx context.Context, g Group) error { return s.setGroup(ctx, g, false) }

func (s *Store) setGroup(ctx context.Context, g Group, isNew bool) error {
	address, err := canonical(g.Address)
	if err != nil {
		return err
	}
	op := "set group " + address
	if len(g.Name) > MaxGroupName || hasControl(g.Name) {
		return fail(op, KindInvalid, fmt.Sprintf("a name has at most %d printable characters", MaxGroupName))
	}
	if len(g.Members) > MaxGroupMembers || len(g.Listed) > MaxGroupSenders {
		return fail(op, KindTooLarge, fmt.Sprintf("a group has at most %d members and as many listed senders", MaxGroupMembers))
	}
	body := setGroup{Address: address, Name: g.Name, Senders: g.Senders, SendAs: g.SendAs, New: isNew}
	if body.Owner, err = canonical(g.Owner); err != nil {
		return err
	}
	if body.Members, err = canonicals(g.Members); err != nil {
		return err
	}
	if body.Listed, err = canonicals(g.Listed); err != nil {
		return err
	}
	return s.decide(ctx, kindSetGroup, body)
}

// canonicals returns addresses in canonical form, sorted, each once.
func canonicals(addresses []string) ([]string, error) {
	out := make([]string, len(addresses))
	for i, a := range addresses {
		var err error
		if out[i], err = canonical(a); err != nil {
			return nil, err
		}
	}
	return uniqueTexts(out), nil
}

// RemoveGroup removes a group.
func (s *Store) RemoveGroup(ctx context.Context, address string) error {
	return s.decideFor(ctx, kindRemoveGroup, address, func(a string) any { return named{a} })
}

func applySetGroup(t *tx, b setGroup) (any, error) {
	op := "set group " + b.Address
	domain, err := t.domain(op, domainOf(b.Address))
	if err != nil {
		return nil, err
	}
	var id int64
	found, err := t.mail.row("SELECT id FROM mail_group WHERE address = ?", func(st *sqlite.Stmt) { id = st.ColumnInt64(0) }, b.Address)
	if err != nil {
		return nil, err
	}
	switch {
	case b.New:
		if err := t.addressFree(op, b.Address); err != nil {
			return nil, err
		}
		id = t.newID()
		_, err = t.mail.exec("INSERT INTO mail_group (id, address, domain_id, name, owner, senders, send_as, created) VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
			id, b.Address, domain, b.Name, b.Owner, int64(b.Senders), b.SendAs, t.at)
	case !found:
		err = fail(op, KindNotFound, "see 'trivet group list'")
	default:
		_, err = t.mail.exec("UPDATE mail_group SET name = ?, owner = ?, senders = ?, send_as = ? WHERE id = ?", b.Name, b.Owner, int64(b.Senders), b.SendAs, id)
	}
	if err != nil {
		return nil, err
	}
	if err := t.setAddresses("mail_group_member", id, b.Members); err != nil {
		return nil, err
	}
	return nil, t.setAddresses("mail_group_sender", id, b.Listed)
}

// setAddresses replaces the addresses that one of the tables has for a group.
func (t *tx) setAddresses(table string, group int64, addresses []string) error {
	if _, err := t.mail.exec("DELETE FROM "+table+" WHERE group_id = ?", group); err != nil {
		return err
	}
	for _, a := range addresses {
		if _, err := t.mail.exec("INSERT INTO "+table+" (group_id, address) VALUES (?, ?)", group, a); err != nil {
			return err
		}
	}
	return nil
}

func applyRemoveGroup(t *tx, b named) (any, error) {
	op := "remove group " + b.Name
	var id int64
	found, err := t.mail.row("SELECT id FROM mail_group WHERE address = ?", func(st *sqlite.Stmt) { id = st.ColumnInt64(0) }, b.Name)
	if err == nil && !found {
		err = fail(op, KindNotFound, "see 'trivet group list'")
	}
	if err == nil {
		err = t.notTargeted(op, b.Name)
	}
	if err != nil {
		return nil, err
	}
	for _, table := range [...]string{"mail_group_member", "mail_group_sender"} {
		if err := t.setAddresses(table, id, nil); err != nil {
			return nil, err
		}
	}
	_, err = t.mail.exec("DELETE FROM mail_group WHERE id = ?", id)
	return nil, err
}

// notTargeted refuses when an alias points to an address.
func (t *tx) notTargeted(op, address string) error {
	used, err := t.mail.row("SELECT 1 FROM alias_target WHERE target = ?", nil, address)
	if err == nil && used {
		err = fail(op, KindInvalid, "an alias points to it; see 'trivet alias list'")
	}
	return err
}
