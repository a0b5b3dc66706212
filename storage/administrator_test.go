package storage

import (
	"context"
	"fmt"
	"testing"
)

func TestDomainAdministrators(t *testing.T) {
	f := newFixture(t)
	ctx := context.Background()
	ann := f.account("ann@example.org")
	f.must(f.SetDomainAdministrator(ctx, "Example.org", "Ann@example.org", false))
	f.must(f.SetDomainAdministrator(ctx, "example.org", "ann@example.org", false)) // again
	check := func(want string) {
		t.Helper()
		domains, err := f.AdministeredDomains(ctx, ann.ID)
		f.must(err)
		who, err := f.DomainAdministrators(ctx, "example.org")
		f.must(err)
		if got := fmt.Sprint(domains, who); got != want {
			t.Errorf("%s, want %s", got, want)
		}
	}
	check("[example.org] [ann@example.org]")
	for _, c := range [][2]string{{"example.net", "ann@example.org"}, {"example.org", "nobody@example.org"}} {
		if err := f.SetDomainAdministrator(ctx, c[0], c[1], false); KindOf(err) != KindNotFound {
			t.Errorf("%v: %v", c, err)
		}
	}
	f.must(f.SetDomainAdministrator(ctx, "example.org", "ann@example.org", true))
	check("[] []")
	f.must(f.SetDomainAdministrator(ctx, "example.org", "ann@example.org", false))
	f.must(f.RemoveAccount(ctx, "ann@example.org"))
	check("[] []")
}
