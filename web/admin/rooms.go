package admin

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"trivet/storage"
)

// allRooms are the pages, in the order of the side bar.
func (a *Admin) allRooms() []*room {
	return []*room{
		{path: "/admin", label: "admin.overview", sign: "chart", template: "overview", load: loadOverview},
		{path: "/admin/domains", label: "admin.domains", sign: "send", template: "domains", scoped: true, load: loadDomains},
		{path: "/admin/domains/{name}", template: "domain", scoped: true, load: loadDomain},
		{path: "/admin/accounts", label: "admin.accounts", sign: "person", template: "accounts", scoped: true, load: loadAccounts},
		{path: "/admin/accounts/{name}", template: "account", scoped: true, load: loadAccount},
		{path: "/admin/aliases", label: "admin.aliases", sign: "forward", template: "aliases", scoped: true, load: loadAliases},
		{path: "/admin/queue", label: "admin.queue", sign: "inbox", template: "queue", load: loadQueue},
		{path: "/admin/trace", label: "admin.trace", sign: "search", template: "trace", load: loadTrace},
		{path: "/admin/spam", label: "admin.spam", sign: "junk", template: "spam", scoped: true, load: loadSpam},
		{path: "/admin/reports", label: "admin.reports", sign: "read", template: "reports", scoped: true, load: loadReports},
		{path: "/admin/cluster", label: "admin.cluster", sign: "star", template: "cluster", load: loadCluster},
		{path: "/admin/databases", label: "admin.databases", sign: "database", template: "databases", load: loadDatabases},
		{path: "/admin/certificates", label: "admin.certificates", sign: "shield", template: "certificates", load: loadCertificates},
		{path: "/admin/bans", label: "admin.bans", sign: "close", template: "bans", load: loadBans},
		{path: "/admin/settings", label: "admin.settings", sign: "gear", template: "settings", load: loadSettings},
		{path: "/admin/audit", label: "admin.audit", sign: "archive", template: "audit", load: loadAudit},
	}
}

// The answers of operations, as far as pages show them.
type (
	status struct {
		Node, Leader, Problem, Version string
		Ready                          bool
		AppliedIndex                   uint64 `json:"applied_index"`
		Level                          int
		Listen                         map[string]string
		Nodes                          []member
	}
	member struct {
		ID, Role, Address, Problem, Version string
		Replica, Ready                      bool
		AppliedIndex                        uint64  `json:"applied_index"`
		LagEntries                          uint64  `json:"lag_entries"`
		LagSeconds                          float64 `json:"lag_seconds"`
		FreeBytes                           int64   `json:"free_bytes"`
		ClockSkew                           int64   `json:"clock_skew_ms"`
	}
	finding struct {
		Check, Status, Found, Advice string
		Paste                        []string
	}
	record struct {
		Name, Type, Value, Reason string
		TTL                       int
	}
	dkimKey struct {
		Selector, State, Algorithm, Name string
		Created                          time.Time
	}
	certificate struct {
		Names                   []string
		Source, Issuer, Problem string
		NotAfter                time.Time `json:"not_after"`
	}
)

// Class is how a finding is shown.
func (f finding) Class() string {
	switch f.Status {
	case "ok", "warn", "fail":
		return f.Status
	}
	return "plain"
}

// Sample is one minute of what a node did.
type Sample struct {
	At                                  time.Time
	Received, Refused, Sent, Statements float64
}

type overview struct {
	Status   status
	Queue    struct{ Totals storage.QueueTotals }
	Accounts int
	Domains  int
	Plots    []plot
	Disk     int64 // free on this node's disk
}

func loadOverview(c *call) (any, error) {
	var o overview
	var accounts []storage.Account
	var domains []storage.Domain
	var samples []Sample
	for _, q := range []struct {
		op      string
		in, out any
	}{{"status", object{}, &o.Status}, {"queue.list", object{"limit": 1}, &o.Queue}, {"account.list", object{}, &accounts}, {"domain.list", object{}, &domains}, {"activity.list", object{}, &samples}} {
		if err := c.ask(q.op, q.in, q.out); err != nil {
			return nil, err
		}
	}
	o.Accounts, o.Domains = len(accounts), len(domains)
	o.Plots = []plot{newPlot("admin.mail-minute", samples, line{"received", func(s Sample) float64 { return s.Received }}, line{"refused", func(s Sample) float64 { return s.Refused }},
		line{"sent", func(s Sample) float64 { return s.Sent }}),
		newPlot("admin.sql-minute", samples, line{"statements", func(s Sample) float64 { return s.Statements }})}
	for _, n := range o.Status.Nodes {
		if n.ID == o.Status.Node {
			o.Disk = n.FreeBytes
		}
	}
	return o, nil
}

