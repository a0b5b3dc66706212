package storage

import (
	"context"
	"slices"
	"strings"
	"time"

	"zombiezen.com/go/sqlite"
)

// Bounds of what is remembered of messages' ways.
const (
	// TrailAge is how long the way of a message is remembered.
	TrailAge = 30 * 24 * time.Hour
	// MaxTrails is how many ways are remembered; the oldest go first.
	MaxTrails = 500_000
	// maxTraced bounds the messages that one trace shows.
	maxTraced = 100
	// maxTraceEvents bounds the steps that a trace shows of each message.
	maxTraceEvents = 10_000
	// forgetTrails bounds the ways that one command forgets.
	forgetTrails = 1000
)

// EventKind is a step on the way of a message.
type EventKind uint8

// The steps. The first three are read from the trail itself.
const (
	EventReceived  EventKind = iota + 1 // we took it
	EventDelivered                      // it is in a mailbox here
	EventQueued                         // it is to go elsewhere
	EventSent                           // the other system has it
	EventDeferred                       // an attempt failed for now
	EventFailed                         // given up
	EventLost                           // a node lost its lease in the middle: perhaps the other system has it
	EventReported                       // the sender got a report
	EventHeld                           // an operator holds it
	EventRetried                        // an operator has it tried again
	EventDropped                        // an operator took it out of the queue
)

var eventNames = [...]string{"", "received", "delivered", "queued", "sent", "deferred", "failed", "lost", "reported", "held", "retried", "dropped"}

func (k EventKind) String() string {
	if int(k) < len(eventNames) {
		return eventNames[k]
	}
	return "unknown"
}

// MarshalText implements encoding.TextMarshaler.
func (k EventKind) MarshalText() ([]byte, error) { return []byte(k.String()), nil }

// UnmarshalText implements encoding.TextUnmarshaler.
func (k *EventKind) UnmarshalText(text []byte) error {
	*k = EventKind(max(0, slices.Index(eventNames[:], string(text))))
	return nil
}

// Event is one step.
type Event struct {
	At      time.Time `json:"at"`
	Node    string    `json:"node,omitempty"`
	Kind    EventKind `json:"kind"`
	Address string    `json:"address,omitempty"` // the recipient; of received: the sender
	Remote  string    `json:"remote,omitempty"`  // the other side
	Text    string    `json:"text,omitempty"`    // the reply, or how it came
}

// Traced is the way of one message.
type Traced struct {
	ID     string  `json:"id"`
	Sender string  `json:"sender"`
	Size   int64   `json:"size"`
	Events []Event `json:"events"`

	trail             int64
	at                time.Time
	node, remote      string
	via, verdict      string
	delivered, queued string
}

// startTrail writes the beginning of a message's way.
func (t *tx) startTrail(id int64, b dispatch, delivered []string) error {
	var queued []string
	if b.Outbound != nil {
		for _, r := range b.Outbound.Recipients {
			if !r.Delivered {
				queued = append(queued, r.Address)
			}
		}
	}
	s := b.Trail
	_, err := t.mail.exec(`INSERT INTO trail (id, name, at, node, sender, remote, via, verdict, size, delivered, queued)
		VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)`, id, s.ID, t.at, s.Node, s.Sender, s.Remote, s.Via, s.Verdict, b.Content.Size,
		strings.Join(delivered, "\n"), strings.Join(queued, "\n"))
	if err != nil {
		return err
	}
	for _, address := range trailAddresses(s.Sender, delivered, queued) {
		if _, err := t.mail.exec("INSERT INTO trail_address (address, trail) VALUES (?, ?)", address, id); err != nil {
			return err
		}
	}
	return nil
}

// trailAddresses are the addresses that a trail is found by.
func trailAddresses(sender string, delivered, queued []string) []string {
	all := slices.Concat([]string{sender}, delivered, queued)
	for i, a := range all {
		all[i] = asciiLower(a)
	}
	slices.Sort(all)
	all = slices.Compact(all)
	return slices.DeleteFunc(all, func(a string) bool { return a == "" })
}

// asciiLower is the same in every release, which strings.ToLower is not.
func asciiLower(s string) string {
	b := []byte(s)
	for i, c := range b {
		if 'A' <= c && c <= 'Z' {
			b[i] = c + 'a' - 'A'
		}
	}
	return string(b)
}

// event adds a step to the way of a message.
func (t *tx) event(trail int64, e Event) error {
	_, err := t.mail.exec("INSERT INTO event (trail, id, at, node, kind, address, remote, reply) VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
		trail, t.newID(), e.At.UnixMilli(), e.Node, int64(e.Kind), e.Address, e.Remote, e.Text)
	return err
}

// Trace returns the ways of the messages with an id, or, when what has an @, of
// those from or to an address: the newest first, at most 100.
func (s *Store) Trace(ctx context.Context, what string) ([]Traced, error) {
	where := "name = ?"
	if strings.Contains(what, "@") {
		where = "id IN (SELECT trail FROM trail_address WHERE address = ? ORDER BY trail DESC LIMIT 100)"
		what = asciiLower(what)
	}
	var found []Traced
	err := s.snapshot(ctx, func(c *conn) error {
		err := c.rows(`SELECT id, name, at, node, sender, remote, via, verdict, size, delivered, queued FROM trail WHERE `+where+
			` ORDER BY id DESC LIMIT ?`, func(st *sqlite.Stmt) bool {
			found = append(found, Traced{trail: st.ColumnInt64(0), ID: st.ColumnText(1), at: time.UnixMilli(st.ColumnInt64(2)).UTC(),
				node: st.ColumnText(3), Sender: st.ColumnText(4), remote: st.ColumnText(5), via: st.ColumnText(6), verdict: st.ColumnText(7),
				Size: st.ColumnInt64(8), delivered: st.ColumnText(9), queued: st.ColumnText(10)})
			return true
		}, what, maxTraced)
		for i := range found {
			if err == nil {
				err = found[i].read(c)
			}
		}
		return err
	})
	return found, readError("trace", err)
}

