package sender

import (
	"encoding/json"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"trivet/spam/threat"
)

// Settings are those that all nodes share.
type Settings struct {
	Greylist  GreylistSettings  `json:"greylist"`
	Lists     []List            `json:"lists"`
	Local     []netip.Prefix    `json:"local"` // whose hosts have no public names
	Rate      int               `json:"rate"`  // messages from a network in [RateWindow] from which it counts; 0: never
	Clamd     string            `json:"clamd,omitempty"`
	Rspamd    string            `json:"rspamd,omitempty"`
	Challenge ChallengeSettings `json:"challenge"`
}

// GreylistSettings are those of the greylist.
type GreylistSettings struct {
	Off    bool           `json:"off"`
	Delay  Duration       `json:"delay"`  // from the first contact until it may come again
	Window Duration       `json:"window"` // until it must have
	Keep   Duration       `json:"keep"`   // how long a contact that passed is remembered after the last message
	Good   []netip.Prefix `json:"good"`   // networks that are never put off
}

// ChallengeSettings are those of asking senders.
type ChallengeSettings struct {
	From float64  `json:"from"` // the probability from which a sender is asked
	Keep Duration `json:"keep"` // how long a copy waits for the answer
}

// Limits of the settings.
const (
	MaxLists    = 50
	MaxPrefixes = 1000
	MaxCodes    = 50 // of one list
	MaxKeep     = 400 * 24 * time.Hour
)

// DefaultSettings are those of a host that says nothing else. No list is asked: their operators want to be asked first.
func DefaultSettings() Settings {
	return Settings{
		Greylist: GreylistSettings{Delay: Duration(time.Minute), Window: Duration(48 * time.Hour), Keep: Duration(36 * 24 * time.Hour), Good: []netip.Prefix{}},
		Lists:    []List{},
		Local:    localNetworks(),
		Rate:     300,
		Challenge: ChallengeSettings{From: 0.5,
			Keep: Duration(7 * 24 * time.Hour)},
	}
}

// localNetworks are loopback, private and link-local addresses: their reverse names say nothing.
func localNetworks() []netip.Prefix {
	var out []netip.Prefix
	for _, s := range []string{"127.0.0.0/8", "10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "169.254.0.0/16", "100.64.0.0/10", "::1/128", "fc00::/7", "fe80::/10"} {
		out = append(out, netip.MustParsePrefix(s))
	}
	return out
}

// ReadSettings reads what [Settings.Encode] wrote; what is missing is as in [DefaultSettings].
func ReadSettings(b []byte) (Settings, error) {
	s := DefaultSettings()
	if len(b) == 0 {
		return s, nil
	}
	if err := json.Unmarshal(b, &s); err != nil {
		return DefaultSettings(), fmt.Errorf("read settings of the spam filter: %w", err)
	}
	return s, nil
}

// Encode writes settings that are sound.
func (s Settings) Encode() ([]byte, error) {
	if err := s.check(); err != nil {
		return nil, err
	}
	return json.Marshal(s)
}

// check says what is wrong with settings.
func (s Settings) check() error {
	g := s.Greylist
	switch {
	case len(s.Lists) > MaxLists:
		return fmt.Errorf("there are at most %d lists", MaxLists)
	case len(s.Local) > MaxPrefixes || len(g.Good) > MaxPrefixes:
		return fmt.Errorf("there are at most %d networks", MaxPrefixes)
	case g.Delay < 0 || g.Window <= g.Delay || g.Keep <= 0 || time.Duration(g.Keep) > MaxKeep || time.Duration(g.Window) > MaxKeep:
		return fmt.Errorf("the delay of the greylist is shorter than its window, and nothing is kept longer than %v", Duration(MaxKeep))
	case s.Rate < 0:
		return fmt.Errorf("the rate is 0 or more")
	case !(s.Challenge.From >= 0 && s.Challenge.From <= 1) || s.Challenge.Keep <= 0 || time.Duration(s.Challenge.Keep) > MaxKeep:
		return fmt.Errorf("senders are asked from a probability of 0 to 1, and copies are kept up to %v", Duration(MaxKeep))
	}
	seen := map[string]bool{}
	for _, l := range s.Lists {
		if err := l.check(); err != nil {
			return err
		}
		if seen[l.Zone] {
			return fmt.Errorf("the list %s is there twice", l.Zone)
		}
		seen[l.Zone] = true
	}
	if s.Clamd != "" {
		if _, err := threat.ParseClamd(s.Clamd); err != nil {
			return err
		}
	}
	if s.Rspamd != "" {
		if _, err := threat.ParseRspamd(s.Rspamd); err != nil {
			return err
		}
	}
	return nil
}

// within reports whether an address is in one of networks.
func within(a netip.Addr, networks []netip.Prefix) bool {
	return slices.ContainsFunc(networks, func(p netip.Prefix) bool { return p.Contains(a) })
}

// ParseNetworks reads networks, or addresses that stand for themselves, with commas between; "none" and nothing are none.
func ParseNetworks(text string) ([]netip.Prefix, error) {
	out := []netip.Prefix{}
	if text == "" || text == "none" {
		return out, nil
	}
	for word := range strings.SplitSeq(text, ",") {
		word = strings.TrimSpace(word)
		if a, err := netip.ParseAddr(word); err == nil {
			out = append(out, netip.PrefixFrom(a.Unmap(), a.Unmap().BitLen()))
			continue
		}
		p, err := netip.ParsePrefix(word)
		if err != nil {
			return nil, fmt.Errorf("%q is no network of the form 192.0.2.0/24", word)
		}
		out = append(out, p.Masked())
	}
	return out, nil
}

// Network is what senders are told apart by: an IPv4 /24, an IPv6 /64; empty: no address.
func Network(a netip.Addr) string {
	a = a.Unmap().WithZone("")
	bits := 64
	if a.Is4() {
		bits = 24
	}
	p, err := a.Prefix(bits)
	if err != nil || !p.IsValid() {
		return ""
	}
	return p.String()
}

// Duration is written as text: "48h0m0s".
type Duration time.Duration

func (d Duration) String() string { return time.Duration(d).String() }

// MarshalText implements encoding.TextMarshaler.
func (d Duration) MarshalText() ([]byte, error) { return []byte(d.String()), nil }

// UnmarshalText implements encoding.TextUnmarshaler.
func (d *Duration) UnmarshalText(text []byte) error {
	v, err := time.ParseDuration(string(text))
	*d = Duration(v)
	return err
}
