package sender

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"trivet/spam"
	"trivet/storage"
	"trivet/storage/message"
)

var noon = time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)

// fake remembers what [storage.Store] would, at once.
type fake struct {
	greylist   map[storage.Contact]storage.GreylistEntry
	reputation []storage.Reputation
	known      map[string]storage.SenderKnown // "account address"
	contacts   []storage.KnownSender
	choices    map[int64]storage.ChallengeMode
	copies     map[[32]byte]int64
	released   bool
	full       bool
	counts     []storage.ReputationCount
	senders    []storage.KnownSender
}

func (f *fake) NoteContacts(_ context.Context, contacts []storage.GreylistContact) error {
	for _, c := range contacts {
		if f.greylist == nil {
			f.greylist = map[storage.Contact]storage.GreylistEntry{}
		}
		e, there := f.greylist[c.Contact]
		if !there || c.Again {
			e = storage.GreylistEntry{Contact: c.Contact, First: c.At}
		}
		e.Last = c.At
		if c.Passed {
			e.Passed = c.At
		}
		f.greylist[c.Contact] = e
	}
	return nil
}
func (f *fake) CountReputation(_ context.Context, counts []storage.ReputationCount) error {
	f.counts = append(f.counts, counts...)
	return nil
}
func (f *fake) RememberSenders(_ context.Context, s []storage.KnownSender) error {
	f.senders = append(f.senders, s...)
	return nil
}
func (f *fake) Greylisted(_ context.Context, who storage.Contact) (storage.GreylistEntry, bool, error) {
	e, there := f.greylist[who]
	return e, there, nil
}
func (f *fake) Reputations(_ context.Context, wanted []storage.ReputationCount) (found []storage.Reputation, err error) {
	for _, r := range f.reputation {
		if slices.ContainsFunc(wanted, func(w storage.ReputationCount) bool { return w.Kind == r.Kind && w.Name == r.Name }) {
			found = append(found, r)
		}
	}
	return found, nil
}
func (f *fake) SenderKnownTo(_ context.Context, account int64, address string) (storage.SenderKnown, error) {
	return f.known[fmt.Sprint(account, " ", address)], nil
}
func (f *fake) KnownSenders(context.Context, int64, storage.SenderKnown, int) ([]storage.KnownSender, error) {
	return f.contacts, nil
}
func (f *fake) SpamChoiceOf(_ context.Context, account int64) (storage.SpamChoice, error) {
	return storage.SpamChoice{Account: account, Challenge: f.choices[account]}, nil
}
func (f *fake) Prepare(context.Context, io.Reader) (*storage.Content, error) {
	return &storage.Content{}, nil
}
func (f *fake) KeepCopy(_ context.Context, k storage.Keeping) (int64, bool, error) {
	if f.full {
		return 0, false, &storage.Error{Kind: storage.KindOverQuota}
	}
	if f.copies == nil {
		f.copies = map[[32]byte]int64{}
	}
	if f.copies[k.Transaction] == 0 {
		f.copies[k.Transaction] = int64(len(f.copies) + 1)
	}
	return f.copies[k.Transaction], f.released, nil
}
func (f *fake) CopyReleased(_ context.Context, transaction [32]byte) (bool, error) {
	return f.released && f.copies[transaction] != 0, nil
}

// host is one with these settings.
func host(s Settings) Host {
	words := func(list ...string) func(context.Context) ([]string, error) {
		return func(context.Context) ([]string, error) { return list, nil }
	}
	return Host{Settings: func(context.Context) (Settings, error) { return s, nil }, Names: words("mx.test.example", "test.example"), Domains: words("test.example")}
}

// mailFrom is a message with further header fields, proven by DMARC and SPF.
func mailFrom(t testing.TB, author, fields, body string) *spam.Message {
	t.Helper()
	raw := "From: " + author + "\r\nMessage-ID: <1@example.net>\r\n" + fields + "\r\n" + body
	structure, err := message.Scan(strings.NewReader(raw))
	if err != nil {
		t.Fatal(err)
	}
	header := []byte(raw[:structure.HeaderSize])
	m := &spam.Message{IP: netip.MustParseAddr("192.0.2.7"), Helo: "mail.example.net", Reverse: "mail.example.net", ReverseResult: "pass", Header: header,
		Structure: structure, Raw: strings.NewReader(raw), Author: spam.Authors(header), Received: noon, Recipients: []spam.Recipient{{Account: 1, Address: "ann@test.example"}}}
	m.MailFrom = m.Sender()
	m.Authentication = spam.Authentication{SPF: "pass", DMARC: "pass", Domain: "example.net", Organization: "example.net", SPFAligned: true}
	return m
}

