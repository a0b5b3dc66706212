package storage

import (
	"bytes"
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"
)

// waiting writes the lessons that wait: message, label, source.
func (f *fixture) waiting() string {
	f.t.Helper()
	lessons, err := f.Lessons(context.Background(), 1000)
	f.must(err)
	var out []string
	for _, l := range lessons {
		label := "ham"
		if l.Unwanted {
			label = "spam"
		}
		out = append(out, fmt.Sprint(label, " ", l.Source))
	}
	return fmt.Sprint(out)
}

func (f *fixture) mailbox(a Account, name string) Mailbox {
	f.t.Helper()
	m, err := f.Mailbox(context.Background(), a.ID, name)
	f.must(err)
	return m
}

// TestMovesTeach holds what is learned of what users do with messages.
func TestMovesTeach(t *testing.T) {
	ctx := context.Background()
	f := newFixture(t)
	ann, bob := f.account("ann@example.org"), f.account("bob@example.org")
	in, junk, archive, trash := f.inbox(ann), f.mailbox(ann, "Junk"), f.mailbox(ann, "Archive"), f.mailbox(ann, "Trash")
	flag := func(m Mailbox, op FlagOp, flags Flags, keywords ...string) func() {
		return func() {
			_, err := f.StoreFlags(ctx, m.ID, FlagChange{UIDs: []Range{{1, 1<<32 - 1}}, Op: op, Flags: flags, Keywords: keywords})
			f.must(err)
		}
	}
	transfer := func(move bool, from, to Mailbox) func() {
		return func() {
			do := f.Copy
			if move {
				do = f.Move
			}
			_, err := do(ctx, from.ID, []Range{{1, 1<<32 - 1}}, to.ID)
			f.must(err)
		}
	}
	for _, c := range []struct {
		name string
		in   Mailbox // where a message is
		do   func()
		want string
	}{
		{"moved into Junk", in, transfer(true, in, junk), "[spam moved]"},
		{"copied into Junk", archive, transfer(false, archive, junk), "[spam moved]"},
		{"moved out of Junk", junk, transfer(true, junk, in), "[ham moved]"},
		{"out of Junk into Trash", junk, transfer(true, junk, trash), "[]"},
		{"moved elsewhere", in, transfer(true, in, archive), "[]"},
		{"into the Junk of another", in, transfer(true, in, f.mailbox(bob, "Junk")), "[]"},
		{"$Junk", in, flag(in, FlagsAdd, 0, "$junk"), "[spam keyword]"},
		{"Thunderbird's word", in, flag(in, FlagsReplace, 0, "NonJunk"), "[ham keyword]"},
		{"both words", in, flag(in, FlagsAdd, 0, "$Junk", "$NotJunk"), "[]"},
		{"the word is taken away", in, flag(in, FlagsRemove, 0, "$Junk"), "[]"},
		{"answered", in, flag(in, FlagsAdd, FlagAnswered), "[ham answered]"},
		{"answered in Junk", junk, flag(junk, FlagsAdd, FlagAnswered), "[]"},
		{"read", in, flag(in, FlagsAdd, FlagSeen), "[]"},
	} {
		t.Run(c.name, func(t *testing.T) {
			for _, m := range []Mailbox{in, junk, archive, trash} {
				_, err := f.StoreFlags(ctx, m.ID, FlagChange{UIDs: []Range{{1, 1<<32 - 1}}, Op: FlagsAdd, Flags: FlagDeleted})
				f.must(err)
				_, err = f.Expunge(ctx, m.ID, nil)
				f.must(err)
			}
			lessons, err := f.Lessons(ctx, 1000)
			f.must(err)
			done := Training{}
			for _, l := range lessons {
				done.Done = append(done.Done, l.ID)
			}
			f.must(f.Train(ctx, done))
			f.append(c.in, []byte("Subject: "+c.name+"\r\n\r\n"), 0)
			c.do()
			if got := f.waiting(); got != c.want {
				t.Errorf("%s, want %s", got, c.want)
			}
		})
	}
	f.append(archive, []byte("Subject: marked once\r\n\r\n"), 0, "$Junk")
	before := f.waiting()
	flag(archive, FlagsAdd, 0, "$Junk")()
	if f.waiting() != before {
		t.Error("what was marked before teaches nothing new")
	}
	f.sound()
}

