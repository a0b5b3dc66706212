package spam

import (
	"cmp"
	"context"
	"errors"
	"log/slog"
	"math"
	"slices"
	"sync"
	"time"
)

// Check looks at a message for all recipients. It is called on a goroutine of its own, beside the
// others, and returns when ctx ends. What it returns beside an error counts; an error
// that wraps [ErrTemporary] puts the message off, any other is logged and the message judged without.
type Check interface {
	Check(ctx context.Context, m *Message) ([]Reason, error)
}

// Personal looks at a message for one recipient after the other; else it is as [Check]. What it
// returns is for that recipient's eyes: of a message with several it is in no header.
type Personal interface {
	CheckFor(ctx context.Context, m *Message, to Recipient) ([]Reason, error)
}

// Content judges the content of a message from what was learned, by one recipient after the other. It is called on
// the session's goroutine. [Classifier] is one.
type Content interface {
	Classify(ctx context.Context, m *Message) (func(Recipient) (Opinion, error), error)
}

// Opinion is what the classifier says to one recipient.
type Opinion struct {
	Shared   float64 // points of what everybody taught
	Personal float64 // points of what this account taught
	// Mature: enough was learned for mail to be refused for its content.
	Mature bool
	// Floor is the points from which on hardly any of the account's own wanted mail was found; below them
	// nothing goes to Junk. -Inf: not known.
	Floor float64
	Text  string
}

// Reviewer looks at the verdicts when all points are known, one for each recipient, and may change actions and
// replies. It is called on the session's goroutine, also for a host that only watches:
// what it decides is then not done.
type Reviewer interface {
	Review(ctx context.Context, m *Message, verdicts []Verdict) error
}

// ErrTemporary is wrapped by the error of a check without whose answer nothing is accepted: a scanner
// for viruses that does not answer, say.
var ErrTemporary = errors.New("temporary failure")

// DefaultTime is how long the checks of a message may take in all.
const DefaultTime = 20 * time.Second

// Filter judges messages. All fields but Policies may be left empty.
type Filter struct {
	Checks    []Check
	Personal  []Personal
	Content   Content
	Reviewers []Reviewer
	// Policies returns the policy for a recipient. It is called for each recipient of each message.
	Policies func(ctx context.Context, to Recipient) (Policy, error)
	Monitor  bool // verdicts are given, and nothing is done
	Time     time.Duration
	Logger   *slog.Logger
}

// Judge gives a verdict for each of m.Recipients, in their order. What cannot be found out is logged
// and left out: a filter that fails lets mail through.
func (f *Filter) Judge(ctx context.Context, m *Message) []Verdict {
	ctx, cancel := context.WithTimeout(ctx, orDefault(f.Time, DefaultTime))
	defer cancel()
	verdicts := make([]Verdict, len(m.Recipients))
	policies := make([]Policy, len(m.Recipients))
	on := false
	for i, to := range m.Recipients {
		verdicts[i] = Verdict{Recipient: to}
		policies[i] = f.policy(ctx, m, to)
		on = on || !policies[i].Off
	}
	if !on {
		return verdicts
	}
	shared, temporary := f.shared(ctx, m)
	opinion := f.opinions(ctx, m)
	for i := range verdicts {
		if policies[i].Off {
			continue
		}
		reasons, later := f.personal(ctx, m, m.Recipients[i])
		verdicts[i].settle(policies[i], shared, reasons, opinion(m.Recipients[i]))
		if m.Quarantined {
			verdicts[i].Action = max(verdicts[i].Action, Junk)
		}
		if err := errors.Join(temporary, later); err != nil && verdicts[i].Action < Defer {
			verdicts[i].Action, verdicts[i].Reply = Defer, "A check of the message did not answer: try again"
		}
	}
	for _, r := range f.Reviewers {
		if err := r.Review(ctx, m, verdicts); err != nil {
			f.warn(m, err)
		}
	}
	for i := range verdicts {
		if f.Monitor {
			verdicts[i].Monitored, verdicts[i].Action = verdicts[i].Action, Accept
		}
	}
	return verdicts
}

