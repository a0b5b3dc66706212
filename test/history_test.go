package test

import (
	"encoding/json"
	"fmt"
	"math"
	"math/rand/v2"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/anishathalye/porcupine"
)

// What is linearizable, and so what the histories hold:
//
// A change that is acknowledged took effect between its call and its return. One
// that was refused never does. One of which the outcome is unknown may do so at any
// time after its call.
//
// A read shows this node's replica, which may be behind: alone it promises
// nothing. But it includes whatever was acknowledged by this node before it (the
// whole log up to there). So what it shows was the state at some time between the
// call of the last change that this node acknowledged and the read's return, and
// that is the interval with which a read goes into a history.

// forever is when an unknown outcome is known.
const forever = math.MaxInt64

// history is what clients of registers did.
type history struct {
	mu      sync.Mutex
	done    []porcupine.Operation
	unknown int
}

func (h *history) add(worker int, input, output any, call, ret int64) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if ret == forever {
		h.unknown++
	}
	h.done = append(h.done, porcupine.Operation{ClientId: worker, Input: input, Output: output, Call: call, Return: ret})
}

func (h *history) all() []porcupine.Operation {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.done
}

func (h *history) summary(what string) string {
	return fmt.Sprintf("%d %s of which %d unknown", len(h.done), what, h.unknown)
}

// historyPatience bounds the search for an order: it may take exponential time.
const historyPatience = 30 * time.Second

// judgeHistory fails the test if there is no order that explains a history.
func judgeHistory(t testing.TB, name string, model porcupine.Model, h []porcupine.Operation) {
	t.Helper()
	switch result, _ := porcupine.CheckOperationsVerbose(model, h, historyPatience); result {
	case porcupine.Illegal:
		var lines []string
		for _, o := range h {
			lines = append(lines, fmt.Sprintf("%12d %20d  %+v -> %+v (client %d)", o.Call, o.Return, o.Input, o.Output, o.ClientId))
		}
		t.Errorf("the history of %s is not linearizable:\n%s", name, strings.Join(lines[max(0, len(lines)-200):], "\n"))
	case porcupine.Unknown:
		t.Logf("the history of %s is too long to judge in %v", name, historyPatience)
	}
}

// A UID that is given out is at least the UIDNEXT of before, and UIDNEXT is then
// above it. UIDs may be left out (RFC 9051 section 2.3.1.1).
type (
	numberInput struct{ read bool }
	numberState = uint32
)

var numbersModel = porcupine.Model{
	Init: func() any { return numberState(1) },
	Step: func(state, input, output any) (bool, any) {
		next, got := state.(numberState), output.(numberState)
		if input.(numberInput).read {
			return got >= next, got
		}
		return got >= next, got + 1
	},
}

// appending adds messages to one mailbox from all nodes, and asks what UID is next.
func (tr *trial) appending(worker int) {
	count := 0
	tr.session(worker, "dee", func(l *link, _ *rand.Rand) bool {
		count++
		call := tr.now()
		token := fmt.Sprintf("number-%d-%d", worker, count)
		uid, validity, out := tr.appended(l, numbersBox, token)
		tr.parcels.appended(numbersBox, token, out)
		if out != done {
			return false
		}
		tr.numbers.add(worker, numberInput{}, uid, call, tr.now())
		tr.uids.note("dee", numbersBox, validity, seenMessage{uid: uid, token: token})
		reply, _, err := l.do("STATUS %s (UIDVALIDITY UIDNEXT HIGHESTMODSEQ)", numbersBox)
		if err != nil {
			tr.complain(err)
			return false
		}
		if m := statusLine.FindStringSubmatch(reply[0]); m != nil {
			tr.numbers.add(worker, numberInput{read: true}, uint32(decimal(m[2])), l.wrote, tr.now())
		}
		return true
	})
}

// flagNames are the bits of a message's flags.
var flagNames = []string{`\Answered`, `\Flagged`, `\Deleted`, `\Seen`, `\Draft`, "$one", "$two", "$three"}

func flagsOf(mask uint) string {
	var names []string
	for i, name := range flagNames {
		if mask&(1<<i) != 0 {
			names = append(names, name)
		}
	}
	return strings.Join(names, " ")
}

func maskOf(flags string) (mask uint) {
	for name := range strings.FieldsSeq(flags) {
		for i, known := range flagNames {
			if strings.EqualFold(name, known) {
				mask |= 1 << i
			}
		}
	}
	return mask
}

// flagInput changes the flags by an item of STORE, or reads them for no item.
type flagInput struct {
	item string
	mask uint
}

var flagsModel = porcupine.Model{
	Init: func() any { return uint(0) },
	Step: func(state, input, output any) (bool, any) {
		in := input.(flagInput)
		switch in.item {
		case "FLAGS":
			return true, in.mask
		case "+FLAGS":
			return true, state.(uint) | in.mask
		case "-FLAGS":
			return true, state.(uint) &^ in.mask
		}
		return output.(uint) == state.(uint), state
	},
	DescribeState: func(state any) string { return flagsOf(state.(uint)) },
}

