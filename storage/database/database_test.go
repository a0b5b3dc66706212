package database

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"
)

// replica is a log of one database, and the files it is applied to.
type replica struct {
	feed    bool
	mu      sync.Mutex
	files   []*File
	index   uint64
	effects [][]byte
	quota   int64
}

func (r *replica) Propose(_ context.Context, base uint64, effect, changes []byte) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.index++
	r.effects = append(r.effects, effect)
	for _, f := range r.files {
		if err := f.Apply(r.index, base, effect); err != nil {
			return err
		}
		if err := f.Commit(); err != nil {
			return err
		}
	}
	return nil
}

func (r *replica) QuotaPages() int64 { return r.quota }

func (r *replica) Feed() bool { return r.feed }

func (r *replica) RunElsewhere(context.Context, []Job) ([]Answer, bool, error) {
	return nil, false, nil
}

func (r *replica) HoldElsewhere(context.Context) (func(), bool) { return nil, false }

type fixture struct {
	*Database
	t   testing.TB
	log *replica
}

func newFixture(t testing.TB, limits Limits) *fixture {
	t.Helper()
	image, err := Image()
	if err != nil {
		t.Fatal(err)
	}
	if limits.WriteTime == 0 {
		limits.WriteTime = 5 * time.Minute // tests are not about the speed of a busy machine
	}
	dir := t.TempDir()
	log := &replica{}
	for i := range 3 {
		path := filepath.Join(dir, fmt.Sprintf("%d.db", i))
		if err := Create(path, image, 0); err != nil {
			t.Fatal(err)
		}
		f, err := OpenFile(path)
		if err != nil {
			t.Fatal(err)
		}
		log.files = append(log.files, f)
	}
	d := NewEngine(limits, nil).Database(log.files[0].Path(), log)
	t.Cleanup(func() {
		d.Close()
		for _, f := range log.files {
			if err := f.Close(); err != nil {
				t.Error(err)
			}
		}
	})
	return &fixture{d, t, log}
}

func (f *fixture) session() *Session {
	s := f.NewSession(func(context.Context) (Privilege, error) { return PrivilegeOwn, nil })
	f.t.Cleanup(s.Close)
	return s
}

// run runs all statements of sql, and returns the rows of the last one that had any.
func run(s *Session, sql string, args ...Value) ([][]Value, error) {
	var last [][]Value
	for sql != "" {
		var rows Rows
		_, rest, err := s.Run(context.Background(), Statement{SQL: sql, Args: args}, &rows)
		if err != nil {
			return nil, err
		}
		if rows.Names != nil {
			last = rows.Data
		}
		sql = rest
	}
	return last, nil
}

func (f *fixture) must(s *Session, sql string, args ...Value) [][]Value {
	f.t.Helper()
	rows, err := run(s, sql, args...)
	if err != nil {
		f.t.Fatalf("%s: %v", sql, err)
	}
	return rows
}

// same fails the test unless all files have the same pages.
func (f *fixture) same() {
	f.t.Helper()
	var first []byte
	for i, file := range f.log.files {
		if err := file.c.exec("PRAGMA wal_checkpoint(TRUNCATE)"); err != nil {
			f.t.Fatal(err)
		}
		var bad string
		c, err := openReader(file.path)
		if err != nil {
			f.t.Fatal(err)
		}
		if _, err := c.row("PRAGMA integrity_check", func(st *stmt) { bad = st.text(0) }); err != nil || bad != "ok" {
			f.t.Fatalf("file %d: %v %s", i, err, bad)
		}
		c.close()
		content, err := os.ReadFile(file.path)
		if err != nil {
			f.t.Fatal(err)
		}
		if len(content) != int(file.pages)*pageSize {
			f.t.Fatalf("file %d has %d octets, not %d pages", i, len(content), file.pages)
		}
		for j := range headerEnd {
			if j == headerFormat || j >= headerCounter && j < headerPages || j >= headerValid {
				content[j] = 0
			}
		}
		if i == 0 {
			first = content
		} else if string(first) != string(content) {
			f.t.Fatalf("file %d differs", i)
		}
	}
}

func TestEffectsKeepFilesAlike(t *testing.T) {
	f := newFixture(t, Limits{})
	s := f.session()
	for _, sql := range []string{
		"CREATE TABLE t (a, b)",
		"INSERT INTO t VALUES (random(), datetime('now')), (randomblob(20), NULL)",
		"INSERT INTO t SELECT random(), hex(randomblob(30)) FROM t",
	} {
		if _, err := run(s, sql); err != nil {
			t.Logf("%s: %v", sql, err)
		}
	}
	if rows := f.must(s, "SELECT count(*) FROM t"); rows[0][0].(int64) < 2 {
		t.Fatal(rows)
	}
	f.same()
}
