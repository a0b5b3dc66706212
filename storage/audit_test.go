package storage

import (
	"context"
	"testing"
)

// TestAuditCutsAtOneCommand has machines apply the same log in different
// batches: their audits agree, and one whose state differs does not.
func TestAuditCutsAtOneCommand(t *testing.T) {
	f := newFixture(t)
	ctx := context.Background()
	f.exercise()
	index, err := f.Audit(ctx)
	f.must(err)
	a, err := f.AccountByAddress(ctx, "alice@example.org")
	f.must(err)
	f.deliver(rawMessage(300, 400), a)
	want := f.audited(index)
	for _, n := range []int{1, 7, 1000} {
		g := newFixture(t)
		for rest := f.log.entries; len(rest) > 0; {
			batch := rest[:min(n, len(rest))]
			answers, err := g.Machine().Apply(batch)
			g.must(err)
			if len(answers) != len(batch) {
				t.Fatalf("%d answers for %d entries", len(answers), len(batch))
			}
			rest = rest[len(batch):]
		}
		if got := g.audited(index); got.Sum != want.Sum || got.Index != index {
			t.Fatalf("batches of %d: the audit differs", n)
		}
		f.must(g.machine.files.mail.script("UPDATE account SET used_bytes = used_bytes + 1"))
		again, err := g.Audit(ctx)
		f.must(err)
		if again == index || g.audited(again).Tables["account"] == want.Tables["account"] {
			t.Fatal("a change of one number does not show")
		}
	}
}

func (f *fixture) audited(index uint64) Checksum {
	f.t.Helper()
	f.machine.audits.running.Wait()
	sum, ok := f.AuditResult(index)
	if !ok {
		f.t.Fatalf("there is no audit as of %d", index)
	}
	return sum
}