// rounds are histories of one register after another: when one is long, or has
// so many unknown outcomes that no order of it would be found in time, the
// clients go on with another.
type rounds[Register comparable] struct {
	mu        sync.Mutex
	histories []*history
	register  Register // of the last
}

const (
	longHistory  = 80
	vagueHistory = 5
)

// current returns the register to change and its history; nil: a new one is wanted.
func (r *rounds[Register]) current() (register Register, h *history) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.histories) == 0 {
		return register, nil
	}
	h = r.histories[len(r.histories)-1]
	h.mu.Lock()
	defer h.mu.Unlock()
	if len(h.done) >= longHistory || h.unknown >= vagueHistory {
		return register, nil
	}
	return r.register, h
}

func (r *rounds[Register]) begin(register Register) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.register, r.histories = register, append(r.histories, &history{})
}

func (r *rounds[Register]) judge(t testing.TB, name string, model porcupine.Model) {
	t.Helper()
	for i, h := range r.histories {
		judgeHistory(t, fmt.Sprintf("%s %d", name, i), model, h.all())
	}
	if len(r.histories) == 0 {
		t.Errorf("no %s was changed", name)
	}
}

func (r *rounds[Register]) summary(name string) string {
	ops, vague := 0, 0
	for _, h := range r.histories {
		ops, vague = ops+len(h.done), vague+h.unknown
	}
	return fmt.Sprintf("%d changes and reads of %d %s of which %d unknown", ops, len(r.histories), name, vague)
}

var flagsLine = regexp.MustCompile(`^\* \d+ FETCH \(UID (\d+) FLAGS \(([^)]*)\)\)`)

// shown finds the flags of a message in a reply.
func shown(reply []string, uid uint32) (mask uint, found bool) {
	for _, line := range reply {
		if m := flagsLine.FindStringSubmatch(line); m != nil && uint32(decimal(m[1])) == uid {
			mask, found = maskOf(m[2]), true
		}
	}
	return mask, found
}

// changingFlags changes and reads the flags of one message at a time, from all nodes.
func (tr *trial) changingFlags(worker int) {
	count := 0
	tr.session(worker, "dee", func(l *link, random *rand.Rand) bool {
		if err := l.open(flagsBox); err != nil {
			tr.complain(err)
			return false
		}
		uid, h := tr.flags.current()
		if h == nil {
			count++
			uid, _, out := tr.appended(l, flagsBox, fmt.Sprintf("flags-%d-%d", worker, count))
			if out == done {
				tr.flags.begin(uid)
			}
			return out == done
		}
		in := flagInput{[]string{"FLAGS", "+FLAGS", "-FLAGS", ""}[random.IntN(4)], random.UintN(1 << len(flagNames))}
		return tr.changeFlags(l, h, worker, uid, in)
	})
}

func (tr *trial) changeFlags(l *link, h *history, worker int, uid uint32, in flagInput) bool {
	command := fmt.Sprintf("UID FETCH %d (FLAGS)", uid)
	if in.item != "" {
		command = fmt.Sprintf("UID STORE %d %s (%s)", uid, in.item, flagsOf(in.mask))
	}
	call := tr.now()
	reply, out, err := l.do("%s", command)
	ret := tr.now()
	tr.complain(err)
	got, there := shown(reply, uid)
	switch {
	case in.item != "" && out == unknown:
		h.add(worker, in, nil, call, forever)
	case out == done && there: // else the message has not come to this node yet
		if in.item != "" {
			h.add(worker, in, nil, call, ret)
			l.wrote = max(l.wrote, call)
		}
		if l.wrote >= 0 {
			h.add(worker, flagInput{}, got, l.wrote, ret)
		}
	}
	return out == done
}

// A quota is two numbers, each of which is changed without the other.
type quota struct {
	Octets   int64 `json:"quota_bytes"`
	Messages int64 `json:"quota_messages"`
}

// quotaInput changes what is not negative; nothing: it reads.
type quotaInput quota

func (in quotaInput) changes() bool { return in.Octets >= 0 || in.Messages >= 0 }

var (
	readQuota  = quotaInput{-1, -1}
	quotaModel = porcupine.Model{
		Init: func() any { return quota{} },
		Step: func(state, input, output any) (bool, any) {
			now, in := state.(quota), input.(quotaInput)
			if in.Octets >= 0 {
				now.Octets = in.Octets
			}
			if in.Messages >= 0 {
				now.Messages = in.Messages
			}
			return in.changes() || output.(quota) == now, now
		},
	}
)

// quotaBook knows for each node when the last change was asked for that the node acknowledged.
type quotaBook struct {
	rounds[string]
	wrote map[int]int64
}

func (q *quotaBook) lastWrite(node int) (int64, bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	call, any := q.wrote[node]
	return call, any
}

func (q *quotaBook) acknowledged(node int, call int64) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.wrote == nil {
		q.wrote = map[int]int64{}
	}
	q.wrote[node] = max(q.wrote[node], call)
}