func namesOf(reasons []spam.Reason) string {
	var list []string
	for _, r := range reasons {
		list = append(list, r.Name)
	}
	slices.Sort(list)
	return strings.Join(list, " ")
}

func TestGeneric(t *testing.T) {
	a := netip.MustParseAddr("203.0.113.45")
	for name, want := range map[string]bool{
		"mail.example.net": false, "mx1.example.net": false, "203-0-113-45.example.net": true, "45.113.0.203.dsl.example.net": true, "host45-113-203.pool.example.net": true,
		"cb00712d.example.net": true, "dyn12.example.net": true, "pool.example.net": false, "mx2.client.example.net": true, "c7.cable.example.net": true, "out45.example.net": false, "ip-203-0-113-45.example.net": true,
	} {
		if got := Generic(name, a); got != want {
			t.Errorf("%s: %v", name, got)
		}
	}
}

func TestOrigin(t *testing.T) {
	ours := []string{"mx.test.example", "test.example"}
	tests := []struct {
		name   string
		change func(*spam.Message)
		local  bool
		want   string
	}{
		{"honest", func(*spam.Message) {}, false, "dmarc.pass"},
		{"without a name", func(m *spam.Message) { m.ReverseResult = "permerror" }, false, "dmarc.pass rdns.none"},
		{"of this machine without a name", func(m *spam.Message) { m.ReverseResult = "permerror" }, true, "dmarc.pass"},
		{"with a name of its own making", func(m *spam.Message) { m.ReverseResult = "fail" }, false, "dmarc.pass rdns.fail"},
		{"DNS is gone", func(m *spam.Message) { m.ReverseResult = "temperror" }, false, "dmarc.pass"},
		{"customer", func(m *spam.Message) { m.Reverse = "dyn7.example.net" }, false, "dmarc.pass rdns.generic"},
		{"our own name", func(m *spam.Message) { m.Helo, m.SPF = "MX.test.example.", "none" }, false, "dmarc.pass helo.ours spf.none"},
		{"no host", func(m *spam.Message) { m.Helo = "pc" }, false, "dmarc.pass helo.name"},
		{"own address", func(m *spam.Message) { m.Helo = "[192.0.2.7]" }, false, "dmarc.pass helo.literal"},
		{"another address", func(m *spam.Message) { m.Helo = "[192.0.2.8]" }, true, "dmarc.pass helo.address"},
		{"bare address", func(m *spam.Message) { m.Helo = "192.0.2.7" }, false, "dmarc.pass helo.address"},
		{"not proven", func(m *spam.Message) {
			m.Authentication = spam.Authentication{SPF: "fail", DMARC: "fail", DKIM: []spam.Signature{{Domain: "x", Result: "fail"}}}
		}, false, "dkim.fail dmarc.fail spf.fail"},
		{"softly", func(m *spam.Message) { m.Authentication = spam.Authentication{SPF: "softfail", DMARC: "none"} }, false, "spf.softfail"},
	}
	for _, test := range tests {
		m := mailFrom(t, "a@example.net", "", "")
		test.change(m)
		if got := namesOf(origin(m, ours, test.local)); got != test.want {
			t.Errorf("%s: %q, want %q", test.name, got, test.want)
		}
	}
}

// zone is a DNS of addresses.
type zone map[string][]string

func (z zone) LookupNetIP(_ context.Context, _, host string) ([]netip.Addr, error) {
	answers, there := z[host]
	if !there {
		return nil, &net.DNSError{Name: host, IsNotFound: true}
	}
	var out []netip.Addr
	for _, a := range answers {
		if a == "error" {
			return nil, &net.DNSError{Name: host, IsTemporary: true}
		}
		out = append(out, netip.MustParseAddr(a))
	}
	return out, nil
}

