package test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// sqlAnswer is what POST /api/v1/sql says.
type sqlAnswer struct {
	Results []struct {
		Rows         [][]any `json:"rows"`
		RowsAffected int     `json:"rows_affected"`
	} `json:"results"`
	Error *struct {
		State   string `json:"sqlstate"`
		Message string `json:"message"`
	} `json:"error"`
}

// sql runs statements on a node as one transaction, and returns their answer, or
// an error when none came.
func (n *node) sql(statements ...string) (sqlAnswer, error) {
	request := sqlRequest{Transaction: true}
	for _, s := range statements {
		request.Statements = append(request.Statements, sqlStatement{s})
	}
	return n.post(request)
}

type (
	sqlRequest struct {
		Database    string         `json:"database"`
		Consistency string         `json:"consistency,omitempty"`
		Transaction bool           `json:"transaction"`
		Statements  []sqlStatement `json:"statements"`
	}
	sqlStatement struct {
		SQL string `json:"sql"`
	}
)

func (n *node) post(body sqlRequest) (answer sqlAnswer, err error) {
	body.Database = "shop"
	raw, err := json.Marshal(body)
	if err != nil {
		return answer, err
	}
	request, err := http.NewRequest(http.MethodPost, "http://"+n.listen["http"]+"/api/v1/sql", bytes.NewReader(raw))
	if err != nil {
		return answer, err
	}
	request.SetBasicAuth("admin@"+domain, password)
	client := http.Client{Timeout: patience}
	if n.netns != "" {
		client.Transport = &http.Transport{DisableKeepAlives: true, DialContext: func(context.Context, string, string) (net.Conn, error) { return dial(n.at("http"), patience) }}
	}
	response, err := client.Do(request)
	if err != nil {
		return answer, err
	}
	defer response.Body.Close()
	return answer, json.NewDecoder(response.Body).Decode(&answer)
}

func (n *node) mustSQL(statements ...string) [][]any {
	n.t.Helper()
	for deadline := time.Now().Add(patience); ; time.Sleep(50 * time.Millisecond) {
		answer, err := n.sql(statements...)
		if err == nil && answer.Error == nil {
			return answer.Results[len(answer.Results)-1].Rows
		}
		if time.Now().After(deadline) {
			n.t.Fatalf("%v: %v %+v", statements, err, answer.Error)
		}
	}
}

// TestSQLThroughTheDeathOfTheLeader writes on all nodes while the leader is
// killed: what was acknowledged is there once, what was not at most once, and no
// transaction is half there.
func TestSQLThroughTheDeathOfTheLeader(t *testing.T) {
	c := newCluster(t, 3)
	c.createDatabase("shop")
	c.nodes[0].mustSQL("CREATE TABLE entry (id INTEGER, word BLOB)", "CREATE TABLE counter (n INTEGER)", "INSERT INTO counter VALUES (0)")
	var mu sync.Mutex
	sent, acknowledged := map[int]bool{}, map[int]bool{}
	var stop atomic.Bool
	var writers sync.WaitGroup
	for w := range 6 {
		n := c.nodes[w%3]
		writers.Go(func() {
			for i := 0; !stop.Load(); i++ {
				id := w*1_000_000 + i
				mu.Lock()
				sent[id] = true
				mu.Unlock()
				answer, err := n.sql(fmt.Sprintf("INSERT INTO entry VALUES (%d, randomblob(20))", id), "UPDATE counter SET n = n + 1")
				if err == nil && answer.Error == nil {
					mu.Lock()
					acknowledged[id] = true
					mu.Unlock()
				} else {
					time.Sleep(20 * time.Millisecond)
				}
			}
		})
	}
	done := func() int {
		mu.Lock()
		defer mu.Unlock()
		return len(acknowledged)
	}
	reach := func(most int) {
		for deadline := time.Now().Add(patience); done() < most && time.Now().Before(deadline); {
			time.Sleep(10 * time.Millisecond)
		}
	}
	reach(60)
	leader := c.leader()
	leader.kill()
	before := done()
	reach(before + 60)
	leader.start()
	reach(done() + 30)
	stop.Store(true)
	writers.Wait()
	if done() < before+60 {
		t.Fatalf("%d acknowledged before the leader died, %d in all", before, done())
	}
	c.settle()
	for i, n := range c.nodes {
		times := map[int]int{}
		for _, row := range n.mustSQL("SELECT id FROM entry") {
			times[int(row[0].(float64))]++
		}
		for id := range acknowledged {
			if times[id] != 1 {
				t.Errorf("node %d: %d was acknowledged and is there %d times", i, id, times[id])
			}
		}
		for id, count := range times {
			if count > 1 || !sent[id] {
				t.Errorf("node %d: %d is there %d times", i, id, count)
			}
		}
		if n := n.mustSQL("SELECT n FROM counter")[0][0].(float64); int(n) != len(times) {
			t.Errorf("node %d: the counter says %v, there are %d", i, n, len(times))
		}
	}
	t.Logf("%d sent, %d acknowledged", len(sent), len(acknowledged))
	c.agree()
}