// settingQuotas changes and reads the quota of an account by the command line on all nodes.
func (tr *trial) settingQuotas(worker int) {
	random := workerRandom(worker)
	value := int64(worker) << 40
	for count := 0; !tr.over(random); {
		select {
		case <-tr.ended:
			return
		case <-time.After(50 * time.Millisecond): // commands cost more than the rest
		}
		node := random.IntN(len(tr.c.nodes))
		account, h := tr.quotas.current()
		if h == nil {
			count++
			name := fmt.Sprintf("limited-%d-%d@%s", worker, count, domain)
			call := tr.now()
			if _, err := tr.c.nodes[node].try(password, "account", "add", name, "--password-stdin"); err == nil {
				tr.quotas.acknowledged(node, call)
				tr.quotas.begin(name)
			}
			continue
		}
		in := readQuota
		value++
		switch random.IntN(4) {
		case 0:
			in.Octets = value
		case 1:
			in.Messages = value
		}
		tr.setQuota(worker, node, account, h, in)
	}
}

func (tr *trial) setQuota(worker, node int, address string, h *history, in quotaInput) {
	args := []string{"account", "quota", address}
	if in.Octets >= 0 {
		args = append(args, "--size", fmt.Sprint(in.Octets))
	}
	if in.Messages >= 0 {
		args = append(args, "--messages", fmt.Sprint(in.Messages))
	}
	call := tr.now()
	after, wrote := tr.quotas.lastWrite(node)
	var now quota
	text, err := tr.c.nodes[node].try("", args...)
	ret := tr.now()
	if err == nil {
		err = json.Unmarshal(text, &now)
	}
	switch {
	case err != nil && in.changes() && !strings.Contains(err.Error(), "no node runs"):
		h.add(worker, in, nil, call, forever)
	case err == nil && in.changes():
		h.add(worker, in, nil, call, ret)
		tr.quotas.acknowledged(node, call)
		h.add(worker, readQuota, now, call, ret) // a command that changes reads as well
	case err == nil && wrote:
		h.add(worker, readQuota, now, after, ret)
	}
}

// TestHistories holds the models themselves to what they must refuse.
func TestHistories(t *testing.T) {
	set := func(v int64, call, ret int64) porcupine.Operation {
		return porcupine.Operation{Input: quotaInput{v, -1}, Call: call, Return: ret}
	}
	get := func(v int64, call, ret int64) porcupine.Operation {
		return porcupine.Operation{Input: readQuota, Output: quota{Octets: v}, Call: call, Return: ret}
	}
	uid := func(v uint32, call, ret int64) porcupine.Operation {
		return porcupine.Operation{Input: numberInput{}, Output: v, Call: call, Return: ret}
	}
	flag := func(item string, mask uint, call, ret int64) porcupine.Operation {
		return porcupine.Operation{Input: flagInput{item, mask}, Output: mask, Call: call, Return: ret}
	}
	for _, c := range []struct {
		name  string
		model porcupine.Model
		ops   []porcupine.Operation
		want  bool
	}{
		{"an unknown change is seen late", quotaModel, []porcupine.Operation{set(1, 0, forever), set(2, 10, 20), get(2, 30, 40), get(1, 50, 60)}, true},
		{"an acknowledged change is lost", quotaModel, []porcupine.Operation{set(1, 0, 5), set(2, 10, 20), get(1, 30, 40)}, false},
		{"a read goes back", quotaModel, []porcupine.Operation{set(1, 0, 5), set(2, 10, 100), get(2, 20, 30), get(1, 40, 50)}, false},
		{"a change of one limit takes the other back", quotaModel, []porcupine.Operation{set(1, 0, 5),
			{Input: quotaInput{-1, 7}, Call: 6, Return: 7}, {Input: readQuota, Output: quota{0, 7}, Call: 8, Return: 9}}, false},
		{"a replica behind, as allowed", quotaModel, []porcupine.Operation{set(1, 0, 5), set(2, 10, 20), get(1, 0, 50)}, true},
		{"a UID twice", numbersModel, []porcupine.Operation{uid(1, 0, 10), uid(1, 5, 15)}, false},
		{"a UID too low", numbersModel, []porcupine.Operation{uid(2, 0, 10), uid(1, 11, 15)}, false},
		{"a UID left out", numbersModel, []porcupine.Operation{uid(1, 0, 10), uid(3, 5, 15)}, true},
		{"flags lost", flagsModel, []porcupine.Operation{flag("+FLAGS", 1, 0, 1), flag("+FLAGS", 2, 2, 3), flag("", 2, 4, 5)}, false},
		{"flags kept", flagsModel, []porcupine.Operation{flag("+FLAGS", 1, 0, 1), flag("+FLAGS", 2, 2, 3), flag("-FLAGS", 1, 4, forever), flag("", 3, 4, 5), flag("", 2, 6, 7)}, true},
	} {
		if got := porcupine.CheckOperations(c.model, c.ops); got != c.want {
			t.Errorf("%s: %v", c.name, got)
		}
	}
}
