package test

import (
	"fmt"
	"os"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// TestSQLKilledInTheMiddle kills the leader in the middle of many transactions of
// clients that send each until it is acknowledged, by whatever node answers. A
// client that does not know what became of its transaction sends it again with the
// same id, which is a key of a table that the transaction inserts into: SQLSTATE
// 23505 then says that it was done. In the end each was done once, whole.
// TRIVET_SQL_KILL is how many there are.
func TestSQLKilledInTheMiddle(t *testing.T) {
	count := 10_000
	if given, err := strconv.Atoi(os.Getenv("TRIVET_SQL_KILL")); err == nil {
		count = given
	}
	c := newCluster(t, 3)
	c.createDatabase("shop")
	c.nodes[0].mustSQL("CREATE TABLE request (id INTEGER PRIMARY KEY, client INTEGER)", "CREATE TABLE total (client INTEGER PRIMARY KEY, n INTEGER)")
	const clients = 32
	var next, done, again atomic.Int64
	var all sync.WaitGroup
	half, killed := make(chan struct{}), make(chan struct{})
	for client := range clients {
		all.Go(func() {
			for id := next.Add(1); id <= int64(count) && !t.Failed(); id = next.Add(1) {
				again.Add(c.transact(client, id))
				if done.Add(1) == int64(count/2) {
					close(half)
				}
				if done.Load() > int64(count)*3/4 {
					<-killed // there is something left to do after the kill
				}
			}
		})
	}
	<-half
	leader := c.leader()
	leader.kill()
	close(killed)
	all.Wait()
	leader.start()
	c.settle()
	for i, n := range c.nodes {
		rows := n.mustSQL("SELECT count(*), min(id), max(id), (SELECT sum(n) FROM total), (SELECT count(*) FROM total t WHERE n <> (SELECT count(*) FROM request r WHERE r.client = t.client)) FROM request")
		if got := fmt.Sprint(rows[0]); got != fmt.Sprint([]any{float64(count), 1.0, float64(count), float64(count), 0.0}) {
			t.Errorf("node %d: of %d transactions there are %v", i, count, got)
		}
	}
	c.agree()
	t.Logf("%d transactions, %d attempts that were not acknowledged", count, again.Load())
}

// transact sends one transaction until it is acknowledged, and returns how often it was not.
func (c *cluster) transact(client int, id int64) (again int64) {
	for n := client; ; n++ {
		answer, err := c.nodes[n%len(c.nodes)].sql(fmt.Sprintf("INSERT INTO request VALUES (%d, %d)", id, client),
			fmt.Sprintf("INSERT INTO total VALUES (%d, 1) ON CONFLICT DO UPDATE SET n = n + 1", client))
		switch {
		case err == nil && (answer.Error == nil || answer.Error.State == "23505" && again > 0):
			return again
		case err == nil && answer.Error.State == "23505":
			c.t.Errorf("%d was done before it was sent", id)
			return again
		}
		again++
		time.Sleep(10 * time.Millisecond)
	}
}
