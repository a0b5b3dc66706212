package spam

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"maps"
	"slices"
	"sync"
	"sync/atomic"

	"trivet/storage/message"
)

// Limits of what the classifier says and holds.
const (
	// MaxLoaded is how many models are held in memory, of 1 MiB each; those not asked for the longest go.
	MaxLoaded = 64
	// MaxShared and MaxPersonal bound the points of what everybody, and of what the account taught.
	MaxShared   = 1.5 // which alone puts nothing aside: what one finds unwanted another may want
	MaxPersonal = 8
	// MatureLessons is how many wanted and how many unwanted messages an account has taught before mail is refused
	// for its content.
	MatureLessons = 200
)

// Host is the account of the model that is for all who taught little themselves.
const Host int64 = 0

// Stored is a model as it is kept.
type Stored struct {
	Account   int64
	Version   int64 // 0: nothing was learned
	Ham, Spam int64
	Head      []byte
	Slots     []byte
}

// Ledger keeps models and lessons; it is the replicated state.
type Ledger interface {
	// Key is the host's key of features. An error, or nil: there is none yet, so nothing was learned.
	Key(ctx context.Context) (*Key, error)
	// Generation grows whenever a model may have changed. It is asked for each message.
	Generation() uint64
	// Version is that of an account's model, 0: there is none.
	Version(ctx context.Context, account int64) (int64, error)
	Model(ctx context.Context, account int64) (Stored, error)

	// Lessons returns what is to be learned, the oldest first.
	Lessons(ctx context.Context, limit int) ([]Lesson, error)
	// Message opens one that is kept; an error that wraps [io.EOF]: it is gone.
	Message(ctx context.Context, id int64) (Body, error)
	// Share is how many lessons an account may still teach the host's model.
	Share(ctx context.Context, account int64) (int64, error)
	// Train makes what was learned part of the state, all of it or nothing.
	Train(ctx context.Context, t Training) error
}

// Body is a message that is kept.
type Body interface {
	io.ReaderAt
	io.Closer
	Size() int64
}

// Classifier judges messages by the models of their recipients and the host. It implements [Content].
type Classifier struct {
	ledger Ledger
	key    atomic.Pointer[Key]

	mu     sync.Mutex
	loaded map[int64]*loaded
	clock  int64 // grows with every use
}

// loaded is a model in memory.
type loaded struct {
	mu    sync.Mutex // held while it is read
	model atomic.Pointer[snapshot]
	used  int64
}

// snapshot is a model as of some generation.
type snapshot struct {
	*Model
	version    int64
	generation uint64
}

// NewClassifier judges by what ledger keeps.
func NewClassifier(ledger Ledger) *Classifier {
	return &Classifier{ledger: ledger, loaded: map[int64]*loaded{}}
}

// Classify implements [Content].
func (c *Classifier) Classify(ctx context.Context, m *Message) (func(Recipient) (Opinion, error), error) {
	host, err := c.model(ctx, Host)
	if err != nil {
		return nil, err
	}
	key, err := c.keyOf(ctx)
	if err != nil {
		return nil, err
	}
	var features Features // worked out when the first model that knows something asks
	look := func() error {
		if features != nil {
			return nil
		}
		features, err = Extract(*key, m.Header, m.Raw, m.Structure)
		return err
	}
	return func(to Recipient) (Opinion, error) {
		own := &Model{}
		if to.Account != Host {
			if own, err = c.model(ctx, to.Account); err != nil {
				return neutral(), err
			}
		}
		if key == nil || host.slots == nil && own.slots == nil {
			return neutral(), nil
		}
		if err := look(); err != nil {
			return neutral(), err
		}
		return opinion(host, own, features), nil
	}, nil
}

