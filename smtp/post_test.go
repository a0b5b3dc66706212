package smtp

import (
	"errors"
	"strings"
	"testing"

	"trivet/auth"
	"trivet/storage"
)

// A post takes the way of a submitted message: own addresses, repair, signatures, the queue, and once only.
func TestPost(t *testing.T) {
	h := newMailHouse(t, nil)
	h.giveKey(t, "example.org")
	server := New(Config{Hostname: "mail.example.org", Store: h.store, Auth: auth.NewAuthenticator(h.store, auth.Config{}), SpoolDir: t.TempDir(), Node: "n1"})
	alice, err := h.store.AccountByAddress(t.Context(), "alice@example.org")
	h.must(err)
	const text = "From: Alice <alice@example.org>\r\nTo: bob@example.org\r\nBcc: eve@far.example\r\nSubject: hello\r\nMessage-ID: <1@example.org>\r\n\r\nhello\r\n"
	post := func(change func(*Post)) error {
		p := Post{Who: auth.Identity{AccountID: alice.ID, Address: alice.Address}, Via: "HTTP", Sender: alice.Address,
			To: []string{"bob@example.org", "eve@far.example"}, Message: strings.NewReader(text)}
		if change != nil {
			change(&p)
		}
		return server.Post(t.Context(), p)
	}
	h.must(post(nil))
	h.must(post(nil)) // its repetition
	queued := h.queued(t)
	if len(queued) != 1 || queued[0].Address != "eve@far.example" {
		t.Fatalf("queued %+v", queued)
	}
	body := h.body(t, queued[0])
	for _, want := range []string{"DKIM-Signature:", " with HTTP id ", "Date: ", "Subject: hello\r\n"} {
		if !strings.Contains(body, want) {
			t.Errorf("no %q in\n%s", want, body)
		}
	}
	if strings.Contains(body, "Bcc") {
		t.Error("the blind copy is shown")
	}
	bob, err := h.store.AccountByAddress(t.Context(), "bob@example.org")
	h.must(err)
	inbox, err := h.store.Mailbox(t.Context(), bob.ID, storage.Inbox)
	h.must(err)
	if inbox.Messages != 1 {
		t.Errorf("bob has %d", inbox.Messages)
	}
	for name, test := range map[string]struct {
		change func(*Post)
		says   string
	}{
		"another's address":         {func(p *Post) { p.Sender = "bob@example.org" }, "may not send as bob@example.org"},
		"another's name in From":    {func(p *Post) { p.Message = strings.NewReader(strings.Replace(text, "<alice@", "<bob@", 1)) }, "may not send as bob@example.org"},
		"nobody":                    {func(p *Post) { p.To = nil }, "recipients"},
		"what is no address":        {func(p *Post) { p.To = []string{"x> SIZE=1 <y@z.example"} }, "is no address"},
		"an address nobody has":     {func(p *Post) { p.To = []string{"nobody@example.org"} }, "nobody@example.org"},
		"a line end that smuggles":  {func(p *Post) { p.Message = strings.NewReader(text + "x\n.\r\ny\r\n") }, "LF"},
		"a header that is no field": {func(p *Post) { p.Message = strings.NewReader("no field\r\n" + text) }, "no field"},
	} {
		err := post(test.change)
		var refused *PostError
		if !errors.As(err, &refused) || refused.Temporary || !strings.Contains(err.Error(), test.says) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if err := server.CheckPost(Post{Who: auth.Identity{AccountID: alice.ID, Address: alice.Address}, Sender: alice.Address, To: []string{"nobody@example.org"}}); err == nil {
		t.Error("the check finds nothing wrong")
	}
	if len(h.queued(t)) != 1 {
		t.Error("what was refused is queued")
	}
	if incoming := New(Config{Store: h.store}); incoming.Post(t.Context(), Post{}) == nil {
		t.Error("a server for mail from outside posts")
	}
}
