package dkim

import (
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Fields that are signed where they are, with all their instances.
var signedFields = []string{
	"From", "Sender", "Reply-To", "Subject", "Date", "Message-ID", "To", "Cc", "In-Reply-To", "References",
	"MIME-Version", "Content-Type", "Content-Transfer-Encoding", "Content-Disposition", "Content-Language",
	"Resent-From", "Resent-Sender", "Resent-Date", "Resent-To", "Resent-Cc", "Resent-Message-ID",
	"List-Id", "List-Help", "List-Unsubscribe", "List-Unsubscribe-Post", "List-Subscribe", "List-Post", "List-Owner", "List-Archive",
}

// Fields that are signed once more than they are there, so that one more of
// them breaks the signature (RFC 6376 section 8.15): a reader may show that one.
var oversignedFields = []string{
	"From", "Reply-To", "Subject", "Date", "Message-ID", "To", "Cc",
	"MIME-Version", "Content-Type", "Content-Transfer-Encoding",
}

// maxSignedKeys is how many fields are signed; an ordinary message has 30.
const maxSignedKeys = 200

// SignedKeys is the list for h= of what we sign in h.
func SignedKeys(h Header) []string {
	var keys []string
	for _, name := range signedFields {
		for range h.All(name) {
			keys = append(keys, name)
		}
	}
	return append(keys, oversignedFields...)
}

// Signer signs a message that is written to it. Its Write never fails. Make it
// with [NewSigner].
type Signer struct {
	splitter Splitter
	bodies   Bodies
	keys     []PrivateKey
	header   Header
	hash     *BodyHash
	lifetime time.Duration
}

var _ io.Writer = (*Signer)(nil)

// NewSigner signs with each of keys, relaxed. With a lifetime the signatures expire.
func NewSigner(keys []PrivateKey, lifetime time.Duration) (*Signer, error) {
	for _, k := range keys {
		if _, err := algorithmOf(k.Key); err != nil {
			return nil, err
		}
		if k.Domain == "" || k.Selector == "" {
			return nil, errors.New("a DKIM key has a domain and a selector")
		}
	}
	s := &Signer{keys: keys, lifetime: lifetime}
	s.hash = s.bodies.Want(Relaxed, NoLimit)
	s.splitter.Begin = func(h Header) { s.header = h }
	s.splitter.Body = func(p []byte) { s.bodies.Write(p) }
	return s, nil
}

func (s *Signer) Write(p []byte) (int, error) { return s.splitter.Write(p) }

// Fields returns the DKIM-Signature fields to put in front of the message,
// which is complete. It fails on a message without From: that would never verify.
func (s *Signer) Fields(now time.Time) (string, error) {
	if err := s.splitter.Close(); err != nil {
		return "", fmt.Errorf("sign: %w", err)
	}
	if len(s.header.All("From")) == 0 {
		return "", errors.New("sign: the message has no From")
	}
	keys := SignedKeys(s.header)
	var out strings.Builder
	for _, key := range s.keys {
		tags := []string{"v=1"}
		if s.lifetime > 0 {
			tags = append(tags, "x="+strconv.FormatInt(now.Add(s.lifetime).Unix(), 10))
		}
		f, err := SignField("DKIM-Signature", tags, key, s.header, keys, s.hash.Sum(), now)
		if err != nil {
			return "", err
		}
		out.WriteString(string(f))
	}
	return out.String(), nil
}

// SignField makes a signature field of that name, with tags of its own in front,
// over the fields of h named by keys and a body with that relaxed hash.
func SignField(name string, own []string, key PrivateKey, h Header, keys []string, bodyHash []byte, now time.Time) (Field, error) {
	if len(keys) > maxSignedKeys {
		return "", fmt.Errorf("sign: the message has %d fields to sign, more than %d", len(keys), maxSignedKeys)
	}
	algorithm, err := key.Algorithm()
	if err != nil {
		return "", err
	}
	tags := append(slices.Clone(own), "a="+string(algorithm), "c=relaxed/relaxed", "d="+key.Domain, "s="+key.Selector,
		"t="+strconv.FormatInt(now.Unix(), 10), "h="+strings.Join(keys, ":"),
		"bh="+base64.StdEncoding.EncodeToString(bodyHash))
	unsigned := Fold(name, append(tags, "b="))
	s := Signature{Field: unsigned, HeaderKeys: keys, header: Relaxed}
	signature, err := key.Sign(s.signed(h))
	if err != nil {
		return "", err
	}
	return Fold(name, append(tags, "b="+base64.StdEncoding.EncodeToString(signature))), nil
}

// foldAt is how long a line of a field gets (RFC 5322 section 2.1.1).
const foldAt = 76

// Fold writes a field of tags, each on lines of its own. The value of the last
// tag, b=, is cut anywhere, others at their colons only: white space within
// them would be signed.
func Fold(name string, tags []string) Field {
	var out strings.Builder
	out.WriteString(name + ":")
	column := len(name) + 1
	piece := func(s string, space string) {
		if column+len(space)+len(s) > foldAt {
			out.WriteString("\r\n\t")
			column, space = 8, ""
		}
		out.WriteString(space + s)
		column += len(space) + len(s)
	}
	for i, tag := range tags {
		if i == len(tags)-1 {
			foldSignature(&out, tag)
			break
		}
		space := " "
		for part := range strings.SplitAfterSeq(tag+";", ":") {
			piece(part, space)
			space = ""
		}
	}
	out.WriteString("\r\n")
	return Field(out.String())
}

// foldSignature writes the tag b= on lines of its own, so that what is in front of it
// is the same without its value.
func foldSignature(out *strings.Builder, tag string) {
	const width = foldAt - 8
	for tag != "" {
		n := min(width, len(tag))
		out.WriteString("\r\n\t" + tag[:n])
		tag = tag[n:]
	}
}
