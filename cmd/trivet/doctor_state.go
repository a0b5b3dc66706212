package main

import (
	"context"
	"fmt"
	"strings"
	"time"

	"trivet/raft"
)

const (
	// diskWarning times the reserve is when a disk is called nearly full.
	diskWarning = 16
	// skewWarning is a difference of clocks that makes records of the nodes hard to compare; skewFailure
	// one at which codes and certificates fail.
	skewWarning = time.Second
	skewFailure = 30 * time.Second
	// queueWarning is when a sender is told that a message is late.
	queueWarning = 4 * time.Hour
)

// disk looks at what is left of it on every node.
func (d *doctor) disk(ctx context.Context) []finding {
	members, err := d.node.raft.Members(ctx)
	if err != nil {
		return failing("disk", storageError(err))(ctx)
	}
	var findings []finding
	reserve := uint64(d.node.settings.DiskReserve)
	for _, m := range members {
		f := finding{Check: "disk of " + m.ID, Status: statusOK, Found: size(m.FreeBytes).about() + " free"}
		switch {
		case m.FreeBytes == 0:
			continue // it does not say, or does not answer, which is a finding of its own
		case m.FreeBytes < reserve:
			f.Status, f.Advice = statusFail, "no mail is accepted: make room"
		case m.FreeBytes < max(reserve, 1<<26)*diskWarning:
			f.Status, f.Advice = statusWarn, "make room before it is full"
		}
		findings = append(findings, f)
	}
	return findings
}

// quorum looks at how many nodes may fail.
func (d *doctor) quorum(ctx context.Context) []finding {
	members, err := d.node.raft.Members(ctx)
	if err != nil {
		return failing("quorum", storageError(err))(ctx)
	}
	f := finding{Check: "quorum", Status: statusOK}
	if err := d.node.raft.Ready(); err != nil {
		f.Status, f.Found, f.Advice = statusFail, err.Error(), "see 'trivet cluster status'"
		return []finding{f}
	}
	voters, ready := 0, 0
	var missing []string
	for _, m := range members {
		if m.Role != raft.RoleLearner {
			voters++
			if m.Ready {
				ready++
				continue
			}
		}
		if !m.Ready {
			missing = append(missing, m.ID)
		}
	}
	spare := ready - (voters/2 + 1)
	f.Found = fmt.Sprintf("%d of %d voting nodes are well; %d more may fail", ready, voters, max(spare, 0))
	switch {
	case len(missing) > 0:
		f.Status, f.Advice = statusWarn, "look at "+strings.Join(missing, ", ")+" with 'trivet cluster status'"
	case voters > 1 && voters%2 == 0:
		f.Status, f.Advice = statusWarn, "an even number of nodes stands no more failures than one less: add one"
	case voters == 1:
		f.Found = "a single node: when it is down, so is the mail; 'trivet cluster invite' adds others"
	}
	return []finding{f}
}

// queue looks at how long the oldest message has been waiting.
func (d *doctor) queue(ctx context.Context) []finding {
	totals, err := d.node.store.QueueTotals(ctx)
	if err != nil {
		return failing("queue", err)(ctx)
	}
	f := finding{Check: "queue", Status: statusOK, Found: fmt.Sprintf("%d recipients wait", totals.Due+totals.Leased)}
	if totals.Held > 0 {
		f.Found += fmt.Sprintf(", %d are held", totals.Held)
	}
	if age := time.Since(totals.Oldest); !totals.Oldest.IsZero() && age > queueWarning {
		f.Status, f.Advice = statusWarn, "see 'trivet queue list' for why"
		f.Found += ", the oldest for " + age.Round(time.Minute).String()
	}
	return []finding{f}
}

