package main

import (
	"bufio"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"time"
)

const (
	dialPatience = 8 * time.Second // for a mail server to answer
	ntpPatience  = 4 * time.Second
)

// wellKnown are domains whose mail servers answer everybody who may send at all.
var wellKnown = [...]string{"gmail.com", "outlook.com"}

// signedZone is signed, and brokenZone is signed wrongly on purpose: a resolver that
// validates knows the one and refuses the other.
const (
	signedZone = "ietf.org"
	brokenZone = "dnssec-failed.org"
)

// port25 connects to mail servers of others: many providers block that.
func (d *doctor) port25(ctx context.Context) []finding {
	f := finding{Check: "port 25 to the outside", Status: statusFail, Advice: "ask the machine's provider to open it, or send through a smarthost"}
	targets := d.in.Exchange
	for _, domain := range wellKnown {
		if len(d.in.Exchange) > 0 {
			break
		}
		if found, err := d.dns.LookupMX(ctx, domain); err == nil {
			targets = append(targets, net.JoinHostPort(strings.TrimSuffix(found[0].Host, "."), "25"))
		}
	}
	if len(targets) == 0 {
		f.Status, f.Found, f.Advice = statusWarn, "not tried: no mail server was found in the DNS", "see the finding on the resolver"
		return []finding{f}
	}
	var problems []string
	for _, target := range targets {
		greeting, err := d.greeting(ctx, target)
		if err == nil {
			return []finding{{Check: f.Check, Status: statusOK, Found: target + " greets: " + greeting}}
		}
		problems = append(problems, err.Error())
	}
	f.Found = strings.Join(problems, "; ")
	return []finding{f}
}

// greeting is the first line of a mail server.
func (d *doctor) greeting(ctx context.Context, target string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, dialPatience)
	defer cancel()
	conn, err := d.connect(ctx, target)
	if err != nil {
		return "", err
	}
	defer conn.Close()
	deadline, _ := ctx.Deadline()
	if err := conn.SetDeadline(deadline); err != nil {
		return "", err
	}
	const longest = 512 // RFC 5321 section 4.5.3.1.5
	line, err := bufio.NewReaderSize(conn, longest).ReadSlice('\n')
	if err != nil {
		return "", fmt.Errorf("%s: %w", target, err)
	}
	_, _ = conn.Write([]byte("QUIT\r\n")) // out of politeness
	return printable(strings.TrimSpace(string(line))), nil
}

// connect resolves with the node's resolver, not with the system's.
func (d *doctor) connect(ctx context.Context, target string) (net.Conn, error) {
	name, port, err := net.SplitHostPort(target)
	if err != nil {
		return nil, err
	}
	addresses, err := d.dns.LookupNetIP(ctx, "ip", name)
	if err != nil {
		return nil, err
	}
	var problems []error
	for _, ip := range addresses[:min(len(addresses), 2)] {
		conn, err := d.dial(ctx, "tcp", net.JoinHostPort(ip.String(), port))
		if err == nil {
			return conn, nil
		}
		problems = append(problems, err)
	}
	return nil, errors.Join(problems...)
}

// printable is s without what could do something to a terminal.
func printable(s string) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' || r > '~' {
			return '?'
		}
		return r
	}, s)
}

// reverse looks whether the addresses of a node lead to its name and back. The
// addresses of a node behind a translated one are those the DNS has of it.
func (d *doctor) reverse(ctx context.Context, h host) []finding {
	addresses := h.Addresses
	if len(addresses) == 0 {
		addresses, _ = d.dns.LookupNetIP(ctx, "ip", h.Name) // that there is none is a finding of the domain
	}
	var findings []finding
	for _, ip := range addresses {
		if ip.IsLoopback() || ip.IsPrivate() {
			continue
		}
		f := finding{Check: "PTR of " + ip.String()}
		if f.Status, f.Found = checkReverse(ctx, d.dns, ip, h.Name); f.Status != statusOK {
			f.Advice = "have whoever owns the address, mostly the machine's provider, set it to " + h.Name
		}
		findings = append(findings, f)
	}
	return findings
}

// resolver looks whether the DNS answers, and how quickly.
func (d *doctor) resolver(ctx context.Context) []finding {
	f := finding{Check: "resolver", Status: statusOK}
	begun := time.Now()
	_, err := d.dns.LookupMX(ctx, signedZone)
	took := time.Since(begun).Round(time.Millisecond)
	if err != nil && !isNotFound(err) {
		f.Status, f.Found = statusFail, err.Error()
		f.Advice = "nothing can be sent or checked without the DNS: run unbound on this machine, or name a server with the setting resolver"
		return []finding{f}
	}
	if f.Found = fmt.Sprintf("it answers, in %v", took); took > time.Second {
		f.Status, f.Advice = statusWarn, "run a resolver of your own, say unbound, on this machine"
	}
	return []finding{f}
}

