package smtp

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"trivet/storage"
)

// fromOutside delivers from another server and returns the codes after EHLO's.
func (h *mailHouse) fromOutside(t *testing.T, text string) string {
	t.Helper()
	got := codes(talk(t, h.incoming, "EHLO c.example\r\n"+text+"QUIT\r\n"))
	return strings.TrimSuffix(strings.TrimPrefix(got, "220 250 "), " 221")
}

// addresses are those in the queue.
func (h *mailHouse) addresses(t *testing.T) string {
	t.Helper()
	var all []string
	for _, e := range h.queued(t) {
		all = append(all, e.Address)
	}
	slices.Sort(all)
	return strings.Join(all, " ")
}

func TestForwarding(t *testing.T) {
	h := newMailHouse(t, nil)
	h.must(h.store.SetForward(t.Context(), storage.Forward{Address: "bob@example.org", Targets: []string{"me@far.example"}}))
	text := "Subject: hello\r\n\r\nx"
	if got := h.fromOutside(t, send("ann@elsewhere.example", "bob@example.org alice@example.org", text)); got != "250 250 250 354 250" {
		t.Fatal(got)
	}
	queue := h.queued(t)
	if len(queue) != 1 || queue[0].Address != "me@far.example" || len(inbox(t, h.store, "bob@example.org")) != 0 || len(inbox(t, h.store, "alice@example.org")) != 1 {
		t.Fatalf("queue %+v", queue)
	}
	sender := queue[0].Message.Sender
	if !strings.HasPrefix(sender, "SRS0=") || !strings.HasSuffix(sender, "=elsewhere.example=ann@example.org") {
		t.Errorf("sender %s", sender)
	}
	body := h.body(t, queue[0])
	if !strings.HasPrefix(body, "Received: ") || !strings.Contains(body, "\r\nDelivered-To: bob@example.org\r\nSubject: hello\r\n\r\nx\r\n") {
		t.Errorf("body %q", body)
	}
	// What comes back is a loop, a failure goes to who sent it, and nobody else uses the address.
	_, back, _ := strings.Cut(body, "Delivered-To")
	for _, test := range []struct{ name, text, want string }{
		{"loop", send("x@far.example", "bob@example.org", "Delivered-To"+back), "250 250 354 554"},
		{"failure", send("", sender, "Subject: failed\r\n\r\nx"), "250 250 354 250"},
		{"failure in capitals", send("", strings.ToUpper(sender), "Subject: failed too\r\n\r\nx"), "250 250 354 250"},
		{"not null", "MAIL FROM:<x@far.example>\r\nRCPT TO:<" + sender + ">\r\n", "250 550"},
		{"forged", "MAIL FROM:<>\r\nRCPT TO:<" + strings.Replace(sender, "=ann@", "=eve@", 1) + ">\r\n", "250 550"},
		{"cut short", "MAIL FROM:<>\r\nRCPT TO:<SRS0=x@example.org>\r\n", "250 550"},
	} {
		if got := h.fromOutside(t, test.text); got != test.want {
			t.Errorf("%s: %s, want %s", test.name, got, test.want)
		}
	}
	queue = h.queued(t)
	if len(queue) != 3 || queue[1].Address != "ann@elsewhere.example" || queue[1].Message.Sender != "" {
		t.Errorf("a failure went to %+v", queue[1:])
	}
}

// What a user sends to an address that leads elsewhere goes there with the rest.
func TestForwardingOfSubmissions(t *testing.T) {
	h := newMailHouse(t, nil)
	_, err := h.store.CreateAlias(t.Context(), "far@example.org", []string{"me@far.example", "alice@example.org"})
	h.must(err)
	if got := h.session(t, send("alice@example.org", "far@example.org", "From: alice@example.org\r\n\r\nx")); got != "250 250 354 250" {
		t.Fatal(got)
	}
	queue := h.queued(t)
	if len(queue) != 1 || queue[0].Message.Sender != "alice@example.org" || len(inbox(t, h.store, "alice@example.org")) != 1 {
		t.Errorf("queue %+v", queue)
	}
}