// read fills in the steps.
func (r *Traced) read(c *conn) error {
	via := r.via
	if r.verdict != "" {
		via = strings.TrimSpace(via + "; " + r.verdict)
	}
	r.Events = append(r.Events, Event{At: r.at, Node: r.node, Kind: EventReceived, Address: r.Sender, Remote: r.remote, Text: via})
	for _, part := range []struct {
		kind      EventKind
		addresses string
	}{{EventDelivered, r.delivered}, {EventQueued, r.queued}} {
		for address := range strings.FieldsFuncSeq(part.addresses, func(c rune) bool { return c == '\n' }) {
			if len(r.Events) < maxTraceEvents {
				r.Events = append(r.Events, Event{At: r.at, Node: r.node, Kind: part.kind, Address: address})
			}
		}
	}
	return c.rows("SELECT at, node, kind, address, remote, reply FROM event WHERE trail = ? ORDER BY id LIMIT ?", func(st *sqlite.Stmt) bool {
		r.Events = append(r.Events, Event{At: time.UnixMilli(st.ColumnInt64(0)).UTC(), Node: st.ColumnText(1), Kind: EventKind(st.ColumnInt64(2)),
			Address: st.ColumnText(3), Remote: st.ColumnText(4), Text: st.ColumnText(5)})
		return true
	}, r.trail, maxTraceEvents)
}

// forgetTrails deletes trails older than before, or beyond the number kept.
type forgetQueue struct {
	Before   int64 `cbor:"1,keyasint"`           // trails that began before, Unix milliseconds
	Through  int64 `cbor:"2,keyasint,omitempty"` // trails with an id up to this one, whatever their age
	Doubtful int64 `cbor:"3,keyasint"`           // recipients done that are listed as perhaps duplicates, tried before
}

// DoubtfulAge is how long a recipient that is done is listed as perhaps a duplicate.
const DoubtfulAge = 7 * 24 * time.Hour

// pruneQueue decides what is to be forgotten of the ways of messages: for their number, and, if the clock
// can be trusted, for their age.
func (s *Store) pruneQueue(ctx context.Context, trusted bool) error {
	now := s.cfg.Now()
	b := forgetQueue{Before: now.Add(-TrailAge).UnixMilli(), Doubtful: now.Add(-DoubtfulAge).UnixMilli()}
	if !trusted {
		b.Before, b.Doubtful = 0, 0
	}
	for {
		n := 0
		err := s.with(ctx, func(c *conn) error {
			_, err := c.row("SELECT id FROM trail ORDER BY id DESC LIMIT 1 OFFSET ?", func(st *sqlite.Stmt) { b.Through = st.ColumnInt64(0) }, MaxTrails)
			if err != nil {
				return err
			}
			_, err = c.row(`SELECT (SELECT count(*) FROM (SELECT at, id FROM trail ORDER BY id LIMIT 1) WHERE at < ?1 OR id <= ?2)
				+ (SELECT count(*) FROM queue_recipient WHERE doubtful <> 0 AND state >= 3 AND notice = 0 AND attempted < ?3)`,
				func(st *sqlite.Stmt) { n = st.ColumnInt(0) }, b.Before, b.Through, b.Doubtful)
			return err
		})
		if err != nil || n == 0 {
			return readError("find old trails", err)
		}
		if err := s.decide(ctx, kindForgetQueue, b); err != nil {
			return err
		}
	}
}

func applyForgetQueue(t *tx, b forgetQueue) (any, error) {
	type old struct {
		id                        int64
		sender, delivered, queued string
	}
	var gone []old
	err := t.mail.rows(`SELECT id, sender, delivered, queued, at FROM trail ORDER BY id LIMIT ?`, func(st *sqlite.Stmt) bool {
		if st.ColumnInt64(4) >= b.Before && st.ColumnInt64(0) > b.Through {
			return false
		}
		gone = append(gone, old{st.ColumnInt64(0), st.ColumnText(1), st.ColumnText(2), st.ColumnText(3)})
		return true
	}, forgetTrails)
	if err != nil {
		return nil, err
	}
	for _, g := range gone {
		for _, address := range trailAddresses(g.sender, strings.Split(g.delivered, "\n"), strings.Split(g.queued, "\n")) {
			if _, err := t.mail.exec("DELETE FROM trail_address WHERE address = ? AND trail = ?", address, g.id); err != nil {
				return nil, err
			}
		}
		for _, sql := range []string{"DELETE FROM event WHERE trail = ?", "DELETE FROM trail WHERE id = ?"} {
			if _, err := t.mail.exec(sql, g.id); err != nil {
				return nil, err
			}
		}
	}
	return nil, t.forgetDoubtful(b.Doubtful)
}

// forgetDoubtful takes recipients that are done off the list of possible duplicates.
func (t *tx) forgetDoubtful(before int64) error {
	var messages []int64
	err := t.mail.rows(`DELETE FROM queue_recipient WHERE id IN (SELECT id FROM queue_recipient WHERE doubtful <> 0 AND state >= 3
		AND notice = 0 AND attempted < ? ORDER BY id LIMIT ?) RETURNING queue_id`, func(st *sqlite.Stmt) bool {
		messages = append(messages, st.ColumnInt64(0))
		return true
	}, before, forgetTrails)
	if err != nil {
		return err
	}
	return t.dropEmptyMessages(messages)
}
