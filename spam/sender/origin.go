package sender

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"trivet/spam"
	"trivet/storage"
)

// origin looks at who brought a message: reverse name, greeting, and what was proven of the sender. ours are the
// names of this host and the domains hosted here. local: the client's network has no public names.
func origin(m *spam.Message, ours []string, local bool) []spam.Reason {
	var out []spam.Reason
	if !local {
		out = append(out, reverse(m)...)
	}
	out = append(out, greeting(m, ours, local)...)
	return append(out, proven(m)...)
}

// reverse looks at the client's name (iprev, RFC 8601 section 2.7.3).
func reverse(m *spam.Message) []spam.Reason {
	switch m.ReverseResult {
	case "permerror":
		return []spam.Reason{{Name: "rdns.none", Points: 1, Text: fmt.Sprintf("the client %s has no name", m.IP)}}
	case "fail":
		return []spam.Reason{{Name: "rdns.fail", Points: 1, Text: fmt.Sprintf("no name of the client %s leads back to it", m.IP)}}
	case "pass":
		if Generic(m.Reverse, m.IP) {
			return []spam.Reason{{Name: "rdns.generic", Points: 1, Text: fmt.Sprintf("the client's name %s is one that providers give to customers", m.Reverse)}}
		}
	}
	return nil
}

// genericWords are parts of names that providers give to lines, not to servers.
var genericWords = []string{"dyn", "dynamic", "dsl", "adsl", "vdsl", "xdsl", "pool", "dhcp", "cable", "ppp", "pppoe", "dialup", "dial", "broadband",
	"customer", "cust", "client", "clients", "home", "res", "residential", "user", "unassigned", "unused", "mobile", "wireless", "fiber", "ftth", "catv", "hsd1", "nat"}

// Generic reports whether a host's name was made of its address, or says that it is a customer's line.
func Generic(name string, a netip.Addr) bool {
	name = strings.ToLower(name)
	host, _, _ := strings.Cut(name, ".")
	words := strings.FieldsFunc(name, func(r rune) bool { return r == '.' || r == '-' || r == '_' })
	numbered := strings.ContainsAny(host, "0123456789")
	if a.Is4() {
		b := a.As4()
		if strings.Contains(host, fmt.Sprintf("%02x%02x%02x%02x", b[0], b[1], b[2], b[3])) {
			return true
		}
		found := 0
		for _, octet := range b {
			if slices.ContainsFunc(words, func(w string) bool {
				return strings.TrimLeft(w, "0abcdefghijklmnopqrstuvwxyz") == fmt.Sprint(octet) && octet != 0
			}) {
				found++
			}
		}
		if found >= 3 {
			return true
		}
	}
	return numbered && slices.ContainsFunc(words, func(w string) bool {
		return slices.Contains(genericWords, strings.TrimRight(w, "0123456789"))
	})
}

// greeting looks at what the client says it is (HELO).
func greeting(m *spam.Message, ours []string, local bool) []spam.Reason {
	name := strings.ToLower(strings.TrimSuffix(m.Helo, "."))
	reason := func(word string, points float64, text string) []spam.Reason {
		return []spam.Reason{{Name: "helo." + word, Points: points, Text: fmt.Sprintf("the client greets as %q, %s", m.Helo, text)}}
	}
	if literal, is := strings.CutPrefix(name, "["); is { // RFC 5321 section 4.1.3
		a, err := netip.ParseAddr(strings.TrimPrefix(strings.TrimSuffix(literal, "]"), "ipv6:"))
		if err != nil || a.Unmap() != m.IP.Unmap() {
			return reason("address", 1.5, "which is not its address")
		}
		if local {
			return nil // a program beside the server
		}
		return reason("literal", 1, "by its address instead of its name")
	}
	if _, err := netip.ParseAddr(name); err == nil {
		return reason("address", 1.5, "a bare address")
	}
	if local {
		return nil
	}
	if isOurs(name, ours) && m.SPF != "pass" && m.HeloSPF != "pass" {
		return reason("ours", 2.5, "a name of this system")
	}
	if !strings.Contains(name, ".") {
		return reason("name", 1, "which is no name of a host")
	}
	return nil
}

func isOurs(name string, ours []string) bool {
	return slices.ContainsFunc(ours, func(o string) bool { return name == o || strings.HasSuffix(name, "."+o) })
}

// proven are the points of SPF, DKIM and DMARC. They say who it is; whether that one is wanted, others tell.
func proven(m *spam.Message) []spam.Reason {
	var out []spam.Reason
	add := func(name string, points float64, text string) {
		out = append(out, spam.Reason{Name: name, Points: points, Text: text})
	}
	switch m.SPF {
	case "fail":
		add("spf.fail", 2, "the client may not send for "+domainOf(m.MailFrom))
	case "softfail":
		add("spf.softfail", 1, "the client should not send for "+domainOf(m.MailFrom))
	case "none", "neutral":
		add("spf.none", 0.3, domainOf(m.MailFrom)+" does not say who sends for it")
	}
	if len(m.DKIM) > 0 && !slices.ContainsFunc(m.DKIM, func(s spam.Signature) bool { return s.Result == "pass" }) {
		add("dkim.fail", 0.3, "no signature holds")
	}
	switch {
	case m.DMARC == "pass":
		add(storage.ReasonProven, -0.5, "the author's domain stands behind it: "+m.Organization) // storage reads the last word
	case m.DMARC == "fail" && m.ARC != "pass":
		add("dmarc.fail", 1.5, "the author's domain does not stand behind it")
	}
	return out
}

func domainOf(address string) string { return address[strings.LastIndexByte(address, '@')+1:] }
