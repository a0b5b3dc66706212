package spam

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"log/slog"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"trivet/storage/message"
)

// fakeLedger keeps models in memory.
type fakeLedger struct {
	models     map[int64]Stored
	lessons    []Lesson
	bodies     map[int64][]byte
	learned    map[string]Label
	share      map[int64]int64
	generation uint64
	reads      int
	refuse     error
}

func newFakeLedger() *fakeLedger {
	return &fakeLedger{models: map[int64]Stored{}, bodies: map[int64][]byte{}, learned: map[string]Label{}, share: map[int64]int64{}}
}

func (f *fakeLedger) Key(context.Context) (*Key, error) { return &Key{1, 2, 3}, nil }
func (f *fakeLedger) Generation() uint64                { return f.generation }
func (f *fakeLedger) Version(_ context.Context, account int64) (int64, error) {
	return f.models[account].Version, nil
}

func (f *fakeLedger) Model(_ context.Context, account int64) (Stored, error) {
	f.reads++
	m := f.models[account]
	m.Account = account
	return m, nil
}

func (f *fakeLedger) Lessons(_ context.Context, limit int) ([]Lesson, error) {
	var out []Lesson
	for _, l := range f.lessons[:min(limit, len(f.lessons))] {
		if label, ok := f.learned[fmt.Sprint(l.Account, l.Hash)]; ok {
			l.Learned, l.WasUnwanted, l.Shared = true, label.Unwanted, label.Shared
		}
		out = append(out, l)
	}
	return out, nil
}

type fakeBody struct{ *bytes.Reader }

func (fakeBody) Close() error { return nil }

func (f *fakeLedger) Message(_ context.Context, id int64) (Body, error) {
	b, ok := f.bodies[id]
	if !ok {
		return nil, io.ErrUnexpectedEOF
	}
	return fakeBody{bytes.NewReader(b)}, nil
}

func (f *fakeLedger) Share(_ context.Context, account int64) (int64, error) {
	if n, ok := f.share[account]; ok {
		return n, nil
	}
	return 200, nil
}

func (f *fakeLedger) Train(_ context.Context, t Training) error {
	if f.refuse != nil {
		return f.refuse
	}
	f.lessons = slices.DeleteFunc(f.lessons, func(l Lesson) bool { return slices.Contains(t.Done, l.ID) })
	for _, l := range t.Labels {
		f.learned[fmt.Sprint(l.Account, l.Hash)] = l
		if l.Charged {
			n, _ := f.Share(context.Background(), l.Account)
			f.share[l.Account] = n - 1
		}
	}
	f.generation++
	for _, c := range t.Changes {
		c.After.Version = int64(f.generation)
		f.models[c.After.Account] = c.After
	}
	return nil
}

// teach queues a message that is kept.
func (f *fakeLedger) teach(account int64, raw string, unwanted bool) {
	id := int64(len(f.bodies) + 1)
	for known, body := range f.bodies {
		if string(body) == raw {
			id = known
		}
	}
	f.bodies[id] = []byte(raw)
	next := int64(1)
	for _, l := range f.lessons {
		next = max(next, l.ID+1)
	}
	f.lessons = append(f.lessons, Lesson{ID: next + int64(f.generation)*1000, Account: account, Message: id, Hash: fmt.Appendf(nil, "%016d", id), Unwanted: unwanted})
}

func (f *fakeLedger) learnAll(t *testing.T) {
	t.Helper()
	trainer := Trainer{Ledger: f, Logger: slog.New(slog.DiscardHandler)}
	for len(f.lessons) > 0 {
		if _, err := trainer.Step(t.Context(), trainBatch); err != nil {
			t.Fatal(err)
		}
	}
}

// mail makes messages that differ, of two sorts.
func mail(n int, unwanted bool) string {
	random := rand.New(rand.NewPCG(uint64(n), 7))
	words := strings.Fields("meeting report agenda tuesday budget review minutes draft attached regards project schedule")
	if unwanted {
		words = strings.Fields("winner pills cheap replica casino lottery unsubscribe guaranteed cash prize click urgent")
	}
	common := strings.Fields("the a of and to in it is that for you with on this are we have be will not")
	var b strings.Builder
	fmt.Fprintf(&b, "From: person%d@host%d.example\r\nSubject: number %d\r\n\r\n", n, n%7, n)
	for range 60 {
		list := common
		if random.IntN(3) == 0 {
			list = words
		}
		b.WriteString(list[random.IntN(len(list))] + " ")
	}
	b.WriteString("\r\n")
	return b.String()
}