func loadDomains(c *call) (any, error) {
	var all []storage.Domain
	err := c.ask("domain.list", object{}, &all)
	return slices.DeleteFunc(all, func(d storage.Domain) bool { return !c.scope.has(d.Name) }), err
}

type domainPage struct {
	storage.Domain
	Records        []record
	Checks         []finding // of the real DNS, when they were asked for
	Keys           []dkimKey
	Administrators []string
}

func loadDomain(c *call) (any, error) {
	name := c.req.PathValue("name")
	p := domainPage{}
	all, err := loadDomains(c)
	if err != nil {
		return nil, err
	}
	domains := all.([]storage.Domain)
	i := slices.IndexFunc(domains, func(d storage.Domain) bool { return d.Name == name })
	if i < 0 {
		return nil, &storage.Error{Op: "show " + name, Kind: storage.KindNotFound}
	}
	p.Domain = domains[i]
	if err := c.ask("domain.dns", object{"name": name}, &p.Records); err != nil {
		return nil, err
	}
	if err := c.ask("dkim.list", object{"domain": name}, &p.Keys); err != nil {
		return nil, err
	}
	if c.req.URL.Query().Get("check") != "" {
		if err := c.ask("domain.check", object{"name": name}, &p.Checks); err != nil {
			return nil, err
		}
	}
	p.Administrators, err = c.store.DomainAdministrators(c.req.Context(), name)
	return p, err
}

type accountsPage struct {
	Accounts []storage.Account
	Query    string
	More     bool
}

// maxListed is how many rows a page lists; a search finds the others.
const maxListed = 500

func loadAccounts(c *call) (any, error) {
	p := accountsPage{Query: strings.TrimSpace(c.req.URL.Query().Get("q"))}
	err := c.ask("account.list", object{}, &p.Accounts)
	p.Accounts = slices.DeleteFunc(p.Accounts, func(a storage.Account) bool {
		return !c.scope.has(a.Address) || !strings.Contains(strings.ToLower(a.Address+" "+a.Name), strings.ToLower(p.Query))
	})
	if p.More = len(p.Accounts) > maxListed; p.More {
		p.Accounts = p.Accounts[:maxListed]
	}
	return p, err
}

type accountPage struct {
	storage.Account
	Passwords []storage.AppPassword
	Sessions  []storage.WebSession
	Policy    *storage.SpamPolicy
}

// QuotaMB is the quota in the field of the form.
func (p accountPage) QuotaMB() int64 { return p.QuotaBytes / 1_000_000 }

func loadAccount(c *call) (any, error) {
	name := c.req.PathValue("name")
	if !c.scope.has(name) {
		return nil, &storage.Error{Op: "show " + name, Kind: storage.KindNotFound}
	}
	account, err := c.store.AccountByAddress(c.req.Context(), name)
	if err != nil {
		return nil, err
	}
	p := accountPage{Account: account}
	if err := c.ask("password.list", object{"name": account.Address}, &p.Passwords); err != nil {
		return nil, err
	}
	p.Sessions, err = c.store.WebSessions(c.req.Context(), account.ID)
	return p, err
}

type aliasesPage struct {
	Aliases []storage.Alias
	Groups  []storage.Group
}

func loadAliases(c *call) (any, error) {
	var p aliasesPage
	if err := c.ask("alias.list", object{}, &p.Aliases); err != nil {
		return nil, err
	}
	err := c.ask("group.list", object{}, &p.Groups)
	p.Aliases = slices.DeleteFunc(p.Aliases, func(a storage.Alias) bool { return !c.scope.has(a.Address) })
	p.Groups = slices.DeleteFunc(p.Groups, func(g storage.Group) bool { return !c.scope.has(g.Address) })
	return p, err
}

type queuePage struct {
	Totals     storage.QueueTotals
	Recipients []storage.QueueEntry
	Next       int64
	Filter     object
}

const queueRows = 100

func loadQueue(c *call) (any, error) {
	q := c.req.URL.Query()
	p := queuePage{Filter: object{}}
	in := object{"limit": queueRows}
	for _, name := range []string{"domain", "sender", "address"} {
		if text := strings.TrimSpace(q.Get(name)); text != "" {
			in[name], p.Filter[name] = text, text
		}
	}
	if q.Get("maybe_duplicate") != "" {
		in["maybe_duplicate"] = true
	}
	if after, err := strconv.ParseInt(q.Get("after"), 10, 64); err == nil {
		in["after"] = after
	}
	return p, c.ask("queue.list", in, &p)
}

type tracePage struct {
	Query  string
	Traced []storage.Traced
}

func loadTrace(c *call) (any, error) {
	p := tracePage{Query: strings.TrimSpace(c.req.URL.Query().Get("q"))}
	if p.Query == "" {
		return p, nil
	}
	err := c.ask("trace", object{"name": p.Query}, &p.Traced)
	if kind := storage.KindOf(err); kind == storage.KindNotFound || kind == storage.KindInvalid {
		err = nil
	}
	return p, err
}

