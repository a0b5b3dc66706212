package arc

import (
	"encoding/base64"
	"errors"
	"fmt"
	"strings"
	"time"

	"trivet/spf/dkim"
)

// ErrSealed says that a chain takes no more sets: it is broken and says so, or
// is full (RFC 8617 sections 5.1 and 5.2).
var ErrSealed = errors.New("the chain takes no more sets")

// Sealer adds a set to the chain of a message that is passed on. The message is
// what goes out, without the new set; its header and body come as to [Verifier].
type Sealer struct {
	Key dkim.PrivateKey
	// Results is what was found when the message came in: our authserv-id and the
	// results as in Authentication-Results, without the name of the field.
	Results string
	// Chain is what a Verifier said of the message when it came in.
	Chain Status

	header dkim.Header
	hash   *dkim.BodyHash
}

// Begin takes the header, and has the hash made that is signed.
func (s *Sealer) Begin(h dkim.Header, bodies *dkim.Bodies) {
	s.header = h
	s.hash = bodies.Want(dkim.Relaxed, dkim.NoLimit)
}

// Fields returns the three fields to put in front of the message, which is
// complete. The error is [ErrSealed] where there is to be none.
func (s *Sealer) Fields(now time.Time) (string, error) {
	n, err := s.next()
	if err != nil {
		return "", err
	}
	existing := chain(nil)
	cv := "none"
	switch {
	case s.Chain == Pass:
		cv = "pass"
		if existing, err = gather(s.header); err != nil {
			return "", fmt.Errorf("seal: the chain was changed on the way through: %w", err)
		}
	case n > 1:
		cv = "fail"
	}
	added := set{results: dkim.Field(fmt.Sprintf("%s: i=%d; %s\r\n", fieldResults, n, s.Results))}
	own := []string{fmt.Sprint("i=", n)}
	if added.signature, err = dkim.SignField(fieldSignature, own, s.Key, s.header, s.keys(), s.hash.Sum(), now); err != nil {
		return "", err
	}
	if err := s.seal(existing, &added, n, cv, now); err != nil {
		return "", err
	}
	return string(added.seal + added.signature + added.results), nil
}

// keys are the fields to sign: what DKIM would, and the signatures that are there (section
// 4.1.2).
func (s *Sealer) keys() []string {
	keys := dkim.SignedKeys(s.header)
	for range min(len(s.header.All("DKIM-Signature")), dkim.MaxSignatures) {
		keys = append(keys, "DKIM-Signature")
	}
	return keys
}

// next is the instance to add.
func (s *Sealer) next() (int, error) {
	n := 0
	for _, f := range s.header.All(fieldSeal) {
		tags, err := dkim.ParseTags(f.Value())
		if err == nil && strings.EqualFold(tags.Word("cv"), "fail") {
			return 0, ErrSealed
		}
		if i, err := instance(f); err == nil {
			n = max(n, i)
		}
	}
	for _, name := range []string{fieldSignature, fieldResults} {
		for _, f := range s.header.All(name) {
			if i, err := instance(f); err == nil {
				n = max(n, i)
			}
		}
	}
	if n >= MaxSets || s.Chain == TempError {
		return 0, ErrSealed // nothing false is to be said of a chain that could not be checked
	}
	return n + 1, nil
}

// seal signs all sets; a broken chain leaves out the others (section 5.1.2).
func (s *Sealer) seal(existing chain, added *set, n int, cv string, now time.Time) error {
	algorithm, err := s.Key.Algorithm()
	if err != nil {
		return err
	}
	text := func(signature string) dkim.Field {
		return dkim.Fold(fieldSeal, []string{fmt.Sprint("i=", n), "a=" + string(algorithm), fmt.Sprint("t=", now.Unix()), "cv=" + cv,
			"d=" + s.Key.Domain, "s=" + s.Key.Selector, "b=" + signature})
	}
	added.seal = text("")
	if added.tags, err = dkim.ParseTags(added.seal.Value()); err != nil {
		return err
	}
	whole := append(append(chain{}, existing...), *added)
	signature, err := s.Key.Sign(whole.sealed())
	if err != nil {
		return err
	}
	added.seal = text(base64.StdEncoding.EncodeToString(signature))
	return nil
}
