package imap

import (
	"context"
	"fmt"
	"io"
	"net"
	"strings"
	"testing"
	"time"
)

func TestConnectionLimits(t *testing.T) {
	for name, limits := range map[string]Limits{
		"in total":    {Connections: 2},
		"per address": {ConnectionsPerAddress: 2},
	} {
		t.Run(name, func(t *testing.T) {
			f := newFixture(t, func(c *Config) { c.Limits = limits })
			first := f.dial()
			f.dial()
			conn, err := net.Dial("tcp", f.addr)
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close()
			answer, err := io.ReadAll(conn)
			if err != nil || !strings.HasPrefix(string(answer), "* BYE [UNAVAILABLE] Too many connections") {
				t.Fatalf("%q %v", answer, err)
			}
			first.ok("LOGOUT")
			for f.srv.Sessions() > 1 {
				time.Sleep(time.Millisecond)
			}
			f.dial()
		})
	}
}

func TestConnectionLimitsOff(t *testing.T) {
	f := newFixture(t, func(c *Config) { c.Limits = Limits{Connections: -1, ConnectionsPerAddress: -1} })
	for range DefaultConnectionsPerAddress + 1 {
		f.dial()
	}
}

func TestAuthFailures(t *testing.T) {
	f := newFixture(t, func(c *Config) { c.Limits.AuthFailures = 3 })
	c := f.dial()
	c.no("LOGIN "+ann+" wrong", "NO [AUTHENTICATIONFAILED] …")
	c.no("AUTHENTICATE PLAIN AGEAYg==", "NO [AUTHENTICATIONFAILED] …")
	untagged, tagged := c.do("LOGIN " + ann + " wrong")
	if len(untagged) != 1 || untagged[0] != "* BYE Too many failed logins" || !matches("NO [AUTHENTICATIONFAILED] …", tagged) {
		t.Errorf("%q %q", untagged, tagged)
	}
	c.expect("EOF")
}

func TestFailedLoginIsDelayed(t *testing.T) {
	const delay = 300 * time.Millisecond
	f := newFixture(t, func(c *Config) { c.Limits.AuthDelay = delay })
	c := f.dial()
	start := time.Now()
	c.no("LOGIN "+ann+" wrong", "NO …")
	if took := time.Since(start); took < delay {
		t.Errorf("answered after %v", took)
	}
}

func TestBadCommands(t *testing.T) {
	f := newFixture(t, func(c *Config) { c.Limits.BadCommands = 3 })
	c := f.dial()
	c.no("X", "BAD …")
	c.no("X", "BAD …")
	c.ok("NOOP")
	c.no("X", "BAD …")
	c.no("X", "BAD …")
	c.no("X", "BAD …")
	c.expect("* BYE 3 bad commands in a row", "EOF")
}

func TestSilence(t *testing.T) {
	const short = 50 * time.Millisecond
	for name, c := range map[string]struct {
		limits Limits
		login  bool
		send   string
		want   []string
	}{
		"before login":       {Limits{PreAuthIdle: short}, false, "", []string{"* BYE Nothing was heard for too long", "EOF"}},
		"login takes long":   {Limits{Login: short}, false, "", []string{"* BYE Nothing was heard for too long", "EOF"}},
		"after login":        {Limits{Idle: short}, true, "", []string{"* BYE Nothing was heard for too long", "EOF"}},
		"in IDLE":            {Limits{Idle: short}, true, "a IDLE\r\n", []string{"+ idling", "* BYE Nothing was heard for too long", "EOF"}},
		"inside a command":   {Limits{Stall: short}, true, "a NO", []string{"* BYE Nothing was heard for too long", "EOF"}},
		"inside a literal":   {Limits{Stall: short}, true, "a APPEND INBOX {9+}\r\n12", []string{"* BYE Nothing was heard for too long", "EOF"}},
		"inside a SASL line": {Limits{Stall: short}, false, "a AUTHENTICATE PLAIN\r\n", []string{"+ ", "* BYE Nothing was heard for too long", "EOF"}},
	} {
		t.Run(name, func(t *testing.T) {
			f := newFixture(t, func(cfg *Config) { cfg.Limits = c.limits })
			var conn *client
			if c.login {
				conn = f.login()
			} else {
				conn = f.dial()
			}
			conn.send(c.send)
			conn.expect(c.want...)
		})
	}
}

