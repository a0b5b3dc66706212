package spam

import (
	"context"
	"errors"
	"fmt"
	"math"
	"strings"
	"testing"
)

type checkFunc func(*Message) ([]Reason, error)

func (f checkFunc) Check(_ context.Context, m *Message) ([]Reason, error) { return f(m) }

func (f checkFunc) CheckFor(_ context.Context, m *Message, _ Recipient) ([]Reason, error) {
	return f(m)
}

func says(name string, points float64) checkFunc {
	return func(*Message) ([]Reason, error) {
		return []Reason{{Name: name, Points: points, Text: name + " says so"}}, nil
	}
}

type contentOf Opinion

func (o contentOf) Classify(context.Context, *Message) (func(Recipient) (Opinion, error), error) {
	return func(Recipient) (Opinion, error) { return Opinion(o), nil }, nil
}

var bob = Recipient{Account: 1, Address: "bob@example.org"}

func TestPointsAreLogOdds(t *testing.T) {
	for _, p := range []float64{0.001, 0.5, 0.9, 0.999} {
		if got := Probability(Points(p)); math.Abs(got-p) > 1e-9 {
			t.Errorf("%v comes back as %v", p, got)
		}
	}
	if Points(1) != MaxPoints || Points(0) != -MaxPoints {
		t.Error("certainty is bounded")
	}
}

func TestJudge(t *testing.T) {
	neutral := contentOf{Floor: math.Inf(-1)}
	content := func(shared, personal float64, mature bool) Content {
		return contentOf{Shared: shared, Personal: personal, Mature: mature, Floor: math.Inf(-1), Text: "learned"}
	}
	broken := checkFunc(func(*Message) ([]Reason, error) { return nil, errors.New("broken") })
	later := checkFunc(func(*Message) ([]Reason, error) { return nil, fmt.Errorf("clamd: %w", ErrTemporary) })
	for _, c := range []struct {
		name   string
		filter Filter
		quar   bool
		want   Action
		points float64
	}{
		{"nothing is known", Filter{Content: neutral}, false, Accept, 0},
		{"a little", Filter{Checks: []Check{says("a", 2)}}, false, Accept, 2},
		{"two that add up", Filter{Checks: []Check{says("a", 2), says("b", 0.5)}}, false, Junk, 2.5},
		{"one against the other", Filter{Checks: []Check{says("a", 5)}, Personal: []Personal{says("b", -4)}}, false, Accept, 1},
		{"certain", Filter{Checks: []Check{says("a", 5), says("b", 5)}}, false, Reject, 10},
		{"only watching", Filter{Checks: []Check{says("a", 5), says("b", 5)}, Monitor: true}, false, Accept, 10},
		{"content alone, and little learned", Filter{Content: content(0, 12, false)}, false, Junk, 12},
		{"content alone, and enough learned", Filter{Content: content(1, 11, true)}, false, Reject, 12},
		{"content saves", Filter{Checks: []Check{says("a", 8)}, Content: content(0, -7, false)}, false, Accept, 1},
		{"above all wanted mail", Filter{Content: contentOf{Personal: 4, Floor: 5, Text: "learned"}}, false, Accept, 4},
		{"a check that fails", Filter{Checks: []Check{broken, says("a", 3)}}, false, Junk, 3},
		{"a check that must answer", Filter{Checks: []Check{later, says("a", 3)}}, false, Defer, 3},
		{"put aside by DMARC", Filter{}, true, Junk, 0},
		{"switched off", Filter{Checks: []Check{says("a", 9)}, Policies: func(context.Context, Recipient) (Policy, error) { return Policy{Off: true}, nil }}, false, Accept, 0},
		{"never refused", Filter{Checks: []Check{says("a", 19)}, Policies: func(context.Context, Recipient) (Policy, error) {
			return Policy{Junk: 0.9, Defer: 1, Reject: 1}, nil
		}}, false, Junk, 19},
	} {
		t.Run(c.name, func(t *testing.T) {
			v := c.filter.Judge(t.Context(), &Message{Recipients: []Recipient{bob}, Quarantined: c.quar})
			if len(v) != 1 || v[0].Action != c.want || v[0].Points != c.points {
				t.Errorf("got %+v", v)
			}
			if c.filter.Monitor && v[0].Monitored != Reject {
				t.Errorf("what would have been done: %v", v[0].Monitored)
			}
		})
	}
}

func TestReasonsAreBounded(t *testing.T) {
	checks := make([]Check, MaxReasons+5)
	for i := range checks {
		checks[i] = says("x", float64(i)/100)
	}
	checks[3] = checkFunc(func(*Message) ([]Reason, error) {
		return []Reason{{strings.Repeat("A b\r\n", 20), math.Inf(1), strings.Repeat("ü\r\n", MaxText)}, {"nan", math.NaN(), "x"}}, nil
	})
	f := Filter{Checks: checks}
	v := f.Judge(t.Context(), &Message{Recipients: []Recipient{bob}})[0]
	if len(v.Reasons) != MaxReasons || v.Reasons[0].Points != MaxPoints || math.IsNaN(v.Points) || v.Action != Reject {
		t.Fatalf("%d reasons, the first %+v", len(v.Reasons), v.Reasons[0])
	}
	for _, r := range v.Reasons {
		if len(r.Name) > maxNameBytes || len(r.Text) > MaxText+2 || strings.ContainsAny(r.Name+r.Text, "\r\n") {
			t.Errorf("%+v", r)
		}
	}
}

// TestStatusTellsNoneOfAnother has two recipients: what one of them taught is in no field.
func TestStatusTellsNoneOfAnother(t *testing.T) {
	f := Filter{Checks: []Check{says("shared", 1)}, Personal: []Personal{says("mine", 2)}, Content: contentOf{Shared: 0.5, Personal: 4, Floor: math.Inf(-1), Text: "learned"}}
	one := f.Judge(t.Context(), &Message{Recipients: []Recipient{bob}})
	if got, want := Status(one), "X-Spam-Status: Yes, score=7.5 required=2.2\r\n\tprobability=0.999 tests=classifier=4.5,\r\n\tmine=2.0,\r\n\tshared=1.0\r\n"; got != want {
		t.Errorf("got %q\nwant %q", got, want)
	}
	two := f.Judge(t.Context(), &Message{Recipients: []Recipient{bob, {Account: 2}}})
	if got, want := Status(two), "X-Spam-Status: No, score=1.5 required=2.2\r\n\tprobability=0.818 tests=shared=1.0,\r\n\tclassifier=0.5\r\n"; got != want {
		t.Errorf("got %q\nwant %q", got, want)
	}
	if Status(nil) != "" {
		t.Error("a field for nobody")
	}
}

type reviewFunc func([]Verdict)

func (f reviewFunc) Review(_ context.Context, _ *Message, v []Verdict) error { f(v); return nil }

func TestReviewersHaveTheLastWord(t *testing.T) {
	f := Filter{Reviewers: []Reviewer{reviewFunc(func(v []Verdict) { v[1].Action, v[1].Reply = Defer, "come again" })}}
	v := f.Judge(t.Context(), &Message{Recipients: []Recipient{bob, {Account: 2}}})
	if v[0].Action != Accept || v[1].Action != Defer || v[1].Reply != "come again" {
		t.Errorf("%+v", v)
	}
}
