package test

import (
	"bufio"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
)

// TestSQLLogic runs files of sqllogictest through PostgreSQL's protocol on three
// nodes and on a plain SQLite, compares every answer, and then the files of all
// nodes row by row. Those in testdata/sqllogic are this project's own. SQLite's
// are not part of it: TRIVET_SQLLOGIC names a folder of them, and
// TRIVET_SQLLOGIC_QUERIES how many queries of each file are asked, 0 for all (see
// `make sqllogic`).
func TestSQLLogic(t *testing.T) {
	folder, most := "testdata/sqllogic", 0
	if given := os.Getenv("TRIVET_SQLLOGIC"); given != "" {
		folder = given
		most, _ = strconv.Atoi(os.Getenv("TRIVET_SQLLOGIC_QUERIES"))
	}
	files := logicFiles(t, folder)
	c := sqlCluster(t, 3)
	var next atomic.Int64
	var workers sync.WaitGroup
	var total logicCount
	for range 4 {
		workers.Go(func() {
			for i := int(next.Add(1)) - 1; i < len(files) && !t.Failed(); i = int(next.Add(1)) - 1 {
				total.add(c.runLogic(files[i], fmt.Sprintf("logic-%d", i), c.nodes[i%3], most))
			}
		})
	}
	workers.Wait()
	t.Logf("%d files: %d statements and %d queries, %d of them refused by both, %d not supported", len(files), total.statements.Load(), total.queries.Load(), total.refused.Load(), total.unsupported.Load())
	if total.queries.Load() == 0 {
		t.Error("nothing was asked")
	}
	c.agree()
}

type logicCount struct{ statements, queries, refused, unsupported atomic.Int64 }

func (l *logicCount) add(other *logicCount) {
	l.statements.Add(other.statements.Load())
	l.queries.Add(other.queries.Load())
	l.refused.Add(other.refused.Load())
	l.unsupported.Add(other.unsupported.Load())
}

func logicFiles(t *testing.T, folder string) (files []string) {
	t.Helper()
	err := filepath.WalkDir(folder, func(path string, d fs.DirEntry, err error) error {
		if err == nil && !d.IsDir() && filepath.Ext(path) == ".test" {
			files = append(files, path)
		}
		return err
	})
	if err != nil || len(files) == 0 {
		t.Fatalf("no files in %s: %v", folder, err)
	}
	slices.Sort(files)
	return files
}

// runLogic runs one file on a database of its own, by one node.
func (c *cluster) runLogic(file, database string, n *node, most int) *logicCount {
	c.t.Helper()
	count := &logicCount{}
	fail := func(err error) *logicCount {
		c.t.Errorf("%s: %v", file, err)
		return count
	}
	if _, err := c.nodes[0].try("", "database", "create", database); err != nil {
		return fail(err)
	}
	conn, err := n.connectWhenThere(database)
	if err != nil {
		return fail(err)
	}
	defer conn.Close(c.t.Context())
	plain, err := newPlainSQL()
	if err != nil {
		return fail(err)
	}
	defer plain.c.Close()
	err = readLogic(file, func(r logicRecord) error {
		if r.query {
			if most > 0 && count.queries.Load() >= int64(most) {
				return nil
			}
			count.queries.Add(1)
		} else {
			count.statements.Add(1)
		}
		failed, err := c.askBoth(conn, database, plain, r.sql)
		switch {
		case failed != nil && failed.Code == unsupported:
			count.unsupported.Add(1)
		case failed != nil:
			count.refused.Add(1)
		}
		if err != nil {
			err = fmt.Errorf("line %d: %w", r.line, err)
		}
		return err
	})
	if err != nil {
		return fail(err)
	}
	c.sameFiles(database, plain)
	return count
}

// logicRecord is what a file asks for. What it says of the answer is not read:
// the plain SQLite says it.
type logicRecord struct {
	sql   string
	query bool
	line  int
}

// readLogic reads a file; see https://www.sqlite.org/sqllogictest.
func readLogic(path string, each func(logicRecord) error) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	in := bufio.NewScanner(f)
	in.Buffer(nil, 16<<20)
	line, skip := 0, false
	for in.Scan() {
		line++
		words := strings.Fields(in.Text())
		if len(words) == 0 || strings.HasPrefix(words[0], "#") {
			continue
		}
		switch words[0] {
		case "skipif":
			skip = skip || words[1] == "sqlite"
		case "onlyif":
			skip = skip || words[1] != "sqlite"
		case "halt":
			if !skip {
				return nil
			}
			skip = false
		case "statement", "query":
			r := logicRecord{query: words[0] == "query", line: line}
			var sql []string
			for answer := false; in.Scan() && strings.TrimSpace(in.Text()) != ""; line++ {
				if answer = answer || in.Text() == "----"; !answer {
					sql = append(sql, in.Text())
				}
			}
			line++
			r.sql = strings.Join(sql, "\n")
			if !skip {
				if err := each(r); err != nil {
					return err
				}
			}
			skip = false
		}
	}
	return in.Err()
}