func TestBlockLists(t *testing.T) {
	s := DefaultSettings()
	s.Greylist.Off = true
	s.Lists = []List{{Zone: "ip.list", Kind: ListAddresses, Points: 2, Codes: map[string]float64{"127.0.0.4": 5, "127.0.1.0/24": 1, "127.0.1.9": 0.5}},
		{Zone: "name.list", Kind: ListDomains, Points: 3}}
	z := zone{}
	g := &Guard{Host: host(s), Store: &fake{}, Resolver: z, Ledger: &Ledger{}, Rates: &Rates{}}
	tests := []struct {
		name, question string
		answers        []string
		want           float64
	}{
		{"listed", "7.2.0.192.ip.list", []string{"127.0.0.2"}, 2}, {"by a code", "7.2.0.192.ip.list", []string{"127.0.0.2", "127.0.0.4"}, 5},
		{"by a network of codes", "7.2.0.192.ip.list", []string{"127.0.1.3"}, 1}, {"by the narrower one", "7.2.0.192.ip.list", []string{"127.0.1.9"}, 0.5},
		{"refused", "7.2.0.192.ip.list", []string{"127.255.255.254"}, 0}, {"sold", "7.2.0.192.ip.list", []string{"198.51.100.1"}, 0}, {"127.0.0.1 is none", "7.2.0.192.ip.list", []string{"127.0.0.1"}, 0},
		{"error", "7.2.0.192.ip.list", []string{"error"}, 0}, {"a domain of a link", "bad.com.name.list", []string{"127.0.0.2"}, 3}, {"the sender's domain", "example.net.name.list", []string{"127.0.0.2"}, 3},
	}
	for _, test := range tests {
		clear(z)
		z[test.question] = test.answers
		reasons, err := g.Check(t.Context(), mailFrom(t, "a@example.net", "", "see https://www.bad.com/ and https://x.bad.com/"))
		points := 0.0
		for _, r := range reasons {
			if strings.HasPrefix(r.Name, "list.") {
				points += r.Points
			}
		}
		if points != test.want || err != nil {
			t.Errorf("%s: %g points, want %g: %v %v", test.name, points, test.want, reasons, err)
		}
	}
	six := reversed(netip.MustParseAddr("2001:db8::1"))
	if six != "1.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.8.b.d.0.1.0.0.2" {
		t.Error(six)
	}
	l := s.Lists[0]
	for want, answers := range map[string]zone{"": {"2.0.0.127.ip.list": {"127.0.0.2"}}, "it lists everything": {"2.0.0.127.ip.list": {"127.0.0.2"}, "1.0.0.127.ip.list": {"127.0.0.2"}},
		"it answers [127.255.255.254], which is no listing: it may refuse this resolver": {"2.0.0.127.ip.list": {"127.255.255.254"}}} {
		if got := ListTest(t.Context(), answers, l); got != want {
			t.Errorf("%v: %s", answers, got)
		}
	}
}

func TestSettings(t *testing.T) {
	s, err := ReadSettings(nil)
	if err != nil || len(s.Lists) != 0 || s.Greylist.Off || !within(netip.MustParseAddr("127.0.0.1"), s.Local) {
		t.Fatalf("%+v %v", s, err)
	}
	raw, err := s.Encode()
	if err != nil {
		t.Fatal(err)
	}
	if again, err := ReadSettings(raw); err != nil || fmt.Sprint(again) != fmt.Sprint(s) {
		t.Errorf("%+v %v", again, err)
	}
	for name, spoil := range map[string]func(*Settings){
		"delay beyond window": func(s *Settings) { s.Greylist.Delay = s.Greylist.Window }, "negative": func(s *Settings) { s.Greylist.Delay = -1 }, "rate": func(s *Settings) { s.Rate = -1 },
		"probability": func(s *Settings) { s.Challenge.From = 1.1 }, "list": func(s *Settings) { s.Lists = []List{{Zone: "x"}} }, "code": func(s *Settings) {
			s.Lists = []List{{Zone: "x.y", Kind: ListAddresses, Codes: map[string]float64{"192.0.2.1": 1}}}
		}, "points": func(s *Settings) { s.Lists = []List{{Zone: "x.y", Kind: ListAddresses, Points: 21}} }, "twice": func(s *Settings) {
			s.Lists = []List{{Zone: "x.y", Kind: ListAddresses}, {Zone: "x.y", Kind: ListDomains}}
		}, "many": func(s *Settings) { s.Lists = make([]List, MaxLists+1) }, "clamd": func(s *Settings) { s.Clamd = "x" }, "rspamd": func(s *Settings) { s.Rspamd = "x" },
		"keep": func(s *Settings) { s.Challenge.Keep = Duration(MaxKeep + 1) },
	} {
		bad := DefaultSettings()
		spoil(&bad)
		if _, err := bad.Encode(); err == nil {
			t.Errorf("%s is taken", name)
		}
	}
}