// asMessage is a message as smtp hands it over.
func asMessage(raw string, to ...Recipient) *Message {
	m, _ := message.Scan(strings.NewReader(raw))
	return &Message{Header: []byte(raw[:m.HeaderSize]), Raw: strings.NewReader(raw), Structure: m, Recipients: to}
}

func classify(t *testing.T, c *Classifier, raw string, account int64) Opinion {
	t.Helper()
	f, err := c.Classify(t.Context(), asMessage(raw))
	if err != nil {
		t.Fatal(err)
	}
	o, err := f(Recipient{Account: account})
	if err != nil {
		t.Fatal(err)
	}
	return o
}

func TestItStartsNeutral(t *testing.T) {
	c := NewClassifier(newFakeLedger())
	if o := classify(t, c, mail(1, true), 1); o != neutral() {
		t.Errorf("%+v of who knows nothing", o)
	}
}

// TestItLearns teaches two accounts opposite things; a third gets what both taught the server.
func TestItLearns(t *testing.T) {
	f := newFakeLedger()
	c := NewClassifier(f)
	for i := range 60 {
		f.teach(1, mail(i, i%2 == 0), i%2 == 0)
	}
	f.learnAll(t)
	bad, good := classify(t, c, mail(1000, true), 1), classify(t, c, mail(1001, false), 1)
	if bad.Personal < 1 || good.Personal > -1 || bad.Shared <= 0 || good.Shared >= 0 || bad.Mature {
		t.Errorf("unwanted %+v, wanted %+v", bad, good)
	}
	other := classify(t, c, mail(1000, true), 2)
	if other.Personal != 0 || other.Shared < 0.5 || other.Shared > MaxShared {
		t.Errorf("who taught nothing: %+v", other)
	}
	for i := range 60 {
		f.teach(2, mail(i, i%2 == 0), i%2 != 0)
	}
	f.learnAll(t)
	if o := classify(t, c, mail(1000, true), 2); o.Personal > -1 {
		t.Errorf("who finds the opposite: %+v", o)
	}
	if o := classify(t, c, mail(1000, true), 1); o.Personal < 1 {
		t.Errorf("what one teaches moves another's verdict: %+v", o)
	}
}

// TestChangedMind teaches a message as unwanted and then as wanted: it counts as wanted alone.
func TestChangedMind(t *testing.T) {
	f := newFakeLedger()
	for i := range 20 {
		f.teach(1, mail(i, i%2 == 0), i%2 == 0)
	}
	f.learnAll(t)
	raw := mail(0, true)
	for range 5 { // the same again changes nothing
		f.teach(1, raw, true)
	}
	before := f.models[1]
	f.learnAll(t)
	if f.models[1].Spam != 10 || !bytes.Equal(before.Slots, f.models[1].Slots) {
		t.Errorf("learned again: %d unwanted", f.models[1].Spam)
	}
	c := NewClassifier(f)
	was := classify(t, c, raw, 1).Personal
	f.teach(1, raw, false)
	f.learnAll(t)
	if m := f.models[1]; m.Ham != 11 || m.Spam != 9 {
		t.Errorf("%d wanted, %d unwanted", m.Ham, m.Spam)
	}
	if now := classify(t, c, raw, 1).Personal; now >= was {
		t.Errorf("from %v to %v points", was, now)
	}
	// There and back within one course.
	f.teach(1, raw, true)
	f.teach(1, raw, false)
	f.teach(1, raw, true)
	f.learnAll(t)
	if m, h := f.models[1], f.models[Host]; m.Ham != 10 || m.Spam != 10 || h.Ham != 10 || h.Spam != 10 {
		t.Errorf("%d wanted, %d unwanted; of the server %d, %d", m.Ham, m.Spam, h.Ham, h.Spam)
	}
}

// TestSameLessonsSameModel is bit for bit.
func TestSameLessonsSameModel(t *testing.T) {
	var all [2]*fakeLedger
	for n := range all {
		all[n] = newFakeLedger()
		for i := range 50 {
			all[n].teach(int64(i%3), mail(i, i%2 == 0), i%2 == 0)
		}
		all[n].learnAll(t)
	}
	for account, m := range all[0].models {
		if other := all[1].models[account]; !bytes.Equal(m.Slots, other.Slots) || !bytes.Equal(m.Head, other.Head) {
			t.Errorf("the models of %d differ", account)
		}
	}
}

