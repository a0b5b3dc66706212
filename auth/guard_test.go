package auth

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"trivet/storage"
)

// banList is a storage of bans.
type banList struct {
	mu     sync.Mutex
	bans   map[netip.Prefix]storage.Ban
	logins map[netip.Prefix]bool
	err    error
	done   chan struct{} // gets a token after each AddBan and RememberLogins
}

func newBanList() *banList {
	return &banList{bans: map[netip.Prefix]storage.Ban{}, logins: map[netip.Prefix]bool{}, done: make(chan struct{}, 100)}
}

func (b *banList) Banned(_ context.Context, address netip.Addr) (storage.Ban, bool, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	ban, ok := b.bans[storage.Network(address)]
	return ban, ok, b.err
}

func (b *banList) AddBan(_ context.Context, ban storage.Ban, _ bool) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	defer func() { b.done <- struct{}{} }()
	if b.err == nil {
		b.bans[ban.Network] = ban
	}
	return b.err
}

func (b *banList) HasLoggedIn(_ context.Context, network netip.Prefix) (bool, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	defer func() { b.done <- struct{}{} }()
	return b.logins[network], nil
}

func (b *banList) RememberLogins(_ context.Context, logins []storage.GoodLogin) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, l := range logins {
		b.logins[l.Network] = true
	}
	return b.err
}

type guardFixture struct {
	*Guard
	list *banList
	now  time.Time
}

func newGuardFixture(change func(*GuardConfig)) *guardFixture {
	f := &guardFixture{list: newBanList(), now: time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)}
	cfg := DefaultGuard()
	cfg.Now = func() time.Time { return f.now }
	cfg.Logger = slog.New(slog.DiscardHandler)
	if change != nil {
		change(&cfg)
	}
	f.Guard = NewGuard(f.list, cfg)
	return f
}

// settle does what Run would.
func (f *guardFixture) settle() {
	for len(f.wanted) > 0 {
		b := <-f.wanted
		f.flush(context.Background())
		f.ban(context.Background(), b)
	}
}

func TestGuardBansAtTheLimit(t *testing.T) {
	f := newGuardFixture(func(c *GuardConfig) { c.Offences = 10 })
	bad := at("192.0.2.1")
	for range 9 {
		f.Offend(bad, OffenceUnknownRecipient)
	}
	f.settle()
	if err := f.Admit(t.Context(), bad); err != nil {
		t.Fatalf("one short of the limit: %v", err)
	}
	f.Offend(bad, OffenceFailedLogin)
	f.settle()
	if err := f.Admit(t.Context(), bad); err == nil || !strings.Contains(err.Error(), "192.0.2.1/32 is banned here until 2026-11-23 12:00 UTC") {
		t.Fatalf("at the limit: %v", err)
	}
	if err := f.Admit(t.Context(), at("192.0.2.2")); err != nil {
		t.Errorf("a neighbour: %v", err)
	}
}

func TestGuardForgets(t *testing.T) {
	f := newGuardFixture(func(c *GuardConfig) { c.Offences = 10 })
	for range 30 { // 9 in an hour are never too many
		for range 9 {
			f.Offend(at("192.0.2.1"), OffenceUnknownRecipient)
		}
		f.now = f.now.Add(time.Hour)
	}
	f.settle()
	if len(f.list.bans) != 0 {
		t.Error("banned for offences of long ago")
	}
}

func TestGuardCountsNetworks(t *testing.T) {
	f := newGuardFixture(func(c *GuardConfig) { c.Offences = 10 })
	for i := range 10 {
		f.Offend(at(fmt.Sprintf("2001:db8::%d", i+1)), OffenceUnknownRecipient)
		f.Offend(at(fmt.Sprintf("2001:db8:%d::1", i+1)), OffenceUnknownRecipient)
	}
	f.settle()
	if len(f.list.bans) != 1 || f.Admit(t.Context(), at("2001:db8::ffff")) == nil {
		t.Errorf("bans %v", f.list.bans)
	}
}

