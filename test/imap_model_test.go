package test

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
)

// imapModel is a mailbox as RFC 9051 and RFC 7162 have it: what commands, applied in order, lead to.
type imapModel struct {
	uidNext  uint32
	modseq   uint64
	messages map[uint32]modelled
	expunged map[uint32]uint64 // UIDs with the modification sequence of their going
}

type modelled struct {
	flags  string // sorted, separated by spaces
	modseq uint64
}

func (m *imapModel) uids() []uint32 { return slices.Sorted(maps.Keys(m.messages)) }

func (m *imapModel) append(flags string) {
	m.modseq++
	m.messages[m.uidNext] = modelled{sortFlags(flags), m.modseq}
	m.uidNext++
}

// store changes flags of messages that are there and, with since not 0, not newer; it returns those that were.
func (m *imapModel) store(uids []uint32, sign, flag string, since uint64) (modified []uint32) {
	changed := false
	for _, uid := range uids {
		old, there := m.messages[uid]
		if !there {
			continue
		}
		if since > 0 && old.modseq > since {
			modified = append(modified, uid)
			continue
		}
		flags := strings.Fields(old.flags)
		switch sign {
		case "":
			flags = []string{flag}
		case "+":
			flags = append(flags, flag)
		case "-":
			flags = slices.DeleteFunc(flags, func(f string) bool { return f == flag })
		}
		if now := sortFlags(strings.Join(flags, " ")); now != old.flags {
			m.messages[uid] = modelled{now, m.modseq + 1}
			changed = true
		}
	}
	if changed {
		m.modseq++
	}
	return modified
}

func (m *imapModel) remove(uids []uint32, onlyDeleted bool) {
	gone := false
	for _, uid := range uids {
		old, there := m.messages[uid]
		if there && (!onlyDeleted || strings.Contains(old.flags, `\Deleted`)) {
			delete(m.messages, uid)
			m.expunged[uid] = m.modseq + 1
			gone = true
		}
	}
	if gone {
		m.modseq++
	}
}

func (m *imapModel) copy(uids []uint32) {
	for _, uid := range uids {
		if old, there := m.messages[uid]; there {
			m.append(old.flags)
		}
	}
}

func sortFlags(text string) string {
	flags := strings.Fields(text)
	slices.Sort(flags)
	return strings.Join(slices.Compact(flags), " ")
}

// watcher is a session with the picture that its client has of the mailbox, from what it was told alone.
type watcher struct {
	*rawIMAP
	node     *node
	messages map[uint32]modelled
	exists   int
	highest  uint64
}

// open begins a session with QRESYNC, from what the client knew, and IMAP4rev2, which has no \Recent.
func (w *watcher) open(box string, validity string) {
	w.rawIMAP = w.node.rawIMAP("ann")
	w.want("UNSELECT", "OK")
	w.exists = 0
	w.want("ENABLE IMAP4rev2 QRESYNC", "ENABLED")
	if validity == "" {
		w.do("SELECT " + box)
	} else {
		w.do(fmt.Sprintf("SELECT %s (QRESYNC (%s %d))", box, validity, w.highest))
	}
}

var (
	vanishedLine = regexp.MustCompile(`(?m)^\* VANISHED (?:\(EARLIER\) )?([0-9:,]+)`)
	fetchedLine  = regexp.MustCompile(`^\* \d+ FETCH \(UID (\d+)(?: FLAGS \(([^)]*)\))?(?: MODSEQ \((\d+)\))?`)
	existsLine   = regexp.MustCompile(`^\* (\d+) EXISTS`)
	highestLine  = regexp.MustCompile(`HIGHESTMODSEQ (\d+)`)
	validityLine = regexp.MustCompile(`UIDVALIDITY (\d+)`)
	modifiedLine = regexp.MustCompile(`\[MODIFIED ([0-9:,]+)\]`)
)

// do gives a command and believes what it hears. Then it asks for what it does not know of new messages.
func (w *watcher) do(command string) string {
	w.t.Helper()
	reply := string(w.command("%s", command))
	if !w.succeeded([]byte(reply)) {
		w.t.Fatalf("%s: %s", command, reply)
	}
	for line := range strings.SplitSeq(reply, "\r\n") {
		w.believe(command, line)
	}
	switch {
	case len(w.messages) == w.exists:
	case strings.Contains(command, "(QRESYNC"):
		w.t.Fatalf("%s: %d messages are there, the client was told of %d:\n%s", command, w.exists, len(w.messages), reply)
	case command != fetchAll:
		w.do(fetchAll)
	}
	return reply
}