func TestLongLine(t *testing.T) {
	f := newFixture(t, func(c *Config) { c.Limits.Line = 1000 })
	c := f.login()
	c.ok("LIST \"\" " + strings.Repeat("x", 980))
	c.no("LIST \"\" "+strings.Repeat("x", 1000), "BAD Command line is too long")
	c.ok("NOOP")
}

func TestLiteralLimits(t *testing.T) {
	f := newFixture(t, func(c *Config) { c.Limits = Limits{Literal: 100, AppendSize: 1000} })
	c := f.login()
	c.no("LIST \"\" {100+}\r\n"+strings.Repeat("x", 100), "OK …")
	c.no("LIST \"\" {101+}\r\n"+strings.Repeat("x", 101), "NO [TOOBIG] …")
	c.no("APPEND INBOX {1000+}\r\n"+strings.Repeat("x", 1000), "OK …")
	c.no("APPEND INBOX {1001}", "NO [TOOBIG] …")
	c.no("APPEND INBOX {1000+}\r\n"+strings.Repeat("x", 1000), "OK …")
	// More than AppendSize is not skipped; the BYE arrives although octets are on their way.
	c.send("z APPEND INBOX {1001+}\r\n" + strings.Repeat("x", 1001))
	c.expect("* BYE [TOOBIG] …", "EOF")
}

func TestLiteralBeforeLogin(t *testing.T) {
	f := newFixture(t, nil)
	c := f.dial()
	c.send(fmt.Sprintf("a LOGIN {%d}\r\n", preAuthLiteral+1))
	c.expect("a NO [TOOBIG] …")
	// An unauthenticated APPEND is not asked for its literal.
	c.send("b APPEND INBOX {10}\r\n")
	c.expect("b BAD Log in first")
	c.send(fmt.Sprintf("c X {%d+}\r\n", preAuthDiscard+1))
	c.expect("* BYE [TOOBIG] …", "EOF")
}

// TestShutdown: sessions that wait hear BYE, in IDLE and out of it, before and after login.
func TestShutdown(t *testing.T) {
	f := newFixture(t, nil)
	fresh, quiet, idling := f.dial(), f.login(), f.login()
	idling.ok("SELECT INBOX")
	idling.send("i IDLE\r\n")
	idling.expect("+ idling")
	if err := f.srv.Shutdown(context.Background()); err != nil {
		t.Fatal(err)
	}
	for _, c := range []*client{fresh, quiet, idling} {
		c.expect("* BYE [UNAVAILABLE] The server is shutting down", "EOF")
	}
	if _, err := net.Dial("tcp", f.addr); err == nil {
		t.Error("still listening")
	}
}

// TestShutdownLetsCommandsFinish: one in the middle of its literal is finished, and answered.
func TestShutdownLetsCommandsFinish(t *testing.T) {
	f := newFixture(t, nil)
	c := f.login()
	c.send("a APPEND INBOX {10}\r\n")
	c.expect("+ OK")
	c.send("01234")
	done := make(chan error)
	go func() { done <- f.srv.Shutdown(context.Background()) }()
	for !f.srv.ending.Load() {
		time.Sleep(time.Millisecond)
	}
	c.send("56789\r\n")
	c.expect("a OK [APPENDUID …", "* BYE [UNAVAILABLE] …", "EOF")
	if err := <-done; err != nil {
		t.Error(err)
	}
}

// TestShutdownDoesNotWaitForEver: a client that stalls in a command is cut off when ctx ends.
func TestShutdownDoesNotWaitForEver(t *testing.T) {
	f := newFixture(t, nil)
	c := f.login()
	c.send("a APPEND INBOX {10}\r\n")
	c.expect("+ OK")
	ctx, cancel := context.WithTimeout(context.Background(), 50*time.Millisecond)
	defer cancel()
	if err := f.srv.Shutdown(ctx); err != context.DeadlineExceeded {
		t.Errorf("Shutdown: %v", err)
	}
	if n := f.srv.Sessions(); n != 0 {
		t.Errorf("%d sessions left", n)
	}
}
