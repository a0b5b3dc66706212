package test

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"trivet/raft"
	"trivet/storage"
)

// TestKilledAtRandom sends 2,000 messages of 1 KB to 5 MB over 20 connections
// while the process is killed 20 times, and started again each time. Senders
// retry as real ones do. Every message is there exactly once, byte for byte.
func TestKilledAtRandom(t *testing.T) {
	messages, kills := 2000, 20
	if testing.Short() {
		messages, kills = 200, 4
	}
	accounts := []string{"ann", "bob", "cy"}
	n := newNode(t, accounts...)
	random := rand.New(rand.NewPCG(uint64(time.Now().UnixNano()), 2))
	mails := make([]mail, messages)
	for i := range mails {
		mails[i] = newMail(uint64(i), randomSize(random), accounts[i%len(accounts)]+"@"+domain)
	}
	sent := make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() {
		sendAll(t, n.at("smtp"), 20, mails)
		close(sent)
	})
	for range kills {
		select {
		case <-sent: // the rest of the kills meet an idle server
		case <-time.After(time.Duration(random.IntN(1200)) * time.Millisecond):
		}
		n.kill()
		n.start()
	}
	wg.Wait()
	for _, a := range accounts {
		n.checkInbox(a, mails)
	}
	n.verify()
	t.Logf("%d messages, %d kills", messages, kills)
}

// TestKilledAtEverySite kills the process at each named point around an fsync
// or a commit, the first time it gets there and later, and lets senders finish
// after a restart. Small files make the rare steps frequent.
func TestKilledAtEverySite(t *testing.T) {
	for _, site := range append(raft.Sites(), storage.Sites()...) {
		for _, at := range []int{1, 7} {
			t.Run(fmt.Sprintf("%s@%d", site, at), func(t *testing.T) {
				t.Parallel()
				n := newNode(t, "ann")
				n.command("", "database", "create", "books")
				n.command("", "sql", "-d", "books", "-c", "CREATE TABLE entry (n)")
				n.stop()
				n.flags = []string{"--log-keep", "1MiB", "--log-snapshot", "1MiB", "--pack-size", "2MiB", "--housekeeping", "100ms"}
				n.env = []string{fmt.Sprintf("TRIVET_FAILPOINT=%s=kill@%d", site, at)}
				n.launch()
				var rows []int
				var writer sync.WaitGroup
				if strings.HasPrefix(site, "storage.database.") {
					writer.Go(func() { rows = n.insertUntilGone() })
				}
				reached, mails := n.sendUntilGone()
				writer.Wait()
				if at == 1 && !reached {
					t.Errorf("the site was never reached")
				}
				n.env = nil
				if !reached {
					n.stop()
				}
				n.start()
				sendAll(t, n.at("smtp"), 5, mails) // those that were taken are known already
				n.checkInbox("ann", mails)
				n.checkRows(rows)
				n.verify()
			})
		}
	}
}

// insertUntilGone adds rows to a database, one after another, and returns those
// that were acknowledged.
func (n *node) insertUntilGone() (acknowledged []int) {
	for i := range 30 {
		if _, err := n.try("", "sql", "-d", "books", "-c", fmt.Sprintf("INSERT INTO entry VALUES (%d)", i)); err == nil {
			acknowledged = append(acknowledged, i)
		}
		if n.gone() {
			break
		}
	}
	return acknowledged
}

// checkRows finds every acknowledged row, and no row twice.
func (n *node) checkRows(acknowledged []int) {
	n.t.Helper()
	out := n.command("", "sql", "-d", "books", "-c", "SELECT n, count(*) FROM entry GROUP BY n")
	for _, i := range acknowledged {
		if !strings.Contains(string(out), fmt.Sprintf(`{"n":%d,"count(*)":1}`, i)) {
			n.t.Errorf("row %d was acknowledged and is not there once: %s", i, out)
		}
	}
}

// sendUntilGone sends mail until the process has ended, or for long enough for
// any site to be reached. It returns what was begun to be sent.
func (n *node) sendUntilGone() (gone bool, mails []mail) {
	for i := range 400 {
		size := 2000
		if i%2 == 0 {
			size = 300_000
		}
		mails = append(mails, newMail(uint64(i), size, "ann@"+domain))
	}
	var next atomic.Int64
	var wg sync.WaitGroup
	for range 5 {
		wg.Go(func() {
			for !n.gone() {
				c, err := dialSMTP(n.at("smtp"))
				if err != nil {
					time.Sleep(5 * time.Millisecond)
					continue
				}
				for {
					i := next.Add(1) - 1
					if i >= int64(len(mails)) {
						c.close()
						return
					}
					if c.send(mails[i]) != nil {
						break
					}
				}
				c.close()
			}
		})
	}
	wg.Wait()
	return n.gone(), mails[:min(next.Load(), int64(len(mails)))]
}
