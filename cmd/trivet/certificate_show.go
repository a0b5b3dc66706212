package main

import (
	"context"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"io"
	"net"
	"time"

	"github.com/spf13/cobra"
)

func (c *cli) certificateCommand() *cobra.Command {
	certificate := group("certificate", "Certificates that clients and other mail servers see")
	certificate.AddCommand(
		c.certificateACMECommand(),
		command("list", "List the certificates there are, and the names that have none, with the reason", 0, 0, c.certificateList),
		c.certificateObtainCommand(),
		command("remove NAME", "Forget the certificate of a name, with its key", 1, 1, c.certificateRemove),
		command("show [NAME]", "Print the certificate that clients get who ask for a name, as PEM", 0, 1, c.certificateShow),
	)
	return certificate
}

// shownCertificate is one that this node shows.
type shownCertificate struct {
	Source    string    `json:"source"` // file, acme or self-signed
	Names     []string  `json:"names"`
	Issuer    string    `json:"issuer"`
	NotBefore time.Time `json:"not_before"`
	NotAfter  time.Time `json:"not_after"`
	SHA256    string    `json:"sha256"`     // of the certificate, hexadecimal
	KeySHA256 string    `json:"key_sha256"` // of its public key: what a TLSA record 3 1 1 has
	PEM       string    `json:"pem"`        // with its chain, without its key
}

func (c *cli) certificateShow(cmd *cobra.Command, args []string) error {
	var shown shownCertificate
	var in named
	if len(args) > 0 {
		in.Name = args[0]
	}
	if err := c.ask(cmd.Context(), "certificate.show", in, &shown); err != nil {
		return err
	}
	return c.print(shown, func(w io.Writer) { io.WriteString(w, shown.PEM) })
}

// shownCertificate is what a client gets that names a host; empty: none.
func (n *node) shownCertificate(ctx context.Context, in named) (shownCertificate, error) {
	pair, err := n.certs.named(ctx, in.Name)
	if err != nil {
		return shownCertificate{}, err
	}
	source := sourceACME
	switch pair {
	case n.certs.own.Load():
		source = sourceFile
	case n.certs.self.Load():
		source = sourceSelfSigned
	}
	return describe(pair, source), nil
}

// Where a certificate is from.
const (
	sourceFile       = "file"
	sourceACME       = "acme"
	sourceSelfSigned = "self-signed"
)

func describe(pair *tls.Certificate, source string) shownCertificate {
	leaf := pair.Leaf
	var chain []byte
	for _, der := range pair.Certificate {
		chain = append(chain, encodePEM(pemCertificate, der)...)
	}
	sum := sha256.Sum256(leaf.Raw)
	return shownCertificate{
		Source: source, Names: namesOf(leaf), Issuer: leaf.Issuer.String(), NotBefore: leaf.NotBefore, NotAfter: leaf.NotAfter,
		SHA256: hex.EncodeToString(sum[:]), KeySHA256: keyHash(leaf), PEM: string(chain),
	}
}

func namesOf(leaf *x509.Certificate) []string {
	names := append([]string{}, leaf.DNSNames...)
	for _, ip := range leaf.IPAddresses {
		names = append(names, net.IP.String(ip))
	}
	return names
}

// keyHash is the SHA-256 of the SubjectPublicKeyInfo, in hexadecimal: selector 1
// and matching type 1 of RFC 6698 sections 2.1.2 and 2.1.3.
func keyHash(leaf *x509.Certificate) string {
	sum := sha256.Sum256(leaf.RawSubjectPublicKeyInfo)
	return hex.EncodeToString(sum[:])
}