func TestGreylist(t *testing.T) {
	s := DefaultSettings()
	store, ledger := &fake{}, &Ledger{}
	good := []netip.Prefix{}
	g := &Greylist{Settings: func(context.Context) (Settings, error) { s.Greylist.Good = good; return s, nil }, Store: store, Ledger: ledger}
	offer := func(at time.Duration, change func(*spam.Message)) string {
		t.Helper()
		m := mailFrom(t, "a@example.net", "", "")
		m.Authentication = spam.Authentication{SPF: "none", DMARC: "none"}
		m.Received = noon.Add(at)
		if change != nil {
			change(m)
		}
		verdicts := []spam.Verdict{{Recipient: m.Recipients[0], Reasons: origin(m, nil, false)}}
		if err := g.Review(t.Context(), m, verdicts); err != nil {
			t.Fatal(err)
		}
		if err := ledger.Flush(t.Context(), store); err != nil {
			t.Fatal(err)
		}
		return verdicts[0].Action.String()
	}
	delay, window, keep := time.Duration(s.Greylist.Delay), time.Duration(s.Greylist.Window), time.Duration(s.Greylist.Keep)
	steps := []struct {
		name   string
		at     time.Duration
		change func(*spam.Message)
		want   string
	}{
		{"proven", 0, func(m *spam.Message) { m.DMARC = "pass" }, "accept"},
		{"first", 0, nil, "defer"}, {"too early", delay - time.Second, nil, "defer"}, {"in time", delay, nil, "accept"}, {"after that", delay + time.Second, nil, "accept"},
		{"another sender", delay, func(m *spam.Message) { m.MailFrom = "b@example.net" }, "defer"},
		{"another recipient", delay, func(m *spam.Message) { m.Recipients[0].Address = "bob@test.example" }, "defer"},
		{"its neighbour", delay, func(m *spam.Message) { m.IP = netip.MustParseAddr("192.0.2.200") }, "accept"},
		{"another network", delay, func(m *spam.Message) { m.IP = netip.MustParseAddr("192.0.3.7") }, "defer"},
		{"of this machine", delay, func(m *spam.Message) { m.IP = netip.MustParseAddr("127.0.0.1") }, "accept"},
		{"the other sender too late", delay + window + time.Second, func(m *spam.Message) { m.MailFrom = "b@example.net" }, "defer"},
		{"who starts anew", delay + window + delay + time.Second, func(m *spam.Message) { m.MailFrom = "b@example.net" }, "accept"},
		{"just remembered", delay + time.Second + keep - time.Minute, nil, "accept"},
		{"forgotten", delay + 3*keep, nil, "defer"},
	}
	for _, step := range steps {
		if got := offer(step.at, step.change); got != step.want {
			t.Fatalf("%s: %s, want %s", step.name, got, step.want)
		}
	}
	good = []netip.Prefix{netip.MustParsePrefix("192.0.9.0/24")}
	from := func(address string) func(*spam.Message) {
		return func(m *spam.Message) { m.IP = netip.MustParseAddr(address) }
	}
	if got := offer(0, from("192.0.9.1")); got != "accept" {
		t.Error("from a good network:", got)
	}
	store.reputation = []storage.Reputation{{Kind: storage.ReputationNetwork, Name: "192.0.8.0/24", Wanted: 10, Unwanted: 1}, {Kind: storage.ReputationNetwork, Name: "192.0.7.0/24", Wanted: 10, Unwanted: 2}}
	if got := offer(0, from("192.0.8.1")) + offer(0, from("192.0.7.1")); got != "acceptdefer" {
		t.Error("from networks of some reputation:", got)
	}
	s.Greylist.Off = true
	if got := offer(0, from("192.0.7.1")); got != "accept" {
		t.Error("switched off:", got)
	}
}

