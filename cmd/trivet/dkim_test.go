package main

import (
	"strings"
	"sync"
	"testing"
	"time"

	"trivet/storage"
)

// A key comes into use when others can find it, and goes when nothing that it signed is on its way: at no time is
// something signed that cannot be verified.
func TestDKIMKeysChangeWithoutAGap(t *testing.T) {
	var records sync.Map // name to text
	zone := changingZone(t, func(name string) (string, bool) {
		record, ok := records.Load(name)
		text, _ := record.(string)
		return text, ok
	})
	n, _ := startNode(t, func(s *settings) { s.Resolver = text(zone) })
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
	records.Store(strings.ToLower(next.Name), strings.Replace(next.Record, "p=M", "p=N", 1))
	if _, err := n.activateDKIMKey(ctx, second); err == nil || !strings.Contains(err.Error(), "another key") {
		t.Fatalf("it signs with a key that nobody finds: %v", err)
	}
	records.Store(strings.ToLower(next.Name), next.Record)
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
	old, err := n.dkimKey(ctx, first.Domain, first.Selector)
	if err != nil || !old.onItsWay(old.Changed.Add(retiredFor-time.Second)) || old.onItsWay(old.Changed.Add(retiredFor)) {
		t.Errorf("%+v, %v: it may go after a week", old, err)
	}
	first.Force = true
	if _, err := n.removeDKIMKey(ctx, first); err != nil {
		t.Fatal(err)
	}
}
