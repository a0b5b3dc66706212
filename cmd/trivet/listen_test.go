package main

import (
	"maps"
	"net"
	"slices"
	"strings"
	"testing"
)

func TestListenMap(t *testing.T) {
	tests := []struct {
		text, want string // want: as String gives it, or what the error says after !
	}{
		{"smtp=:25", "smtp=:25"},
		{"smtp=127.0.0.1:0,imap=[::1]:143", "imap=[::1]:143,smtp=127.0.0.1:0"},
		{"", ""},
		{"smtp=:25,", "smtp=:25"},
		{"cluster=:7000,sql=:5432,https=:443,imaps=:993,submission=:587,submissions=:465",
			"cluster=:7000,https=:443,imaps=:993,sql=:5432,submission=:587,submissions=:465"},
		{"smtp", "!is not name=ADDR"},
		{"pop3=:110", "!unknown listener"},
		{"smtp=25", "!is not HOST:PORT"},
		{"smtp=::1:25", "!is not HOST:PORT"},
		{"smtp=:25,smtp=:26", "!given twice"},
	}
	for _, test := range tests {
		m := listenMap{listenHTTP: ":80"}
		err := m.Set(test.text)
		if wrong, ok := strings.CutPrefix(test.want, "!"); ok {
			if err == nil || !strings.Contains(err.Error(), wrong) {
				t.Errorf("%q: %v, want %q", test.text, err, wrong)
			}
			if m.String() != "http=:80" {
				t.Errorf("%q changed the map before it failed: %v", test.text, m)
			}
			continue
		}
		if err != nil || m.String() != test.want {
			t.Errorf("%q: %q, %v, want %q", test.text, m.String(), err, test.want)
		}
	}
}

func TestOpenAllOrNone(t *testing.T) {
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	free := freeAddress(t)
	m := listenMap{listenSMTP: free, listenIMAP: taken.Addr().String()}
	if _, err := m.open(false); err == nil || !strings.Contains(err.Error(), "another program has it") {
		t.Fatalf("open = %v", err)
	}
	again, err := net.Listen("tcp", free)
	if err != nil {
		t.Fatalf("the other listener stays open: %v", err)
	}
	again.Close()
	opened, err := m.open(true)
	if err != nil {
		t.Fatal(err)
	}
	defer opened.close()
	addresses := opened.addresses()
	if addresses[listenIMAP] == taken.Addr().String() || addresses[listenSMTP] != free || len(addresses) != 2 {
		t.Errorf("with fallback: %v", addresses)
	}
}

func TestUnservedIsNotOpened(t *testing.T) {
	opened, err := listenMap{"of a later release": "127.0.0.1:0", listenHTTP: "127.0.0.1:0"}.open(false)
	if err != nil {
		t.Fatal(err)
	}
	defer opened.close()
	if names := slices.Collect(maps.Keys(opened)); !slices.Equal(names, []string{listenHTTP}) {
		t.Errorf("opened %v", names)
	}
}

// freeAddress is one that nobody listened on a moment ago.
func freeAddress(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}