// TestPoisoningIsBounded has one account teach that all is the other way round, as often as it likes: what the server
// thinks moves no further than its share allows.
func TestPoisoningIsBounded(t *testing.T) {
	f := newFakeLedger()
	for i := range 400 {
		f.teach(Host, mail(i, i%2 == 0), i%2 == 0)
	}
	f.learnAll(t)
	c := NewClassifier(f)
	judge := func() (wrong int) {
		for i := range 100 {
			if o := classify(t, c, mail(5000+i, i%2 == 0), 99); o.Shared > 0 != (i%2 == 0) {
				wrong++
			}
		}
		return wrong
	}
	if n := judge(); n > 2 {
		t.Fatalf("%d of 100 wrong to begin with", n)
	}
	const share = 40
	f.share[7] = share
	before := f.models[Host]
	for i := range 400 {
		f.teach(7, mail(10_000+i, i%2 == 0), i%2 != 0)
	}
	f.learnAll(t)
	after := f.models[Host]
	if f.models[7].Ham+f.models[7].Spam != 400 || f.share[7] != 0 {
		t.Errorf("its own model learned %d", f.models[7].Ham+f.models[7].Spam)
	}
	if n := after.Ham + after.Spam - before.Ham - before.Spam; n != share {
		t.Errorf("the server's model learned %d lessons, the share is %d", n, share)
	}
	if most := moved(t, before, after); most > share*learnRate {
		t.Errorf("a weight moved by %v points", most)
	}
	if n := judge(); n > 10 {
		t.Errorf("%d of 100 wrong after it", n)
	}
}

// moved is how far the weight that moved most did.
func moved(t *testing.T, before, after Stored) (most float64) {
	t.Helper()
	a, err := readModel(before.Head, before.Slots)
	if err != nil {
		t.Fatal(err)
	}
	b, err := readModel(after.Head, after.Slots)
	if err != nil {
		t.Fatal(err)
	}
	for i := range a.slots {
		most = max(most, math.Abs(float64(a.slots[i].weight)-float64(b.slots[i].weight))/weightUnit)
	}
	return most
}

// TestModelsInMemoryAreBounded asks for more accounts than fit.
func TestModelsInMemoryAreBounded(t *testing.T) {
	f := newFakeLedger()
	c := NewClassifier(f)
	f.teach(Host, mail(1, true), true)
	f.teach(Host, mail(2, false), false)
	f.learnAll(t)
	for account := range int64(3 * MaxLoaded) {
		classify(t, c, mail(3, true), account)
	}
	if len(c.loaded) > MaxLoaded || c.loaded[Host] == nil {
		t.Errorf("%d models, the server's %v", len(c.loaded), c.loaded[Host])
	}
	reads := f.reads
	f.generation++ // something else changed
	classify(t, c, mail(3, true), 1)
	if f.reads != reads {
		t.Error("a model that did not change was read again")
	}
}

// TestDeliveredAndStoredLookTheSame compares features of a message as it comes in and as it is kept, with the
// verdict and what programs note in it.
func TestDeliveredAndStoredLookTheSame(t *testing.T) {
	raw := "Received: from a by b; Mon, 2 Nov 2026 10:00:00 +0000\r\n" + mail(1, true)
	v := Verdict{Reasons: []Reason{{Name: "x", Points: 1}}}
	kept := "Received: from a by b; Mon, 2 Nov 2026 10:00:00 +0000\r\n" + Status([]Verdict{v}) + "Status: RO\r\n" + mail(1, true)
	a, err := FeaturesOf(Key{1}, []byte(raw))
	if err != nil {
		t.Fatal(err)
	}
	b, err := FeaturesOf(Key{1}, []byte(kept))
	if err != nil || !slices.Equal(a, b) || len(a) < 100 {
		t.Errorf("%d and %d features, %v", len(a), len(b), err)
	}
	other, err := FeaturesOf(Key{2}, []byte(raw))
	if err != nil {
		t.Fatal(err)
	}
	same := 0
	for _, x := range other {
		if slices.Contains(a, x) {
			same++
		}
	}
	if same > len(a)/10 {
		t.Errorf("with another key %d of %d features are the same", same, len(a))
	}
}

func TestFeaturesAreKept(t *testing.T) {
	for _, f := range []Features{{}, {0}, {slots - 1}, {5, 3, 9, slots - 1, 0}} {
		got, err := readFeatures(f.Marshal())
		slices.Sort(f)
		if err != nil || !slices.Equal(got, f) {
			t.Errorf("%v comes back as %v, %v", f, got, err)
		}
	}
	for _, bad := range [][]byte{nil, {2}, {layout, 0x80}, {layout, 1, 0}, Features{slots}.Marshal(), {layout, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1}} {
		if f, err := readFeatures(bad); err == nil {
			t.Errorf("%v is read as %v", bad, f)
		}
	}
}