func TestReputation(t *testing.T) {
	store, ledger := &fake{}, &Ledger{}
	g := &Guard{Host: host(DefaultSettings()), Store: store, Resolver: zone{}, Ledger: ledger, Rates: &Rates{}}
	offer := func(action spam.Action, points float64, change func(*spam.Message)) string {
		t.Helper()
		m := mailFrom(t, "a@example.net", "", "https://www.link.com")
		if change != nil {
			change(m)
		}
		if _, err := g.Check(t.Context(), m); err != nil {
			t.Fatal(err)
		}
		if err := g.Review(t.Context(), m, []spam.Verdict{{Recipient: m.Recipients[0], Action: action, Points: points}}); err != nil {
			t.Fatal(err)
		}
		store.counts = nil
		if err := ledger.Flush(t.Context(), store); err != nil || len(g.facts) != 0 {
			t.Fatal(err, len(g.facts))
		}
		var list []string
		for _, c := range store.counts {
			list = append(list, fmt.Sprintf("%s %s %d/%d", c.Kind, c.Name, c.Wanted, c.Unwanted))
		}
		slices.Sort(list)
		return strings.Join(list, ", ")
	}
	const all = "address a@example.net 1000/0, domain example.net 1000/0, host link.com 1000/0, network 192.0.2.0/24 1000/0"
	if got := offer(spam.Accept, -1, nil); got != all {
		t.Error("wanted:", got)
	}
	if got := offer(spam.Junk, 3, nil); got != strings.ReplaceAll(all, "1000/0", "0/1000") {
		t.Error("unwanted:", got)
	}
	if got := offer(spam.Accept, 1, nil) + offer(spam.Defer, 5, nil); got != "" {
		t.Error("between, and put off:", got)
	}
	if got := offer(spam.Accept, -1, func(m *spam.Message) { m.Domain, m.Organization = "", "" }); got != "host link.com 1000/0, network 192.0.2.0/24 1000/0" {
		t.Error("not proven:", got)
	}
	if got := offer(spam.Accept, -1, func(m *spam.Message) { m.IP = netip.MustParseAddr("10.0.0.1") }); strings.Contains(got, "network") {
		t.Error("of a private network:", got)
	}
	store.reputation = []storage.Reputation{{Kind: storage.ReputationAddress, Name: "a@example.net", Unwanted: 1000}, {Kind: storage.ReputationDomain, Name: "example.net", Wanted: 2}}
	m := mailFrom(t, "a@example.net", "", "")
	reasons, _ := g.Check(t.Context(), m)
	g.taken(m)
	i := slices.IndexFunc(reasons, func(r spam.Reason) bool { return r.Name == "reputation.address" })
	if i < 0 || reasons[i].Points != weights[storage.ReputationAddress].against || strings.Contains(namesOf(reasons), "reputation.domain") {
		t.Errorf("%v", reasons)
	}
	if got := offer(spam.Junk, 2.5, nil); got != "" {
		t.Error("reputation feeds on itself:", got)
	}
}

