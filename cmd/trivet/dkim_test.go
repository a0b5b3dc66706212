package main

import (
	"strings"
	"testing"
	"time"

	"trivet/storage"
)

// A key comes into use when others can find it, and goes when nothing that it signed is on its way: at no time is
// something signed that cannot be verified.
func TestDKIMKeysChangeWithoutAGap(t *testing.T) {
	ahead := time.Duration(0)
	n, _ := startNode(t)
	publish := func(records map[string]string) { n.settings.Resolver = text(txtZone(t, records)) }
	publish(nil)
	n.now = func() time.Time { return time.Now().Add(ahead) }
	ctx := t.Context()
	keys, err := n.store.DKIMKeys(ctx, "example.org")
	if err != nil || len(keys) != 1 {
		t.Fatal(keys, err)
	}
	first := dkimChange{Domain: "example.org", Selector: keys[0].Selector}
	next, err := n.addDKIMKey(ctx, "example.org", false, storage.DKIMNext)
	if err != nil {
		t.Fatal(err)
	}
	second := dkimChange{Domain: "example.org", Selector: next.Selector}
	signedBy := func() string {
		fields, err := n.sign(ctx, "example.org", []byte("From: a@example.org\r\n\r\nx\r\n"))
		if err != nil {
			t.Fatal(err)
		}
		for _, selector := range []string{second.Selector, first.Selector} { // the second's begins with the first's
			if strings.Contains(fields, "s="+selector+";") {
				return selector
			}
		}
		return fields
	}
	if _, err := n.activateDKIMKey(ctx, second); err == nil || signedBy() != first.Selector {
		t.Fatalf("it signs with a key that nobody finds: %v", err)
	}
	publish(map[string]string{next.Name: strings.Replace(next.Record, "p=M", "p=N", 1)})
	if _, err := n.activateDKIMKey(ctx, second); err == nil || !strings.Contains(err.Error(), "another key") {
		t.Fatalf("it signs with a key that nobody finds: %v", err)
	}
	publish(map[string]string{next.Name: next.Record})
	if _, err := n.activateDKIMKey(ctx, second); err != nil || signedBy() != second.Selector {
		t.Fatalf("%s signs: %v", signedBy(), err)
	}
	if _, err := n.removeDKIMKey(ctx, first); err == nil {
		t.Fatal("a key is forgotten whose mail is on its way")
	}
	dns, err := n.domainRecords(ctx, named{Name: "example.org"})
	if err != nil {
		t.Fatal(err)
	}
	published := 0
	for _, r := range dns {
		if strings.Contains(r.Name, "_domainkey") {
			published++
		}
	}
	if published != 2 {
		t.Errorf("%d keys are to be published", published)
	}
	ahead = retiredFor + time.Hour
	if _, err := n.removeDKIMKey(ctx, first); err != nil {
		t.Fatal(err)
	}
}
