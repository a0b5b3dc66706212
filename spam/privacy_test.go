package spam

import (
	"bytes"
	"context"
	"log/slog"
	"sync"
	"testing"
)

// TestModelsHaveNoWords looks for a word of a message in all that is kept of it.
func TestModelsHaveNoWords(t *testing.T) {
	const word = "xylophonequartz"
	f := newFakeLedger()
	raw := "Subject: " + word + "\r\n\r\n" + word + " " + word + "\r\n"
	f.teach(1, raw, true)
	f.teach(1, mail(1, false), false)
	f.learnAll(t)
	features, err := FeaturesOf(Key{1}, []byte(raw))
	if err != nil {
		t.Fatal(err)
	}
	kept := [][]byte{features.Marshal()}
	for _, m := range f.models {
		kept = append(kept, m.Head, m.Slots)
	}
	for _, b := range kept {
		for n := 4; n <= len(word); n++ {
			if bytes.Contains(b, []byte(word[:n])) {
				t.Errorf("%q is in what is kept", word[:n])
			}
		}
	}
}

// TestOthersSeeTheServerAlone has one account teach a lot: another's verdict is that of the server's model, which is
// bounded, and says nothing of who taught it.
func TestOthersSeeTheServerAlone(t *testing.T) {
	f := newFakeLedger()
	f.share[1] = 0 // the server's model learns nothing of it
	for i := range 60 {
		f.teach(1, mail(i, i%2 == 0), i%2 == 0)
	}
	f.learnAll(t)
	c := NewClassifier(f)
	if o := classify(t, c, mail(500, true), 2); o != neutral() {
		t.Errorf("another account is told %+v", o)
	}
	if o := classify(t, c, mail(500, true), 1); o.Personal < 1 {
		t.Errorf("the account itself is told %+v", o)
	}
}

// lockedLedger may be used by several at once.
type lockedLedger struct {
	*fakeLedger
	mu sync.Mutex
}

func (l *lockedLedger) Generation() uint64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.fakeLedger.Generation()
}

func (l *lockedLedger) Version(ctx context.Context, account int64) (int64, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.fakeLedger.Version(ctx, account)
}

func (l *lockedLedger) Model(ctx context.Context, account int64) (Stored, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.fakeLedger.Model(ctx, account)
}

func (l *lockedLedger) Train(ctx context.Context, t Training) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.fakeLedger.Train(ctx, t)
}

// TestJudgingWhileLearning is for the race detector.
func TestJudgingWhileLearning(t *testing.T) {
	l := &lockedLedger{fakeLedger: newFakeLedger()}
	for i := range 60 {
		l.teach(int64(i%3), mail(i, i%2 == 0), i%2 == 0)
	}
	c := NewClassifier(l)
	done := make(chan struct{})
	var judges sync.WaitGroup
	for account := range int64(3) {
		judges.Go(func() {
			for i := 0; ; i++ {
				select {
				case <-done:
					return
				default:
				}
				verdict, err := c.Classify(t.Context(), asMessage(mail(i, true)))
				if err == nil {
					_, err = verdict(Recipient{Account: account})
				}
				if err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	trainer := Trainer{Ledger: l, Logger: slog.New(slog.DiscardHandler)}
	for n := 1; n > 0; {
		var err error
		if n, err = trainer.Step(t.Context(), 4); err != nil {
			t.Fatal(err)
		}
	}
	close(done)
	judges.Wait()
}
