package dkim

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"
)

// MaxSignatures is how many signatures of a message are looked at, from the
// top: each costs a look-up.
const MaxSignatures = 8

// Status is the outcome for a signature, in the words of RFC 8601 section 2.7.1.
type Status string

const (
	Pass      Status = "pass"
	Fail      Status = "fail"      // it does not fit this message
	Policy    Status = "policy"    // it fits, and is not accepted all the same
	TempError Status = "temperror" // DNS did not say
	PermError Status = "permerror" // the signature or its key is wrong, or none
)

// Result is what is known of a signature.
type Result struct {
	Status    Status
	Reason    string // why it is not Pass
	Domain    string // d=, in lower case
	Selector  string
	Identity  string // i=
	Algorithm Algorithm
	KeyBits   int
	Testing   bool   // the domain says that it tries DKIM out (t=y)
	Signature string // the first octets of b=, which tell signatures apart (RFC 6008)
}

// Verifier checks the signatures of a message that is written to it through a
// [Splitter]: Begin with the header, then each piece of the body.
type Verifier struct {
	Clock func() time.Time // nil: time.Now

	header     Header
	signatures []candidate
	ignored    int
}

// candidate is a signature and what was found wrong without its key.
type candidate struct {
	*Signature
	problem error
}

// Begin takes the header of the message, and has the hashes made that its
// signatures need.
func (v *Verifier) Begin(h Header, bodies *Bodies) {
	v.header = h
	for _, f := range h.All("DKIM-Signature") {
		if len(v.signatures) == MaxSignatures {
			v.ignored++
			continue
		}
		c := candidate{}
		c.Signature, c.problem = ParseSignature(f)
		if c.problem == nil {
			c.problem = v.check(c.Signature)
		}
		if c.problem == nil {
			c.Want(bodies)
		}
		v.signatures = append(v.signatures, c)
	}
}

// check looks at what DKIM asks for beyond the form.
func (v *Verifier) check(s *Signature) error {
	if version, _ := s.Tags.Get("v"); version != "1" {
		return errors.New("v= is not 1")
	}
	if _, domain := identity(s); domain != s.Domain && !strings.HasSuffix(domain, "."+s.Domain) {
		return errors.New("i= is outside of d=")
	}
	now := time.Now
	if v.Clock != nil {
		now = v.Clock
	}
	if !s.Expires.IsZero() && now().After(s.Expires) {
		return errors.New("it has expired")
	}
	return nil
}

// identity returns i= and its domain.
func identity(s *Signature) (whole, domain string) {
	whole = s.Tags.Word("i")
	if whole == "" {
		return "@" + s.Domain, s.Domain
	}
	return whole, domainText(whole[strings.LastIndexByte(whole, '@')+1:])
}

// Verify returns a result for each signature, from the top. The body is
// complete. The keys are looked up side by side.
func (v *Verifier) Verify(ctx context.Context, r Resolver) []Result {
	results := make([]Result, len(v.signatures))
	var all sync.WaitGroup
	for i, c := range v.signatures {
		results[i] = c.describe()
		if err := c.bodyProblem(); err != nil { // no look-up for what cannot pass
			results[i].fail(err)
			continue
		}
		all.Go(func() { v.verify(ctx, r, c.Signature, &results[i]) })
	}
	all.Wait()
	if v.ignored > 0 {
		results = append(results, Result{Status: Policy,
			Reason: fmt.Sprintf("%d more signatures were not looked at: there are more than %d", v.ignored, MaxSignatures)})
	}
	return results
}

// describe is what the result says whatever comes out.
func (c candidate) describe() Result {
	result := Result{Domain: c.Domain, Selector: c.Selector, Algorithm: c.Algorithm}
	result.Identity, _ = identity(c.Signature)
	result.Signature = c.Tags.Word("b")
	result.Signature = result.Signature[:min(len(result.Signature), 8)]
	if c.problem != nil {
		result.Status, result.Reason = PermError, c.problem.Error()
	}
	return result
}

// bodyProblem is what is wrong with the body, if the signature is one at all.
func (c candidate) bodyProblem() error {
	if c.problem != nil {
		return c.problem
	}
	return c.CheckBody()
}

// fail notes a body that does not fit, unless something worse is known.
func (r *Result) fail(err error) {
	if r.Status != "" {
		return
	}
	r.Status, r.Reason = Fail, err.Error()
	if errors.Is(err, errUnsignedText) {
		r.Status = Policy
	}
}

func (v *Verifier) verify(ctx context.Context, r Resolver, s *Signature, result *Result) {
	key, err := s.Key(ctx, r)
	var keyErr *KeyError
	if errors.As(err, &keyErr) {
		result.Status, result.Reason = PermError, keyErr.Reason
		if keyErr.Temporary {
			result.Status = TempError
		}
		return
	}
	result.KeyBits, result.Testing = key.Bits, key.Testing
	if _, domain := identity(s); key.Strict && domain != s.Domain { // section 3.6.1, t=s
		result.Status, result.Reason = PermError, "i= is a subdomain of d=, which the key forbids"
		return
	}
	result.Status = Pass
	if err := s.CheckHeader(v.header, key); err != nil {
		result.Status, result.Reason = Fail, err.Error()
	}
}
