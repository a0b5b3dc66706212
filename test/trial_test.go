package test

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"time"
)

// Who has mail in a trial: three get it by SMTP, dee keeps the registers, eve
// moves mail about.
var (
	receiversOfTrial = []string{"ann", "bob", "cy"}
	accountsOfTrial  = append(slices.Clone(receiversOfTrial), "dee", "eve")
	mailboxesOfTrial = map[string][]string{
		"ann": {"INBOX"}, "bob": {"INBOX"}, "cy": {"INBOX"},
		"dee": {flagsBox, numbersBox},
		"eve": movingBoxes,
	}
)

const (
	flagsBox   = "Flags"
	numbersBox = "Numbers"
)

var movingBoxes = []string{"Here", "There"}

// trial is what clients of a cluster asked for and were told.
type trial struct {
	c     *cluster
	begun time.Time
	pause time.Duration // of every client between two changes, about
	ended chan struct{}
	wait  sync.WaitGroup

	sent    outbox
	uids    uidBook
	flags   rounds[uint32] // the registers are UIDs
	numbers history
	quotas  quotaBook
	parcels parcelBook
	people  peopleBook
}

// newTrial makes the mailboxes.
func newTrial(c *cluster, long time.Duration) *trial {
	c.t.Helper()
	// The longer, the slower: so that disks and the comparison at the end stay small.
	tr := &trial{c: c, begun: time.Now(), pause: min(long/3000, 80*time.Millisecond), ended: make(chan struct{})}
	for _, account := range []string{"dee", "eve"} {
		l, err := c.link(0, account, password)
		if err != nil {
			c.t.Fatal(err)
		}
		for _, box := range mailboxesOfTrial[account] {
			if _, _, err := l.do("CREATE %s", box); err != nil {
				c.t.Fatal(err)
			}
		}
		l.Close()
	}
	c.settle()
	return tr
}

// start lets all clients work.
func (tr *trial) start() {
	clients := []func(worker int){tr.changingFlags, tr.changingFlags, tr.changingFlags,
		tr.appending, tr.appending, tr.moving, tr.moving, tr.settingQuotas, tr.settingQuotas, tr.changingAccounts}
	for worker, client := range clients {
		tr.wait.Go(func() { client(worker) })
	}
	for worker := range 3 {
		tr.wait.Go(func() { tr.c.keepSending(worker, receiversOfTrial, &tr.sent, tr.pause, tr.ended) })
	}
	for i := range tr.c.nodes {
		tr.wait.Go(func() { tr.observing(i) })
	}
}

func (tr *trial) finish() {
	close(tr.ended)
	tr.wait.Wait()
}

// over reports whether the trial is, after a pause.
func (tr *trial) over(random *rand.Rand) bool {
	select {
	case <-tr.ended:
		return true
	case <-time.After(tr.pause/2 + time.Duration(random.Int64N(int64(tr.pause)))):
		return false
	}
}

// now is the time of the histories.
func (tr *trial) now() int64 { return int64(time.Since(tr.begun)) }

func workerRandom(worker int) *rand.Rand {
	return rand.New(rand.NewPCG(uint64(worker), uint64(time.Now().UnixNano())))
}

// session calls step with a session of the account on a random node, again and
// again. When step returns false it goes on with another session.
func (tr *trial) session(worker int, account string, step func(l *link, random *rand.Rand) bool) {
	random := workerRandom(worker)
	var l *link
	for !tr.over(random) {
		if l == nil {
			var err error
			if l, err = tr.c.link(random.IntN(len(tr.c.nodes)), account, password); err != nil {
				tr.complain(err)
				continue
			}
		}
		if !step(l, random) || random.IntN(50) == 0 {
			l.Close()
			l = nil
		}
	}
	if l != nil {
		l.Close()
	}
}

// complain fails the test for an answer that no nemesis explains.
func (tr *trial) complain(err error) {
	if unexpected(err) {
		tr.c.t.Error(err)
	}
}

// appended asks for a small message in a mailbox.
func (tr *trial) appended(l *link, box, token string) (uid uint32, validity uint32, out outcome) {
	text := fmt.Sprintf("From: Sender <sender@elsewhere.example>\r\nSubject: %s\r\nDate: Sun, 22 Nov 2026 12:00:00 +0000\r\n\r\nThis is %[1]s.\r\n", token)
	call := tr.now()
	reply, out, err := l.do("APPEND %s {%d+}\r\n%s", box, len(text), text)
	tr.complain(err)
	if out != done {
		return 0, 0, out
	}
	l.wrote = max(l.wrote, call)
	if n, _ := fmt.Sscanf(reply[len(reply)-1], "OK [APPENDUID %d %d]", &validity, &uid); n != 2 {
		tr.c.t.Errorf("APPEND is answered %q", reply)
	}
	return uid, validity, out
}

// judge compares what is there with what the clients were told.
func (tr *trial) judge() {
	t := tr.c.t
	t.Helper()
	mails := tr.sent.all()
	if len(mails) == 0 {
		t.Error("no mail was taken")
	}
	var first []string
	for i, n := range tr.c.nodes {
		for _, account := range receiversOfTrial {
			n.checkInbox(account, mails)
		}
		rows := tr.dump(i)
		if i == 0 {
			first = rows
			tr.parcels.judge(t, rows)
		} else if !slices.Equal(rows, first) {
			t.Errorf("node %d shows other mailboxes than node 0: %s", i, firstDifference(rows, first))
		}
		tr.people.judge(tr.c, i)
	}
	tr.uids.judge(t)
	tr.flags.judge(t, "flags of message", flagsModel)
	tr.quotas.judge(t, "quota of account", quotaModel)
	judgeHistory(t, "uidnext", numbersModel, tr.numbers.all())
}

// dump reads every message of every mailbox on a node: a sorted line for each.
func (tr *trial) dump(i int) (rows []string) {
	tr.c.t.Helper()
	for account, boxes := range mailboxesOfTrial {
		l, err := tr.c.link(i, account, password)
		if err != nil {
			tr.c.t.Fatal(err)
		}
		for _, box := range boxes {
			look, err := l.look(box, 0)
			if err != nil {
				tr.c.t.Fatal(err)
			}
			for _, m := range look.messages {
				tr.uids.note(account, box, look.validity, m)
				rows = append(rows, fmt.Sprintf("%s %s %d %d %s (%s)", account, box, look.validity, m.uid, m.token, m.flags))
			}
			rows = append(rows, fmt.Sprintf("%s %s %d next %d modseq %d", account, box, look.validity, look.next, look.modseq))
		}
		l.Close()
	}
	slices.Sort(rows)
	return rows
}

func firstDifference(a, b []string) string {
	for i := range min(len(a), len(b)) {
		if a[i] != b[i] {
			return fmt.Sprintf("%q and %q", a[i], b[i])
		}
	}
	return fmt.Sprintf("%d and %d lines", len(a), len(b))
}

func (tr *trial) summary() string {
	return strings.Join([]string{fmt.Sprintf("%d messages sent", len(tr.sent.all())), tr.flags.summary("flags"), tr.numbers.summary("appended"),
		tr.quotas.summary("quotas"), tr.parcels.summary(), tr.people.summary(), tr.uids.summary()}, ", ")
}
