package main

import (
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
)

// listedCertificate is a certificate there is, or a name that has none.
type listedCertificate struct {
	Names    []string  `json:"names"`
	Source   string    `json:"source"` // file, acme, self-signed; none
	Issuer   string    `json:"issuer,omitempty"`
	NotAfter time.Time `json:"not_after,omitzero"`
	RenewAt  time.Time `json:"renew_at,omitzero"` // when the leader renews it
	Problem  string    `json:"problem,omitempty"` // why there is none, or no newer one
	NextTry  time.Time `json:"next_try,omitzero"`
}

const sourceNone = "none"

func (c *cli) certificateList(cmd *cobra.Command, _ []string) error {
	list := []listedCertificate{}
	if err := c.ask(cmd.Context(), "certificate.list", nothing{}, &list); err != nil {
		return err
	}
	return c.print(list, func(w io.Writer) {
		for _, l := range list {
			until := "-"
			if !l.NotAfter.IsZero() {
				until = "until " + l.NotAfter.Format(time.DateOnly)
			}
			fmt.Fprintf(w, "%s\t%s\t%s\t%s\n", strings.Join(l.Names, ", "), l.Source, until, l.Problem)
		}
	})
}

func (c *cli) certificateRemove(cmd *cobra.Command, args []string) error {
	in, err := domainArgument(args[0])
	if err != nil {
		return err
	}
	return c.remove(cmd, "certificate.remove", in)
}

// listCertificates lists what could be shown, in the order in which it is
// looked for, and then the names without.
func (n *node) listCertificates(ctx context.Context, _ nothing) ([]listedCertificate, error) {
	list := []listedCertificate{}
	add := func(pair *tls.Certificate, source string) {
		if pair != nil {
			list = append(list, listedCertificate{Names: namesOf(pair.Leaf), Source: source, Issuer: pair.Leaf.Issuer.String(), NotAfter: pair.Leaf.NotAfter})
		}
	}
	add(n.certs.own.Load(), sourceFile)
	stored, _, err := n.certs.stored(ctx)
	if err != nil {
		return nil, err
	}
	problems, err := n.problems(ctx)
	if err != nil {
		return nil, err
	}
	for _, name := range slices.Sorted(maps.Keys(stored)) {
		pair := stored[name]
		add(pair, sourceACME)
		last := &list[len(list)-1]
		last.Names, last.RenewAt = []string{name}, renewAt(pair.Leaf)
		if p, ok := problems[name]; ok {
			last.Problem, last.NextTry = p.Error, p.next()
		}
	}
	add(n.certs.self.Load(), sourceSelfSigned)
	missing, err := n.missingCertificates(ctx, stored, problems)
	return append(list, missing...), err
}

func (n *node) missingCertificates(ctx context.Context, stored namedCertificates, problems map[string]acmeProblem) ([]listedCertificate, error) {
	s, err := n.acmeSettings(ctx)
	if err != nil {
		return nil, err
	}
	names, err := n.certificateNames(ctx, s)
	if err != nil {
		return nil, err
	}
	var list []listedCertificate
	for _, name := range names {
		if stored[name.Name] != nil {
			continue
		}
		l := listedCertificate{Names: []string{name.Name}, Source: sourceNone, Problem: name.Why}
		p, failed := problems[name.Name]
		switch {
		case name.Why != "":
		case failed:
			l.Problem, l.NextTry = p.Error, p.next()
		case !s.Agreed:
			l.Problem = "not ordered: agree to the authority's terms with 'trivet certificate acme --agree'"
		case s.Challenge == challengeDNS:
			l.Problem = "not ordered: dns-01 by hand needs somebody, run 'trivet certificate obtain " + name.Name + "'"
		default:
			l.Problem = "about to be ordered"
		}
		list = append(list, l)
	}
	return list, nil
}
