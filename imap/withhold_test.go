package imap

import (
	"context"
	"slices"
	"strings"
	"testing"
)

func TestWithheldCapabilities(t *testing.T) {
	f := newFixture(t, nil)
	setting := `{"accounts":{"ann@example.org":["QRESYNC"]},"clients":{"BadMail":["COMPRESS=DEFLATE","IDLE"],"Microsoft.Exchange":["UIDONLY"],` +
		`"Short":["LITERAL+"],"None":["LITERAL+","LITERAL-"]}}`
	if err := f.store.SetSetting(context.Background(), WithheldSetting, []byte(setting)); err != nil {
		t.Fatal(err)
	}
	offers := func(c *client, name string) bool {
		return slices.Contains(strings.Fields(c.ok("CAPABILITY")[0]), name)
	}
	c := f.login()
	if offers(c, "QRESYNC") || !offers(c, "CONDSTORE") || !offers(c, "IDLE") {
		t.Error("of ann the wrong ones are withheld")
	}
	if got := c.ok("ENABLE QRESYNC CONDSTORE"); got[0] != "* ENABLED CONDSTORE" {
		t.Errorf("%q", got)
	}
	if !offers(c, "LITERAL+") || offers(c, "LITERAL-") {
		t.Error("LITERAL- is offered beside LITERAL+")
	}
	c.ok(`ID ("name" "badmail 2.1" "version" NIL)`)
	if offers(c, "IDLE") || offers(c, "COMPRESS=DEFLATE") || !offers(c, "MOVE") {
		t.Error("of the client the wrong ones are withheld")
	}
	for client, want := range map[string]bool{"short": true, "none": false} {
		e := f.login()
		e.ok(`ID ("name" "` + client + `")`)
		if offers(e, "LITERAL+") || offers(e, "LITERAL-") != want {
			t.Errorf("%s: LITERAL- instead of LITERAL+ is not %v", client, want)
		}
	}
	d := f.dial()
	d.ok(`ID ("name" "BADMAIL")`) // before login
	d.ok("LOGIN bob@example.org " + password)
	if offers(d, "IDLE") || !offers(d, "QRESYNC") {
		t.Error("what a client says before login does not count")
	}
	// Office 365 stumbles over UIDONLY when it moves mailboxes.
	e := f.dial()
	e.ok(`ID ("name" "Microsoft.Exchange.Imap4.Imap4Client")`)
	e.ok("LOGIN bob@example.org " + password)
	if offers(e, "UIDONLY") || !offers(e, "QRESYNC") {
		t.Error("UIDONLY is offered to a client from which it is withheld")
	}
	if got := e.ok("ENABLE UIDONLY"); len(got) != 1 || got[0] != "* ENABLED" {
		t.Errorf("%q", got)
	}
	e.ok("SELECT INBOX")
	e.ok("FETCH 1:* FLAGS")
}