func TestSRS(t *testing.T) {
	h := newMailHouse(t, nil)
	now := testClock()
	srv, _ := startServer(t, newFakeStore(), func(cfg *Config) {
		cfg.Store, cfg.Clock = h.store, func() time.Time { return now }
		cfg.SRSKey = func(context.Context) ([]byte, error) { return []byte("another secret"), nil }
	})
	rewrite := func(address string) string {
		t.Helper()
		p, _, ok := parsePath("<" + address + ">")
		if !ok {
			t.Fatal(address)
		}
		p, err := srv.rewrite(p, "example.org")
		h.must(err)
		if again, _, ok := parsePath("<" + p.String() + ">"); !ok || again != p {
			t.Errorf("%s is no path", p)
		}
		return p.String()
	}
	restore := func(address string) string {
		p, _, _ := parsePath("<" + address + ">")
		p, err := srv.restore(t.Context(), p.local)
		if err != nil {
			return err.Error()
		}
		return p.String()
	}
	for _, address := range []string{"ann@far.example", "a=b+c@far.example", `"two words"@far.example`, "jürgen@far.example"} {
		if got := restore(rewrite(address)); got != address {
			t.Errorf("%s comes back as %s", address, got)
		}
	}
	if got := rewrite("alice@example.org"); got != "alice@example.org" {
		t.Errorf("one of ours is %s", got)
	}
	// A second forwarder does not wrap what is wrapped, and a third not again.
	once := rewrite("SRS0=abcd=ef=home.example=ann@first.example")
	if !strings.HasPrefix(once, "SRS1=") || !strings.Contains(once, "=first.example==abcd=ef=home.example=ann@example.org") {
		t.Errorf("SRS1: %s", once)
	}
	if got := restore(once); got != "SRS0=abcd=ef=home.example=ann@first.example" {
		t.Errorf("back to the first forwarder: %s", got)
	}
	twice := rewrite("SRS1=wxyz=first.example==abcd=ef=home.example=ann@second.example")
	if got := restore(twice); got != "SRS0=abcd=ef=home.example=ann@first.example" {
		t.Errorf("a third forwarder: %s as %s", got, twice)
	}
	old := rewrite("ann@far.example")
	now = now.Add(srsDays * day)
	if got := restore(old); got != "ann@far.example" {
		t.Errorf("on the last day: %s", got)
	}
	now = now.Add(day)
	if got := restore(old); got != errNoSRS.Error() {
		t.Errorf("too late: %s", got)
	}
}

func FuzzSRSRestore(f *testing.F) {
	f.Add("SRS0=abcdefgh=ab=x.example=ann")
	f.Add("SRS1=abcdefgh=x.example==abcd=ef=y.example=ann")
	f.Add("srs0+x")
	srv := New(Config{Hostname: "mx.example.org", Store: newFakeStore(), Clock: testClock, SRSKey: func(context.Context) ([]byte, error) { return []byte("k"), nil }})
	f.Fuzz(func(t *testing.T, local string) {
		if p, err := srv.restore(t.Context(), local); err == nil {
			t.Errorf("%q was made without the key: %v", local, p)
		}
	})
}

