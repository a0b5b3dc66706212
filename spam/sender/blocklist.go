package sender

import (
	"context"
	"encoding/hex"
	"fmt"
	"maps"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"

	"trivet/spam"
	"trivet/spam/threat"
)

// Resolver is the DNS that block lists are asked by.
type Resolver interface {
	LookupNetIP(ctx context.Context, network, host string) ([]netip.Addr, error)
}

// ListKind is what a list is asked for.
type ListKind string

// The kinds of lists.
const (
	ListAddresses ListKind = "ip"     // the client's address (RFC 5782 section 2.1)
	ListDomains   ListKind = "domain" // domains of the sender, the greeting and links (section 3)
)

// List is a block list in DNS.
type List struct {
	Zone   string   `json:"zone"`
	Kind   ListKind `json:"kind"`
	Points float64  `json:"points"` // for an answer that Codes does not have
	// Codes are points by answers: an address of 127.0.0.0/8, or a prefix of such.
	Codes map[string]float64 `json:"codes,omitempty"`
}

// Limits of asking lists.
const (
	// DefaultListPoints are those of a list that says nothing else.
	DefaultListPoints = 2.5
	// maxListed bounds the domains of a message that are looked up in each list.
	maxListed = 10
	// maxListQuestions bounds the questions of one message that are open at a time.
	maxListQuestions = 20
)

// check says what is wrong with a list.
func (l List) check() error {
	if l.Kind != ListAddresses && l.Kind != ListDomains {
		return fmt.Errorf("a list is of the kind %s or %s", ListAddresses, ListDomains)
	}
	if l.Zone == "" || len(l.Zone) > 200 || !strings.Contains(l.Zone, ".") || strings.ContainsAny(l.Zone, " /@:*") {
		return fmt.Errorf("%q is no name of a zone", l.Zone)
	}
	if len(l.Codes) > MaxCodes || !(l.Points >= -spam.MaxPoints && l.Points <= spam.MaxPoints) {
		return fmt.Errorf("the list %s has points beyond %d, or more than %d codes", l.Zone, spam.MaxPoints, MaxCodes)
	}
	for code, points := range l.Codes {
		p, err := codePrefix(code)
		if err != nil || !listing.Contains(p.Addr()) || !(points >= -spam.MaxPoints && points <= spam.MaxPoints) {
			return fmt.Errorf("the list %s: %q is no answer in 127.0.0.0/8, or has points beyond %d", l.Zone, code, spam.MaxPoints)
		}
	}
	return nil
}

func codePrefix(code string) (netip.Prefix, error) {
	if a, err := netip.ParseAddr(code); err == nil {
		return netip.PrefixFrom(a, a.BitLen()), nil
	}
	return netip.ParsePrefix(code)
}

var (
	// listing is where answers of lists lie (RFC 5782 section 2.3): others come from whoever owns a domain that has
	// expired, or from resolvers that answer everything.
	listing = netip.MustParsePrefix("127.0.0.0/8")
	// refusing is where lists say that they do not answer this resolver.
	refusing = netip.MustParsePrefix("127.255.255.0/24")
)

// points of an answer: the code that fits most narrowly counts.
func (l List) points(a netip.Addr) float64 {
	best, points := -1, l.Points
	for code, p := range l.Codes {
		if prefix, err := codePrefix(code); err == nil && prefix.Contains(a) && prefix.Bits() > best {
			best, points = prefix.Bits(), p
		}
	}
	return points
}

// judge is what answers of a list come to: the greatest of their points. ok is false when they say nothing.
func (l List) judge(answers []netip.Addr) (points float64, code netip.Addr, ok bool) {
	for _, a := range answers {
		a = a.Unmap()
		if !listing.Contains(a) || refusing.Contains(a) || a == netip.AddrFrom4([4]byte{127, 0, 0, 1}) { // RFC 5782 section 5: that is no listing
			continue
		}
		if p := l.points(a); !ok || p > points {
			points, code, ok = p, a, true
		}
	}
	return points, code, ok
}

