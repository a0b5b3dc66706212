package main

import (
	"context"
	"slices"
	"strings"
	"time"

	"github.com/mholt/acmez/v3"
	acmeprotocol "github.com/mholt/acmez/v3/acme"
)

// manualPoll is how often the DNS is asked whether a record is there.
const manualPoll = 2 * time.Second

// challengeRecord is what somebody has to publish so that an order goes on.
type challengeRecord struct {
	Name  string `json:"name"` // absolute
	Value string `json:"value"`
}

// manualSolver is the dns-01 challenge (RFC 8555 section 8.4) by hand: it shows
// the record and waits until the DNS has it.
type manualSolver struct{ acme *acme }

var (
	_ acmez.Solver = manualSolver{}
	_ acmez.Waiter = manualSolver{}
)

// Present implements acmez.Solver.
func (m manualSolver) Present(_ context.Context, c acmeprotocol.Challenge) error {
	record := challengeRecord{Name: c.DNS01TXTRecordName() + ".", Value: c.DNS01KeyAuthorization()}
	m.acme.node.log.Info("an order of a certificate waits for a DNS record", "name", record.Name, "type", "TXT", "value", record.Value)
	m.acme.mu.Lock()
	defer m.acme.mu.Unlock()
	m.acme.pending[c.Identifier.Value] = record
	return nil
}

// Wait implements acmez.Waiter: it ends when the record is seen, or with the order.
func (m manualSolver) Wait(ctx context.Context, c acmeprotocol.Challenge) error {
	for {
		values, err := m.acme.node.resolver.LookupTXT(ctx, c.DNS01TXTRecordName())
		if err == nil && slices.Contains(values, c.DNS01KeyAuthorization()) {
			return nil
		}
		if !sleep(ctx, manualPoll) {
			return ctx.Err()
		}
	}
}

// CleanUp implements acmez.Solver.
func (m manualSolver) CleanUp(_ context.Context, c acmeprotocol.Challenge) error {
	m.acme.mu.Lock()
	defer m.acme.mu.Unlock()
	delete(m.acme.pending, c.Identifier.Value)
	return nil
}

// waiting are the records that orders of this node wait for.
func (a *acme) waiting() []challengeRecord {
	a.mu.Lock()
	defer a.mu.Unlock()
	records := []challengeRecord{}
	for _, r := range a.pending {
		records = append(records, r)
	}
	slices.SortFunc(records, func(a, b challengeRecord) int { return strings.Compare(a.Name, b.Name) })
	return records
}
