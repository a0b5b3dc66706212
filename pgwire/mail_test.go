package pgwire

import (
	"context"
	"strings"
	"testing"
	"time"

	"trivet/storage"
)

// TestMail asks the views as a program does, with parameters, in a transaction.
func TestMail(t *testing.T) {
	f := newFixture(t)
	ctx := context.Background()
	ann, err := f.store.AccountByAddress(ctx, "ann@example.org")
	if err != nil {
		t.Fatal(err)
	}
	boxes, err := f.store.Mailboxes(ctx, ann.ID)
	if err != nil {
		t.Fatal(err)
	}
	content, err := f.store.Prepare(ctx, strings.NewReader("From: Eve <eve@example.net>\r\nTo: ann@example.org\r\nSubject: hello\r\n\r\nthere\r\n"))
	if err != nil {
		t.Fatal(err)
	}
	defer content.Close()
	if _, err := f.store.Append(ctx, boxes[0].ID, content, storage.FlagSeen, nil, time.Now()); err != nil {
		t.Fatal(err)
	}
	c, err := f.connect("ann", "mail", "")
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close(ctx)
	tx, err := c.Begin(ctx)
	if err != nil {
		t.Fatal(err)
	}
	var subject string
	var seen bool
	var size int64
	if err := tx.QueryRow(ctx, "SELECT subject, seen, size FROM message WHERE from_address = $1 AND uid >= $2", "eve@example.net", 1).Scan(&subject, &seen, &size); err != nil || subject != "hello" || !seen || size == 0 {
		t.Errorf("%q %v %d %v", subject, seen, size, err)
	}
	if err := tx.Commit(ctx); err != nil {
		t.Error(err)
	}
	var columns int
	if err := c.QueryRow(ctx, "SELECT count(*) FROM information_schema.columns WHERE table_name = 'message'").Scan(&columns); err != nil || columns < 20 {
		t.Errorf("%d columns, %v", columns, err)
	}
	var kind string
	if err := c.QueryRow(ctx, "SELECT table_type FROM information_schema.tables WHERE table_name = 'recipient'").Scan(&kind); err != nil || kind != "VIEW" {
		t.Errorf("a view is said to be %q, %v", kind, err)
	}
	if _, err := c.Exec(ctx, "DELETE FROM message"); state(err) != "42501" {
		t.Errorf("a write: %v", err)
	}
	other, err := f.connect("bob", "mail", "")
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close(ctx)
	var count int
	if err := other.QueryRow(ctx, "SELECT count(*) FROM message").Scan(&count); err != nil || count != 0 {
		t.Errorf("another sees %d, %v", count, err)
	}
}
