package dkim

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Signature is what DKIM-Signature and ARC-Message-Signature have in common.
type Signature struct {
	Field            Field // that it was read from
	Tags             Tags
	Algorithm        Algorithm
	Domain, Selector string
	HeaderKeys       []string
	Time, Expires    time.Time // zero: not said

	header, body Canonicalization
	length       int64 // l=, or NoLimit
	bodyHash     []byte
	signature    []byte
	hash         *BodyHash
}

// ParseSignature reads the tags that a field must have to be checked: a, b, bh,
// d, h, s, and c, l, q, t, x (RFC 6376 section 3.5).
func ParseSignature(f Field) (*Signature, error) {
	tags, err := ParseTags(f.Value())
	if err != nil {
		return &Signature{Field: f}, err
	}
	s := &Signature{Field: f, Tags: tags, Domain: domainText(tags.Word("d")), Selector: tags.Word("s"),
		Algorithm: Algorithm(tags.Word("a")), HeaderKeys: tags.List("h"), length: NoLimit}
	for _, name := range []string{"a", "b", "bh", "d", "h", "s"} {
		if tags.Word(name) == "" {
			return s, fmt.Errorf("no %s=", name)
		}
	}
	return s, errors.Join(s.readAlgorithm(), s.readHashes(), s.readTimes())
}

func (s *Signature) readAlgorithm() error {
	switch s.Algorithm {
	case RSA, Ed25519:
	case "rsa-sha1": // RFC 8301 section 3.1
		return errors.New("SHA-1 proves nothing any more")
	default:
		return fmt.Errorf("unknown algorithm a=%.20q", string(s.Algorithm))
	}
	if methods := s.Tags.List("q"); methods != nil && !slices.Contains(methods, "dns/txt") {
		return errors.New("q= has no method to find the key that is known")
	}
	if _, given := s.Tags.Get("c"); !given {
		return nil // simple
	}
	header, body, both := strings.Cut(s.Tags.Word("c"), "/")
	var ok bool
	if s.header, ok = parseCanonicalization(header); !ok {
		return fmt.Errorf("unknown canonicalisation c=%.20q", header)
	}
	if s.body, ok = parseCanonicalization(body); !ok && both {
		return fmt.Errorf("unknown canonicalisation c=%.20q", body)
	}
	return nil
}

func (s *Signature) readHashes() (err error) {
	if s.signature, err = s.Tags.Bytes("b"); err != nil {
		return err
	}
	if s.bodyHash, err = s.Tags.Bytes("bh"); err != nil {
		return err
	}
	if !slices.ContainsFunc(s.HeaderKeys, func(k string) bool { return strings.EqualFold(k, "From") }) {
		return errors.New("the field From is not signed") // section 5.4
	}
	if text, ok := s.Tags.Get("l"); ok {
		if s.length, err = strconv.ParseInt(text, 10, 64); err != nil || s.length < 0 {
			return errors.New("l= is no length")
		}
	}
	return nil
}

func (s *Signature) readTimes() (err error) {
	if s.Time, err = s.Tags.Time("t"); err != nil {
		return err
	}
	if s.Expires, err = s.Tags.Time("x"); err != nil {
		return err
	}
	if !s.Expires.IsZero() && s.Expires.Before(s.Time) {
		return errors.New("it expires before it was made")
	}
	return nil
}

// Want has the hash of the body made that the signature is about. It is called
// before the body comes.
func (s *Signature) Want(b *Bodies) { s.hash = b.Want(s.body, s.length) }

// errUnsignedText is a body that goes on behind what is signed: whoever has seen
// the message could have written that.
var errUnsignedText = errors.New("l= leaves the end of the body unsigned")

// CheckBody compares the hash of the body, which has come to its end.
func (s *Signature) CheckBody() error {
	sum := s.hash.Sum()
	switch {
	case s.length != NoLimit && s.hash.Size() < s.length:
		return errors.New("the body is shorter than what was signed")
	case !bytes.Equal(sum, s.bodyHash):
		return errors.New("the body was changed")
	case s.length != NoLimit && s.hash.Size() > s.length:
		return errUnsignedText
	}
	return nil
}

// CheckHeader checks the signature over the fields of h and its own with key.
func (s *Signature) CheckHeader(h Header, key *PublicKey) error {
	if key.Verify(s.signed(h), s.signature) != nil {
		return errors.New("the signature does not fit the header: it was changed, or the key was")
	}
	return nil
}

// signed is the text that is signed (section 3.7).
func (s *Signature) signed(h Header) []byte {
	data := make([]byte, 0, 2048)
	fields := newPicker(h, s.HeaderKeys)
	for _, name := range s.HeaderKeys {
		if f, ok := fields.pick(name); ok {
			data = s.header.AppendField(data, f)
		}
	}
	data = s.header.AppendField(data, s.Tags.WithoutValue(s.Field, "b"))
	return bytes.TrimSuffix(data, []byte("\r\n"))
}

// Key looks the key of the signature up and checks that it is for such a signature.
// The error is a *[KeyError].
func (s *Signature) Key(ctx context.Context, r Resolver) (*PublicKey, error) {
	key, err := LookupKey(ctx, r, s.Domain, s.Selector)
	if err != nil {
		return nil, err
	}
	if err := key.Usable(s.Algorithm); err != nil {
		return nil, &KeyError{Reason: err.Error()}
	}
	return key, nil
}
