package test

import (
	"fmt"
	"regexp"
	"strconv"
	"sync"
	"testing"
)

// sight is what a client sees of a mailbox.
type sight struct {
	validity, next uint32
	modseq         uint64
	messages       []seenMessage
}

type seenMessage struct {
	uid   uint32
	token string // its subject
	flags string
}

var (
	statusLine = regexp.MustCompile(`^\* STATUS \S+ \(UIDVALIDITY (\d+) UIDNEXT (\d+) HIGHESTMODSEQ (\d+)\)$`)
	seenLine   = regexp.MustCompile(`^\* \d+ FETCH \(UID (\d+) FLAGS \(([^)]*)\) ENVELOPE \("[^"]*" "([^"]*)"`)
)

// look reads what a mailbox has behind a UID.
func (l *link) look(box string, behind uint32) (s sight, err error) {
	reply, _, err := l.do("STATUS %s (UIDVALIDITY UIDNEXT HIGHESTMODSEQ)", box)
	if err != nil {
		return s, err
	}
	for _, line := range reply {
		if m := statusLine.FindStringSubmatch(line); m != nil {
			s.validity, s.next = uint32(decimal(m[1])), uint32(decimal(m[2]))
			s.modseq = decimal(m[3])
		}
	}
	if s.validity == 0 {
		return s, fmt.Errorf("STATUS is answered %q", reply)
	}
	if _, _, err := l.do("EXAMINE %s", box); err != nil {
		return s, err
	}
	reply, _, err = l.do("UID FETCH %d:* (UID FLAGS ENVELOPE)", behind+1)
	if err != nil {
		return s, err
	}
	for _, line := range reply {
		if m := seenLine.FindStringSubmatch(line); m != nil && uint32(decimal(m[1])) > behind {
			s.messages = append(s.messages, seenMessage{uint32(decimal(m[1])), m[3], m[2]})
		}
	}
	return s, nil
}

// decimal is the value of digits.
func decimal(digits string) uint64 {
	v, _ := strconv.ParseUint(digits, 10, 64) // a regular expression has seen them
	return v
}

// observing looks at all mailboxes on one node, time and again: what it has
// seen there never goes back, and a UID is always that of the same message.
func (tr *trial) observing(i int) {
	type place struct{ account, box string }
	before := map[place]sight{}
	random := workerRandom(100 + i)
	for !tr.over(random) {
		for account, boxes := range mailboxesOfTrial {
			l, err := tr.c.link(i, account, password)
			if err != nil {
				tr.complain(err)
				continue
			}
			for _, box := range boxes {
				at := place{account, box}
				was := before[at]
				last := uint32(0)
				if was.next > 0 {
					last = was.next - 1
				}
				now, err := l.look(box, last)
				if err != nil {
					tr.complain(err)
					break
				}
				for _, m := range now.messages {
					tr.uids.note(account, box, now.validity, m)
				}
				if was.validity != 0 && was.validity != now.validity || now.next < was.next || now.modseq < was.modseq {
					tr.c.t.Errorf("node %d, %s of %s goes back: UIDVALIDITY %d to %d, UIDNEXT %d to %d, HIGHESTMODSEQ %d to %d",
						i, box, account, was.validity, now.validity, was.next, now.next, was.modseq, now.modseq)
				}
				now.messages = nil
				before[at] = now
			}
			l.Close()
		}
	}
}

// uidBook is which message every UID is, by all that anybody saw.
type uidBook struct {
	mu       sync.Mutex
	tokens   map[string]string
	problems []string
	looks    int
}

func (b *uidBook) note(account, box string, validity uint32, m seenMessage) {
	key := fmt.Sprintf("%s %s %d %d", account, box, validity, m.uid)
	b.mu.Lock()
	defer b.mu.Unlock()
	b.looks++
	if b.tokens == nil {
		b.tokens = map[string]string{}
	}
	if was, known := b.tokens[key]; known && was != m.token {
		b.problems = append(b.problems, fmt.Sprintf("%s is %s and %s", key, was, m.token))
	}
	b.tokens[key] = m.token
}

func (b *uidBook) judge(t testing.TB) {
	t.Helper()
	for _, p := range b.problems {
		t.Errorf("a UID was used twice: %s", p)
	}
}

func (b *uidBook) summary() string {
	return fmt.Sprintf("%d UIDs seen %d times", len(b.tokens), b.looks)
}