func TestAcquaintance(t *testing.T) {
	store, ledger := &fake{known: map[string]storage.SenderKnown{}}, &Ledger{}
	a := &Acquaintance{Host: host(DefaultSettings()), Store: store, Ledger: ledger}
	check := func(author string) string {
		t.Helper()
		m := mailFrom(t, author, "", "")
		reasons, err := a.CheckFor(t.Context(), m, m.Recipients[0])
		if err != nil {
			t.Fatal(err)
		}
		verdicts := []spam.Verdict{{Recipient: m.Recipients[0], Reasons: reasons}}
		if err := a.Review(t.Context(), m, verdicts); err != nil {
			t.Fatal(err)
		}
		return namesOf(reasons)
	}
	if got := check("a@example.net"); got != "sender.first" {
		t.Error("for the first time:", got)
	}
	if err := ledger.Flush(t.Context(), store); err != nil || len(store.senders) != 1 || store.senders[0] != (storage.KnownSender{Account: 1, Address: "a@example.net", How: storage.SenderSeen}) {
		t.Errorf("%v %+v", err, store.senders)
	}
	store.known["1 a@example.net"] = storage.SenderSeen
	if got := check("a@example.net"); got != "" {
		t.Error("for the second time:", got)
	}
	store.known["1 a@example.net"] = storage.SenderWritten
	if got := check("A@Example.net"); got != "sender.known" {
		t.Error("whom ann wrote to:", got)
	}
	a.Written(1, map[string]string{"Jane@friends.example": "Jane Doe"})
	if err := ledger.Flush(t.Context(), store); err != nil {
		t.Fatal(err)
	}
	store.contacts = store.senders[1:]
	if got := check("Jane Doe <x@example.net>"); got != "phishing.known-name sender.first" {
		t.Error("by another's name:", got, store.contacts)
	}
}

func TestRates(t *testing.T) {
	r := &Rates{}
	a, b := netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("192.0.2.99")
	at := time.Unix(6000, 0)
	for range 9 {
		r.count(a, at, true)
	}
	if n := r.count(b, at, true); n != 10 {
		t.Error(n)
	}
	if n := r.count(a, at.Add(RateWindow*3/2), true); n != 6 { // half of the window before, and this
		t.Error(n)
	}
	if n := r.count(a, at.Add(5*RateWindow), true); n != 1 {
		t.Error(n)
	}
	if n := r.count(netip.Addr{}, at, true); n != 0 {
		t.Error(n)
	}
}

func TestLedgerIsBounded(t *testing.T) {
	l := &Ledger{}
	for i := range maxPendingContacts + 1 {
		l.contact(storage.GreylistContact{Contact: storage.Contact{Sender: fmt.Sprint(i)}, At: noon})
		l.count(storage.ReputationDomain, fmt.Sprint("d", i), 1, 0)
		l.Remember(storage.KnownSender{Account: int64(i), Address: "x"})
	}
	l.contact(storage.GreylistContact{Contact: storage.Contact{Sender: "1"}, At: noon, Passed: true})
	contacts, counts, senders := l.take()
	if len(contacts) != maxPendingContacts || len(counts) != maxPendingCounts || len(senders) != maxPendingSenders {
		t.Error(len(contacts), len(counts), len(senders))
	}
	if !slices.ContainsFunc(contacts, func(c storage.GreylistContact) bool { return c.Passed }) {
		t.Error("who passed meanwhile is not noted")
	}
}

