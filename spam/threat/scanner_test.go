package threat

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"testing"
	"time"

	"trivet/spam"
	"trivet/storage/message"
)

// fakeClamd answers one connection after the other; reply gets what was sent. It returns where it listens.
func fakeClamd(t *testing.T, reply func(got []byte) string) Clamd {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			command := make([]byte, len("zINSTREAM\x00"))
			io.ReadFull(conn, command)
			var got []byte
			for {
				var size uint32
				if binary.Read(conn, binary.BigEndian, &size) != nil || size == 0 {
					break
				}
				piece := make([]byte, size)
				io.ReadFull(conn, piece)
				got = append(got, piece...)
			}
			io.WriteString(conn, reply(got))
			conn.Close()
		}
	}()
	c, err := ParseClamd(l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func messageOf(t testing.TB, raw string) *spam.Message {
	t.Helper()
	structure, err := message.Scan(strings.NewReader(raw))
	if err != nil {
		t.Fatal(err)
	}
	return &spam.Message{Raw: bytes.NewReader([]byte(raw)), Structure: structure, Header: []byte(raw[:structure.HeaderSize]), IP: netip.MustParseAddr("192.0.2.1"),
		Helo: "mail.example.net", MailFrom: "a@example.net", ID: "id", Recipients: []spam.Recipient{{Account: 1, Address: "ann@test.example"}}}
}

func TestClamd(t *testing.T) {
	large := strings.Repeat("x", 3*scanChunk+7)
	for _, test := range []struct {
		reply, want string
		temporary   bool
	}{
		{"stream: OK\x00", "", false}, {"stream: Win.Test FOUND\x00", "virus", false}, {"INSTREAM size limit exceeded. ERROR\x00", "virus.unscanned", false},
		{"stream: Can't allocate memory ERROR\x00", "", true}, {"", "", true},
	} {
		c := fakeClamd(t, func(got []byte) string {
			if string(got) != "\r\n"+large {
				return "broken"
			}
			return test.reply
		})
		reasons, err := c.Check(t.Context(), messageOf(t, "\r\n"+large))
		if errors.Is(err, spam.ErrTemporary) != test.temporary || (err != nil) != test.temporary {
			t.Errorf("%q: %v", test.reply, err)
		}
		if name := ""; len(reasons) > 0 {
			if name = reasons[0].Name; name != test.want {
				t.Errorf("%q: %s", test.reply, name)
			}
		} else if test.want != "" {
			t.Errorf("%q: nothing", test.reply)
		}
	}
}

// A scanner that is silent, or not there, is a temporary failure.
func TestClamdThatDoesNotAnswer(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	c := Clamd{Network: "tcp", Address: l.Addr().String(), Time: 50 * time.Millisecond}
	if _, err := c.Check(t.Context(), messageOf(t, "\r\nx")); !errors.Is(err, spam.ErrTemporary) || !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("silent: %v", err)
	}
	l.Close()
	c.Time = 0
	if _, err := c.Check(t.Context(), messageOf(t, "\r\nx")); !errors.Is(err, spam.ErrTemporary) {
		t.Errorf("gone: %v", err)
	}
	for _, where := range []string{"", "clamd", "host:", "http://x"} {
		if _, err := ParseClamd(where); err == nil {
			t.Errorf("%q is taken for an address", where)
		}
	}
}

func TestRspamd(t *testing.T) {
	var seen http.Header
	answer := ""
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		seen = r.Header
		body, _ := io.ReadAll(r.Body)
		if r.URL.Path != "/checkv2" || r.Method != http.MethodPost || string(body) != "\r\nhello" {
			w.WriteHeader(http.StatusBadRequest)
		}
		io.WriteString(w, answer)
	}))
	defer server.Close()
	r := Rspamd{URL: server.URL}
	m := messageOf(t, "\r\nhello")
	m.Helo = "evil\r\nIP: 1.2.3.4"
	for _, test := range []struct {
		answer string
		points float64
	}{
		{`{"action":"reject","score":15,"required_score":15,"symbols":{"A":{"name":"A","score":1},"B":{"name":"B","score":-9}}}`, maxRspamdPoints},
		{`{"action":"no action","score":0,"required_score":15}`, 0}, {`{"action":"no action","score":-1000,"required_score":15}`, -maxRspamdPoints / 2},
		{`{"action":"reject","score":1e9,"required_score":0}`, maxRspamdPoints},
	} {
		answer = test.answer
		reasons, err := r.Check(t.Context(), m)
		if err != nil || len(reasons) != 1 || reasons[0].Points != test.points {
			t.Errorf("%s: %v %v", test.answer, reasons, err)
		}
	}
	if seen.Get("IP") != "192.0.2.1" || seen.Get("Helo") != "evil??IP: 1.2.3.4" || seen.Get("Rcpt") != "ann@test.example" || seen.Get("From") != "a@example.net" {
		t.Errorf("%v", seen)
	}
	for _, bad := range []string{"", "{", strings.Repeat(" ", maxRspamdReply+1) + "{}"} {
		answer = bad
		if reasons, err := r.Check(t.Context(), m); err == nil || errors.Is(err, spam.ErrTemporary) || len(reasons) > 0 {
			t.Errorf("%.10q: %v %v", bad, reasons, err)
		}
	}
	server.Close()
	if _, err := r.Check(t.Context(), m); err == nil || errors.Is(err, spam.ErrTemporary) {
		t.Errorf("gone: %v", err)
	}
	for _, url := range []string{"", "localhost:11333", "ftp://x", "http://", "http://u@h"} {
		if _, err := ParseRspamd(url); err == nil {
			t.Errorf("%q is taken for a URL", url)
		}
	}
}
