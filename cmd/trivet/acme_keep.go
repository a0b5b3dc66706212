package main

import (
	"context"
	"encoding/json"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"trivet/raft"
	"trivet/storage"
)

// How the leader gets and renews certificates.
const (
	acmePoll = 2 * time.Second
	// An order that failed is tried again after acmeBackOff, then after twice as
	// long each time, at most acmeMostBackOff: authorities allow few failures an hour.
	acmeBackOff     = 5 * time.Minute
	acmeMostBackOff = 12 * time.Hour
)

// problemFolder, with a name behind it, says why there is no certificate for
// that name. It is in the state, so that every node can say so, and the next leader knows.
const problemFolder = "problems/"

// acmeProblem is an order that failed.
type acmeProblem struct {
	Error    string    `json:"error"`
	At       time.Time `json:"at"`
	Failures int       `json:"failures"` // in a row
}

// next is when it is tried again.
func (p acmeProblem) next() time.Time {
	pause := acmeMostBackOff
	if shift := max(p.Failures-1, 0); shift < 10 {
		pause = min(acmeBackOff<<shift, acmeMostBackOff)
	}
	return p.At.Add(pause)
}

// keepCertificates orders and renews certificates while this node leads.
func (n *node) keepCertificates(ctx context.Context) {
	tick := time.NewTicker(acmePoll)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		if n.raft.Status().Role != raft.RoleLeader {
			continue
		}
		if err := n.orderDue(ctx); err != nil && ctx.Err() == nil {
			n.log.Warn("certificates are not looked after; it is tried again", "error", err)
		}
	}
}

// orderDue orders what is missing or has little time left.
func (n *node) orderDue(ctx context.Context) error {
	s, err := n.acmeSettings(ctx)
	if err != nil || !s.Agreed || s.Challenge == challengeDNS || n.certs.own.Load() != nil {
		return err // with dns-01 somebody has to be there
	}
	hosts, names, err := n.wantedNames(ctx, s)
	if err != nil {
		return err
	}
	client, err := n.acme.current(ctx)
	if err != nil {
		return err
	}
	for _, name := range names {
		got, err := n.acme.got(ctx, client, name)
		if err != nil {
			return err
		}
		if got != nil && !due(got, time.Now()) || time.Now().Before(n.acmeProblem(ctx, name).next()) ||
			n.elsewhere(ctx, name, addressesOf(ctx, n.resolver, hosts)) != "" {
			continue
		}
		if n.raft.Status().Role != raft.RoleLeader || ctx.Err() != nil {
			return nil
		}
		if err := n.orderOne(ctx, name, false); err != nil {
			n.log.Warn("no certificate", "name", name, "error", err)
		}
	}
	return nil
}

// orderOne orders one certificate and writes down how it went.
func (n *node) orderOne(ctx context.Context, name string, force bool) error {
	err := n.acme.order(ctx, name, force)
	path := problemFolder + name
	if err == nil {
		n.certs.refresh(ctx)
		n.log.Info("there is a certificate", "name", name)
		return n.store.DeleteCertificateFiles(ctx, path, nil)
	}
	if ctx.Err() != nil {
		return err // stopped, not refused
	}
	problem := n.acmeProblem(ctx, name)
	problem.Error, problem.At, problem.Failures = err.Error(), time.Now(), problem.Failures+1
	if value, encodeErr := json.Marshal(problem); encodeErr == nil {
		if writeErr := n.store.PutCertificateFile(ctx, path, value, nil); writeErr != nil {
			n.log.Warn("the failure of an order is not written down", "name", name, "error", writeErr)
		}
	}
	return err
}

// acmeProblem is the zero value when there is none.
func (n *node) acmeProblem(ctx context.Context, name string) (p acmeProblem) {
	if value, err := n.store.CertificateFile(ctx, problemFolder+name); err == nil {
		_ = json.Unmarshal(value, &p) // of a later release, perhaps: then none
	}
	return p
}

// servicePrefixes are the names below a domain that mail clients and servers
// look for: MTA-STS (RFC 8461), Thunderbird, Outlook, and people.
var servicePrefixes = [...]string{"mta-sts.", "autoconfig.", "autodiscover.", "mail."}

