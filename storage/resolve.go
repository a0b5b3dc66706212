package storage

import (
	"cmp"
	"context"
	"slices"
	"strings"
	"sync"

	"zombiezen.com/go/sqlite"
)

// DefaultDelimiter separates a local part from its detail, in ann+lists@example.org.
const DefaultDelimiter = "+"

// Recipient is what an address resolves to.
type Recipient struct {
	Local    bool      // the domain is hosted here
	Accounts []Account // into whose INBOX the mail goes
	Remote   []string  // addresses elsewhere to which it is forwarded
	Groups   []Group   // whose members get it
	// Owners are the accounts whose address it is, themselves, through aliases
	// or as a catch-all: they may send in its name.
	Owners []int64
	// Away are those of Accounts that have a vacation notice, in force or not.
	Away []int64
}

// Known reports whether mail for the address goes anywhere.
func (r Recipient) Known() bool {
	return len(r.Accounts) > 0 || len(r.Remote) > 0 || len(r.Groups) > 0
}

// Resolve says where mail for an address goes. The account, alias or group of
// that name comes first; then what the domain says: that it is an alias of
// another, that the local part has a detail, that there is a catch-all. That the
// domain is not hosted here, or nobody has the address, is no error. Of an
// account without a quota, what it uses may be out of date. The result is shared:
// do not change it.
func (s *Store) Resolve(ctx context.Context, address string) (Recipient, error) {
	local, domain, err := CanonicalAddress(address)
	if err != nil {
		return Recipient{}, err
	}
	address = local + "@" + domain
	version := s.machine.directory.Load()
	if r, ok := s.resolved.get(address, version); ok {
		return r, nil
	}
	r := resolver{seen: map[string]bool{}}
	err = s.with(ctx, func(c *conn) error {
		r.c = c
		if _, err := r.follow(address, 0, true); err != nil || r.out.Known() {
			return err
		}
		var err error
		r.out.Local, err = c.row("SELECT 1 FROM domain WHERE name = ?", nil, domain)
		return err
	})
	if err != nil {
		return Recipient{}, readError("resolve "+quote(address), err)
	}
	r.out.Local = r.out.Local || r.out.Known()
	s.resolved.put(address, version, r.out)
	return r.out, nil
}

// resolvedAddresses bounds the cache of [Store.Resolve].
const resolvedAddresses = 10_000

// resolved remembers what addresses resolve to while the directory stays as it is.
type resolved struct {
	mu      sync.Mutex
	version uint64 // of the directory
	known   map[string]Recipient
}

func (c *resolved) get(address string, version uint64) (Recipient, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	r, ok := c.known[address]
	return r, ok && c.version == version
}