func TestModelIsKept(t *testing.T) {
	var m Model
	for i := range 30 {
		f, err := FeaturesOf(Key{}, []byte(mail(i, i%2 == 0)))
		if err != nil {
			t.Fatal(err)
		}
		m.learn(f, i%2 == 0, seeded(f))
	}
	got, err := readModel(m.marshal(), m.marshalSlots())
	if err != nil || got.Head != m.Head || !slices.Equal(got.slots, m.slots) || got.scale != m.scale {
		t.Errorf("comes back different: %v", err)
	}
	head := m.marshal()
	head[0]++
	if _, err := readModel(head, m.marshalSlots()); err == nil {
		t.Error("of another layout")
	}
	if _, err := readModel(m.marshal(), nil); err == nil {
		t.Error("without slots")
	}
}

// TestCountersCount has counters go up and down, beyond what they count one by one.
func TestCountersCount(t *testing.T) {
	chance := rand.New(rand.NewPCG(1, 1))
	var c uint8
	for range 20_000 {
		c = counted(c, 1, chance)
	}
	if n := sights[c]; n < 12_000 || n > 32_000 {
		t.Errorf("20,000 are counted as %v", n)
	}
	for range 19_990 {
		c = counted(c, -1, chance)
	}
	if n := sights[c]; n > 12_000 {
		t.Errorf("10 are counted as %v", n)
	}
	if counted(255, 1, chance) != 255 || counted(0, -1, chance) != 0 {
		t.Error("counters wrap")
	}
}

// TestLessonsThatCannotBeLearned are over, and hold up no other.
func TestLessonsThatCannotBeLearned(t *testing.T) {
	f := newFakeLedger()
	f.lessons = []Lesson{{ID: 1, Account: 1, Message: 404}, {ID: 2, Account: 1, Features: []byte{99}}}
	f.teach(1, mail(1, true), true)
	f.learnAll(t)
	if f.models[1].Spam != 1 {
		t.Errorf("%d learned", f.models[1].Spam)
	}
}

func TestSummary(t *testing.T) {
	if s, err := Summarize(nil); err != nil || s != (Summary{}) {
		t.Errorf("%+v %v", s, err)
	}
	h := Head{Ham: 5000, Spam: 10}
	h.HamScores[bin(-3)], h.HamScores[bin(1)], h.SpamScores[bin(4)] = 995, 1, 10
	s, err := Summarize(h.marshal())
	if err != nil || s.Ham != 5000 || s.Floor >= Probability(1.1) {
		t.Errorf("%+v %v", s, err)
	}
	h.HamScores[bin(6)] = 3 // more than one in a thousand
	if s, err = Summarize(h.marshal()); err != nil || s.Floor < Probability(5) {
		t.Errorf("wanted mail at 6 points, and from %v on mail is put aside", s.Floor)
	}
}

func FuzzFeatures(f *testing.F) {
	for _, seed := range []string{"", "a: b\r\n\r\nbody", mail(1, true), "Content-Type: multipart/mixed; boundary=x\r\n\r\n--x\r\nContent-Type: text/html\r\n\r\n<a href=\"http://a.b.c/\">x</a>\r\n--x--",
		"Content-Type: text/html; charset=utf-16\r\nContent-Transfer-Encoding: base64\r\n\r\n////", "From: =?utf-8?q?=ff?= <a@b>, c@d\r\n://\r\n\r\nhttp://" + strings.Repeat("x.", 300)} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		a, err := FeaturesOf(Key{3}, raw)
		if err != nil {
			t.Fatal(err)
		}
		b, err := FeaturesOf(Key{3}, raw)
		if err != nil || !slices.Equal(a, b) || len(a) > MaxFeatures {
			t.Fatalf("%d and %d features of the same message, %v", len(a), len(b), err)
		}
		sorted := slices.Clone(a)
		slices.Sort(sorted)
		if len(slices.Compact(sorted)) != len(a) {
			t.Fatal("a feature twice")
		}
		if back, err := readFeatures(a.Marshal()); err != nil || len(back) != len(a) {
			t.Fatal(err)
		}
	})
}

func BenchmarkVerdict(b *testing.B) {
	f := newFakeLedger()
	for i := range 40 {
		f.teach(1, mail(i, i%2 == 0), i%2 == 0)
	}
	trainer := Trainer{Ledger: f, Logger: slog.New(slog.DiscardHandler)}
	for len(f.lessons) > 0 {
		if _, err := trainer.Step(b.Context(), trainBatch); err != nil {
			b.Fatal(err)
		}
	}
	c := NewClassifier(f)
	raw := mail(1, true)
	raw += strings.Repeat("The quick brown fox jumps over the lazy dog, again and again.\r\n", 75)
	for b.Loop() {
		v, err := c.Classify(b.Context(), asMessage(raw))
		if err != nil {
			b.Fatal(err)
		}
		if _, err := v(Recipient{Account: 1}); err != nil {
			b.Fatal(err)
		}
	}
}
