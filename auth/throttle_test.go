package auth

import (
	"errors"
	"fmt"
	"net"
	"sync"
	"testing"
	"time"

	"pgregory.net/rapid"
)

// clock is a time that only moves when told to.
type clock struct{ t time.Time }

func (c *clock) now() time.Time          { return c.t }
func (c *clock) advance(d time.Duration) { c.t = c.t.Add(d) }

func newTestThrottle(settings Throttle) (*throttle, *clock) {
	c := &clock{t: time.Unix(1_000_000, 0)}
	return newThrottle(settings, c.now), c
}

func failTimes(th *throttle, n int, ip, user string) {
	for range n {
		th.record(at(ip), user, false)
	}
}

func TestThrottleDoublesUpToTheLockOut(t *testing.T) {
	th, _ := newTestThrottle(Throttle{AccountFailures: 3, BaseDelay: time.Second, MaxDelay: 10 * time.Second})
	want := []time.Duration{0, 0, 0, 1, 2, 4, 8, 10, 10}
	for i, seconds := range want {
		failTimes(th, 1, "192.0.2.1", ann)
		if got := th.wait(at("192.0.2.1"), ann); got != seconds*time.Second {
			t.Errorf("after %d failures: wait %v, want %v", i+1, got, seconds*time.Second)
		}
	}
}

func TestThrottleIsOfAccountAndNetwork(t *testing.T) {
	th, _ := newTestThrottle(Throttle{AccountFailures: 1})
	failTimes(th, 2, "2001:db8::1", ann)
	tests := []struct {
		ip, user string
		wait     bool
	}{
		{"2001:db8::1", ann, true},
		{"2001:db8::ffff:2", ann, true}, // the same /64
		{"2001:db8:0:1::1", ann, false}, // the next one
		{"2001:db8::1", bob, false},
		{"192.0.2.1", ann, false},
	}
	for _, test := range tests {
		if got := th.wait(at(test.ip), test.user) > 0; got != test.wait {
			t.Errorf("%s from %s waits: %v", test.user, test.ip, got)
		}
	}
}

func TestThrottleOfTheWholeNetwork(t *testing.T) {
	th, _ := newTestThrottle(Throttle{NetworkFailures: 10})
	for i := range 11 {
		if wait := th.wait(at("192.0.2.1"), "new@example.org"); wait != 0 {
			t.Fatalf("waits %v after %d failures", wait, i)
		}
		failTimes(th, 1, "192.0.2.1", fmt.Sprintf("user%d@example.org", i))
	}
	if th.wait(at("192.0.2.1"), "new@example.org") == 0 {
		t.Error("spraying over accounts is not slowed down")
	}
	if th.wait(at("192.0.2.2"), "new@example.org") != 0 {
		t.Error("the neighbour waits too")
	}
}

func TestThrottleForgets(t *testing.T) {
	th, c := newTestThrottle(Throttle{AccountFailures: 2, Forget: time.Minute})
	failTimes(th, 2, "192.0.2.1", ann)
	c.advance(time.Minute + time.Nanosecond)
	failTimes(th, 2, "192.0.2.1", ann)
	if th.wait(at("192.0.2.1"), ann) != 0 {
		t.Error("failures of long ago count")
	}
	c.advance(time.Minute)
	failTimes(th, 1, "192.0.2.1", ann)
	if th.wait(at("192.0.2.1"), ann) == 0 {
		t.Error("failures are forgotten too early")
	}
}

func TestSuccessClearsItsAccountOnly(t *testing.T) {
	th, c := newTestThrottle(Throttle{AccountFailures: 2, NetworkFailures: 4})
	failTimes(th, 2, "192.0.2.1", ann)
	th.record(at("192.0.2.1"), ann, true)
	failTimes(th, 2, "192.0.2.1", ann)
	if th.wait(at("192.0.2.1"), ann) != 0 {
		t.Error("failures before the success count")
	}
	th.record(at("192.0.2.1"), ann, true)
	failTimes(th, 1, "192.0.2.1", ann) // the fifth of the network
	if th.wait(at("192.0.2.1"), bob) == 0 {
		t.Error("a success clears the network")
	}
	c.advance(DefaultBaseDelay)
	if th.wait(at("192.0.2.1"), bob) != 0 {
		t.Error("the delay does not end")
	}
}