// certificates looks at those that the names of the nodes and domains are shown with.
func (d *doctor) certificates(ctx context.Context) []finding {
	list, err := d.node.listCertificates(ctx, nothing{})
	if err != nil {
		return failing("certificates", err)(ctx)
	}
	findings := []finding{d.hostCertificate(ctx)}
	for _, l := range list {
		name := strings.Join(l.Names, ", ")
		left := time.Until(l.NotAfter)
		switch {
		case l.Source == sourceNone:
			if !l.NextTry.IsZero() {
				findings = append(findings, finding{Check: "certificate of " + name, Status: statusWarn, Found: l.Problem,
					Advice: "it is tried again at " + l.NextTry.Format(time.DateTime) + "; at once with 'trivet certificate obtain " + l.Names[0] + "'"})
			}
		case left < 0:
			findings = append(findings, finding{Check: "certificate of " + name, Status: statusFail, Found: "it ended on " + l.NotAfter.Format(time.DateOnly), Advice: l.advice()})
		case left < expiryWarning:
			findings = append(findings, finding{Check: "certificate of " + name, Status: statusWarn, Found: "it ends on " + l.NotAfter.Format(time.DateOnly), Advice: l.advice()})
		}
	}
	return findings
}

func (l listedCertificate) advice() string {
	switch l.Source {
	case sourceFile:
		return "renew the files of tls-cert and tls-key"
	case sourceACME:
		if l.Problem != "" {
			return "the authority says: " + l.Problem
		}
		return "'trivet certificate obtain " + l.Names[0] + "'"
	}
	return "it is made anew by the leader by itself"
}

// hostCertificate looks at what mail servers see.
func (d *doctor) hostCertificate(ctx context.Context) finding {
	name := d.node.self().Name
	f := finding{Check: "certificate of " + name, Status: statusOK}
	pair, err := d.node.certs.named(ctx, name)
	if err != nil {
		f.Status, f.Found = statusFail, err.Error()
		return f
	}
	_, trusted := d.node.certs.standing(name)
	switch {
	case trusted:
		f.Found = "by " + pair.Leaf.Issuer.String() + " until " + pair.Leaf.NotAfter.Format(time.DateOnly)
	case pair.Leaf.VerifyHostname(name) != nil:
		f.Status, f.Found = statusFail, "it is for "+strings.Join(namesOf(pair.Leaf), ", ")+", not for the host's name"
		f.Advice = "get one that has that name too"
	case pair == d.node.certs.self.Load():
		f.Status, f.Found = statusWarn, "it is self-signed: clients warn of it"
		f.Advice = "'trivet certificate acme --agree' gets one from Let's Encrypt"
	default:
		f.Status, f.Found = statusWarn, "it is by "+pair.Leaf.Issuer.String()+", whom this machine does not trust"
		f.Advice = "fine for an authority of your own; others should be sent the whole chain in tls-cert"
	}
	return f
}

// peerClocks compares those of the nodes.
func (d *doctor) peerClocks(ctx context.Context) []finding {
	members, err := d.node.raft.Members(ctx)
	if err != nil {
		return failing("clocks of the nodes", storageError(err))(ctx)
	}
	var findings []finding
	for _, m := range members {
		if m.ID == string(d.node.settings.Node) || m.LastContact < 0 {
			continue
		}
		findings = append(findings, clockFinding("clock of "+m.ID+", beside the leader's", m.ClockSkew))
	}
	return findings
}

func clockFinding(check string, skew time.Duration) finding {
	f := finding{Check: check, Status: statusOK, Found: fmt.Sprintf("off by %v", skew.Round(time.Millisecond))}
	switch {
	case skew.Abs() > skewFailure:
		f.Status = statusFail
	case skew.Abs() > skewWarning:
		f.Status = statusWarn
	default:
		return f
	}
	f.Advice = "let chrony or systemd-timesyncd keep the time"
	return f
}

// domain sums up what `domain check` says.
func (d *doctor) domain(ctx context.Context, name string) []finding {
	findings, err := d.node.domainCheck(ctx, named{Name: name})
	if err != nil {
		return failing("DNS of "+name, err)(ctx)
	}
	f := finding{Check: "DNS of " + name, Status: statusOK, Found: fmt.Sprintf("%d records are right", len(findings))}
	var wrong []string
	for _, one := range findings {
		if one.Status == statusOK {
			continue
		}
		wrong = append(wrong, one.Check)
		if one.Status == statusFail || f.Status == statusOK {
			f.Status = one.Status
		}
	}
	if len(wrong) > 0 {
		f.Found = fmt.Sprintf("%d of %d: %s", len(wrong), len(findings), strings.Join(wrong, ", "))
		f.Advice = "'trivet domain check " + name + "' says what is wrong and what to publish"
	}
	return []finding{f}
}