// put remembers a recipient whose accounts have no quota: those with one are
// read each time, for what they use.
func (c *resolved) put(address string, version uint64, r Recipient) {
	if !r.Known() || slices.ContainsFunc(r.Accounts, func(a Account) bool { return a.QuotaBytes > 0 || a.QuotaMessages > 0 }) {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.version > version {
		return
	}
	if c.version < version || c.known == nil || len(c.known) >= resolvedAddresses {
		c.version, c.known = version, map[string]Recipient{}
	}
	c.known[address] = r
}

// resolver follows an address to where its mail goes. No address is followed
// twice, so circles end.
type resolver struct {
	c    *conn
	seen map[string]bool
	out  Recipient
}

func (r *resolver) full() bool { return len(r.out.Accounts)+len(r.out.Remote) >= MaxAliasAccounts }

// follow adds where mail for an address goes, and reports whether that is
// anywhere. owns: whoever has the address has the one that was asked for.
func (r *resolver) follow(address string, depth int, owns bool) (found bool, err error) {
	if r.seen[address] || depth > MaxAliasDepth || r.full() {
		return true, nil
	}
	r.seen[address] = true
	for _, kind := range [...]func(string, int, bool) (bool, error){r.account, r.alias, r.group, r.domain} {
		if found, err = kind(address, depth, owns); found || err != nil {
			return found, err
		}
	}
	return false, nil
}

func (r *resolver) account(address string, depth int, owns bool) (bool, error) {
	var a Account
	found, err := r.c.row("SELECT "+accountColumns+" FROM account WHERE address = ?", func(st *sqlite.Stmt) { a = scanAccount(st) }, address)
	if err != nil || !found {
		return false, err
	}
	if a.Service { // as if there were nobody
		return true, nil
	}
	if owns {
		r.out.Owners = append(r.out.Owners, a.ID)
	}
	keep, targets := true, ""
	_, err = r.c.row("SELECT keep, targets FROM forward WHERE account_id = ?", func(st *sqlite.Stmt) {
		keep, targets = st.ColumnBool(0), st.ColumnText(1)
	}, a.ID)
	if err != nil {
		return true, err
	}
	away, err := r.c.row("SELECT 1 FROM vacation WHERE account_id = ?", nil, a.ID)
	if err != nil {
		return true, err
	}
	if keep {
		r.out.Accounts = append(r.out.Accounts, a)
		if away {
			r.out.Away = append(r.out.Away, a.ID)
		}
	}
	return true, r.followAll(strings.Fields(targets), depth, false)
}

func (r *resolver) followAll(targets []string, depth int, owns bool) error {
	for _, target := range targets {
		if _, err := r.follow(target, depth+1, owns); err != nil {
			return err
		}
	}
	return nil
}

func (r *resolver) alias(address string, depth int, owns bool) (bool, error) {
	targets, err := r.c.texts("SELECT t.target FROM alias a JOIN alias_target t ON t.alias_id = a.id WHERE a.address = ? ORDER BY t.target", address)
	if err != nil || len(targets) == 0 {
		return false, err
	}
	return true, r.followAll(targets, depth, owns)
}

// group adds a group with where its members' mail goes. Groups in it give it
// their members.
func (r *resolver) group(address string, depth int, _ bool) (bool, error) {
	var g Group
	found, err := r.c.row("SELECT "+groupColumns+" FROM mail_group WHERE address = ?", func(st *sqlite.Stmt) { g = scanGroup(st) }, address)
	if err != nil || !found {
		return false, err
	}
	if err := g.readAddresses(r.c); err != nil {
		return true, err
	}
	members := resolver{c: r.c, seen: map[string]bool{address: true}}
	if err := members.followAll(g.Members, depth, false); err != nil {
		return true, err
	}
	accounts, remote := members.out.Accounts, members.out.Remote
	for _, inner := range members.out.Groups {
		accounts, remote = append(accounts, inner.Accounts...), append(remote, inner.Remote...)
	}
	g.Accounts, g.Remote = uniqueAccounts(accounts), uniqueTexts(remote)
	r.out.Groups = append(r.out.Groups, g)
	if g.SendAs {
		for _, a := range g.Accounts {
			r.out.Owners = append(r.out.Owners, a.ID)
		}
	}
	return true, nil
}

func uniqueAccounts(list []Account) []Account {
	slices.SortFunc(list, func(a, b Account) int { return cmp.Compare(a.ID, b.ID) })
	return slices.CompactFunc(list, func(a, b Account) bool { return a.ID == b.ID })
}

func uniqueTexts(list []string) []string {
	slices.Sort(list)
	return slices.Compact(list)
}

// domain says what becomes of an address that nobody has.
func (r *resolver) domain(address string, depth int, owns bool) (bool, error) {
	local, name := address[:strings.LastIndexByte(address, '@')], domainOf(address)
	p := domainPolicy{Delimiter: DefaultDelimiter}
	hosted, err := r.c.row(`SELECT ifnull(p.alias_of, ''), ifnull(p.delimiter, '`+DefaultDelimiter+`'), ifnull(p.catch_all, '')
		FROM domain d LEFT JOIN domain_policy p ON p.domain_id = d.id WHERE d.name = ?`, func(st *sqlite.Stmt) {
		p.AliasOf, p.Delimiter, p.CatchAll = st.ColumnText(0), st.ColumnText(1), st.ColumnText(2)
	}, name)
	switch {
	case err != nil:
		return false, err
	case !hosted:
		if depth > 0 { // an alias or a forward leads elsewhere
			r.out.Remote = append(r.out.Remote, address)
		}
		return depth > 0, nil
	}
	if p.AliasOf != "" {
		if found, err := r.follow(local+"@"+p.AliasOf, depth+1, owns); found || err != nil {
			return found, err
		}
	}
	if base, _, ok := cutDetail(local, p.Delimiter); ok {
		if found, err := r.follow(base+"@"+name, depth+1, owns); found || err != nil {
			return found, err
		}
	}
	if p.CatchAll != "" {
		return r.follow(p.CatchAll, depth+1, owns)
	}
	return false, nil
}

// cutDetail splits a local part at its first delimiter.
func cutDetail(local, delimiter string) (base, detail string, ok bool) {
	if delimiter == "" {
		return local, "", false
	}
	base, detail, ok = strings.Cut(local, delimiter)
	return base, detail, ok && base != ""
}

// texts returns the first column of all rows.
func (c *conn) texts(sql string, args ...any) ([]string, error) {
	var out []string
	err := c.rows(sql, func(st *sqlite.Stmt) bool {
		out = append(out, st.ColumnText(0))
		return true
	}, args...)
	return out, err
}