// fetchAll asks for what EXISTS announced.
const fetchAll = "UID FETCH 1:* (FLAGS MODSEQ)"

func (w *watcher) believe(command, line string) {
	w.t.Helper()
	if m := vanishedLine.FindStringSubmatch(line); m != nil {
		uids := expandSet(m[1])
		for _, uid := range uids {
			delete(w.messages, uid)
		}
		if !strings.Contains(line, "EARLIER") { // which are not among those that EXISTS counted
			w.exists -= len(uids)
		}
	}
	if m := existsLine.FindStringSubmatch(line); m != nil {
		w.exists, _ = strconv.Atoi(m[1])
	}
	if m := fetchedLine.FindStringSubmatch(line); m != nil {
		uid, _ := strconv.ParseUint(m[1], 10, 32)
		modseq, _ := strconv.ParseUint(m[3], 10, 64)
		old, known := w.messages[uint32(uid)]
		if modseq < old.modseq {
			w.t.Fatalf("%s: %s, and it was %d", command, line, old.modseq)
		}
		if known || strings.Contains(line, "FLAGS") {
			flags := old.flags
			if strings.Contains(line, "FLAGS (") {
				flags = sortFlags(m[2])
			}
			w.messages[uint32(uid)] = modelled{flags, modseq}
		}
	}
	if m := highestLine.FindStringSubmatch(line); m != nil && !strings.Contains(line, "STATUS") {
		n, _ := strconv.ParseUint(m[1], 10, 64)
		if n < w.highest && !strings.HasPrefix(command, "SELECT") {
			w.t.Fatalf("%s: HIGHESTMODSEQ went from %d to %d", command, w.highest, n)
		}
		w.highest = n
	}
}

func expandSet(set string) (uids []uint32) {
	for part := range strings.SplitSeq(set, ",") {
		lo, hi, ranged := strings.Cut(part, ":")
		first, _ := strconv.ParseUint(lo, 10, 32)
		last := first
		if ranged {
			last, _ = strconv.ParseUint(hi, 10, 32)
		}
		for ; first <= last; first++ {
			uids = append(uids, uint32(first))
		}
	}
	return uids
}

// pick chooses some of the UIDs that the client knows.
func (w *watcher) pick(random *rand.Rand) []uint32 {
	known := slices.Sorted(maps.Keys(w.messages))
	if len(known) == 0 {
		return nil
	}
	from := random.IntN(len(known))
	return known[from:min(len(known), from+1+random.IntN(4))]
}

func setOf(uids []uint32) string {
	var parts []string
	for _, uid := range uids {
		parts = append(parts, strconv.Itoa(int(uid)))
	}
	return strings.Join(parts, ",")
}

// TestIMAPModel has sessions on three nodes do random things to one mailbox, each command after the other, and compares what
// comes of it with the model: flags, UIDs and modification sequences on every node, what each client was told, and what one
// is told that comes back by QRESYNC. TRIVET_IMAP_STEPS makes it longer, TRIVET_IMAP_SEED another.
func TestIMAPModel(t *testing.T) {
	steps, seed := 150, uint64(time.Now().UnixNano())
	if n, err := strconv.Atoi(os.Getenv("TRIVET_IMAP_STEPS")); err == nil {
		steps = n
	}
	if n, err := strconv.ParseUint(os.Getenv("TRIVET_IMAP_SEED"), 10, 64); err == nil {
		seed = n
	}
	t.Logf("TRIVET_IMAP_SEED=%d", seed)
	random := rand.New(rand.NewPCG(seed, 1))
	c := newCluster(t, 3, "ann")
	first := c.nodes[0].rawIMAP("ann")
	first.want("CREATE Model", "OK")
	validity := validityLine.FindStringSubmatch(string(first.command("STATUS Model (UIDVALIDITY)")))[1]
	model := &imapModel{uidNext: 1, modseq: 1, messages: map[uint32]modelled{}, expunged: map[uint32]uint64{}}
	var watchers []*watcher
	for i := range 6 {
		w := &watcher{node: c.nodes[i%3], messages: map[uint32]modelled{}}
		settled(t, w.node, model)
		w.open("Model", "")
		watchers = append(watchers, w)
	}
	for range steps {
		w := watchers[random.IntN(len(watchers))]
		step(random, w, model, validity)
	}
	for _, w := range watchers {
		settled(t, w.node, model)
		w.do("NOOP")
		w.compare(model)
		w.Close()
		w.open("Model", validity)
		w.compare(model)
	}
}