func TestMovesTeachNothingOnAnOlderLevel(t *testing.T) {
	f := newFixture(t)
	ann := f.account("ann@example.org")
	f.append(f.inbox(ann), []byte("Subject: x\r\n\r\n"), 0)
	withLevel(t, f, 2)
	_, err := f.Move(context.Background(), f.inbox(ann).ID, []Range{{1, 1}}, f.mailbox(ann, "Junk").ID)
	f.must(err)
	if got := f.waiting(); got != "[]" {
		t.Error(got)
	}
}

func TestLessonsAreBounded(t *testing.T) {
	ctx := context.Background()
	f := newFixture(t)
	ann := f.account("ann@example.org")
	hash := make([]byte, SpamHashSize)
	lesson := SpamLesson{Account: ann.ID, Hash: hash, Source: LessonCommand, Features: []byte{1}}
	for _, bad := range []SpamLesson{{Hash: hash[1:]}, {Hash: hash, Features: make([]byte, MaxLessonFeatures+1)}} {
		if err := f.AddLessons(ctx, []SpamLesson{bad}); KindOf(err) != KindTooLarge {
			t.Errorf("%d octets of hash, %d of features: %v", len(bad.Hash), len(bad.Features), err)
		}
	}
	f.must(f.AddLessons(ctx, slices.Repeat([]SpamLesson{lesson}, MaxWaitingLessons+1)))
	f.must(f.AddLessons(ctx, []SpamLesson{{Account: 12345, Hash: hash, Source: LessonCommand}}))
	if n := f.count("SELECT count(*) FROM spam_lesson"); n != MaxWaitingLessons {
		t.Errorf("%d lessons wait", n)
	}
	if err := f.decide(ctx, kindAddLessons, slices.Repeat([]SpamLesson{lesson}, MaxLessonBatch+1)); KindOf(err) != KindTooLarge {
		t.Errorf("more than a batch: %v", err)
	}
	f.must(f.RemoveAccount(ctx, ann.Address))
	if n := f.count("SELECT count(*) FROM spam_lesson"); n != 0 {
		t.Errorf("%d lessons of nobody", n)
	}
}

// someModel is a model with random slots.
func someModel(account int64, random *rand.Rand, from SpamModel) SpamModel {
	m := SpamModel{Account: account, Ham: from.Ham + 1, Spam: from.Spam + 2, Head: []byte{byte(random.IntN(256))}, Slots: make([]byte, SpamSlots*SpamSlotSize)}
	copy(m.Slots, from.Slots)
	for range 3000 {
		m.Slots[random.IntN(len(m.Slots))] = byte(random.IntN(256))
	}
	return m
}

// TestModelsAreKept has models change until their changes were written into the pages, and compares.
func TestModelsAreKept(t *testing.T) {
	ctx := context.Background()
	f := newFixture(t)
	ann := f.account("ann@example.org")
	random := rand.New(rand.NewPCG(1, 2))
	models := map[int64]SpamModel{0: {}, ann.ID: {}}
	folded := false
	for range 40 {
		var training Training
		for account, before := range models {
			after := someModel(account, random, before)
			training.Change(before, after)
			models[account] = after
		}
		f.must(f.Train(ctx, training))
		folded = folded || f.count("SELECT count(*) FROM spam_delta") == 0
	}
	if f.count("SELECT count(*) FROM spam_page") == 0 {
		t.Error("nothing was written into pages")
	}
	for account, want := range models {
		got, err := f.SpamModel(ctx, account)
		f.must(err)
		if !bytes.Equal(got.Slots, want.Slots) || got.Ham != want.Ham || got.Spam != want.Spam || !bytes.Equal(got.Head, want.Head) || got.Version == 0 {
			t.Errorf("the model of %d is another", account)
		}
	}
	if sum := f.sound(); f.replayed(7).Sum != sum.Sum {
		t.Error("models replay differently")
	}
	f.must(f.RemoveAccount(ctx, ann.Address))
	f.must(f.ForgetSpamModel(ctx, ""))
	if n := f.count("SELECT (SELECT count(*) FROM spam_page) + (SELECT count(*) FROM spam_delta) + (SELECT count(*) FROM spam_model)"); n != 0 {
		t.Errorf("%d rows are left of models that are gone", n)
	}
}

