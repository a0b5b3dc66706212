package spam

import (
	"fmt"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// corpus writes labelled mail, of n messages each.
func corpus(t *testing.T, n int) string {
	t.Helper()
	dir := t.TempDir()
	for _, label := range []string{"ham", "spam"} {
		if err := os.Mkdir(filepath.Join(dir, label), 0o700); err != nil {
			t.Fatal(err)
		}
		for i := range n {
			if err := os.WriteFile(filepath.Join(dir, label, fmt.Sprintf("%03d", i)), []byte(mail(i, label == "spam")), 0o600); err != nil {
				t.Fatal(err)
			}
		}
	}
	return dir
}

func TestCurve(t *testing.T) {
	for _, c := range []struct {
		name   string
		scores []outcome
		above  float64
		recall float64 // at no more than 0.5 of the wanted lost
	}{
		{"all in order", []outcome{{3, true}, {2, true}, {1, false}, {0, false}}, 0, 100},
		{"the other way round", []outcome{{3, false}, {2, false}, {1, true}, {0, true}}, 100, 0},
		{"all the same", []outcome{{1, true}, {1, false}, {1, true}, {1, false}}, 50, 0},
		{"one out of place", []outcome{{4, true}, {3, false}, {2, true}, {1, false}}, 25, 100},
	} {
		above, recall := curve(c.scores, 0.5)
		if math.Abs(above-c.above) > 1e-9 || recall[0] != c.recall {
			t.Errorf("%s: %v above, recall %v", c.name, above, recall)
		}
	}
}

func TestEvaluate(t *testing.T) {
	dir := corpus(t, 60)
	r, err := Evaluate(t.Context(), Trial{Dir: dir, Seeds: 2})
	if err != nil {
		t.Fatal(err)
	}
	if r.Ham != 60 || r.Spam != 60 || r.Seeds != 2 || r.Feedback.Messages != 120 || r.Split.Messages != 84 || r.ModelSize != 1<<20 {
		t.Errorf("%+v", r)
	}
	if r.Feedback.Area > 10 || r.Split.Area > 10 || r.Split.RecallHun < 50 {
		t.Errorf("two sorts of mail are not told apart: %+v %+v", r.Feedback, r.Split)
	}
	again, err := Evaluate(t.Context(), Trial{Dir: dir, Seeds: 2})
	if err != nil || again.Feedback != r.Feedback || again.Split != r.Split {
		t.Errorf("another result of the same: %+v %v", again.Feedback, err)
	}
	n := 0
	for _, s := range r.Calibrated {
		n += s.Messages
	}
	if n != 2*120 {
		t.Errorf("calibration of %d messages", n)
	}
	noisy, err := Evaluate(t.Context(), Trial{Dir: dir, Seeds: 2, Noise: 0.4})
	if err != nil || noisy.Feedback.Area <= r.Feedback.Area {
		t.Errorf("with wrong labels %+v, without %+v, %v", noisy.Feedback, r.Feedback, err)
	}
}

func TestOrder(t *testing.T) {
	dir := corpus(t, 2)
	order := func(text string) ([]Sample, bool, error) {
		if err := os.WriteFile(filepath.Join(dir, "order"), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return Samples(dir)
	}
	samples, ordered, err := order("spam/001\nham/000\n./ham/001\n")
	if err != nil || !ordered || fmt.Sprint(samples) != "[{spam/001 true} {ham/000 false} {ham/001 false}]" {
		t.Errorf("%v %v %v", samples, ordered, err)
	}
	if _, _, err := order("../ham/000\n"); err == nil || !strings.Contains(err.Error(), "in neither") {
		t.Errorf("outside: %v", err)
	}
	if _, _, err := Samples(filepath.Join(dir, "ham")); err == nil {
		t.Error("a folder without ham and spam")
	}
}

// TestBogofilterBeside runs only where that program is.
func TestBogofilterBeside(t *testing.T) {
	b, err := newBogofilter()
	if err != nil {
		t.Skip("bogofilter is not installed:", err)
	}
	if err := b.close(); err != nil {
		t.Fatal(err)
	}
	r, err := Evaluate(t.Context(), Trial{Dir: corpus(t, 15), Bogofilter: true})
	if err != nil || r.BogofilterFeedback == nil || r.BogofilterFeedback.Messages != 30 || r.BogofilterSplit.Messages != 21 {
		t.Errorf("%+v %v", r.BogofilterFeedback, err)
	}
}