func TestThrottleSwitches(t *testing.T) {
	tests := []struct {
		name     string
		settings Throttle
		ip       string
		wait     bool
	}{
		{"default", Throttle{}, "192.0.2.1", true},
		{"loopback by default", Throttle{}, "127.0.0.1", true},
		{"loopback exempt", Throttle{ExemptLoopback: true}, "127.0.0.1", false},
		{"loopback exempt, from outside", Throttle{ExemptLoopback: true}, "192.0.2.1", true},
		{"off", Throttle{Off: true}, "192.0.2.1", false},
	}
	for _, test := range tests {
		th, _ := newTestThrottle(test.settings)
		failTimes(th, DefaultAccountFailures+1, test.ip, ann)
		if got := th.wait(at(test.ip), ann) > 0; got != test.wait {
			t.Errorf("%s: waits %v", test.name, got)
		}
	}
}

func TestThrottleOfClientsWithoutAddress(t *testing.T) {
	th, _ := newTestThrottle(Throttle{AccountFailures: 1})
	socket := &net.UnixAddr{Name: "@", Net: "unix"}
	th.record(socket, ann, false)
	th.record(socket, ann, false)
	if th.wait(nil, ann) == 0 {
		t.Error("a client without an address is not slowed down")
	}
}

func TestThrottleIsBounded(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		limit := rapid.IntRange(1, 8).Draw(t, "entries")
		th, c := newTestThrottle(Throttle{Entries: limit})
		for range rapid.IntRange(0, 50).Draw(t, "attempts") {
			ip := net.IPv4(192, 0, 2, rapid.Byte().Draw(t, "ip"))
			user := rapid.SampledFrom([]string{ann, bob, "eve", ""}).Draw(t, "user")
			th.record(&net.TCPAddr{IP: ip}, user, rapid.Bool().Draw(t, "success"))
			c.advance(time.Duration(rapid.Int64Range(0, int64(2*time.Hour)).Draw(t, "pause")))
			if n := len(th.counts); n > limit || n != th.recent.Len() {
				t.Fatalf("%d counts and %d in the list, limit %d", n, th.recent.Len(), limit)
			}
		}
	})
}

func TestPlainIsThrottled(t *testing.T) {
	c := &clock{t: time.Unix(1_000_000, 0)}
	a := NewAuthenticator(newDirectory(), Config{Now: c.now, Throttle: Throttle{AccountFailures: 2}})
	try := func(password string) error {
		_, err := a.Password(t.Context(), Channel{Remote: at("192.0.2.1")}, ann, password)
		return err
	}
	for range 3 {
		if err := try("wrong"); !errors.Is(err, ErrCredentials) {
			t.Fatalf("free failure: %v", err)
		}
	}
	err := try(word)
	var throttled *ThrottledError
	if !errors.Is(err, ErrThrottled) || !errors.As(err, &throttled) || throttled.RetryAfter != DefaultBaseDelay {
		t.Fatalf("the right password in the delay: %v", err)
	}
	c.advance(throttled.RetryAfter)
	if err := try(word); err != nil {
		t.Errorf("after the delay: %v", err)
	}
}

// SCRAM and PLAIN share their counts: a guesser does not get twice the guesses.
func TestSCRAMIsThrottled(t *testing.T) {
	a := NewAuthenticator(newDirectory(), Config{Throttle: Throttle{AccountFailures: 1, BaseDelay: time.Hour, MaxDelay: time.Hour}})
	for range 2 {
		if err := login(t, begin(t, a, MechanismSCRAM), ann, "wrong", ""); !errors.Is(err, ErrCredentials) {
			t.Fatal(err)
		}
	}
	if err := login(t, begin(t, a, MechanismSCRAM), ann, word, ""); !errors.Is(err, ErrThrottled) {
		t.Errorf("SCRAM: %v", err)
	}
	if _, err := a.Password(t.Context(), Channel{Remote: at("192.0.2.1")}, ann, word); !errors.Is(err, ErrThrottled) {
		t.Errorf("PLAIN: %v", err)
	}
}

// However many guesses come at once, no more are looked at than the free ones
// and one for each core.
func TestGuessesAtOnce(t *testing.T) {
	var mu sync.Mutex
	looked := 0
	a := NewAuthenticator(newDirectory(), Config{
		Throttle: Throttle{AccountFailures: 3, BaseDelay: time.Hour, MaxDelay: time.Hour},
		Observe: func(o Outcome) {
			mu.Lock()
			defer mu.Unlock()
			if o == OutcomeCredentials {
				looked++
			}
		},
	})
	var wg sync.WaitGroup
	for range 50 {
		wg.Go(func() { a.Password(t.Context(), Channel{Remote: at("192.0.2.1")}, ann, "wrong") })
	}
	wg.Wait()
	if most := 3 + cap(a.slots); looked < 4 || looked > most {
		t.Errorf("%d guesses were looked at, want 4 to %d", looked, most)
	}
}
