package test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// demo is a running `trivet demo`, with what it printed.
type demo struct {
	Listen   map[string]string `json:"listen"`
	Domain   string            `json:"domain"`
	Accounts []demoUser        `json:"accounts"`
	Messages int               `json:"messages"`
	Data     string            `json:"data"`
	Kept     bool              `json:"kept"`
	PID      int               `json:"pid"`
	Try      []string          `json:"try"`

	process *exec.Cmd
	log     bytes.Buffer // of the process; to be read when it has ended
	exited  chan error
}

type demoUser struct {
	Address  string `json:"address"`
	Name     string `json:"name"`
	Password string `json:"password"`
}

// startDemo runs `trivet demo --json` with free ports and a folder of its own
// for temporary files, and waits for what it prints.
func startDemo(t *testing.T) *demo {
	t.Helper()
	d := &demo{exited: make(chan error, 1)}
	d.process = exec.Command(binary, "demo", "--json", "--listen", "smtp=127.0.0.1:0,imap=127.0.0.1:0,http=127.0.0.1:0")
	d.process.Env = append(os.Environ(), "TMPDIR="+t.TempDir())
	d.process.Stderr = &d.log
	out, err := d.process.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	begun := time.Now()
	if err := d.process.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { d.process.Process.Kill() })
	stuck := time.AfterFunc(patience, func() { d.process.Process.Kill() })
	err = json.NewDecoder(out).Decode(d)
	ready := time.Since(begun)
	stuck.Stop()
	go func() { d.exited <- d.process.Wait() }()
	if err != nil {
		t.Fatalf("after %v the demo has not printed what it is: %v", ready, err)
	}
	t.Logf("the demo was ready after %v", ready.Round(time.Millisecond))
	return d
}

// stop ends the demo as Ctrl-C or an operator does, and checks what it leaves behind.
func (d *demo) stop(t *testing.T) {
	t.Helper()
	d.process.Process.Signal(syscall.SIGTERM)
	select {
	case err := <-d.exited:
		if err != nil {
			t.Errorf("the demo ended with %v\n%s", err, d.log.Bytes())
		}
	case <-time.After(patience):
		t.Fatal("the demo does not stop")
	}
	if bytes.Contains(d.log.Bytes(), []byte("panic")) || bytes.Contains(d.log.Bytes(), []byte("level=ERROR")) {
		t.Errorf("the log of the demo is not clean:\n%s", d.log.Bytes())
	}
	if _, err := os.Stat(d.Data); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the data folder %s is left behind (%v)", d.Data, err)
	}
	left, err := filepath.Glob(filepath.Join(filepath.Dir(d.Data), "*"))
	if err != nil || len(left) > 0 {
		t.Errorf("left behind: %q %v", left, err)
	}
	for name, addr := range d.Listen {
		if answers(addr) {
			t.Errorf("somebody still listens at %s, which was %s", addr, name)
		}
	}
}

// TestDemo runs one throw-away appliance and has the clients that people use
// read and change mail in it.
func TestDemo(t *testing.T) {
	d := startDemo(t)
	d.checkAnnouncement(t)
	for _, part := range []struct {
		name string
		test func(*testing.T, *demo)
	}{
		{"swaks and curl", testSwaksAndCurl},
		{"curl appends and searches", testCurlCommands},
		{"imaplib", testImaplib},
		{"mbsync", testMbsync},
		{"mutt", testMutt},
		{"neomutt", testNeomutt},
		{"imapflow", testImapflow},
		{"go-imap", testGoIMAP},
		{"fetchmail", testFetchmail},
		{"offlineimap", testOfflineimap},
		{"getmail", testGetmail},
		{"Thunderbird", testThunderbird},
		{"commands to try", testTry},
	} {
		t.Run(part.name, func(t *testing.T) { part.test(t, d) })
	}
	d.stop(t)
}

// checkAnnouncement looks at what the demo printed as its user would.
func (d *demo) checkAnnouncement(t *testing.T) {
	t.Helper()
	for _, name := range []string{"smtp", "imap", "http"} {
		host, port, err := net.SplitHostPort(d.Listen[name])
		if err != nil || host != "127.0.0.1" || port == "0" || !answers(d.Listen[name]) {
			t.Errorf("%s is said to listen at %q", name, d.Listen[name])
		}
	}
	if len(d.Accounts) != 2 {
		t.Fatalf("two accounts were promised: %+v", d.Accounts)
	}
	for _, a := range d.Accounts {
		if !strings.HasSuffix(a.Address, "@"+d.Domain) || len(a.Password) < 16 {
			t.Errorf("account %q has a password of %d characters", a.Address, len(a.Password))
		}
	}
	if d.Kept || d.PID != d.process.Process.Pid || d.Messages == 0 || len(d.Try) == 0 {
		t.Errorf("announced: %d messages, process %d, data kept %v, %d commands to try", d.Messages, d.PID, d.Kept, len(d.Try))
	}
	if info, err := os.Stat(d.Data); err != nil || info.Mode().Perm() != 0o700 {
		t.Errorf("the data folder: %v %v", info, err)
	}
}

// deliver sends a message over SMTP, with nothing between the test and the wire.
func (d *demo) deliver(t *testing.T, to demoUser, raw []byte) {
	t.Helper()
	c, err := dialSMTP(d.Listen["smtp"])
	if err != nil {
		t.Fatal(err)
	}
	defer c.close()
	if err := c.send(mail{to: to.Address, raw: raw}); err != nil {
		t.Fatalf("deliver to %s: %v", to.Address, err)
	}
}

// deliverText sends a small message with a subject.
func (d *demo) deliverText(t *testing.T, to demoUser, subject string) {
	t.Helper()
	d.deliver(t, to, fmt.Appendf(nil, "From: Sender <sender@elsewhere.example>\r\nTo: <%s>\r\nSubject: %s\r\n"+
		"Message-ID: <%[2]s@elsewhere.example>\r\nDate: Sun, 22 Nov 2026 12:00:00 +0000\r\n\r\nThis is %[2]s.\r\n", to.Address, subject))
}

// dial opens an IMAP session of an account and selects a mailbox.
func (d *demo) dial(t *testing.T, who demoUser, mailbox string) *rawIMAP {
	t.Helper()
	conn, err := net.DialTimeout("tcp", d.Listen["imap"], patience)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	r := newRawIMAP(t, conn)
	for _, command := range []string{fmt.Sprintf("LOGIN %q %q", who.Address, who.Password), fmt.Sprintf("SELECT %q", mailbox)} {
		if reply := r.command("%s", command); !r.succeeded(reply) {
			t.Fatalf("%s: %s", strings.Fields(command)[0], reply)
		}
	}
	return r
}

// testTry runs the commands that the demo invites its user to copy, but for
// those that need a terminal.
func testTry(t *testing.T, d *demo) {
	ran := 0
	for _, command := range d.Try {
		name := filepath.Base(strings.Fields(command)[0])
		if name == "mutt" {
			continue
		}
		if name != filepath.Base(binary) {
			need(t, name)
		}
		out, err := exec.Command("sh", "-c", command).CombinedOutput()
		if err != nil || len(out) == 0 {
			t.Errorf("%s: %v\n%s", command, err, out)
		}
		ran++
	}
	if ran < 4 {
		t.Errorf("only %d commands to try", ran)
	}
}