func TestGuardNeverBansWhoLogsIn(t *testing.T) {
	f := newGuardFixture(func(c *GuardConfig) { c.Offences = 10 })
	good := at("192.0.2.1")
	f.LoggedIn(good, 1)
	for range 20 {
		f.Offend(good, OffenceFailedLogin)
		f.Offend(at("127.0.0.1"), OffenceHarvest)
		f.Offend(nil, OffenceHarvest)
	}
	f.settle()
	if len(f.list.bans) != 0 || !f.list.logins[netip.MustParsePrefix("192.0.2.1/32")] {
		t.Errorf("bans %v, logins %v", f.list.bans, f.list.logins)
	}
}

func TestGuardAsksAgainWhenABanFails(t *testing.T) {
	f := newGuardFixture(func(c *GuardConfig) { c.Offences = 10 })
	f.list.err = errors.New("no quorum")
	bad := at("192.0.2.1")
	for range 10 {
		f.Offend(bad, OffenceUnknownRecipient)
	}
	f.settle()
	f.list.err = nil
	if f.Admit(t.Context(), bad) != nil {
		t.Fatal("banned without a ban")
	}
	f.now = f.now.Add(2 * time.Minute)
	f.Offend(bad, OffenceProtocol)
	f.settle()
	if f.Admit(t.Context(), bad) == nil {
		t.Error("not asked for again")
	}
}

func TestGuardRates(t *testing.T) {
	f := newGuardFixture(func(c *GuardConfig) { c.Connections, c.Commands = 3, 6 })
	here := at("192.0.2.1")
	for range 3 {
		if err := f.Admit(t.Context(), here); err != nil {
			t.Fatal(err)
		}
	}
	if err := f.Admit(t.Context(), here); err == nil {
		t.Error("a connection over the rate")
	}
	f.now = f.now.Add(time.Minute)
	if err := f.Admit(t.Context(), here); err != nil {
		t.Errorf("a minute later: %v", err)
	}
	for range 6 {
		if d := f.Command(here); d != 0 {
			t.Errorf("a command in the rate waits %v", d)
		}
	}
	if d := f.Command(here); d != 5*time.Second { // ten, but for the longest delay
		t.Errorf("a command over the rate waits %v", d)
	}
	for range 100 {
		if f.Command(at("::1")) != 0 || f.Admit(t.Context(), at("127.0.0.1")) != nil {
			t.Fatal("this machine is counted")
		}
	}
	off := newGuardFixture(func(c *GuardConfig) { *c = GuardConfig{Now: c.Now} })
	for range 1000 {
		if off.Admit(t.Context(), here) != nil || off.Command(here) != 0 || off.Offend(here, OffenceHarvest) != 0 {
			t.Fatal("switched off, and counted")
		}
	}
}

func TestGuardDelays(t *testing.T) {
	f := newGuardFixture(nil)
	var got []string
	for range 13 {
		got = append(got, f.Offend(at("192.0.2.1"), OffenceUnknownRecipient).String())
	}
	if s := strings.Join(got, " "); s != "0s 0s 0s 0s 0s 100ms 200ms 400ms 800ms 1.6s 3.2s 5s 5s" {
		t.Errorf("delays %s", s)
	}
}

func TestGuardRun(t *testing.T) {
	f := newGuardFixture(func(c *GuardConfig) { c.Offences = 1 })
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan struct{})
	go func() { f.Run(ctx); close(ended) }()
	f.Offend(at("192.0.2.1"), OffenceHarvest)
	<-f.list.done
	<-f.list.done
	cancel()
	<-ended
	if f.Admit(t.Context(), at("192.0.2.1")) == nil {
		t.Error("not banned")
	}
}

func TestGuardForgetsTheLeastRecent(t *testing.T) {
	f := newGuardFixture(nil)
	for i := range guardEntries + 10 {
		f.Command(at(fmt.Sprintf("10.%d.%d.%d", i>>16, i>>8&255, i&255)))
	}
	if len(f.counts) != guardEntries || f.recent.Len() != guardEntries {
		t.Errorf("%d networks are counted", len(f.counts))
	}
}