func TestDeltasSaturate(t *testing.T) {
	slots := make([]byte, SpamSlots*SpamSlotSize)
	top := slices.Clone(slots)
	copy(top[len(top)-SpamSlotSize:], []byte{0xff, 0x7f, 255, 255})
	up := SpamDelta(nil, top)
	for range 2 {
		if err := addSpamDelta(slots, up, nil); err != nil || !bytes.Equal(slots, top) {
			t.Fatalf("%v %v", err, slots[len(slots)-SpamSlotSize:])
		}
	}
	down := SpamDelta(top, make([]byte, len(top)))
	for range 4 {
		if err := addSpamDelta(slots, down, nil); err != nil {
			t.Fatal(err)
		}
	}
	if got := slots[len(slots)-SpamSlotSize:]; !bytes.Equal(got, []byte{0x00, 0x80, 0, 0}) {
		t.Errorf("%v", got)
	}
}

func FuzzSpamDelta(f *testing.F) {
	f.Add([]byte{1, 2, 3, 4})
	f.Add([]byte{0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1})
	f.Add([]byte{0x80, 0x80, 0x10, 2, 2, 2})
	slots := make([]byte, SpamSlots*SpamSlotSize)
	f.Fuzz(func(t *testing.T, delta []byte) {
		if err := addSpamDelta(slots, delta, make([]bool, SpamSlots/spamPageSlots)); err != nil && err != errSpamDelta {
			t.Fatal(err)
		}
	})
}

func TestTrainingIsOnce(t *testing.T) {
	ctx := context.Background()
	f := newFixture(t)
	ann := f.account("ann@example.org")
	hash := bytes.Repeat([]byte{7}, SpamHashSize)
	f.must(f.AddLessons(ctx, []SpamLesson{{Account: ann.ID, Hash: hash, Unwanted: true, Source: LessonCommand, Features: []byte("f")}}))
	lessons, err := f.Lessons(ctx, 10)
	f.must(err)
	training := Training{Done: []int64{lessons[0].ID}, Labels: []LearnedItem{{Account: ann.ID, Hash: hash, Unwanted: true, Shared: true}}}
	f.must(f.Train(ctx, training))
	if err := f.Train(ctx, training); KindOf(err) != KindExists {
		t.Errorf("the same lesson again: %v", err)
	}
	f.must(f.AddLessons(ctx, []SpamLesson{{Account: ann.ID, Hash: hash, Source: LessonCommand}}))
	if lessons, err = f.Lessons(ctx, 10); err != nil || len(lessons) != 1 || lessons[0].Before != LearnedSpam || !lessons[0].Shared {
		t.Errorf("%+v %v", lessons, err)
	}
	for _, bad := range [][]byte{{1}, {0, 0, 0, 0}, make([]byte, MaxSpamDelta+1)} {
		if err := f.Train(ctx, Training{Models: []modelChange{{Delta: bad}}}); err == nil {
			t.Errorf("%d octets were taken", len(bad))
		}
	}
}

