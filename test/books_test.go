package test

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
)

// parcelBook is where small messages with one owner each may be, by what the
// owner was told.
type parcelBook struct {
	mu      sync.Mutex
	parcels []*parcel
}

// parcel is one message. In each of its worlds it is in some mailboxes: one
// world while all is known, more after an unknown outcome, when its owner leaves it alone.
type parcel struct {
	token  string
	worlds []string // names of mailboxes, sorted, with spaces
}

// appended notes how it went to make a parcel in a mailbox.
func (b *parcelBook) appended(box, token string, out outcome) *parcel {
	p := &parcel{token: token, worlds: map[outcome][]string{done: {box}, refused: {""}, unknown: {"", box}}[out]}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.parcels = append(b.parcels, p)
	return p
}

// became notes how it went to bring a parcel from one world into another.
func (p *parcel) became(world []string, out outcome) {
	slices.Sort(world)
	next := strings.Join(world, " ")
	switch out {
	case done:
		p.worlds = []string{next}
	case unknown:
		p.worlds = append(p.worlds, next)
	}
}

// judge compares the book with what a node shows.
func (b *parcelBook) judge(t testing.TB, rows []string) {
	t.Helper()
	found := map[string][]string{}
	for _, row := range rows {
		if f := strings.Fields(row); f[3] != "next" {
			found[f[4]] = append(found[f[4]], f[1])
		}
	}
	for _, p := range b.parcels {
		slices.Sort(found[p.token])
		if got := strings.Join(found[p.token], " "); !slices.Contains(p.worlds, got) {
			t.Errorf("message %s is in [%s], by what was acknowledged it is in one of %q", p.token, got, p.worlds)
		}
	}
}

func (b *parcelBook) summary() string {
	vague := 0
	for _, p := range b.parcels {
		if len(p.worlds) > 1 {
			vague++
		}
	}
	return fmt.Sprintf("%d messages appended and moved of which %d unknown", len(b.parcels), vague)
}

// held is a copy of a parcel that its owner can name.
type held struct {
	box string
	uid uint32
}

// mover owns one parcel at a time.
type mover struct {
	tr     *trial
	worker int
	count  int
	parcel *parcel
	copies []held
}

// mostCopies is how many copies a mover makes of one message.
const mostCopies = 4

func (tr *trial) moving(worker int) {
	m := &mover{tr: tr, worker: worker}
	tr.session(worker, "eve", m.step)
}

// step makes a message, or moves, copies or removes a copy of the one it has.
func (m *mover) step(l *link, random *rand.Rand) bool {
	if len(m.copies) == 0 {
		m.count++
		token, box := fmt.Sprintf("parcel-%d-%d", m.worker, m.count), movingBoxes[random.IntN(2)]
		uid, _, out := m.tr.appended(l, box, token)
		m.parcel = m.tr.parcels.appended(box, token, out)
		if out == done {
			m.copies = []held{{box, uid}}
		}
		return out == done
	}
	k := random.IntN(len(m.copies))
	from := m.copies[k]
	l.box = "" // what was told of before is not looked at
	if err := l.open(from.box); err != nil {
		m.tr.complain(err)
		return false
	}
	to := movingBoxes[random.IntN(2)]
	switch {
	case random.IntN(3) == 0:
		return m.remove(l, k)
	case random.IntN(2) == 0 && len(m.copies) < mostCopies:
		return m.bring(l, "COPY", from, to, append(slices.Clone(m.copies), held{box: to}))
	}
	after := append(slices.Delete(slices.Clone(m.copies), k, k+1), held{box: to})
	return m.bring(l, "MOVE", from, to, after)
}

var copied = regexp.MustCompile(`\[COPYUID \d+ \d+ (\d+)\]`)