// reversed is an address as the name that a list is asked for.
func reversed(a netip.Addr) string {
	a = a.Unmap()
	if a.Is4() {
		b := a.As4()
		return fmt.Sprintf("%d.%d.%d.%d", b[3], b[2], b[1], b[0])
	}
	b := a.As16()
	digits := []byte(hex.EncodeToString(b[:]))
	slices.Reverse(digits)
	return strings.Join(strings.Split(string(digits), ""), ".")
}

// question is one name in one list.
type question struct {
	list List
	what string // as people know it
	name string // as the list has it
}

// asked are the questions of a message, each once.
func asked(m *spam.Message, lists []List, links []threat.Link) []question {
	var out []question
	var domains []string
	for _, l := range lists {
		if l.Kind == ListAddresses {
			if m.IP.IsValid() {
				out = append(out, question{l, m.IP.String(), reversed(m.IP)})
			}
			continue
		}
		if domains == nil {
			domains = namedIn(m, links)
		}
		for _, d := range domains {
			out = append(out, question{l, d, d})
		}
	}
	return out
}

// namedIn are the domains that a message names, the sender's first.
func namedIn(m *spam.Message, links []threat.Link) []string {
	out := []string{}
	add := func(name string) {
		name = strings.ToLower(strings.TrimSuffix(name, "."))
		if _, err := netip.ParseAddr(name); err == nil || !strings.Contains(name, ".") {
			return
		}
		if name = threat.Organization(name); !slices.Contains(out, name) && len(out) < maxListed {
			out = append(out, name)
		}
	}
	for _, address := range []string{m.Sender(), m.MailFrom} {
		if i := strings.LastIndexByte(address, '@'); i >= 0 {
			add(address[i+1:])
		}
	}
	add(m.Reverse)
	for _, l := range links {
		add(l.Host)
	}
	return out
}

// listed asks the lists, side by side. What has no answer is no verdict.
func listed(ctx context.Context, r Resolver, questions []question) []spam.Reason {
	reasons := make([]spam.Reason, len(questions))
	slots := make(chan struct{}, maxListQuestions)
	var wait sync.WaitGroup
	for i, q := range questions {
		slots <- struct{}{}
		wait.Go(func() {
			defer func() { <-slots }()
			answers, err := r.LookupNetIP(ctx, "ip4", q.name+"."+q.list.Zone)
			if err != nil { // not listed, or nobody knows
				return
			}
			if points, code, ok := q.list.judge(answers); ok {
				reasons[i] = spam.Reason{Name: "list." + q.list.Zone, Points: points, Text: fmt.Sprintf("%s is listed by %s (%s)", q.what, q.list.Zone, code)}
			}
		})
	}
	wait.Wait()
	return worst(reasons)
}

// worst keeps of the reasons of each list the one with the most points: a message with ten bad links is not ten times
// as bad.
func worst(reasons []spam.Reason) []spam.Reason {
	byName := map[string]spam.Reason{}
	for _, r := range reasons {
		if known, there := byName[r.Name]; r.Name != "" && (!there || r.Points > known.Points) {
			byName[r.Name] = r
		}
	}
	out := slices.Collect(maps.Values(byName))
	slices.SortFunc(out, func(a, b spam.Reason) int { return strings.Compare(a.Name, b.Name) })
	return out
}

// ListTest says whether a list answers as RFC 5782 section 5 has it: 127.0.0.2 is listed, 127.0.0.1 is not; of
// domains TEST is, INVALID is not. An empty text: it does.
func ListTest(ctx context.Context, r Resolver, l List) string {
	there, absent := "2.0.0.127", "1.0.0.127"
	if l.Kind == ListDomains {
		there, absent = "test", "invalid"
	}
	answers, err := r.LookupNetIP(ctx, "ip4", there+"."+l.Zone)
	if err != nil {
		return "it does not list what every list has: " + err.Error()
	}
	if _, _, ok := l.judge(answers); !ok {
		return fmt.Sprintf("it answers %v, which is no listing: it may refuse this resolver", answers)
	}
	answers, err = r.LookupNetIP(ctx, "ip4", absent+"."+l.Zone)
	if err == nil {
		if _, _, ok := l.judge(answers); ok {
			return "it lists everything"
		}
		return ""
	}
	if e, ok := err.(*net.DNSError); !ok || !e.IsNotFound {
		return "it does not answer: " + err.Error()
	}
	return ""
}