// validation looks whether the resolver validates DNSSEC, which DANE needs.
func (d *doctor) validation(ctx context.Context) []finding {
	f := finding{Check: "DNSSEC", Status: statusWarn, Advice: "run a validating resolver, say unbound, on this machine: without it DANE is not used in sending"}
	secure, err := d.dns.Secure(ctx, "MX", signedZone)
	switch {
	case err != nil:
		f.Found = "not known: " + err.Error()
		return []finding{f}
	case !secure:
		f.Found = "the resolver does not validate, or its word is not trusted because it is on another machine (resolver-validates)"
		return []finding{f}
	}
	if _, err := d.dns.LookupNetIP(ctx, "ip4", brokenZone); err == nil {
		f.Status, f.Found = statusFail, "the resolver calls answers validated, but gives one that is signed wrongly"
		return []finding{f}
	}
	return []finding{{Check: f.Check, Status: statusOK, Found: "the resolver validates"}}
}

// clock compares it with a time server.
func (d *doctor) clock(ctx context.Context) []finding {
	skew, err := d.skew(ctx)
	if err != nil {
		return []finding{{Check: "clock", Status: statusWarn, Found: "not known: " + err.Error(), Advice: "name a time server that answers with --ntp"}}
	}
	return []finding{clockFinding("clock, beside "+d.in.NTP, skew)}
}

// ntpEpoch is where the seconds of NTP begin, 1900, as Unix time (RFC 5905 section 6).
const ntpEpoch = -2208988800

// skew is this machine's clock minus a time server's, by one question of SNTP (RFC 5905 section 14).
func (d *doctor) skew(ctx context.Context) (time.Duration, error) {
	ctx, cancel := context.WithTimeout(ctx, ntpPatience)
	defer cancel()
	name, port, err := net.SplitHostPort(d.in.NTP)
	if err != nil {
		return 0, err
	}
	addresses, err := d.dns.LookupNetIP(ctx, "ip", name)
	if err != nil {
		return 0, err
	}
	conn, err := d.dial(ctx, "udp", net.JoinHostPort(addresses[0].String(), port))
	if err != nil {
		return 0, err
	}
	defer conn.Close()
	deadline, _ := ctx.Deadline()
	packet := make([]byte, 48)
	packet[0] = 4<<3 | 3 // version 4, client
	sent := time.Now()
	binary.BigEndian.PutUint64(packet[40:], uint64(sent.UnixNano())) // any value: it comes back
	echo := binary.BigEndian.Uint64(packet[40:])
	if _, err := conn.Write(packet); err != nil {
		return 0, err
	}
	if err := conn.SetReadDeadline(deadline); err != nil {
		return 0, err
	}
	n, err := conn.Read(packet)
	received := time.Now()
	switch {
	case err != nil:
		return 0, err
	case n < 48 || packet[0]&7 != 4 || packet[1] == 0 || binary.BigEndian.Uint64(packet[24:]) != echo:
		return 0, fmt.Errorf("%s gives no time", d.in.NTP)
	}
	theirs := (ntpTime(packet[32:]).Sub(sent) + ntpTime(packet[40:]).Sub(received)) / 2
	return -theirs, nil
}

// ntpTime reads a timestamp of NTP.
func ntpTime(b []byte) time.Time {
	seconds, fraction := binary.BigEndian.Uint32(b), binary.BigEndian.Uint32(b[4:])
	return time.Unix(int64(seconds)+ntpEpoch, int64(uint64(fraction)*1e9>>32))
}

// lists are blocklists that many ask, with where to be taken off.
var lists = [...]struct{ zone, removal string }{
	{"zen.spamhaus.org", "https://check.spamhaus.org/"},
	{"bl.spamcop.net", "https://www.spamcop.net/bl.shtml"},
	{"b.barracudacentral.org", "https://www.barracudacentral.org/rbl/removal-request"},
}

// maxListed bounds the addresses that blocklists are asked about.
const maxListed = 8

// blocklists asks them about the public addresses of the nodes (RFC 5782).
func (d *doctor) blocklists(ctx context.Context) []finding {
	var findings []finding
	asked := 0
	for _, ip := range d.ours {
		if !ip.Is4() || ip.IsLoopback() || ip.IsPrivate() || asked == maxListed {
			continue
		}
		asked++
		for _, l := range lists {
			findings = append(findings, d.blocklist(ctx, ip, l.zone, l.removal))
		}
	}
	return findings
}

func (d *doctor) blocklist(ctx context.Context, ip netip.Addr, zone, removal string) finding {
	f := finding{Check: ip.String() + " in " + zone, Status: statusOK, Found: "not listed"}
	name := strings.TrimSuffix(reverseName(ip), "in-addr.arpa.") + zone
	found, err := d.dns.LookupNetIP(ctx, "ip4", name)
	switch {
	case isNotFound(err):
	case err != nil:
		f.Status, f.Found = statusWarn, "not known: "+err.Error()
	case strings.HasPrefix(found[0].String(), "127.255.255."): // Spamhaus: an error, not a listing
		f.Status, f.Found, f.Advice = statusWarn, "the list does not answer this resolver", "ask it through a resolver of your own, not a public one"
	case strings.HasPrefix(found[0].String(), "127."):
		f.Status, f.Found, f.Advice = statusFail, "listed ("+found[0].String()+")", "find out why, then ask to be taken off at "+removal
	default:
		f.Status, f.Found = statusWarn, "the answer makes no sense: "+found[0].String()
	}
	return f
}