func TestGroups(t *testing.T) {
	h := newMailHouse(t, nil)
	h.giveKey(t, "example.org")
	h.must(h.store.CreateGroup(t.Context(), storage.Group{Address: "team@example.org", Name: `The "A" team`, Owner: "alice@example.org",
		Senders: storage.SendersMembers, Members: []string{"alice@example.org", "bob@example.org", "cat@far.example"}, Listed: []string{"boss@far.example"}}))
	text := func(from string) string {
		return "From: " + from + "\r\nTo: team@example.org\r\nSubject: " + from + "\r\n\r\nx"
	}
	if got := h.session(t, send("alice@example.org", "team@example.org", text("alice@example.org"))); got != "250 250 354 250" {
		t.Fatal(got)
	}
	box := inbox(t, h.store, "bob@example.org")
	queue := h.queued(t)
	if len(box) != 1 || len(inbox(t, h.store, "alice@example.org")) != 1 || len(queue) != 1 || queue[0].Address != "cat@far.example" {
		t.Fatalf("bob %q, queue %+v", box, queue)
	}
	for _, want := range []string{"Return-Path: <alice@example.org>\r\n", "\r\nDelivered-To: team@example.org\r\n", "\r\nList-Id: \"The \\\"A\\\" team\" <team.example.org>\r\n",
		"\r\nList-Post: <mailto:team@example.org>\r\n", "\r\nList-Unsubscribe: <mailto:alice@example.org?subject=unsubscribe%20team@example.org>\r\n", "\r\nPrecedence: list\r\n"} {
		if !strings.Contains(box[0], want) {
			t.Errorf("no %q in %q", want, box[0])
		}
	}
	_, signed, _ := strings.Cut(box[0], "DKIM-Signature:")
	if got := h.signedBy(t, "DKIM-Signature:"+signed); !slices.Equal(got, []string{"example.org"}) {
		t.Errorf("signed by %v", got)
	}
	for _, test := range []struct{ name, text, want string }{
		{"member elsewhere", send("cat@far.example", "team@example.org", text("Cat <CAT@far.example>")), "250 250 354 250"},
		{"listed", send("boss@far.example", "team@example.org", text("boss@far.example")), "250 250 354 250"},
		{"member here who has not logged in", send("bob@example.org", "team@example.org", text("bob@example.org")), "250 250 354 550"},
		{"stranger", send("eve@far.example", "team@example.org", text("eve@far.example")), "250 250 354 550"},
		{"stranger in the name of a member", send("eve@far.example", "team@example.org", text("cat@far.example")), "250 250 354 550"},
		{"member in the name of a stranger", send("cat@far.example", "team@example.org", text("eve@far.example")), "250 250 354 550"},
		{"no author", send("cat@far.example", "team@example.org", "Subject: x\r\n\r\nx"), "250 250 354 550"},
		{"loop", send("cat@far.example", "team@example.org", "Delivered-To: team@example.org\r\n"+text("cat@far.example")), "250 250 354 554"},
	} {
		if got := h.fromOutside(t, test.text); got != test.want {
			t.Errorf("%s: %s, want %s", test.name, got, test.want)
		}
	}
	if n := len(inbox(t, h.store, "bob@example.org")); n != 3 {
		t.Errorf("bob has %d messages, want 3", n)
	}
	h.must(h.store.SetGroup(t.Context(), storage.Group{Address: "team@example.org", Owner: "alice@example.org", Senders: storage.SendersAnyone, Members: []string{"bob@example.org"}}))
	if got := h.fromOutside(t, send("", "team@example.org", text("eve@far.example"))); got != "250 250 354 250" {
		t.Errorf("open to anyone: %s", got)
	}
	if box := inbox(t, h.store, "bob@example.org"); !strings.HasPrefix(box[len(box)-1], "Return-Path: <>\r\n") {
		t.Errorf("a report has a sender: %.60q", box[len(box)-1])
	}
}

// Of two postings the second fails: the sender comes again, and nobody has the
// first twice.
func TestPostingsAreRepeated(t *testing.T) {
	h := newMailHouse(t, nil)
	h.must(h.store.CreateGroup(t.Context(), storage.Group{Address: "team@example.org", Owner: "alice@example.org", Members: []string{"bob@example.org"}}))
	h.must(h.store.SetQuota(t.Context(), "bob@example.org", 0, 1))
	text := send("cat@far.example", "alice@example.org team@example.org", "Message-ID: <2@x>\r\nFrom: x@y.example\r\n\r\nx")
	h.fromOutside(t, send("cat@far.example", "bob@example.org", "Subject: fills it\r\n\r\nx"))
	if got := h.fromOutside(t, text); got != "250 250 250 354 452" {
		t.Fatal(got)
	}
	h.must(h.store.SetQuota(t.Context(), "bob@example.org", 0, 0))
	if got := h.fromOutside(t, text); got != "250 250 250 354 250" {
		t.Fatal(got)
	}
	if a, b := len(inbox(t, h.store, "alice@example.org")), len(inbox(t, h.store, "bob@example.org")); a != 1 || b != 2 {
		t.Errorf("alice has %d messages, bob %d", a, b)
	}
}

