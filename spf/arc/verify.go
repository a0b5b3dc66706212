package arc

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"trivet/spf/dkim"
)

// Status is the state of a chain (RFC 8617 section 4.4).
type Status string

const (
	None      Status = "none"
	Pass      Status = "pass"
	Fail      Status = "fail"
	TempError Status = "temperror" // DNS did not say
)

// Verdict is what is known of a chain.
type Verdict struct {
	Status  Status
	Reason  string   // why it is not Pass
	Domains []string // that sealed it, the oldest first; believe them only with Pass
	Results []string // what they say of the message, without i=; the oldest first
}

// Verifier checks the chain of a message, with the header and the hashes of the
// body as [dkim.Verifier] has them.
type Verifier struct {
	header    dkim.Header
	chain     chain
	problem   error
	signature *dkim.Signature // of the newest set
}

// Begin takes the header, and has the hash made that the chain needs.
func (v *Verifier) Begin(h dkim.Header, bodies *dkim.Bodies) {
	v.header = h
	if v.chain, v.problem = gather(h); v.problem != nil || len(v.chain) == 0 {
		return
	}
	v.signature, v.problem = dkim.ParseSignature(v.chain[len(v.chain)-1].signature)
	if v.problem != nil {
		return
	}
	if slices.ContainsFunc(v.signature.HeaderKeys, func(k string) bool { return strings.EqualFold(k, fieldSeal) }) {
		v.problem = errors.New("the signature of the message is about a seal") // section 4.1.2
		return
	}
	v.signature.Want(bodies)
}

// Sealed reports whether there is anything of a chain.
func (v *Verifier) Sealed() bool { return v.problem != nil || len(v.chain) > 0 }

// Verify returns the state of the chain. The body is complete.
func (v *Verifier) Verify(ctx context.Context, r dkim.Resolver) Verdict {
	out := Verdict{Status: Fail}
	if v.problem != nil {
		out.Reason = v.problem.Error()
		return out
	}
	if len(v.chain) == 0 {
		return Verdict{Status: None, Reason: "nobody has sealed the message"}
	}
	for _, s := range v.chain {
		_, results, _ := strings.Cut(s.results.Value(), ";")
		out.Results = append(out.Results, strings.TrimSpace(results))
		out.Domains = append(out.Domains, strings.ToLower(s.tags.Word("d")))
	}
	err := v.check(ctx, r)
	var keyErr *dkim.KeyError
	switch {
	case err == nil:
		out.Status = Pass
		return out
	case errors.As(err, &keyErr) && keyErr.Temporary:
		out.Status = TempError
	}
	out.Reason = err.Error()
	return out
}

// check does steps 4 and 6 of section 5.2: the newest signature, and all seals from
// the newest on.
func (v *Verifier) check(ctx context.Context, r dkim.Resolver) error {
	if err := v.signature.CheckBody(); err != nil {
		return fmt.Errorf("signature %d: %w", len(v.chain), err)
	}
	key, err := v.signature.Key(ctx, r)
	if err == nil {
		err = v.signature.CheckHeader(v.header, key)
	}
	if err != nil {
		return fmt.Errorf("signature %d: %w", len(v.chain), err)
	}
	for n := len(v.chain); n > 0; n-- {
		if err := v.chain[:n].checkSeal(ctx, r); err != nil {
			return fmt.Errorf("seal %d: %w", n, err)
		}
	}
	return nil
}

// checkSeal checks the seal of the newest set of c.
func (c chain) checkSeal(ctx context.Context, r dkim.Resolver) error {
	tags := c[len(c)-1].tags
	algorithm := dkim.Algorithm(tags.Word("a"))
	signature, err := tags.Bytes("b")
	if err != nil {
		return err
	}
	if tags.Word("d") == "" || tags.Word("s") == "" {
		return errors.New("no d= or s=")
	}
	key, err := dkim.LookupKey(ctx, r, tags.Word("d"), tags.Word("s"))
	if err != nil {
		return err
	}
	if err := key.Usable(algorithm); err != nil {
		return err
	}
	if key.Verify(c.sealed(), signature) != nil {
		return errors.New("it does not fit the sets: one was changed")
	}
	return nil
}
