package spf

import (
	"context"
	"errors"
	"io"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"gopkg.in/yaml.v3"
)

// zone is DNS: records by lower-case name without final dot.
type zone map[string]*names

type names struct {
	txt, ptr, a, aaaa []string
	mx                []*net.MX
	cname             string
	broken            bool // there is no answer for types that have no record
}

func (z zone) at(name string) *names {
	name = strings.ToLower(strings.TrimSuffix(name, "."))
	for range 10 {
		n := z[name]
		if n == nil || n.cname == "" {
			return n
		}
		name = strings.ToLower(strings.TrimSuffix(n.cname, "."))
	}
	return &names{broken: true}
}

// lookup returns the records that get takes from those of a name.
func lookup[R any](z zone, name string, get func(*names) []R) ([]R, error) {
	n := z.at(name)
	if n != nil {
		if records := get(n); len(records) > 0 {
			return records, nil
		}
	}
	for label := range strings.SplitSeq(strings.TrimSuffix(name, "."), ".") {
		if label == "" || len(label) > maxLabel {
			n = nil
		}
	}
	if n != nil && n.broken {
		return nil, &net.DNSError{Err: "no answer", Name: name, IsTemporary: true}
	}
	return nil, &net.DNSError{Err: "no such host", Name: name, IsNotFound: true}
}

func (z zone) LookupTXT(_ context.Context, name string) ([]string, error) {
	return lookup(z, name, func(n *names) []string { return n.txt })
}

func (z zone) LookupMX(_ context.Context, name string) ([]*net.MX, error) {
	return lookup(z, name, func(n *names) []*net.MX { return n.mx })
}

func (z zone) LookupNetIP(_ context.Context, network, host string) ([]netip.Addr, error) {
	return lookup(z, host, func(n *names) (addresses []netip.Addr) {
		text := n.a
		if network == "ip6" {
			text = n.aaaa
		}
		for _, a := range text {
			addresses = append(addresses, netip.MustParseAddr(a))
		}
		return addresses
	})
}

func (z zone) LookupAddr(_ context.Context, addr string) ([]string, error) {
	ip := netip.MustParseAddr(addr)
	labels := strings.Split(dotted(ip), ".")
	slices.Reverse(labels)
	suffix := ".ip6.arpa"
	if ip.Is4() {
		suffix = ".in-addr.arpa"
	}
	return lookup(z, strings.Join(labels, ".")+suffix, func(n *names) []string { return n.ptr })
}

// suite is one document of the suites of openspf.org.
type suite struct {
	Description string
	Tests       map[string]struct {
		Spec, Result      any
		Helo, Host        string
		MailFrom          string `yaml:"mailfrom"`
		Explanation, Skip string
	}
	ZoneData map[string][]map[string]any `yaml:"zonedata"`
}

// texts returns the strings of a value that is one or has some.
func texts(value any) []string {
	switch value := value.(type) {
	case string:
		return []string{value}
	case []any:
		var out []string
		for _, v := range value {
			out = append(out, texts(v)...)
		}
		return out
	}
	return nil
}

// zone makes the DNS of a suite. Records of the old type SPF are TXT records, unless
// the name has such of its own ("NONE" stands for none).
func (s suite) zone() zone {
	z := zone{}
	for name, records := range s.ZoneData {
		n := &names{}
		z[strings.ToLower(name)] = n
		var old []string
		ownTXT := false
		for _, record := range records {
			for kind, value := range record {
				switch kind {
				case "A":
					n.a = append(n.a, texts(value)...)
				case "AAAA":
					n.aaaa = append(n.aaaa, texts(value)...)
				case "MX":
					mx := value.([]any)
					n.mx = append(n.mx, &net.MX{Pref: uint16(mx[0].(int)), Host: mx[1].(string)})
				case "PTR":
					n.ptr = append(n.ptr, texts(value)...)
				case "CNAME":
					n.cname = value.(string)
				case "TIMEOUT", "SERVFAIL", "CNAMELOOP":
					n.broken = true
				case "SPF":
					old = append(old, strings.Join(texts(value), ""))
				case "TXT":
					ownTXT = true
					if value != "NONE" {
						n.txt = append(n.txt, strings.Join(texts(value), ""))
					}
				}
			}
		}
		if !ownTXT {
			n.txt = old
		}
	}
	return z
}

// suites reads a file of blitiri.com.ar/go/spf, which has the public suites.
func suites(t *testing.T, name string) []suite {
	t.Helper()
	dir, err := exec.CommandContext(t.Context(), "go", "list", "-m", "-f", "{{.Dir}}", "blitiri.com.ar/go/spf").Output()
	if err != nil {
		t.Fatal(err)
	}
	file, err := os.Open(filepath.Join(strings.TrimSpace(string(dir)), "testdata", name))
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	var all []suite
	for decoder := yaml.NewDecoder(file); ; {
		var s suite
		err := decoder.Decode(&s)
		if errors.Is(err, io.EOF) {
			return all
		}
		if err != nil {
			t.Fatal(err)
		}
		if len(s.Tests) > 0 {
			all = append(all, s)
		}
	}
}

// All cases of the public suites, those included that blitiri.com.ar/go/spf leaves out.
func TestPublicSuites(t *testing.T) {
	for name, least := range map[string]int{"rfc7208-tests.yml": 200, "rfc4408-tests.yml": 190} {
		t.Run(name, func(t *testing.T) {
			cases := 0
			for _, s := range suites(t, name) {
				z := s.zone()
				for id, test := range s.Tests {
					cases++
					t.Run(s.Description+"/"+id, func(t *testing.T) {
						v := Check(t.Context(), z, Query{IP: netip.MustParseAddr(test.Host), Helo: test.Helo, MailFrom: test.MailFrom, Now: time.Now()})
						if want := texts(test.Result); !slices.Contains(want, string(v.Result)) {
							t.Errorf("%+v, want %v", v, want)
						}
						want := test.Explanation
						if want == "DEFAULT" {
							want = ""
						}
						if want != v.Explanation && test.Explanation != "" {
							t.Errorf("explanation %q, want %q", v.Explanation, want)
						}
					})
				}
			}
			if cases < least {
				t.Errorf("only %d cases were found", cases)
			}
		})
	}
}
