package storage

import (
	"crypto/ed25519"
	"crypto/rand"
	"crypto/rsa"
	"fmt"
	"strings"
	"testing"
)

func TestDKIMKeys(t *testing.T) {
	f := newFixture(t)
	ctx := t.Context()
	f.account("alice@example.org")
	one, err := rsa.GenerateKey(rand.Reader, 1024)
	f.must(err)
	two, err := rsa.GenerateKey(rand.Reader, 1024)
	f.must(err)
	_, ed, err := ed25519.GenerateKey(rand.Reader)
	f.must(err)
	states := func(want string) []DKIMKey {
		t.Helper()
		keys, err := f.DKIMKeys(ctx, "Example.ORG.")
		f.must(err)
		var got []string
		for _, k := range keys {
			got = append(got, k.Selector+"="+k.State.String())
		}
		if s := strings.Join(got, " "); s != want {
			t.Fatalf("keys: %q, want %q", s, want)
		}
		return keys
	}
	states("")
	f.must(f.AddDKIMKey(ctx, "example.org", "R1", one, DKIMActive))
	f.must(f.AddDKIMKey(ctx, "example.org", "e1", ed, DKIMActive))
	f.must(f.AddDKIMKey(ctx, "example.org", "r2", two, DKIMNext))
	keys := states("r1=active e1=active r2=next")
	if !one.Equal(keys[0].Private) || keys[0].Algorithm() != "rsa-sha256" || !ed.Equal(keys[1].Private) || keys[1].Algorithm() != "ed25519-sha256" {
		t.Error("other keys came back")
	}
	if r := keys[1].Record(); !strings.HasPrefix(r, "v=DKIM1; k=ed25519; p=") || keys[1].Name() != "e1._domainkey.example.org" {
		t.Errorf("record %s %s", keys[1].Name(), r)
	}
	f.must(f.ActivateDKIMKey(ctx, "example.org", "r2"))
	states("r1=retired e1=active r2=active")
	for _, refusal := range []struct {
		err  error
		want Kind
	}{
		{f.AddDKIMKey(ctx, "example.org", "r2", one, DKIMNext), KindExists},
		{f.AddDKIMKey(ctx, "example.org", "a.b", one, DKIMNext), KindInvalid},
		{f.AddDKIMKey(ctx, "example.org", "", one, DKIMNext), KindInvalid},
		{f.AddDKIMKey(ctx, "elsewhere.example", "r1", one, DKIMNext), KindNotFound},
		{f.ActivateDKIMKey(ctx, "example.org", "r9"), KindNotFound},
		{f.RemoveDKIMKey(ctx, "example.org", "r2"), KindInvalid},
		{f.RemoveDKIMKey(ctx, "example.org", "r9"), KindNotFound},
	} {
		if KindOf(refusal.err) != refusal.want {
			t.Errorf("%v, want %v", refusal.err, refusal.want)
		}
	}
	if _, err := f.DKIMKeys(ctx, "elsewhere.example"); KindOf(err) != KindNotFound {
		t.Errorf("keys of a domain that is not hosted: %v", err)
	}
	f.must(f.RemoveDKIMKey(ctx, "example.org", "R1"))
	states("e1=active r2=active")
	for i := range MaxDKIMKeys - 2 {
		f.must(f.AddDKIMKey(ctx, "example.org", fmt.Sprint("x", i), ed, DKIMNext))
	}
	if err := f.AddDKIMKey(ctx, "example.org", "toomany", ed, DKIMNext); KindOf(err) != KindTooLarge {
		t.Errorf("over the limit: %v", err)
	}
	f.must(f.RemoveAccount(ctx, "alice@example.org"))
	f.must(f.RemoveDomain(ctx, "example.org"))
	_, err = f.CreateDomain(ctx, "example.org")
	f.must(err)
	states("")
}