// opinion is what both models come to: the less the account has taught, the more the host's counts.
func opinion(host, own *Model, features Features) Opinion {
	o := neutral()
	taught := float64(min(own.Ham, own.Spam))
	o.Shared = clip(host.points(host.score(features).total), MaxShared) * shyness / (taught + shyness)
	o.Personal = clip(own.points(own.score(features).total), MaxPersonal)
	o.Mature = min(own.Ham, own.Spam) >= MatureLessons
	if taught > 0 {
		o.Floor = own.floor()
	}
	what := "unwanted"
	if o.Shared+o.Personal < 0 {
		what = "wanted"
	}
	o.Text = fmt.Sprintf("it looks like %s mail, after %d wanted and %d unwanted messages of this account", what, own.Ham, own.Spam)
	if taught == 0 {
		o.Text = fmt.Sprintf("it looks like %s mail, after %d wanted and %d unwanted messages of this server", what, host.Ham, host.Spam)
	}
	return o
}

func clip(x, most float64) float64 { return max(-most, min(most, x)) }

// keyOf is the host's key, which never changes.
func (c *Classifier) keyOf(ctx context.Context) (*Key, error) {
	if key := c.key.Load(); key != nil {
		return key, nil
	}
	key, err := c.ledger.Key(ctx)
	if err == nil && key != nil {
		c.key.Store(key)
	}
	return key, err
}

// model returns the model of an account as it is now.
func (c *Classifier) model(ctx context.Context, account int64) (*Model, error) {
	generation := c.ledger.Generation()
	l := c.place(account)
	if s := l.model.Load(); s != nil && s.generation == generation {
		return s.Model, nil
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	known := l.model.Load()
	if known != nil && known.generation == generation {
		return known.Model, nil
	}
	version, err := c.ledger.Version(ctx, account)
	if err != nil {
		return nil, err
	}
	next := &snapshot{version: version, generation: generation}
	switch {
	case known != nil && known.version == version:
		next.Model = known.Model
	case version == 0:
		next.Model = &Model{}
	default:
		stored, err := c.ledger.Model(ctx, account)
		if err != nil {
			return nil, err
		}
		next.version = stored.Version
		if next.Model, err = readModel(stored.Head, stored.Slots); err != nil {
			next.Model = &Model{}
		}
	}
	l.model.Store(next)
	return next.Model, nil
}

// place is where an account's model is, or goes.
func (c *Classifier) place(account int64) *loaded {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.clock++
	l := c.loaded[account]
	if l == nil {
		if len(c.loaded) >= MaxLoaded {
			c.makeRoom()
		}
		l = &loaded{}
		c.loaded[account] = l
	}
	l.used = c.clock
	return l
}

// makeRoom forgets a quarter of the models, but for the host's.
func (c *Classifier) makeRoom() {
	accounts := slices.SortedFunc(maps.Keys(c.loaded), func(a, b int64) int { return cmp.Compare(c.loaded[a].used, c.loaded[b].used) })
	for _, account := range accounts[:MaxLoaded/4] {
		if account != Host {
			delete(c.loaded, account)
		}
	}
}

// Summary is what a model knows, in numbers.
type Summary struct {
	Ham   uint32  `json:"ham"`
	Spam  uint32  `json:"spam"`
	Floor float64 `json:"floor"` // no wanted mail, but for one in a thousand, had this probability
}

// Summarize reads a head as it is kept; none is one of a model that knows nothing.
func Summarize(head []byte) (Summary, error) {
	m := Model{}
	if len(head) == 0 {
		return Summary{}, nil
	}
	if err := m.unmarshal(head); err != nil {
		return Summary{}, err
	}
	m.scale = m.fit()
	return Summary{m.Ham, m.Spam, Probability(m.floor())}, nil
}

// look reads the features of a message that is kept.
func look(key Key, body Body) (Features, error) {
	m, err := message.Scan(io.NewSectionReader(body, 0, body.Size()))
	if err != nil {
		return nil, err
	}
	header := make([]byte, min(m.HeaderSize, 2*maxHeader))
	if n, err := body.ReadAt(header, 0); n < len(header) {
		return nil, err
	}
	return Extract(key, header, body, m)
}
