package main

import (
	"context"
	"fmt"
	"net/netip"
	"strings"
	"time"

	"trivet/spf"
	"trivet/spf/dmarc"
	"trivet/storage"
)

// texts returns the TXT records of a name that begin with a version.
func (c *zoneCheck) texts(ctx context.Context, name, version string) ([]string, error) {
	all, err := c.dns.LookupTXT(ctx, strings.TrimSuffix(name, "."))
	if err != nil && !isNotFound(err) {
		return nil, err
	}
	var found []string
	for _, text := range all {
		if len(text) >= len(version) && strings.EqualFold(text[:len(version)], version) {
			found = append(found, text)
		}
	}
	return found, nil
}

// only is the one text there has to be; status and why say how it stands otherwise.
func (c *zoneCheck) only(ctx context.Context, name, version string, absent checkStatus) (text string, status checkStatus, why string) {
	found, err := c.texts(ctx, name, version)
	switch {
	case err != nil:
		return "", statusWarn, "the DNS does not say: " + err.Error()
	case len(found) == 0:
		return "", absent, "there is none"
	case len(found) > 1:
		return "", statusFail, fmt.Sprintf("there are %d, which counts as an error: keep one", len(found))
	}
	return found[0], statusOK, found[0]
}

// checkSPF evaluates the policy as receivers do, for every address that mail goes out from.
func checkSPF(ctx context.Context, c *zoneCheck, group []record) (checkStatus, string) {
	domain := strings.TrimSuffix(group[0].Name, ".")
	absent := statusFail
	if domain != c.p.Domain {
		absent = statusWarn
	}
	text, status, why := c.only(ctx, domain, "v=spf1", absent)
	if status != statusOK {
		return status, why
	}
	for _, h := range c.p.Hosts {
		if domain != c.p.Domain && h.Name != domain {
			continue
		}
		addresses := h.Addresses
		if len(addresses) == 0 {
			addresses, _ = c.dns.LookupNetIP(ctx, "ip", h.Name) // none: there is a finding of its own
		}
		for _, ip := range addresses {
			if verdict := c.spf(ctx, ip, h.Name, domain); verdict.Result != spf.Pass {
				return statusFail, fmt.Sprintf("mail from %s (%s) gets %q: %s", h.Name, ip, verdict.Result, verdict.Reason)
			}
		}
	}
	return statusOK, text
}

func (c *zoneCheck) spf(ctx context.Context, ip netip.Addr, helo, domain string) spf.Verdict {
	q := spf.Query{IP: ip, Helo: helo, Now: time.Now()}
	if domain != helo || domain == c.p.Domain {
		q.MailFrom = reportsTo + "@" + domain
	}
	return spf.Check(ctx, c.dns, q)
}

func checkDMARC(ctx context.Context, c *zoneCheck, group []record) (checkStatus, string) {
	text, status, why := c.only(ctx, group[0].Name, "v=DMARC1", statusWarn)
	if status != statusOK {
		return status, why
	}
	record, err := dmarc.ParseRecord(text)
	switch {
	case err != nil:
		return statusFail, err.Error()
	case record.Policy == dmarc.PolicyNone:
		return statusWarn, text + " asks nothing of receivers: raise p= to quarantine"
	case len(record.Reports) == 0:
		return statusWarn, text + " has no rua=: you do not hear who misuses the domain"
	}
	return statusOK, text
}

func checkSTS(ctx context.Context, c *zoneCheck, group []record) (checkStatus, string) {
	text, status, why := c.only(ctx, group[0].Name, "v=STSv1", statusWarn)
	if status != statusOK {
		return status, why
	}
	if id := c.p.STS.ID(); !strings.Contains(strings.ReplaceAll(text, " ", ""), "id="+id) {
		return statusWarn, text + " is of an earlier policy: others keep that until it expires"
	}
	return statusOK, text + ", mode " + c.p.STS.Mode
}

func checkTLSRPT(ctx context.Context, c *zoneCheck, group []record) (checkStatus, string) {
	text, status, why := c.only(ctx, group[0].Name, "v=TLSRPTv1", statusWarn)
	if status == statusOK && !strings.Contains(text, "rua=") {
		return statusWarn, text + " has no rua="
	}
	return status, why
}

// domainCheck asks the DNS about a hosted domain, with a resolver that remembers nothing: what
// was pasted a moment ago is to be seen.
func (n *node) domainCheck(ctx context.Context, in named) ([]finding, error) {
	p, err := n.publication(ctx, in.Name)
	if err != nil {
		return nil, err
	}
	resolver, err := n.settings.newResolver()
	if err != nil {
		return nil, err
	}
	check := &zoneCheck{dns: resolver, p: p, ours: addressesOf(ctx, resolver, p.Hosts)}
	findings := check.checkRecords(ctx, p.records())
	if err := ctx.Err(); err != nil {
		return nil, &storage.Error{Op: "check " + p.Domain, Kind: storage.KindUnavailable, Err: err}
	}
	return findings, nil
}
