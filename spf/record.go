package spf

import (
	"fmt"
	"net/netip"
	"regexp"
	"strconv"
	"strings"
)

const version = "v=spf1"

// record is a policy that could be read (RFC 7208 section 12).
type record struct {
	directives    []directive
	redirect, exp macroString // nil: not there
}

// directive is a qualifier and a mechanism.
type directive struct {
	text      string // as written
	result    Result // of its qualifier
	mechanism string
	domain    macroString  // nil: the domain that is checked
	prefix    netip.Prefix // of ip4 and ip6
	bits4     int          // of a and mx
	bits6     int
}

// isRecord reports whether a TXT record is a policy (section 4.5).
func isRecord(text string) bool {
	if len(text) < len(version) || !strings.EqualFold(text[:len(version)], version) {
		return false
	}
	return len(text) == len(version) || text[len(version)] == ' '
}

// parseRecord reads a policy. Any error in it is one of all of it (section 4.6).
func parseRecord(text string) (*record, error) {
	if len(text) > maxRecord {
		return nil, fmt.Errorf("the record has more than %d octets", maxRecord)
	}
	r := &record{}
	for term := range strings.SplitSeq(text[len(version):], " ") {
		if term == "" {
			continue
		}
		if err := r.addTerm(term); err != nil {
			return nil, fmt.Errorf("term %.60q: %w", term, err)
		}
	}
	return r, nil
}

// modifierName is the name of a modifier with its equals sign.
var modifierName = regexp.MustCompile(`^[A-Za-z][A-Za-z0-9_.-]*=`)

func (r *record) addTerm(term string) error {
	name := modifierName.FindString(term)
	if name == "" {
		d, err := parseDirective(term)
		r.directives = append(r.directives, d)
		return err
	}
	value := term[len(name):]
	switch strings.ToLower(name) {
	case "redirect=":
		return setModifier(&r.redirect, value)
	case "exp=":
		return setModifier(&r.exp, value)
	}
	_, err := parseMacros(value, inRecord) // section 6: unknown ones are ignored if they are well formed
	return err
}

// setModifier sets one of the two that may be there once (section 6).
func setModifier(modifier *macroString, value string) (err error) {
	if *modifier != nil {
		return fmt.Errorf("it is there twice")
	}
	*modifier, err = parseDomain(value)
	return err
}

var qualifiers = map[byte]Result{'+': Pass, '-': Fail, '~': SoftFail, '?': Neutral}

// parseDirective reads a qualifier, a mechanism and what it is about.
func parseDirective(term string) (directive, error) {
	d := directive{text: term, result: Pass, bits4: 32, bits6: 128}
	if result, ok := qualifiers[term[0]]; ok {
		d.result, term = result, term[1:]
	}
	end := strings.IndexAny(term, ":/")
	if end < 0 {
		end = len(term)
	}
	d.mechanism = strings.ToLower(term[:end])
	return d, d.setArgument(term[end:])
}

// setArgument reads what follows the name of the mechanism.
func (d *directive) setArgument(argument string) error {
	value, given := strings.CutPrefix(argument, ":")
	switch d.mechanism {
	case "all":
		if argument != "" {
			return fmt.Errorf("all stands alone")
		}
		return nil
	case "ip4", "ip6":
		return d.setPrefix(value)
	case "include", "exists":
		return d.setDomain(value, true)
	case "a", "mx":
		rest, err := d.cutBits(argument)
		if err != nil {
			return err
		}
		value, given = strings.CutPrefix(rest, ":")
		if !given && rest != "" {
			return fmt.Errorf("%.20q is no prefix length", rest)
		}
		return d.setDomain(value, given)
	case "ptr":
		if !given && argument != "" {
			return fmt.Errorf("ptr has no prefix length")
		}
		return d.setDomain(value, given)
	}
	return fmt.Errorf("unknown mechanism")
}

func (d *directive) setDomain(value string, given bool) (err error) {
	if given {
		d.domain, err = parseDomain(value)
	}
	return err
}

// dualCIDR is the end of an argument of a and mx (section 5.3, dual-cidr-length).
var dualCIDR = regexp.MustCompile(`(?:/([0-9]+))?(?://([0-9]+))?$`)

// cutBits takes the prefix lengths from the end of an argument.
func (d *directive) cutBits(argument string) (rest string, err error) {
	m := dualCIDR.FindStringSubmatchIndex(argument)
	if m[2] >= 0 {
		if d.bits4, err = parseBits(argument[m[2]:m[3]], 32); err != nil {
			return "", err
		}
	}
	if m[4] >= 0 {
		if d.bits6, err = parseBits(argument[m[4]:m[5]], 128); err != nil {
			return "", err
		}
	}
	return argument[:m[0]], nil
}

func parseBits(digits string, most int) (int, error) {
	n, err := strconv.ParseUint(digits, 10, 16)
	if err != nil || int(n) > most || len(digits) > 1 && digits[0] == '0' {
		return 0, fmt.Errorf("%.20q is no prefix length of up to %d", digits, most)
	}
	return int(n), nil
}

// setPrefix reads the network of ip4 and ip6 (section 5.6).
func (d *directive) setPrefix(value string) error {
	text, length, hasLength := strings.Cut(value, "/")
	addr, err := netip.ParseAddr(text)
	is4 := d.mechanism == "ip4"
	if err != nil || addr.Is4() != is4 || addr.Zone() != "" {
		return fmt.Errorf("%.50q is no address for %s", text, d.mechanism)
	}
	bits := addr.BitLen()
	if hasLength {
		if bits, err = parseBits(length, bits); err != nil {
			return err
		}
	}
	d.prefix = netip.PrefixFrom(addr, bits).Masked()
	return nil
}

// topLabel is the last label of a domain-spec that does not end with a macro
// (section 7.1).
var topLabel = regexp.MustCompile(`\.(?:[A-Za-z0-9]*[A-Za-z][A-Za-z0-9]*|[A-Za-z0-9]+-[A-Za-z0-9-]*[A-Za-z0-9])\.?$`)

// parseDomain reads a domain-spec.
func parseDomain(text string) (macroString, error) {
	macros, err := parseMacros(text, inRecord)
	if err != nil {
		return nil, err
	}
	if len(macros) == 0 {
		return nil, fmt.Errorf("the domain is empty")
	}
	last := macros[len(macros)-1]
	if last.letter == 0 && (last.escaped || !topLabel.MatchString(last.literal)) {
		return nil, fmt.Errorf("the domain does not end like one")
	}
	return macros, nil
}