// TestShare has one account teach the host as much as it may, and a little more later.
func TestShare(t *testing.T) {
	ctx := context.Background()
	f := newFixture(t)
	ann := f.account("ann@example.org")
	teach := func(n int) error {
		labels := make([]LearnedItem, n)
		for i := range labels {
			labels[i] = LearnedItem{Account: ann.ID, Hash: fmt.Appendf(nil, "%016d", i), Shared: true, Charged: true}
		}
		return f.Train(ctx, Training{Labels: labels})
	}
	left := func() int64 {
		t.Helper()
		n, err := f.SpamShareOf(ctx, ann.ID)
		f.must(err)
		return n
	}
	for range SpamShare / 50 {
		f.must(teach(50))
	}
	if err := teach(1); KindOf(err) != KindTooLarge || left() != 0 {
		t.Errorf("more than its share: %v, %d left", err, left())
	}
	f.clock.advance(24 * time.Hour)
	if left() != SpamShareDay {
		t.Errorf("%d left after a day", left())
	}
	f.clock.advance(365 * 24 * time.Hour)
	if left() != SpamShare {
		t.Errorf("%d left after a year", left())
	}
}

// TestButtonsTeach is what the web calls.
func TestButtonsTeach(t *testing.T) {
	ctx := context.Background()
	f := newFixture(t)
	ann := f.account("ann@example.org")
	in := f.inbox(ann)
	for i := range 3 {
		f.append(in, fmt.Appendf(nil, "Subject: %d\r\n\r\n", i), 0)
	}
	f.must(f.Teach(ctx, in.ID, []Range{{1, 1}, {3, 9}}, true))
	if got := f.waiting(); got != "[spam button spam button]" {
		t.Error(got)
	}
	if n, err := f.WaitingLessons(ctx, ann.ID); n != 2 || err != nil {
		t.Errorf("%d wait, %v", n, err)
	}
	if err := f.Teach(ctx, 12345, []Range{{1, 1}}, true); KindOf(err) != KindNotFound {
		t.Errorf("no such mailbox: %v", err)
	}
	if err := f.Teach(ctx, in.ID, []Range{{3, 1}}, true); KindOf(err) != KindInvalid {
		t.Errorf("a range that descends: %v", err)
	}
}

// TestKeptMailIsWanted has read mail learned that stayed for a day, while more unwanted than wanted mail was taught.
func TestKeptMailIsWanted(t *testing.T) {
	ctx := context.Background()
	f := newFixture(t)
	ann, bob := f.account("ann@example.org"), f.account("bob@example.org")
	f.append(f.inbox(ann), []byte("Subject: read\r\n\r\n"), FlagSeen)
	f.append(f.inbox(ann), []byte("Subject: unread\r\n\r\n"), 0)
	f.append(f.inbox(ann), []byte("Subject: to go\r\n\r\n"), FlagSeen|FlagDeleted)
	f.append(f.inbox(bob), []byte("Subject: read by bob\r\n\r\n"), FlagSeen)
	kept := func() int {
		t.Helper()
		n, err := f.LearnKept(ctx)
		f.must(err)
		return n
	}
	f.clock.advance(KeptAfter / 2)
	f.append(f.inbox(ann), []byte("Subject: read lately\r\n\r\n"), FlagSeen)
	f.clock.advance(KeptAfter/2 + time.Second)
	if n := kept(); n != 0 {
		t.Errorf("%d lessons of who taught nothing", n)
	}
	taught := func(ham, spam int64) {
		var training Training
		training.Change(SpamModel{}, SpamModel{Account: ann.ID, Ham: ham, Spam: spam, Slots: make([]byte, SpamSlots*SpamSlotSize)})
		f.must(f.Train(ctx, training))
	}
	taught(5, 5)
	if n := kept(); n != 0 {
		t.Errorf("%d lessons of who taught as much of either kind", n)
	}
	taught(5, 9)
	if n := kept(); n != 1 || f.waiting() != "[ham kept]" {
		t.Errorf("%d lessons: %s", n, f.waiting())
	}
	if n := kept(); n != 0 {
		t.Errorf("%d more, while one waits", n)
	}
	lessons, err := f.Lessons(ctx, 10)
	f.must(err)
	f.must(f.Train(ctx, Training{Done: []int64{lessons[0].ID}, Labels: []LearnedItem{{Account: ann.ID, Hash: lessons[0].Hash}}}))
	if n := kept(); n != 0 {
		t.Errorf("%d lessons of what was learned", n)
	}
}
