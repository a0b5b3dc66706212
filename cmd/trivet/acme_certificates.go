package main

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"strings"
)

// certificateFolder is where certmagic keeps what it got: certificates/AUTHORITY/NAME/NAME.crt and .key.
const certificateFolder = "certificates"

// namedCertificates are by the name they are for.
type namedCertificates map[string]*tls.Certificate

// of is the certificate for a name, else the one for host: a mail server often
// does not say whom it wants. nil: there is none.
func (c namedCertificates) of(name, host string) *tls.Certificate {
	if pair := c[strings.ToLower(strings.TrimSuffix(name, "."))]; pair != nil {
		return pair
	}
	return c[host]
}

// stored reads all certificates that an authority gave. Of two for a name the
// later one counts. unfit says which were left out.
func (c *certificates) stored(ctx context.Context) (pairs namedCertificates, unfit, err error) {
	files, err := c.store.CertificateFiles(ctx, certificateFolder)
	if err != nil {
		return nil, nil, err
	}
	pairs = namedCertificates{}
	var errs []error
	for _, f := range files {
		base, ok := strings.CutSuffix(f.Name, ".crt")
		if !ok {
			continue
		}
		pair, err := c.pair(ctx, base)
		if err != nil {
			// Certificate and key are two writes: in between they do not fit.
			errs = append(errs, fmt.Errorf("certificate %s: %w", base, err))
			continue
		}
		for _, name := range pair.Leaf.DNSNames {
			if before := pairs[name]; before == nil || before.Leaf.NotAfter.Before(pair.Leaf.NotAfter) {
				pairs[name] = pair
			}
		}
	}
	return pairs, errors.Join(errs...), nil
}

func (c *certificates) pair(ctx context.Context, base string) (*tls.Certificate, error) {
	certificate, err := c.store.CertificateFile(ctx, base+".crt")
	if err != nil {
		return nil, err
	}
	key, err := c.store.CertificateFile(ctx, base+".key")
	if err != nil {
		return nil, err
	}
	pair, err := tls.X509KeyPair(certificate, key)
	return &pair, err
}

// refreshACME takes over what the authority gave since the last look. The caller holds mu.
func (c *certificates) refreshACME(ctx context.Context) error {
	files, err := c.store.CertificateFiles(ctx, certificateFolder)
	if err != nil {
		return err
	}
	var sum strings.Builder
	for _, f := range files {
		fmt.Fprintf(&sum, "%s %d %d\n", f.Name, f.Size, f.Modified.UnixMilli())
	}
	if sum.String() == c.acmeSum {
		return nil
	}
	pairs, unfit, err := c.stored(ctx)
	if err != nil || unfit != nil {
		return errors.Join(err, unfit)
	}
	c.acmeSum = sum.String()
	c.acme.Store(&pairs)
	return nil
}
