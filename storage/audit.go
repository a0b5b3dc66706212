package storage

import (
	"context"
	"sync"
)

// auditsKept bounds how many results of audits a node remembers.
const auditsKept = 8

// audits are the checksums of this node's state as of the audits in the log.
type audits struct {
	mu      sync.Mutex
	running sync.WaitGroup
	results map[uint64]Checksum // by index
	order   []uint64
}

type audit struct{}

// Audit has every node digest its state as of one and the same command, and
// returns the index of that command. The digests are worked out beside the
// work that goes on; see [Store.AuditResult].
func (s *Store) Audit(ctx context.Context) (index uint64, err error) {
	_, err = s.propose(ctx, kindAudit, nil, audit{}, &index)
	return index, err
}

// AuditResult returns this node's checksum as of an audit, or false when it is
// not done yet, or was too long ago.
func (s *Store) AuditResult(index uint64) (Checksum, bool) {
	a := &s.machine.audits
	a.mu.Lock()
	defer a.mu.Unlock()
	sum, ok := a.results[index]
	return sum, ok
}

func applyAudit(t *tx, _ audit) (any, error) { return t.index, nil }

// untilAudit returns how many entries go into the next transaction: up to and
// with an audit, whose moment all nodes must cut at.
func untilAudit(entries []Entry) (n int, audit bool) {
	for i, e := range entries {
		if c, err := decodeCommand(e.Data); err == nil && c.kind == kindAudit {
			return i + 1, true
		}
	}
	return len(entries), false
}

// startAudit digests the state as it is now. The caller holds mu. That it
// cannot be done is no error of the command: others may still compare.
func (m *Machine) startAudit(index uint64) {
	c, databases, err := m.frozen()
	if err != nil {
		m.log.Warn("audit not done", "index", index, "error", err)
		return
	}
	m.audits.running.Go(func() {
		defer c.close()
		defer databases.close()
		sum, err := checksum(context.Background(), c, databases)
		if err != nil {
			m.log.Warn("audit not done", "index", index, "error", err)
			return
		}
		m.log.Debug("audit", "index", index, "checksum", sum.Sum)
		m.audits.keep(index, sum)
	})
}

// frozen returns a connection that sees mail.db as of now, and the users'
// databases as of then. The caller holds mu.
func (m *Machine) frozen() (*conn, frozenDatabases, error) {
	c, err := openReader(mailFile(m.files.dir))
	if err != nil {
		return nil, nil, err
	}
	if _, err = c.exec("BEGIN"); err == nil {
		_, err = c.row("SELECT 1 FROM applied", nil)
	}
	var databases frozenDatabases
	if err == nil {
		databases, err = m.freezeDatabases()
	}
	if err != nil {
		c.close()
		return nil, nil, err
	}
	return c, databases, nil
}

func (a *audits) keep(index uint64, sum Checksum) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.results == nil {
		a.results = map[uint64]Checksum{}
	}
	a.results[index] = sum
	if a.order = append(a.order, index); len(a.order) > auditsKept {
		delete(a.results, a.order[0])
		a.order = a.order[1:]
	}
}

// forget drops the results: they are of a state that was replaced.
func (a *audits) forget() {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.results, a.order = nil, nil
}