func TestVacation(t *testing.T) {
	h := newMailHouse(t, nil)
	h.giveKey(t, "example.org")
	h.must(h.store.SetVacation(t.Context(), storage.Vacation{Address: "bob@example.org", Text: "Bin im Urlaub – bis bald.\n.\nBob\n"}))
	n := 0
	try := func(from, header string) {
		t.Helper()
		n++
		if got := h.fromOutside(t, send(from, "bob@example.org", fmt.Sprintf("%sMessage-ID: <%d@x>\r\n\r\nx", header, n))); got != "250 250 354 250" {
			t.Fatalf("%s: %s", from, got)
		}
	}
	to := "To: Bob <bob@example.org>\r\n"
	for name, test := range map[string]struct{ from, header string }{
		"null sender":      {"", to},
		"not addressed":    {"a1@far.example", "To: list@far.example\r\n"},
		"list":             {"a2@far.example", to + "List-Id: <x.y>\r\n"},
		"bulk":             {"a3@far.example", to + "Precedence: Bulk\r\n"},
		"automatic":        {"a4@far.example", to + "Auto-Submitted: auto-replied; x\r\n"},
		"asked not to":     {"a5@far.example", to + "X-Auto-Response-Suppress: OOF\r\n"},
		"owner-":           {"owner-a6@far.example", to},
		"-request":         {"a7-request@far.example", to},
		"daemon":           {"MAILER-DAEMON@far.example", to},
		"noreply":          {"noreply@far.example", to},
		"rewritten sender": {"SRS0=a=b=c.example=d@far.example", to},
		"himself":          {"bob@example.org", to},
		"unknown of ours":  {"nobody@example.org", to},
	} {
		try(test.from, test.header)
		if got := h.addresses(t); got != "" {
			t.Fatalf("%s was answered: %s", name, got)
		}
	}
	try("Cat@far.example", "Subject: =?utf-8?q?Gr=C3=BC=C3=9Fe?=\r\nAuto-Submitted: no\r\n"+to)
	try("cat@FAR.example", to)
	try("eve@far.example", "Subject: =?utf-8?q?x=0D=0ABcc:_victim@far.example?=\r\nMessage-ID: <a\x0bb>\r\n"+to)
	try("dan@far.example", "Cc: bob+x@example.org\r\n")
	if got := h.addresses(t); got != "Cat@far.example dan@far.example eve@far.example" {
		t.Fatalf("answered: %s", got)
	}
	queue := h.queued(t)
	text := h.body(t, queue[0])
	for _, want := range []string{"DKIM-Signature: ", "\r\nFrom: <bob@example.org>\r\nTo: <Cat@far.example>\r\nSubject: =?utf-8?q?Auto:_Gr=C3=BC=C3=9Fe?=\r\n",
		"\r\nIn-Reply-To: <14@x>\r\nReferences: <14@x>\r\nAuto-Submitted: auto-replied (vacation)\r\n", "\r\n\r\nQmluIGltIFVybGF1YiDigJMgYmlzIGJhbGQuDQouDQpCb2INCg==\r\n"} {
		if !strings.Contains(text, want) {
			t.Errorf("no %q in %q", want, text)
		}
	}
	if forged := h.body(t, queue[1]); strings.Contains(strings.ToLower(forged), "\r\nbcc:") || strings.Contains(forged, "\x0b") {
		t.Errorf("a field was smuggled into %q", forged)
	}
	if got := h.signedBy(t, text); !slices.Equal(got, []string{"example.org"}) {
		t.Errorf("signed by %v", got)
	}
	if m := queue[0].Message; m.Sender != "" {
		t.Errorf("an answer to the answer would go to %q", m.Sender)
	}
	if got := h.session(t, send("alice@example.org", "bob@example.org", "From: alice@example.org\r\n"+to+"\r\nx")); got != "250 250 354 250" {
		t.Fatal(got)
	}
	if box := inbox(t, h.store, "alice@example.org"); len(box) != 1 || !strings.Contains(box[0], "Auto-Submitted: auto-replied") {
		t.Errorf("alice has %q", box)
	}
}

func TestDetailsAndCatchAll(t *testing.T) {
	h := newMailHouse(t, nil)
	ctx := t.Context()
	_, err := h.store.CreateDomain(ctx, "bücher.example")
	h.must(err)
	h.must(h.store.SetDomainPolicy(ctx, storage.Domain{Name: "bücher.example", CatchAll: "alice@example.org"}))
	for _, test := range []struct{ to, params, want string }{
		{"bob+lists@example.org", "", "250 250"},
		{"bob-lists@example.org", "", "250 550"},
		{"any.thing@xn--bcher-kva.example", "", "250 250"},
		{"wer@bücher.example", " SMTPUTF8", "250 250"},
		{"jürgen@bücher.example", " SMTPUTF8", "250 250"},
		{"jürgen@bücher.example", "", "250 553"},
	} {
		if got := h.fromOutside(t, "MAIL FROM:<x@far.example>"+test.params+"\r\nRCPT TO:<"+test.to+">\r\n"); got != test.want {
			t.Errorf("%s: %s, want %s", test.to, got, test.want)
		}
	}
}
