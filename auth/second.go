package auth

import (
	"context"
	"crypto/sha256"
	"fmt"
	"net"
)

// SecondFactor checks what somebody shows whose password was right: check finds out whether it is good, and asks nobody.
// Failures are counted for the account wherever they come from, and apart from those of its password: who knows the password,
// and has many addresses, gets no more guesses at a code.
func (a *Authenticator) SecondFactor(ctx context.Context, c Channel, who Identity, check func() bool) error {
	err := a.second(ctx, c.Remote, who, check)
	if err != nil && a.guard != nil {
		a.guard.Offend(c.Remote, OffenceFailedLogin)
	}
	a.observe(outcome(err))
	a.attempts(Attempt{Remote: c.Remote, Service: c.Service, Account: who.AccountID, Address: who.Address, Outcome: outcome(err)})
	return err
}

// second holds a slot as decide does, which bounds how many guesses made at once get past the throttle.
func (a *Authenticator) second(ctx context.Context, remote net.Addr, who Identity, check func() bool) error {
	select {
	case a.slots <- struct{}{}:
	case <-ctx.Done():
		return fmt.Errorf("%w: %w", ErrUnavailable, ctx.Err())
	}
	defer func() { <-a.slots }()
	from, name := secondRemote(remote, who.Address), who.Address+" second"
	if wait := a.throttle.wait(from, name); wait > 0 {
		return &ThrottledError{RetryAfter: wait}
	}
	ok := check()
	a.throttle.record(from, name, ok)
	if !ok {
		return ErrCredentials
	}
	return nil
}

// secondRemote is where guesses at the second factor of an account are counted as coming from: a network that is its alone
// (RFC 4193 section 3.2). Those of this machine are counted as such, since they may be excused.
func secondRemote(remote net.Addr, address string) net.Addr {
	if Loopback(remote) {
		return remote
	}
	sum := sha256.Sum256([]byte(address))
	return &net.TCPAddr{IP: append(append(net.IP{0xfd}, sum[:7]...), make([]byte, 8)...)}
}
