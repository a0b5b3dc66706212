package test

import (
	"fmt"
	"math/rand/v2"
	"os"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/anishathalye/porcupine"
)

// TestSQLHistory reads and writes registers by SQL on all nodes while a nemesis
// kills, stops, slows and cuts off nodes and sets clocks: the history is
// linearizable. `make nemesis` lets it last for ten minutes.
func TestSQLHistory(t *testing.T) {
	long := 12 * time.Second
	if os.Getenv("TRIVET_NEMESIS") != "" {
		long = nemesisTime(t)
	}
	c, clocks := newTormented(t, long)
	c.createDatabase("shop")
	c.nodes[0].mustSQL("CREATE TABLE register (k INTEGER PRIMARY KEY, v INTEGER)")
	keys := 4 + int(long/time.Second)/2
	for k := range keys {
		c.nodes[0].mustSQL(fmt.Sprintf("INSERT INTO register VALUES (%d, 0)", k))
	}
	h := make([]history, keys)
	begin := time.Now()
	var stop atomic.Bool
	var clients sync.WaitGroup
	for client := range 6 {
		clients.Go(func() {
			random := workerRandom(client)
			for value := 1; !stop.Load(); value++ {
				// A few registers at a time, so that there are several clients for each.
				k := (int(time.Since(begin)/(2*time.Second))*2 + random.IntN(2)) % keys
				c.useRegister(&h[k], client, k, value*10+client, random, begin)
				time.Sleep(time.Duration(random.IntN(30)) * time.Millisecond)
			}
		})
	}
	did := c.torment(long, clocks)
	stop.Store(true)
	clients.Wait()
	c.heal(clocks)
	operations, unknown := 0, 0
	for k := range h {
		judgeHistory(t, fmt.Sprintf("register %d", k), registerModel, h[k].all())
		operations += len(h[k].done)
		unknown += h[k].unknown
	}
	if operations < 20 {
		t.Errorf("%d operations are no history", operations)
	}
	c.agree()
	t.Logf("%v; %d operations, %d of them with an outcome that is not known", did, operations, unknown)
}

type (
	// registerInput is a write, a read, or a write only if the register has a value.
	registerInput struct {
		kind       string
		value, old int
	}
	// registerOutput is what a read found, or whether the register had that value.
	registerOutput struct {
		value int
		had   bool
		known bool
	}
)

var registerModel = porcupine.Model{
	Init: func() any { return 0 },
	Step: func(state, input, output any) (bool, any) {
		in, out, now := input.(registerInput), output.(registerOutput), state.(int)
		switch in.kind {
		case "read":
			return out.value == now, now
		case "write":
			return true, in.value
		}
		if now != in.old {
			return !out.known || !out.had, now
		}
		return !out.known || out.had, in.value
	},
}

// useRegister does one operation by one node, and enters it into the history.
func (c *cluster) useRegister(h *history, client, k, value int, random *rand.Rand, begin time.Time) {
	in := registerInput{kind: []string{"read", "read", "write", "exchange"}[random.IntN(4)], value: value}
	request := sqlRequest{Consistency: "linearizable"}
	sql := fmt.Sprintf("SELECT v FROM register WHERE k = %d", k)
	switch in.kind {
	case "write":
		sql = fmt.Sprintf("UPDATE register SET v = %d WHERE k = %d", value, k)
	case "exchange":
		in.old = lastWritten(h, random)
		sql = fmt.Sprintf("UPDATE register SET v = %d WHERE k = %d AND v = %d", value, k, in.old)
	}
	request.Statements = []sqlStatement{{sql}}
	call := time.Since(begin).Nanoseconds()
	answer, err := c.nodes[random.IntN(len(c.nodes))].post(request)
	ret := time.Since(begin).Nanoseconds()
	switch {
	case err == nil && answer.Error == nil && in.kind == "read":
		h.add(client, in, registerOutput{value: int(answer.Results[0].Rows[0][0].(float64)), known: true}, call, ret)
	case err == nil && answer.Error == nil:
		h.add(client, in, registerOutput{had: answer.Results[0].RowsAffected == 1, known: true}, call, ret)
	case in.kind == "read", err == nil && answer.Error.State != "40003":
		// It was not done.
	default:
		h.add(client, in, registerOutput{}, call, forever)
	}
}

// lastWritten is a value that the register may have.
func lastWritten(h *history, random *rand.Rand) int {
	h.mu.Lock()
	defer h.mu.Unlock()
	for i := len(h.done) - 1; i >= 0 && i >= len(h.done)-3; i-- {
		switch in, out := h.done[i].Input.(registerInput), h.done[i].Output.(registerOutput); {
		case in.kind == "read":
			return out.value
		case random.IntN(2) == 0:
			return in.value
		}
	}
	return 0
}