// certificateName is a name that should have a certificate.
type certificateName struct {
	Name string
	Here bool   // its DNS leads to this cluster
	Why  string // when not
}

// wantedNames are the names of the hosts, those that clients look for below
// each domain, and those of the settings; each once.
func (n *node) wantedNames(ctx context.Context, s acmeSettings) (hosts []host, names []string, err error) {
	if hosts, err = n.hosts(ctx); err != nil {
		return nil, nil, err
	}
	domains, err := n.store.Domains(ctx)
	if err != nil {
		return nil, nil, err
	}
	all := slices.Concat(hostNames(hosts), s.Names)
	for _, d := range domains {
		for _, prefix := range servicePrefixes {
			all = append(all, prefix+d.Name)
		}
	}
	for _, name := range all {
		if !slices.Contains(names, name) {
			names = append(names, name)
		}
	}
	return hosts, names, nil
}

// certificateNames are the wanted names, and whether they lead here.
func (n *node) certificateNames(ctx context.Context, s acmeSettings) ([]certificateName, error) {
	hosts, names, err := n.wantedNames(ctx, s)
	if err != nil {
		return nil, err
	}
	ours := addressesOf(ctx, n.resolver, hosts)
	var out []certificateName
	for _, name := range names {
		why := n.elsewhere(ctx, name, ours)
		out = append(out, certificateName{Name: name, Here: why == "", Why: why})
	}
	return out, nil
}

// addressLookup is the part of the DNS that has addresses.
type addressLookup interface {
	LookupNetIP(ctx context.Context, network, host string) ([]netip.Addr, error)
}

// addressesOf is where the cluster is: what its nodes say, and what the DNS
// says of their names, which is all that is known behind a translated address.
func addressesOf(ctx context.Context, dns addressLookup, hosts []host) []netip.Addr {
	var all []netip.Addr
	for _, h := range hosts {
		all = append(all, h.Addresses...)
		if found, err := dns.LookupNetIP(ctx, "ip", h.Name); err == nil {
			all = append(all, found...)
		}
	}
	return all
}

// elsewhere says why an authority would not find this cluster behind a name; empty: it would.
func (n *node) elsewhere(ctx context.Context, name string, ours []netip.Addr) string {
	if !strings.Contains(name, ".") {
		return "it has no domain, so no authority knows it"
	}
	found, err := n.resolver.LookupNetIP(ctx, "ip", name)
	if err != nil {
		return err.Error()
	}
	for _, ip := range found {
		if !slices.Contains(ours, ip.Unmap()) {
			return fmt.Sprintf("its address %s is none of this cluster's", ip)
		}
	}
	return ""
}

// problems are those of all names.
func (n *node) problems(ctx context.Context) (map[string]acmeProblem, error) {
	files, err := n.store.CertificateFiles(ctx, strings.TrimSuffix(problemFolder, "/"))
	if err != nil {
		return nil, err
	}
	all := map[string]acmeProblem{}
	for _, f := range files {
		name := strings.TrimPrefix(f.Name, problemFolder)
		all[name] = n.acmeProblem(ctx, name)
	}
	return all, nil
}

// forgetCertificate removes the certificate of a name, its key and its problems.
func (n *node) forgetCertificate(ctx context.Context, in named) (removed, error) {
	files, err := n.store.CertificateFiles(ctx, certificateFolder)
	if err != nil {
		return removed{}, err
	}
	found := false
	for _, f := range files {
		if parts := strings.Split(f.Name, "/"); len(parts) == 4 && parts[2] == in.Name {
			found = true
			if err := n.store.DeleteCertificateFiles(ctx, strings.Join(parts[:3], "/"), nil); err != nil {
				return removed{}, err
			}
		}
	}
	if !found {
		return removed{}, &storage.Error{Op: "certificate of " + in.Name, Kind: storage.KindNotFound, Hint: "see 'trivet certificate list'"}
	}
	n.certs.refresh(ctx)
	return removed{Removed: in.Name}, n.store.DeleteCertificateFiles(ctx, problemFolder+in.Name, nil)
}