func orDefault(d, standard time.Duration) time.Duration {
	if d == 0 {
		return standard
	}
	return d
}

func (f *Filter) policy(ctx context.Context, m *Message, to Recipient) Policy {
	if f.Policies == nil {
		return DefaultPolicy()
	}
	p, err := f.Policies(ctx, to)
	if err != nil {
		f.warn(m, err)
		return DefaultPolicy()
	}
	return p
}

func (f *Filter) warn(m *Message, err error) {
	if f.Logger != nil {
		f.Logger.Warn("a check of a message failed", "id", m.ID, "error", err)
	}
}

// shared runs the checks side by side. Their reasons come in the order of the checks. The
// error is temporary.
func (f *Filter) shared(ctx context.Context, m *Message) (all []Reason, temporary error) {
	found := make([][]Reason, len(f.Checks))
	problems := make([]error, len(f.Checks))
	var wait sync.WaitGroup
	for i, c := range f.Checks {
		if i == len(f.Checks)-1 { // one needs no goroutine of its own
			found[i], problems[i] = c.Check(ctx, m)
			break
		}
		wait.Go(func() { found[i], problems[i] = c.Check(ctx, m) })
	}
	wait.Wait()
	for i, err := range problems {
		all = append(all, found[i]...)
		temporary = errors.Join(temporary, f.judged(m, err))
	}
	return all, temporary
}

// judged logs what a check failed with, and returns it if it is temporary.
func (f *Filter) judged(m *Message, err error) error {
	if err == nil {
		return nil
	}
	f.warn(m, err)
	if errors.Is(err, ErrTemporary) {
		return err
	}
	return nil
}

func (f *Filter) personal(ctx context.Context, m *Message, to Recipient) (all []Reason, temporary error) {
	for _, c := range f.Personal {
		found, err := c.CheckFor(ctx, m, to)
		all = append(all, found...)
		temporary = errors.Join(temporary, f.judged(m, err))
	}
	return all, temporary
}

// opinions has the content looked at.
func (f *Filter) opinions(ctx context.Context, m *Message) func(Recipient) Opinion {
	none := func(Recipient) Opinion { return neutral() }
	if f.Content == nil {
		return none
	}
	classified, err := f.Content.Classify(ctx, m)
	if err != nil {
		f.warn(m, err)
		return none
	}
	return func(to Recipient) Opinion {
		o, err := classified(to)
		if err != nil {
			f.warn(m, err)
			return neutral()
		}
		return o
	}
}

// neutral is the opinion of who has learned nothing.
func neutral() Opinion { return Opinion{Floor: math.Inf(-1)} }

// settle adds up what was found, and decides.
func (v *Verdict) settle(p Policy, shared, personal []Reason, o Opinion) {
	for _, r := range shared {
		v.add(r)
	}
	v.shared, v.common = slices.Clone(v.Reasons), v.Points
	for _, r := range personal {
		v.add(r)
	}
	refusing := v.Points
	if o.Text != "" {
		v.common += o.Shared
		v.shared = append(v.shared, Reason{Name: nameClassifier, Points: o.Shared})
		v.add(Reason{Name: nameClassifier, Points: o.Shared + o.Personal, Text: o.Text})
		if o.Mature || v.Points < refusing {
			refusing = v.Points
		}
	}
	v.Probability = Probability(v.Points)
	v.Threshold = max(p.Junk, Probability(o.Floor))
	v.Action = p.action(v.Probability, Probability(refusing), v.Threshold)
	v.Reasons = foremost(v.Reasons)
}

// nameClassifier is the reason that comes from the content.
const nameClassifier = "classifier"

// add counts a reason.
func (v *Verdict) add(r Reason) {
	if r = r.clean(); r.Points != 0 || r.Text != "" {
		v.Points += r.Points
		v.Reasons = append(v.Reasons, r)
	}
}

// foremost sorts reasons by their points, either way, and keeps the first.
func foremost(reasons []Reason) []Reason {
	slices.SortStableFunc(reasons, func(a, b Reason) int { return cmp.Compare(math.Abs(b.Points), math.Abs(a.Points)) })
	return reasons[:min(len(reasons), MaxReasons)]
}
