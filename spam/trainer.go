package spam

import (
	"bytes"
	"context"
	"errors"
	"io"
	"log/slog"
	"time"
)

// Lesson is a message to be learned.
type Lesson struct {
	ID       int64
	Account  int64 // [Host]: by the host's model alone
	Message  int64 // one that is kept; 0: Features are given
	Hash     []byte
	Unwanted bool
	Features []byte
	// Learned: it was learned before, WasUnwanted says as what, and Shared whether the host's model learned it, too.
	Learned, WasUnwanted, Shared bool
}

// Training is what was learned from lessons.
type Training struct {
	Done    []int64
	Labels  []Label
	Changes []Change
}

// Label is a message that was learned.
type Label struct {
	Account          int64
	Hash             []byte
	Unwanted, Shared bool
	Charged          bool // it counts against the account's share of the host's model
}

// Change is a model before and after.
type Change struct{ Before, After Stored }

// Times and sizes of training.
const (
	trainBatch = 16 // lessons of one command
	trainPause = 2 * time.Second
	// trainRest is how long the trainer rests after a full batch, in times of what that took: it uses a third of a core.
	trainRest = 2
)

// Trainer has the models learn what waits in the ledger. One of all nodes does so: the one that leads.
type Trainer struct {
	Ledger Ledger
	Leads  func() bool
	// Ready is called before lessons are learned: it sees to it that there is a key. nil: there is one.
	Ready func(ctx context.Context) error
	// Idle is called when there is nothing to learn. nil: nothing is.
	Idle   func(ctx context.Context)
	Logger *slog.Logger
}

// Run learns until ctx ends.
func (t *Trainer) Run(ctx context.Context) {
	for pause := trainPause; ; {
		select {
		case <-ctx.Done():
			return
		case <-time.After(pause):
		}
		pause = trainPause
		if !t.Leads() {
			continue
		}
		began := time.Now()
		n, err := t.Step(ctx, trainBatch)
		if err != nil && ctx.Err() == nil {
			// One lesson by itself always fits into a command.
			if n, err = t.Step(ctx, 1); err != nil && ctx.Err() == nil {
				t.Logger.Warn("lessons on unwanted mail were not learned; it is tried again", "error", err)
				continue
			}
		}
		if n == 0 && t.Idle != nil {
			t.Idle(ctx)
		}
		if n > 0 {
			pause = min(trainPause, trainRest*time.Since(began))
		}
	}
}

// Step learns at most so many lessons, in one command, and returns how many.
func (t *Trainer) Step(ctx context.Context, most int) (int, error) {
	lessons, err := t.Ledger.Lessons(ctx, most)
	if err != nil || len(lessons) == 0 {
		return 0, err
	}
	if t.Ready != nil {
		if err := t.Ready(ctx); err != nil {
			return 0, err
		}
	}
	key, err := t.Ledger.Key(ctx)
	if err != nil {
		return 0, err
	}
	c := &course{ledger: t.Ledger, pupils: map[int64]*pupil{}, shares: map[int64]int64{}}
	for _, l := range lessons {
		c.training.Done = append(c.training.Done, l.ID)
		features, err := t.features(ctx, key, l)
		if ctx.Err() != nil {
			return 0, ctx.Err()
		}
		if err != nil {
			t.Logger.Info("a message to be learned cannot be read", "message", l.Message, "error", err)
			continue
		}
		if err := c.learn(ctx, l, features); err != nil {
			return 0, err
		}
	}
	for _, account := range c.order {
		p := c.pupils[account]
		p.after.Account, p.after.Ham, p.after.Spam = account, int64(p.model.Ham), int64(p.model.Spam)
		p.after.Head, p.after.Slots = p.model.Head.marshal(), p.model.marshalSlots()
		c.training.Changes = append(c.training.Changes, Change{p.before, p.after})
	}
	return len(lessons), t.Ledger.Train(ctx, c.training)
}

var errNoKey = errors.New("there is no key")

// features are those of a lesson.
func (t *Trainer) features(ctx context.Context, key *Key, l Lesson) (Features, error) {
	if l.Message == 0 {
		return readFeatures(l.Features)
	}
	if key == nil {
		return nil, errNoKey
	}
	body, err := t.Ledger.Message(ctx, l.Message)
	if err != nil {
		return nil, err
	}
	defer body.Close()
	features, err := look(*key, body)
	if errors.Is(err, io.EOF) {
		err = nil
	}
	return features, err
}

// course is some lessons and who learns them.
type course struct {
	ledger   Ledger
	pupils   map[int64]*pupil
	order    []int64 // of accounts, as they came first
	shares   map[int64]int64
	training Training
}

// pupil is a model that nobody else can see yet.
type pupil struct {
	before, after Stored
	model         *Model
}

func (c *course) pupil(ctx context.Context, account int64) (*Model, error) {
	if p := c.pupils[account]; p != nil {
		return p.model, nil
	}
	stored, err := c.ledger.Model(ctx, account)
	if err != nil {
		return nil, err
	}
	m, err := readModel(stored.Head, stored.Slots)
	if err != nil { // of another release: it begins anew
		m = &Model{}
	}
	c.pupils[account] = &pupil{before: stored, model: m}
	c.order = append(c.order, account)
	return m, nil
}

// learn has the account's model learn a message and, as far as the account may, the host's. One that was learned as the
// other is turned; one that was learned as this is not learned again.
func (c *course) learn(ctx context.Context, l Lesson, features Features) error {
	if l = c.asOfNow(l); l.Learned && l.WasUnwanted == l.Unwanted {
		return nil
	}
	label := Label{Account: l.Account, Hash: l.Hash, Unwanted: l.Unwanted, Shared: l.Shared}
	models := []int64{l.Account}
	if l.Account != Host {
		room, err := c.share(ctx, l.Account)
		if err != nil {
			return err
		}
		if room > 0 {
			c.shares[l.Account]--
			label.Shared, label.Charged = true, true
			models = append(models, Host)
		}
	}
	for _, account := range models {
		m, err := c.pupil(ctx, account)
		if err != nil {
			return err
		}
		chance := seeded(features)
		if l.Learned && (account == l.Account || l.Shared) {
			m.unlearn(features, l.WasUnwanted, chance)
		}
		m.learn(features, l.Unwanted, chance)
	}
	c.training.Labels = append(c.training.Labels, label)
	return nil
}

// asOfNow is a lesson as it is after those before it in the course.
func (c *course) asOfNow(l Lesson) Lesson {
	for _, before := range c.training.Labels {
		if before.Account == l.Account && bytes.Equal(before.Hash, l.Hash) {
			l.Learned, l.WasUnwanted, l.Shared = true, before.Unwanted, before.Shared
		}
	}
	return l
}

func (c *course) share(ctx context.Context, account int64) (int64, error) {
	if room, ok := c.shares[account]; ok {
		return room, nil
	}
	room, err := c.ledger.Share(ctx, account)
	if err == nil {
		c.shares[account] = room
	}
	return room, err
}
