package main

import (
	"context"
	"encoding/binary"
	"errors"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"
)

// ntpServer answers SNTP on loopback with a clock that is off; spoil may change an answer.
func ntpServer(t *testing.T, off time.Duration, spoil func([]byte)) string {
	t.Helper()
	conn, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	go func() {
		for {
			packet := make([]byte, 64)
			n, from, err := conn.ReadFrom(packet)
			if err != nil {
				return
			}
			answer := make([]byte, 48)
			answer[0], answer[1] = 4<<3|4, 2
			copy(answer[24:32], packet[40:48])
			now := time.Now().Add(off)
			for _, at := range []int{32, 40} {
				binary.BigEndian.PutUint32(answer[at:], uint32(now.Unix()-ntpEpoch))
				binary.BigEndian.PutUint32(answer[at+4:], uint32(uint64(now.Nanosecond())<<32/1e9))
			}
			if spoil != nil {
				spoil(answer)
			}
			if n == 48 {
				conn.WriteTo(answer, from)
			}
		}
	}()
	return conn.LocalAddr().String()
}

// testDoctor asks loopback only.
func testDoctor(dns fakeDNS) *doctor {
	if dns.addresses == nil {
		dns.addresses = map[string]string{}
	}
	dns.addresses["127.0.0.1"] = "127.0.0.1"
	return &doctor{dns: dns, dial: (&net.Dialer{}).DialContext}
}

func TestDoctorReadsTheClock(t *testing.T) {
	tests := []struct {
		off    time.Duration
		spoil  func([]byte)
		status checkStatus
	}{
		{0, nil, statusOK},
		{10 * time.Second, nil, statusWarn}, {-10 * time.Second, nil, statusWarn},
		{time.Hour, nil, statusFail}, {-time.Hour, nil, statusFail},
		{0, func(b []byte) { b[1] = 0 }, statusWarn},        // kiss of death
		{0, func(b []byte) { b[24] ^= 1 }, statusWarn},      // somebody else's answer
		{0, func(b []byte) { b[0] = 4<<3 | 3 }, statusWarn}, // no server
	}
	for _, test := range tests {
		d := testDoctor(fakeDNS{})
		d.in.NTP = ntpServer(t, test.off, test.spoil)
		f := d.clock(t.Context())[0]
		if f.Status != test.status || f.Status != statusOK && f.Advice == "" {
			t.Errorf("off by %v: %+v", test.off, f)
		}
		if test.off == time.Hour && !strings.Contains(f.Found, "-1h0m0") && !strings.Contains(f.Found, "-59m59") {
			t.Errorf("a clock that is an hour late: %+v", f)
		}
	}
}

// greeter is a mail server that says something and waits.
func greeter(t *testing.T, says string) string {
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
			conn.Write([]byte(says))
			if !strings.HasSuffix(says, "\n") {
				conn.Close()
			}
		}
	}()
	return l.Addr().String()
}

func TestDoctorReachesMailServers(t *testing.T) {
	closed := greeter(t, "")
	good := greeter(t, "220 mx.example.net \x1b[2J ESMTP\r\n")
	tests := []struct {
		name   string
		reach  []string
		status checkStatus
		says   string
	}{
		{"one answers", []string{closed, good}, statusOK, "220 mx.example.net ?[2J ESMTP"},
		{"none answers", []string{closed}, statusFail, "EOF"},
		{"a line without an end", []string{greeter(t, strings.Repeat("2", 1000))}, statusFail, "buffer full"},
		{"none is found", nil, statusWarn, "not tried"},
	}
	for _, test := range tests {
		d := testDoctor(fakeDNS{})
		d.in.Exchange = test.reach
		if f := d.port25(t.Context())[0]; f.Status != test.status || !strings.Contains(f.Found, test.says) {
			t.Errorf("%s: %+v", test.name, f)
		}
	}
	d := testDoctor(fakeDNS{})
	d.in.Exchange = []string{good}
	d.dial = func(context.Context, string, string) (net.Conn, error) { return nil, errors.New("no route to host") }
	if f := d.port25(t.Context())[0]; f.Status != statusFail || !strings.Contains(f.Found, "no route") || !strings.Contains(f.Advice, "provider") {
		t.Errorf("blocked: %+v", f)
	}
}

func TestDoctorAsksBlocklists(t *testing.T) {
	ours := []netip.Addr{netip.MustParseAddr("127.0.0.1"), netip.MustParseAddr("10.0.0.1"), netip.MustParseAddr("2001:db8::1"), netip.MustParseAddr("192.0.2.7")}
	d := testDoctor(fakeDNS{addresses: map[string]string{"7.2.0.192.zen.spamhaus.org": "127.0.0.4", "7.2.0.192.bl.spamcop.net": "127.255.255.254", "7.2.0.192.b.barracudacentral.org": "93.184.216.34"}})
	d.ours = ours
	found := d.blocklists(t.Context())
	if len(found) != 3 {
		t.Fatalf("private addresses were asked about: %+v", found)
	}
	for i, want := range []checkStatus{statusFail, statusWarn, statusWarn} {
		if found[i].Status != want {
			t.Errorf("%+v, want %s", found[i], want)
		}
	}
	d = testDoctor(fakeDNS{})
	for i := range 20 {
		d.ours = append(d.ours, netip.AddrFrom4([4]byte{192, 0, 2, byte(i)}))
	}
	found = d.blocklists(t.Context())
	if len(found) != maxListed*len(lists) {
		t.Errorf("%d questions", len(found))
	}
	for _, f := range found {
		if f.Status != statusOK {
			t.Errorf("%+v", f)
		}
	}
}

func TestDoctorOnResolvers(t *testing.T) {
	timeout := &net.DNSError{Err: "timeout", IsTemporary: true}
	tests := []struct {
		name                 string
		dns                  fakeDNS
		resolver, validation checkStatus
	}{
		{"not validating", fakeDNS{}, statusOK, statusWarn},
		{"validating", fakeDNS{secure: true}, statusOK, statusOK},
		{"pretending", fakeDNS{secure: true, addresses: map[string]string{brokenZone: "192.0.2.1"}}, statusOK, statusFail},
		{"silent", fakeDNS{err: timeout}, statusFail, statusWarn},
	}
	for _, test := range tests {
		d := testDoctor(test.dns)
		if f := d.resolver(t.Context())[0]; f.Status != test.resolver {
			t.Errorf("%s: %+v", test.name, f)
		}
		if f := d.validation(t.Context())[0]; f.Status != test.validation {
			t.Errorf("%s: %+v", test.name, f)
		}
	}
}
