package arc

import (
	"errors"
	"fmt"
	"strconv"
	"strings"

	"trivet/spf/dkim"
)

// MaxSets is how many sets a chain may have (RFC 8617 section 4.2.1).
const MaxSets = 50

// The three fields of a set.
const (
	fieldResults   = "ARC-Authentication-Results"
	fieldSignature = "ARC-Message-Signature"
	fieldSeal      = "ARC-Seal"
)

// set is one instance of a chain.
type set struct {
	results, signature, seal dkim.Field
	tags                     dkim.Tags // of seal
}

// chain are the sets of a message by instance; that of instance 1 is the first.
type chain []set

var errIncomplete = errors.New("the sets are not complete")

// gather collects the sets of a header and checks their form (section 5.2, steps
// 1 to 3). A chain without sets is none.
func gather(h dkim.Header) (chain, error) {
	seals, signatures, results := h.All(fieldSeal), h.All(fieldSignature), h.All(fieldResults)
	n := max(len(seals), len(signatures), len(results))
	if n > MaxSets {
		return nil, fmt.Errorf("more than %d sets", MaxSets)
	}
	if len(seals) != n || len(signatures) != n || len(results) != n {
		return make(chain, n), errIncomplete
	}
	c := make(chain, n)
	for i := range n {
		if err := c.place(seals[i], signatures[i], results[i]); err != nil {
			return c, err
		}
	}
	return c, c.checkSeals()
}

// place puts three fields into the sets that they name; each place is for one.
func (c chain) place(seal, signature, results dkim.Field) error {
	for _, f := range []struct {
		field dkim.Field
		slot  func(*set) *dkim.Field
	}{
		{seal, func(s *set) *dkim.Field { return &s.seal }},
		{signature, func(s *set) *dkim.Field { return &s.signature }},
		{results, func(s *set) *dkim.Field { return &s.results }},
	} {
		i, err := instance(f.field)
		if err != nil {
			return err
		}
		if i > len(c) {
			return errIncomplete
		}
		slot := f.slot(&c[i-1])
		if *slot != "" {
			return fmt.Errorf("two fields %s of instance %d", f.field.Name(), i)
		}
		*slot = f.field
	}
	return nil
}

// instance reads i= of any of the three fields.
func instance(f dkim.Field) (int, error) {
	var text string
	if strings.EqualFold(f.Name(), fieldResults) {
		text, _, _ = strings.Cut(f.Value(), ";")
		name, value, _ := strings.Cut(text, "=")
		if strings.TrimSpace(name) != "i" {
			return 0, errors.New("the results do not begin with i=")
		}
		text = strings.TrimSpace(value)
	} else {
		tags, err := dkim.ParseTags(f.Value())
		if err != nil {
			return 0, fmt.Errorf("%s: %w", f.Name(), err)
		}
		text = tags.Word("i")
	}
	n, err := strconv.ParseUint(text, 10, 8)
	if err != nil || n < 1 || n > MaxSets {
		return 0, fmt.Errorf("%s: i= is not 1 to %d", f.Name(), MaxSets)
	}
	return int(n), nil
}

// checkSeals looks at what the seals say of the chain: none in front of the first,
// and each later one that it was good.
func (c chain) checkSeals() (err error) {
	for i := range c {
		s := &c[i]
		if s.tags, err = dkim.ParseTags(s.seal.Value()); err != nil {
			return fmt.Errorf("seal %d: %w", i+1, err)
		}
		want := "pass"
		if i == 0 {
			want = "none"
		}
		if cv := strings.ToLower(s.tags.Word("cv")); cv != want {
			return fmt.Errorf("seal %d says cv=%.10q", i+1, cv)
		}
		if _, has := s.tags.Get("h"); has { // section 4.1.3
			return fmt.Errorf("seal %d has h=", i+1)
		}
	}
	return nil
}

// sealed is the text that the seal of the newest set of c signs: all sets from the first,
// relaxed, the seal itself without its signature (section 5.1.1).
func (c chain) sealed() []byte {
	data := make([]byte, 0, 4096)
	for i, s := range c {
		data = dkim.Relaxed.AppendField(data, s.results)
		data = dkim.Relaxed.AppendField(data, s.signature)
		if i < len(c)-1 {
			data = dkim.Relaxed.AppendField(data, s.seal)
			continue
		}
		data = dkim.Relaxed.AppendField(data, s.tags.WithoutValue(s.seal, "b"))
	}
	return data[:max(0, len(data)-len("\r\n"))]
}
