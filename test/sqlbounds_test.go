package test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
)

// TestSQLBounds has clients ask for too much of a node while mail comes in: a
// statement without end, a result of more than may be sent, a table that fills the
// memory, a transaction that is left open. Each ends with an error that says so,
// mail is taken all the while, and the node's memory stays bounded.
func TestSQLBounds(t *testing.T) {
	c := startCluster(t, 1, clusterOptions{more: []string{"sql"}, flags: []string{"--sql-statement-time", "4s", "--sql-write-time", "4s"}}, "ann")
	c.createDatabase("shop")
	n := c.nodes[0]
	n.mustSQL("CREATE TABLE t (a)")
	before := n.memory()
	stop := make(chan struct{})
	var mails sync.WaitGroup
	var sent outbox
	mails.Go(func() { c.keepSending(1, []string{"ann"}, &sent, 10*time.Millisecond, stop) })
	endless := "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) "
	tests := []struct{ name, sql, state string }{
		{"a recursion without end", endless + "SELECT count(*) FROM n", "57014"},
		{"a result of 10 GB", endless + "SELECT hex(zeroblob(500000)) FROM n LIMIT 10000", "54000 57014"},
		{"a sort of everything", endless + "SELECT i, hex(zeroblob(1000)) AS h FROM n ORDER BY h, i DESC", "57014 53100"},
		{"a join of everything", "WITH RECURSIVE d(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM d WHERE x < 100000) SELECT count(*) FROM d a, d b, d c WHERE a.x * b.x = c.x + 0.5", "57014"},
		{"a row of 10 GB", endless + "SELECT group_concat(hex(zeroblob(1000000)), '') FROM n", "54000 57014"},
		{"more changes than fit", endless + "INSERT INTO t SELECT hex(zeroblob(2000)) FROM n", "54000 57014 53200"},
		{"more rows returned than fit", endless + "INSERT INTO t SELECT i FROM n LIMIT 3000000 RETURNING hex(zeroblob(1000))", "54000 57014"},
	}
	var clients sync.WaitGroup
	for _, test := range tests {
		clients.Go(func() {
			if state := n.endsWith(test.sql); !strings.Contains(test.state, state) {
				t.Errorf("%s, PostgreSQL's protocol: %s", test.name, state)
			}
		})
		clients.Go(func() {
			if state := n.streamEndsWith(test.sql); !strings.Contains(test.state, state) {
				t.Errorf("%s, HTTP: %s", test.name, state)
			}
		})
	}
	clients.Go(func() { n.leaveOpen() })
	clients.Wait()
	if after := n.memory(); after > before+768<<20 {
		t.Errorf("the node has taken %d MiB more", (after-before)>>20)
	} else {
		t.Logf("%d MiB before, %d MiB after; %d messages were sent meanwhile", before>>20, after>>20, len(sent.all()))
	}
	close(stop)
	mails.Wait()
	if len(sent.all()) == 0 {
		t.Error("no mail came in")
	}
	if rows := n.mustSQL("SELECT count(*) FROM t"); rows[0][0].(float64) != 0 {
		t.Errorf("%v rows are there of what was refused", rows)
	}
	c.agree()
}

// memory is what the node holds in memory, in octets.
func (n *node) memory() int64 {
	n.t.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", n.process.Process.Pid))
	if err != nil {
		n.t.Fatal(err)
	}
	for line := range strings.Lines(string(text)) {
		if value, ok := strings.CutPrefix(line, "VmRSS:"); ok {
			kib, err := strconv.ParseInt(strings.Fields(value)[0], 10, 64)
			if err != nil {
				n.t.Fatal(err)
			}
			return kib << 10
		}
	}
	n.t.Fatal("the system does not tell")
	return 0
}

// endsWith runs a statement by PostgreSQL's protocol, reads its rows without
// keeping them, and returns the SQLSTATE with which it ends.
func (n *node) endsWith(sql string) string {
	conn, err := n.connectSQL("shop")
	if err != nil {
		return err.Error()
	}
	defer conn.Close(context.Background())
	results := conn.Exec(context.Background(), sql)
	for results.NextResult() {
		for r := results.ResultReader(); r.NextRow(); {
		}
	}
	if err = results.Close(); err == nil {
		return "no error"
	}
	if failed, ok := err.(*pgconn.PgError); ok {
		return failed.Code
	}
	return err.Error()
}

// streamEndsWith runs a statement over HTTP, as lines of JSON, and returns the
// SQLSTATE of the error, which may come behind rows.
func (n *node) streamEndsWith(sql string) string {
	body, err := json.Marshal(map[string]any{"database": "shop", "sql": sql})
	if err != nil {
		return err.Error()
	}
	request, err := http.NewRequest(http.MethodPost, "http://"+n.listen["http"]+"/api/v1/sql", bytes.NewReader(body))
	if err != nil {
		return err.Error()
	}
	request.SetBasicAuth("admin@"+domain, password)
	request.Header.Set("Accept", "application/x-ndjson")
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return err.Error()
	}
	defer response.Body.Close()
	var last []byte // enough of the end for the error
	part := make([]byte, 64<<10)
	for err == nil {
		var k int
		k, err = response.Body.Read(part)
		last = append(last, part[:k]...)
		last = last[max(0, len(last)-1000):]
	}
	if i := bytes.LastIndex(last, []byte(`"sqlstate":"`)); i >= 0 {
		return string(last[i+12:][:5])
	}
	if err != io.EOF {
		return fmt.Sprintf("%v behind %.100q", err, last)
	}
	return fmt.Sprintf("no error: %.200q", last)
}

// leaveOpen begins a transaction, changes much in it, and goes away without a word.
func (n *node) leaveOpen() {
	conn, err := n.connectSQL("shop")
	if err != nil {
		n.t.Error(err)
		return
	}
	for _, sql := range []string{"BEGIN", "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 500) INSERT INTO t SELECT hex(zeroblob(1000)) FROM n"} {
		if _, failed, err := askSQL(conn, sql); err != nil || failed != nil && failed.Code != "57014" {
			n.t.Error(failed, err) // on a machine that is as busy as this one, time may run out
		}
	}
	n.t.Cleanup(func() { conn.Close(context.Background()) })
}