// settled waits until a node has applied all that the model has.
func settled(t *testing.T, n *node, model *imapModel) {
	t.Helper()
	r := n.rawIMAP("ann")
	defer r.Close()
	want := fmt.Sprintf("HIGHESTMODSEQ %d)", model.modseq)
	n.wait("the state of the model on every node", func() bool {
		return strings.Contains(string(r.command("STATUS Model (HIGHESTMODSEQ)")), want)
	})
}

func step(random *rand.Rand, w *watcher, model *imapModel, validity string) {
	flag := []string{`\Seen`, `\Deleted`, `\Flagged`, "k1", "k2"}[random.IntN(5)]
	sign := []string{"+", "-", ""}[random.IntN(3)]
	uids := w.pick(random)
	set := setOf(uids)
	switch n := random.IntN(100); {
	case n < 25 || len(uids) == 0:
		w.do("APPEND Model (" + flag + ") {1+}\r\nx")
		model.append(flag)
	case n < 30:
		w.do("APPEND Model (" + flag + ") {1+}\r\nx {1+}\r\ny")
		model.append(flag)
		model.append("")
	case n < 50:
		silent := []string{"", ".SILENT"}[random.IntN(2)]
		w.do(fmt.Sprintf("UID STORE %s %sFLAGS%s (%s)", set, sign, silent, flag))
		model.store(uids, sign, flag, 0)
		if silent != "" { // which the client knows by itself, where it was not told better
			w.do(fmt.Sprintf("UID FETCH %s (FLAGS MODSEQ)", set))
		}
	case n < 62:
		since := w.messages[uids[0]].modseq
		reply := w.do(fmt.Sprintf("UID STORE %s (UNCHANGEDSINCE %d) %sFLAGS (%s)", set, since, sign, flag))
		var got []uint32
		if m := modifiedLine.FindStringSubmatch(reply); m != nil {
			got = expandSet(m[1])
		}
		if want := model.store(uids, sign, flag, since); !slices.Equal(got, want) {
			w.t.Fatalf("UID STORE %s (UNCHANGEDSINCE %d): modified %v, want %v", set, since, got, want)
		}
	case n < 70:
		w.do("EXPUNGE")
		model.remove(model.uids(), true)
	case n < 76:
		w.do("UID EXPUNGE " + set)
		model.remove(uids, true)
	case n < 82:
		w.do(fmt.Sprintf("UID COPY %s Model", set))
		model.copy(uids)
	case n < 86:
		w.do(fmt.Sprintf("UID MOVE %s Trash", set))
		model.remove(uids, false)
	case n < 92:
		w.do("NOOP")
	case n < 96:
		w.do(fmt.Sprintf("UID FETCH %s (FLAGS MODSEQ)", set))
	default: // the connection is lost, and taken up elsewhere
		w.Close()
		w.open("Model", validity)
	}
}

// compare holds what the client knows against the model.
func (w *watcher) compare(model *imapModel) {
	w.t.Helper()
	if w.highest > model.modseq {
		w.t.Errorf("HIGHESTMODSEQ is %d, and %d in the model", w.highest, model.modseq)
	}
	if !maps.Equal(w.messages, model.messages) {
		w.t.Errorf("a client on %s has %d messages, the model %d", w.node.listen["imap"], len(w.messages), len(model.messages))
		for uid, m := range model.messages {
			if got := w.messages[uid]; got != m {
				w.t.Errorf("UID %d: %+v, want %+v", uid, got, m)
			}
		}
		for uid := range w.messages {
			if _, there := model.messages[uid]; !there {
				w.t.Errorf("UID %d is gone since modification sequence %d", uid, model.expunged[uid])
			}
		}
	}
}
