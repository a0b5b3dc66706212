package storage

import (
	"net/netip"
	"testing"
	"time"
)

func TestBans(t *testing.T) {
	f := newFixture(t)
	ctx := t.Context()
	ann := f.account("ann@example.org")
	p := netip.MustParsePrefix
	banned := func(address string, want bool) {
		t.Helper()
		_, got, err := f.Banned(ctx, netip.MustParseAddr(address))
		f.must(err)
		if got != want {
			t.Errorf("%s is banned: %v", address, got)
		}
	}
	banned("192.0.2.1", false)
	f.must(f.AddBan(ctx, Ban{Network: p("192.0.2.1/32"), Reason: "guessing", Node: "n1", Expires: f.clock.Now().Add(time.Hour)}, false))
	f.must(f.AddBan(ctx, Ban{Network: p("198.51.100.77/24")}, false))
	f.must(f.AddBan(ctx, Ban{Network: p("2001:db8:1:2::/64")}, false))
	banned("192.0.2.1", true)
	banned("::ffff:192.0.2.1", true)
	banned("192.0.2.2", false)
	banned("198.51.100.1", true)
	banned("2001:db8:1:2:3:4:5:6", true)
	banned("2001:db8:1:3::", false)
	list, err := f.Bans(ctx)
	if f.must(err); len(list) != 3 || list[0].Reason != "guessing" || list[1].Network.String() != "198.51.100.0/24" {
		t.Errorf("bans %+v", list)
	}

	f.must(f.RememberLogins(ctx, []GoodLogin{{p("203.0.113.5/32"), ann.ID}, {p("2001:db8:9::/64"), ann.ID}}))
	if in, err := f.HasLoggedIn(ctx, p("203.0.113.5/32")); err != nil || !in {
		t.Errorf("the login is not remembered: %v", err)
	}
	for what, c := range map[string]struct {
		err  error
		want Kind
	}{
		"of somebody who logs in":      {f.AddBan(ctx, Ban{Network: p("203.0.113.5/32")}, false), KindDenied},
		"around somebody who logs in":  {f.AddBan(ctx, Ban{Network: p("203.0.113.0/24")}, false), KindDenied},
		"around a /64 of such":         {f.AddBan(ctx, Ban{Network: p("2001:db8::/32")}, false), KindDenied},
		"of everybody":                 {f.AddBan(ctx, Ban{Network: p("0.0.0.0/0")}, true), KindInvalid},
		"of nothing":                   {f.AddBan(ctx, Ban{}, true), KindInvalid},
		"with a reason of two lines":   {f.AddBan(ctx, Ban{Network: p("192.0.2.9/32"), Reason: "a\nb"}, true), KindInvalid},
		"lifted that is not there":     {f.LiftBan(ctx, p("192.0.2.9/32")), KindNotFound},
		"lifted that is a part of one": {f.LiftBan(ctx, p("198.51.100.1/32")), KindNotFound},
	} {
		if c.err == nil || KindOf(c.err) != c.want {
			t.Errorf("ban %s: %v, want %v", what, c.err, c.want)
		}
	}
	f.must(f.AddBan(ctx, Ban{Network: p("203.0.113.5/32")}, true))
	banned("203.0.113.5", true)
	f.must(f.LiftBan(ctx, p("203.0.113.5/32")))
	banned("203.0.113.5", false)

	f.clock.advance(time.Hour)
	banned("192.0.2.1", false)
	f.must(f.Housekeep(ctx))
	f.must(f.with(ctx, func(c *conn) error {
		if left, err := c.row("SELECT 1 FROM ban WHERE network = '192.0.2.1/32'", nil); left || err != nil {
			t.Errorf("the ban that expired is left (%v)", err)
		}
		return nil
	}))
	f.clock.advance(GoodLoginKeep)
	f.must(f.Housekeep(ctx))
	f.must(f.AddBan(ctx, Ban{Network: p("203.0.113.5/32")}, false))
	if f.replayed(3).Sum != f.sound().Sum {
		t.Error("bans replay differently")
	}
}

func TestNetwork(t *testing.T) {
	for address, want := range map[string]string{"192.0.2.1": "192.0.2.1/32", "::ffff:192.0.2.1": "192.0.2.1/32",
		"2001:db8::1": "2001:db8::/64", "fe80::1%eth0": "fe80::/64"} {
		if got := Network(netip.MustParseAddr(address)).String(); got != want {
			t.Errorf("%s: %s, want %s", address, got, want)
		}
	}
	if Network(netip.Addr{}).IsValid() {
		t.Error("no address has a network")
	}
}
