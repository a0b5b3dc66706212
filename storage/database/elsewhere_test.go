package database

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
)

// TestTransactionAmongSingleStatements: a transaction that reads and then writes
// comes through while others change the database all the time.
func TestTransactionAmongSingleStatements(t *testing.T) {
	f := newFixture(t, Limits{})
	ctx := context.Background()
	f.must(f.session(), "CREATE TABLE n (i INTEGER); INSERT INTO n VALUES (0)")
	var stop atomic.Bool
	var others sync.WaitGroup
	var done atomic.Int64
	for range 4 {
		s := f.session()
		others.Go(func() {
			for !stop.Load() {
				if _, _, err := s.Run(ctx, Statement{SQL: "UPDATE n SET i = i + 1"}, &Rows{}); err != nil {
					t.Error(err)
					return
				}
				done.Add(1)
			}
		})
	}
	defer others.Wait()
	defer stop.Store(true)
	s := f.session()
	for range 5 {
		lost := 0
		for ; ; lost++ {
			err := increment(ctx, s)
			if err == nil {
				break
			}
			if StateOf(err) != StateConflict || lost > 50 {
				t.Fatalf("after %d conflicts: %v", lost, err)
			}
		}
		if lost > 1 {
			t.Logf("%d conflicts", lost) // a machine that stands still for longer than HoldTime
		}
		done.Add(1)
	}
	stop.Store(true)
	others.Wait()
	if got := f.must(f.session(), "SELECT i FROM n")[0][0]; got != done.Load() {
		t.Errorf("%v of %d increments", got, done.Load())
	}
}

// increment reads and writes in one transaction.
func increment(ctx context.Context, s *Session) error {
	rows := &Rows{}
	for _, sql := range []string{"BEGIN", "SELECT i FROM n"} {
		if _, _, err := s.Run(ctx, Statement{SQL: sql}, rows); err != nil {
			return err
		}
	}
	if _, _, err := s.Run(ctx, Statement{SQL: "UPDATE n SET i = ?", Args: []Value{rows.Data[0][0].(int64) + 1}}, &Rows{}); err != nil {
		return err
	}
	_, _, err := s.Run(ctx, Statement{SQL: "COMMIT"}, &Rows{})
	return err
}

// TestHoldEnds: nobody can hold up others by not letting go.
func TestHoldEnds(t *testing.T) {
	f := newFixture(t, Limits{})
	release, err := f.Hold(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	f.must(f.session(), "CREATE TABLE t (i)") // waits until HoldTime is over
	release()
	release()
	f.must(f.session(), "INSERT INTO t VALUES (1)")
}

// leader is the host of a follower: it has another database's node run the jobs.
type leader struct {
	*replica
	at  *Database
	err error
}

func (l *leader) RunElsewhere(ctx context.Context, jobs []Job) ([]Answer, bool, error) {
	if l.err != nil {
		return nil, true, l.err
	}
	return l.at.Here(ctx, jobs), true, nil
}

func (l *leader) HoldElsewhere(ctx context.Context) (func(), bool) {
	release, err := l.at.Hold(ctx)
	if err != nil {
		return nil, true
	}
	return release, true
}

// TestStatementsOnTwoNodes: single statements on a node that does not lead never conflict.
func TestStatementsOnTwoNodes(t *testing.T) {
	f := newFixture(t, Limits{})
	ctx := context.Background()
	host := &leader{replica: f.log, at: f.Database}
	follower := NewEngine(Limits{}, nil).Database(f.log.files[1].Path(), host)
	t.Cleanup(follower.Close)
	f.must(f.session(), "CREATE TABLE t (i INTEGER PRIMARY KEY, b)")
	access := func(context.Context) (Privilege, error) { return PrivilegeWrite, nil }
	var all sync.WaitGroup
	for i := range 8 {
		s := []*Database{f.Database, follower}[i%2].NewSession(access)
		all.Go(func() {
			defer s.Close()
			for k := range 50 {
				rows := &Rows{}
				out, _, err := s.Run(ctx, Statement{SQL: "INSERT INTO t (b) VALUES (?) RETURNING b", Args: []Value{fmt.Sprint(i, k)}}, rows)
				if err != nil || out.Changed != 1 || rows.Data[0][0] != fmt.Sprint(i, k) {
					t.Errorf("%v %v %v", out, rows.Data, err)
					return
				}
			}
		})
	}
	all.Wait()
	if got := f.must(f.session(), "SELECT count(*) FROM t")[0][0]; got != int64(400) {
		t.Errorf("%v rows", got)
	}
	s := follower.NewSession(access)
	defer s.Close()
	if _, _, err := s.Run(ctx, Statement{SQL: "INSERT INTO t VALUES (1, 2)"}, &Rows{}); StateOf(err) != StateUnique {
		t.Error(err)
	}
	if _, _, err := s.Run(ctx, Statement{SQL: "DROP TABLE t"}, &Rows{}); StateOf(err) != StateDenied {
		t.Error(err)
	}
	host.err = fail(StateUnknown, "", "who knows")
	if _, _, err := s.Run(ctx, Statement{SQL: "INSERT INTO t VALUES (9999, 2)"}, &Rows{}); !errors.Is(err, host.err) {
		t.Error(err)
	}
}