// bring copies or moves; after are the copies then, the new one last.
func (m *mover) bring(l *link, command string, from held, to string, after []held) bool {
	reply, out, err := l.do("UID %s %d %s", command, from.uid, to)
	m.tr.complain(err)
	if out == done {
		match := copied.FindStringSubmatch(strings.Join(reply, "\n"))
		if match == nil {
			return false // this node does not have the message yet: nothing was done
		}
		after[len(after)-1].uid = uint32(decimal(match[1]))
	}
	m.become(after, out)
	return out == done
}

// remove expunges a copy.
func (m *mover) remove(l *link, k int) bool {
	uid := m.copies[k].uid
	reply, out, err := l.do(`UID STORE %d +FLAGS (\Deleted)`, uid)
	m.tr.complain(err)
	if _, there := shown(reply, uid); out != done || !there {
		return false // it is still where it was
	}
	reply, out, err = l.do("UID EXPUNGE %d", uid)
	m.tr.complain(err)
	if out == done && !strings.Contains(strings.Join(reply, "\n"), " EXPUNGE") {
		m.tr.c.t.Errorf("UID EXPUNGE of a message that is marked is answered %q", reply)
	}
	m.become(slices.Delete(slices.Clone(m.copies), k, k+1), out)
	return out == done
}

func (m *mover) become(after []held, out outcome) {
	var world []string
	for _, c := range after {
		world = append(world, c.box)
	}
	m.parcel.became(world, out)
	switch out {
	case done:
		m.copies = after
	case unknown:
		m.copies = nil // nobody knows
	}
}

// peopleBook is what accounts are, by what was acknowledged.
type peopleBook struct {
	mu     sync.Mutex
	people map[string]person
}

// person is an account. Once an outcome is unknown nobody asks any more.
type person struct {
	password string
	disabled bool
	vague    bool
}

func (b *peopleBook) set(name string, p person) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.people == nil {
		b.people = map[string]person{}
	}
	b.people[name] = p
}

// changingAccounts makes accounts and changes them, by the command line on all nodes.
func (tr *trial) changingAccounts(worker int) {
	random := workerRandom(worker)
	ask := func(stdin string, args ...string) error {
		_, err := tr.c.nodes[random.IntN(len(tr.c.nodes))].try(stdin, args...)
		return err
	}
	for count := 0; !tr.over(random); count++ {
		name := fmt.Sprintf("person%d", count)
		address, p := name+"@"+domain, person{password: fmt.Sprintf("the first password of %d", count)}
		err := ask(p.password, "account", "add", address, "--password-stdin")
		for change := 0; change < 3 && err == nil && !tr.over(random); change++ {
			switch random.IntN(3) {
			case 0:
				p.password = fmt.Sprintf("password %d of %d", change, count)
				err = ask(p.password, "account", "password", address, "--password-stdin")
			case 1:
				p.disabled = true
				err = ask("", "account", "disable", address)
			case 2:
				p.disabled = false
				err = ask("", "account", "disable", "--undo", address)
			}
		}
		p.vague = err != nil
		tr.people.set(name, p)
	}
}

// mostLogins bounds the logins at the end: each costs a key derivation.
const mostLogins = 15

// judge logs people in on a node.
func (b *peopleBook) judge(c *cluster, node int) {
	c.t.Helper()
	tried := 0
	var wg sync.WaitGroup // a login that fails takes its time
	defer wg.Wait()
	for _, name := range slices.Sorted(maps.Keys(b.people)) {
		p := b.people[name]
		if p.vague || tried == mostLogins {
			continue
		}
		tried++
		wg.Go(func() {
			l, err := c.link(node, name, p.password)
			if err == nil {
				l.Close()
			}
			if p.disabled != (err != nil && strings.Contains(err.Error(), "disabled")) || !p.disabled && err != nil {
				c.t.Errorf("node %d: %s, of which %+v was acknowledged, logs in: %v", node, name, p, err)
			}
		})
	}
}

func (b *peopleBook) summary() string { return fmt.Sprintf("%d accounts", len(b.people)) }
