package main

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/spf13/pflag"
)

func TestEverySettingIsAKey(t *testing.T) {
	var s settings
	fields := reflect.TypeFor[settings]().NumField() - 1 + reflect.TypeFor[queueSettings]().NumField() // one of the fields is those of the queue
	if keys := len(s.keys()); keys != fields {
		t.Errorf("%d keys for %d settings", keys, fields)
	}
}

// loadFrom loads settings as serve does.
func loadFrom(t *testing.T, file string, args ...string) (settings, error) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "node.toml")
	if err := os.WriteFile(path, []byte(file), 0o600); err != nil {
		t.Fatal(err)
	}
	flags := pflag.NewFlagSet("serve", pflag.ContinueOnError)
	load := addFlags(flags, defaultSettings())
	if err := flags.Parse(args); err != nil {
		t.Fatal(err)
	}
	return load(path)
}

func TestFlagsGoBeforeTheFileAndThatBeforeDefaults(t *testing.T) {
	s, err := loadFrom(t, "hostname = 'mx.example.org'\nmax-recipients = 5\nlogin-throttle = false\n[listen]\nsmtp = ':2525'\n",
		"--max-recipients=7", "--disk-reserve=1GiB")
	if err != nil {
		t.Fatal(err)
	}
	if s.Hostname != "mx.example.org" || s.MaxRecipients != 7 || s.DiskReserve != 1<<30 || s.LoginThrottle {
		t.Errorf("settings %+v", s)
	}
	if s.Listen.String() != "smtp=:2525" {
		t.Errorf("listen %v: a table replaces the default", s.Listen)
	}
	if s.IMAPConnections != defaultSettings().IMAPConnections {
		t.Errorf("imap-connections %d", s.IMAPConnections)
	}
}

func TestFileMistakes(t *testing.T) {
	tests := map[string]string{
		"hostname = ":             "node.toml",
		"smpt = ':25'":            `unknown key "smpt"`,
		"[listen]\npop = ':110'":  "unknown listener",
		"max-recipients = -1":     "max-recipients",
		"max-recipients = 'many'": "max-recipients",
		"hostname = ''":           "hostname",
		"log-format = 'xml'":      "neither text nor json",
		"shutdown-timeout = 10":   "write 10s",
	}
	for file, want := range tests {
		_, err := loadFrom(t, file)
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want %q", file, err, want)
		}
		var usage *usageError
		if errors.As(err, &usage) {
			t.Errorf("%q: a mistake in the file is no wrong use of the command line", file)
		}
	}
}

func TestMessagesOfNoSize(t *testing.T) {
	if _, err := loadFrom(t, "", "--max-message-size=0"); exitStatus(err) != exitUsage {
		t.Errorf("0: %v", err)
	}
	if _, err := loadFrom(t, "", "--max-message-size=1"); err != nil {
		t.Errorf("1: %v", err)
	}
}

func TestMessageLimitIsNoneOrAThousand(t *testing.T) {
	for value, want := range map[string]int{"0": exitDone, "1": exitUsage, "999": exitUsage, "1000": exitDone, "4294967295": exitDone, "4294967296": exitUsage} {
		if _, err := loadFrom(t, "", "--imap-message-limit="+value); exitStatus(err) != want {
			t.Errorf("%s: %v", value, err)
		}
	}
}

// What setup writes is what serve reads, and fits on a page.
func TestFileIsReadBack(t *testing.T) {
	changed := []string{"--node=n-1", "--hostname=mx.example.org", "--listen=smtp=:2525,imap=[::1]:1143", "--log-level=debug", "--log-format=json",
		"--disk-reserve=5MB", "--shutdown-timeout=1m30s", "--max-message-size=1000", "--max-recipients=1", "--smtp-connections=2",
		"--smtp-connections-per-address=3", "--smtp-errors=4", "--smtp-refused-recipients=5", "--imap-connections=6",
		"--imap-connections-per-address=7", "--imap-failed-logins=8", "--imap-message-limit=1000"}
	for _, args := range [][]string{nil, changed} {
		s, err := loadFrom(t, "", args...)
		if err != nil {
			t.Fatal(err)
		}
		file, err := s.file()
		if err != nil {
			t.Fatal(err)
		}
		again, err := loadFrom(t, string(file))
		if err != nil || !reflect.DeepEqual(again, s) {
			t.Errorf("%v: read back as %+v, %v from\n%s", args, again, err, file)
		}
		if lines := bytes.Count(file, []byte("\n")); lines >= 25 || args == nil && lines >= 10 {
			t.Errorf("%d lines:\n%s", lines, file)
		}
	}
}

func TestLimitsReachTheirRooms(t *testing.T) {
	s, err := loadFrom(t, "", "--max-message-size=1MiB", "--max-recipients=2", "--smtp-connections=0", "--smtp-connections-per-address=4", "--smtp-errors=5",
		"--smtp-refused-recipients=6", "--imap-connections=0", "--imap-connections-per-address=8", "--imap-failed-logins=9", "--imap-message-limit=1234",
		"--login-throttle=off", "--login-failures=10", "--login-failures-per-network=11", "--login-lockout=12s")
	if err != nil {
		t.Fatal(err)
	}
	smtp, imap, login := s.smtpLimits(), s.imapLimits(), s.loginThrottle()
	for name, pair := range map[string][2]int{
		"message size":                {int(smtp.MaxMessageBytes), 1 << 20},
		"recipients":                  {smtp.MaxRecipients, 2},
		"SMTP connections, any":       {smtp.MaxConnections, 0},
		"SMTP connections each":       {smtp.MaxConnectionsPerAddress, 4},
		"errors":                      {smtp.MaxErrors, 5},
		"refused recipients":          {smtp.MaxRefusedRecipients, 6},
		"APPEND size":                 {int(imap.AppendSize), 1 << 20},
		"IMAP connections, any":       {imap.Connections, -1},
		"IMAP connections each":       {imap.ConnectionsPerAddress, 8},
		"failed logins of a session":  {imap.AuthFailures, 9},
		"messages of a command":       {imap.Messages, 1234},
		"failed logins of an account": {login.AccountFailures, 10},
		"failed logins of a network":  {login.NetworkFailures, 11},
		"lock-out":                    {int(login.MaxDelay.Seconds()), 12},
	} {
		if pair[0] != pair[1] {
			t.Errorf("%s: %d, want %d", name, pair[0], pair[1])
		}
	}
	if !login.Off {
		t.Error("the throttle is on")
	}
	if smtp.MaxHeaderBytes == 0 || smtp.CommandTimeout == 0 {
		t.Error("what is no setting has lost its default")
	}
}