func loadSpam(c *call) (any, error) {
	var all []storage.SpamPolicy
	err := c.ask("spam.policies", object{}, &all)
	return slices.DeleteFunc(all, func(p storage.SpamPolicy) bool { return !c.scope.has(p.Scope) }), err
}

// reported is what reports say of a domain.
type reported struct {
	Domain     string
	Reports    int
	Pass, Fail int64
	Latest     time.Time
	From       []string
}

// Share is what passed, in per cent.
func (r reported) Share() int64 {
	if r.Pass+r.Fail == 0 {
		return 0
	}
	return r.Pass * 100 / (r.Pass + r.Fail)
}

func loadReports(c *call) (any, error) {
	var all []storage.DMARCReport
	if err := c.ask("report.list", object{"limit": 1000}, &all); err != nil {
		return nil, err
	}
	return reportsByDomain(all, c.scope), nil
}

func reportsByDomain(all []storage.DMARCReport, s scope) []*reported {
	byDomain := map[string]*reported{}
	var list []*reported
	for _, d := range all {
		if !s.has(d.Domain) {
			continue
		}
		r := byDomain[d.Domain]
		if r == nil {
			r = &reported{Domain: d.Domain}
			byDomain[d.Domain] = r
			list = append(list, r)
		}
		r.Reports++
		r.Pass += d.Messages - d.Failed
		r.Fail += d.Failed
		if end := time.Unix(d.End, 0); end.After(r.Latest) {
			r.Latest = end
		}
		if !slices.Contains(r.From, d.Organization) && len(r.From) < 8 {
			r.From = append(r.From, d.Organization)
		}
	}
	slices.SortFunc(list, func(a, b *reported) int { return cmp.Compare(a.Domain, b.Domain) })
	return list
}

func loadCluster(c *call) (any, error) {
	var s status
	return &s, c.ask("status", object{}, &s)
}

type databasesPage struct{ Databases, Dropped []storage.Database }

func loadDatabases(c *call) (any, error) {
	var p databasesPage
	if err := c.ask("database.list", object{}, &p.Databases); err != nil {
		return nil, err
	}
	var all []storage.Database
	err := c.ask("database.list", object{"dropped": true}, &all)
	p.Dropped = slices.DeleteFunc(all, func(d storage.Database) bool { return d.Dropped == nil })
	return p, err
}

func loadCertificates(c *call) (any, error) {
	var list []certificate
	return &list, c.ask("certificate.list", object{}, &list)
}

func loadBans(c *call) (any, error) {
	var list []storage.Ban
	return &list, c.ask("ban.list", object{}, &list)
}

// settingsPage is the settings as text, or what somebody made of them.
type settingsPage struct {
	Text    string
	Changes []string // that were made, or would be
	DryRun  bool
	Tried   bool
}

func loadSettings(c *call) (any, error) {
	p := settingsPage{Text: c.Form.Get("text"), DryRun: c.Result["dry_run"] == true}
	if changes, tried := c.Result["changes"].([]any); tried {
		p.Tried = true
		for _, item := range changes {
			if step, ok := item.(map[string]any); ok {
				p.Changes = append(p.Changes, fmt.Sprint(step["change"]))
			}
		}
	}
	if p.Text != "" && (p.DryRun || c.Problem != nil) {
		return p, nil
	}
	return &p, c.ask("settings.list", object{}, &p)
}

// change is a line of the audit log.
type change struct{ At, Who, Operation, Subject, Outcome, Node string }

const auditRows = 200

// loadAudit asks the view over mail that has it: what an administrator sees there is what there is to see.
func loadAudit(c *call) (any, error) {
	ctx, cancel := context.WithTimeout(c.req.Context(), 10*time.Second)
	defer cancel()
	session, err := c.store.OpenSQL(ctx, storage.SQLUser{AccountID: c.Account.ID, Admin: c.Account.Admin}, storage.MailDatabase, storage.ConsistencyLocal)
	if err != nil {
		return nil, err
	}
	defer session.Close()
	var rows storage.SQLRows
	st := storage.SQLStatement{SQL: "SELECT at, who, operation, subject, outcome, node FROM audit ORDER BY at DESC LIMIT ?", Args: []storage.SQLValue{int64(auditRows)}}
	if _, _, err := session.Run(ctx, st, &rows); err != nil {
		return nil, err
	}
	list := make([]change, len(rows.Data))
	for i, row := range rows.Data {
		for j, field := range []*string{&list[i].At, &list[i].Who, &list[i].Operation, &list[i].Subject, &list[i].Outcome, &list[i].Node} {
			*field, _ = row[j].(string) // NULL is nothing
		}
	}
	return list, nil
}