func TestChallenge(t *testing.T) {
	const name = "Bea <bea@example.net>"
	link := func(_ context.Context, id int64) (string, error) { return fmt.Sprint("https://mx/challenge/", id), nil }
	refuse, off := storage.ChallengeRefuse, storage.ChallengeOff
	tests := []struct {
		name    string
		modes   []storage.ChallengeMode
		chances []float64
		change  func(*spam.Message, *fake, *Challenge)
		want    string // actions
	}{
		{"asked", []storage.ChallengeMode{refuse}, []float64{0.7}, nil, "reject"},
		{"by both", []storage.ChallengeMode{refuse, refuse}, []float64{0.7, 0.95}, nil, "reject reject"},
		{"one wants it put off", []storage.ChallengeMode{refuse, storage.ChallengeDefer}, []float64{0.7, 0.7}, nil, "defer defer"},
		{"recipients disagree", []storage.ChallengeMode{refuse, off}, []float64{0.7, 0.7}, nil, "junk accept"},
		{"one finds nothing wrong", []storage.ChallengeMode{refuse, refuse}, []float64{0.7, 0.1}, nil, "junk accept"},
		{"one knows the sender", []storage.ChallengeMode{refuse, refuse}, []float64{0.7, 0.7}, func(_ *spam.Message, f *fake, _ *Challenge) {
			f.known = map[string]storage.SenderKnown{"2 bea@example.net": storage.SenderSeen}
		}, "junk accept"},
		{"nobody wants that", []storage.ChallengeMode{off}, []float64{0.7}, nil, "accept"},
		{"not in the grey zone", []storage.ChallengeMode{refuse}, []float64{0.49}, nil, "accept"},
		{"on its edge", []storage.ChallengeMode{refuse}, []float64{0.5}, nil, "reject"},
		{"only watching", []storage.ChallengeMode{refuse}, []float64{0.7}, func(_ *spam.Message, _ *fake, c *Challenge) { c.Monitor = true }, "accept"},
		{"no room for copies", []storage.ChallengeMode{refuse}, []float64{0.7}, func(_ *spam.Message, f *fake, _ *Challenge) { f.full = true }, "junk"},
		{"no pages", []storage.ChallengeMode{refuse}, []float64{0.7}, func(_ *spam.Message, _ *fake, c *Challenge) {
			c.Link = func(context.Context, int64) (string, error) { return "", errors.New("none") }
		}, "junk"},
		{"SPF not aligned", []storage.ChallengeMode{refuse}, []float64{0.7}, func(m *spam.Message, _ *fake, _ *Challenge) { m.SPFAligned = false }, "accept"},
		{"DMARC does not pass", []storage.ChallengeMode{refuse}, []float64{0.7}, func(m *spam.Message, _ *fake, _ *Challenge) { m.Domain = "" }, "accept"},
		{"null sender", []storage.ChallengeMode{refuse}, []float64{0.7}, func(m *spam.Message, _ *fake, _ *Challenge) { m.MailFrom = "" }, "accept"},
		{"bounce address", []storage.ChallengeMode{refuse}, []float64{0.7}, func(m *spam.Message, _ *fake, _ *Challenge) { m.MailFrom = "news-bounces@example.net" }, "accept"},
	}
	for _, test := range tests {
		store := &fake{choices: map[int64]storage.ChallengeMode{}}
		c := &Challenge{Settings: host(DefaultSettings()).Settings, Store: store, Keeper: store, Link: link}
		m := mailFrom(t, name, "", "hello")
		if test.change != nil {
			test.change(m, store, c)
		}
		var verdicts []spam.Verdict
		for i, mode := range test.modes {
			store.choices[int64(i+1)] = mode
			verdicts = append(verdicts, spam.Verdict{Recipient: spam.Recipient{Account: int64(i + 1)}, Probability: test.chances[i]})
		}
		_ = c.Review(t.Context(), m, verdicts) // "no room" is logged
		var got []string
		for _, v := range verdicts {
			got = append(got, v.Action.String())
			if v.Action >= spam.Defer != strings.Contains(v.Reply, "https://mx/challenge/1") {
				t.Errorf("%s: told %q", test.name, v.Reply)
			}
		}
		if strings.Join(got, " ") != test.want {
			t.Errorf("%s: %s, want %s", test.name, got, test.want)
		}
	}
}

// The same message has the same copy, whatever servers put in front of it; once it is released the recipients have it.
func TestChallengeAgain(t *testing.T) {
	store := &fake{choices: map[int64]storage.ChallengeMode{1: storage.ChallengeDefer}}
	c := &Challenge{Settings: host(DefaultSettings()).Settings, Store: store, Keeper: store, Link: func(context.Context, int64) (string, error) { return "x", nil }}
	offer := func(fields, body string) spam.Verdict {
		t.Helper()
		verdicts := []spam.Verdict{{Recipient: spam.Recipient{Account: 1}, Probability: 0.7}}
		if err := c.Review(t.Context(), mailFrom(t, "bea@example.net", fields, body), verdicts); err != nil {
			t.Fatal(err)
		}
		return verdicts[0]
	}
	offer("Received: one\r\n", "hello")
	offer("Received: two\r\n", "hello")
	if len(store.copies) != 1 {
		t.Errorf("%d copies of one message", len(store.copies))
	}
	store.released = true
	if v := offer("", "hello"); !v.Had || v.Action != spam.Accept {
		t.Errorf("after the release: %+v", v)
	}
}

