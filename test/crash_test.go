package test

import (
	"fmt"
	"math/rand/v2"
	"sync"
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
		sendAll(t, n.listen["smtp"], 20, mails)
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
// or a commit, early and later, and lets senders finish after a restart.
func TestKilledAtEverySite(t *testing.T) {
	sites := append(raft.Sites(), storage.Failpoints...)
	for _, site := range sites {
		for _, at := range []int{1, 7} {
			t.Run(fmt.Sprintf("%s@%d", site, at), func(t *testing.T) {
				t.Parallel()
				n := newNode(t, "ann")
				n.stop()
				n.env = []string{fmt.Sprintf("TRIVET_FAILPOINT=%s=kill@%d", site, at)}
				n.launch()
				var mails []mail
				for i := range 40 {
					size := 2000
					if i%8 == 0 {
						size = 300_000
					}
					mails = append(mails, newMail(uint64(i), size, "ann@"+domain))
				}
				done := make(chan struct{})
				go func() {
					defer close(done)
					sendAll(t, n.listen["smtp"], 5, mails)
				}()
				reached := false
				select {
				case <-n.exited:
					reached = true
				case <-done:
				}
				if !reached {
					n.stop() // closing reaches some sites, too
				}
				n.env = nil
				n.start()
				<-done
				n.checkInbox("ann", mails)
				n.verify()
				if !reached {
					t.Logf("the site was not reached while mail came in")
				}
			})
		}
	}
}