func TestAskable(t *testing.T) {
	for fields, want := range map[string]bool{"": true, "Auto-Submitted: no\r\n": true, "Auto-Submitted: auto-generated\r\n": false, "List-Id: <a.b>\r\n": false, "List-Unsubscribe: <x>\r\n": false,
		"Precedence: Bulk\r\n": false, "Precedence: first-class\r\n": true, "MIME-Version: 1.0\r\nContent-Type: multipart/report; boundary=x\r\n": false, "Feedback-ID: x\r\n": false} {
		if got := Askable(mailFrom(t, "bea@example.net", fields, "x")); got != want {
			t.Errorf("%q: %v", fields, got)
		}
	}
	for author, want := range map[string]bool{"no-reply@example.net": false, "noreply+7@example.net": false, "Do.Not.Reply@example.net": false, "owner-list@example.net": false,
		"list-request@example.net": false, "bounce-7@example.net": false, "norbert@example.net": true, "a@example.net, b@example.net": false} {
		if got := Askable(mailFrom(t, author, "", "x")); got != want {
			t.Errorf("%s: %v", author, got)
		}
	}
}

func TestProven(t *testing.T) {
	if Proven("token", "") || Proven("token", "1") || Proven("token", strings.Repeat("1", 21)) {
		t.Error("no work is taken for work")
	}
	for i := 0; i < 1<<24; i++ {
		if proof := fmt.Sprint(i); Proven("token", proof) {
			if Proven("token2", proof) {
				t.Error("the work for one token is good for another")
			}
			return
		}
	}
	t.Error("no work is enough")
}

// FuzzGuard: nothing in a message fails, or gives points without a name and a sentence.
func FuzzGuard(f *testing.F) {
	f.Add("a@example.net", "mail.example.net", "https://a.example")
	f.Add("", "[IPv6:::1]", "<a href=x>")
	f.Fuzz(func(t *testing.T, author, helo, body string) {
		g := &Guard{Host: host(DefaultSettings()), Store: &fake{}, Resolver: zone{}, Ledger: &Ledger{}, Rates: &Rates{}}
		m := mailFrom(t, strings.NewReplacer("\r", "", "\n", "").Replace(author), "", body)
		m.Helo = helo
		reasons, err := g.Check(t.Context(), m)
		if err != nil {
			t.Fatal(err)
		}
		for _, r := range reasons {
			if r.Name == "" || r.Text == "" {
				t.Fatalf("%+v", r)
			}
		}
		Askable(m)
	})
}

// A message that somebody only asks about leaves nothing behind.
func TestTrial(t *testing.T) {
	store, ledger := &fake{choices: map[int64]storage.ChallengeMode{1: storage.ChallengeRefuse}}, &Ledger{}
	h := host(DefaultSettings())
	g := &Guard{Host: h, Store: store, Resolver: zone{}, Ledger: ledger, Rates: &Rates{}}
	a := &Acquaintance{Host: h, Store: store, Ledger: ledger}
	m := mailFrom(t, "bea@example.net", "", "")
	m.Trial = true
	reasons, err := g.Check(t.Context(), m)
	if err != nil {
		t.Fatal(err)
	}
	own, err := a.CheckFor(t.Context(), m, m.Recipients[0])
	if err != nil {
		t.Fatal(err)
	}
	m.DMARC = "none"
	verdicts := []spam.Verdict{{Recipient: m.Recipients[0], Probability: 0.7, Reasons: append(append(reasons, own...), spam.Reason{Name: "rdns.none", Points: 1})}}
	for _, r := range []spam.Reviewer{&Greylist{Settings: h.Settings, Store: store, Ledger: ledger}, &Challenge{Settings: h.Settings, Store: store, Keeper: store}, a, g} {
		if err := r.Review(t.Context(), m, verdicts); err != nil {
			t.Fatal(err)
		}
	}
	contacts, counts, known := ledger.take()
	if verdicts[0].Action != spam.Accept || len(contacts)+len(counts)+len(known)+len(store.copies)+len(g.facts) > 0 || g.Rates.count(m.IP, m.Received, true) != 1 {
		t.Error(verdicts[0].Action, contacts, counts, known, store.copies, g.facts)
	}
}
