package queue

import (
	"context"
	"errors"
	"time"

	"trivet/storage"
)

// leaseSize is how many recipients a worker takes at a time. If the node dies,
// so many of each worker are listed as perhaps duplicates.
const leaseSize = 50

// work sends what is due of a destination.
func (q *Queue) work(ctx context.Context, domain string) {
	w := &worker{q: q, ctx: ctx, domain: domain, messages: map[int64]storage.QueueMessage{}, legs: map[way]*leg{}}
	defer w.begun()
	var err error
	if w.senders, err = q.cfg.Store.SenderRoutes(ctx); err != nil {
		return
	}
	if len(w.senders) == 0 { // the usual way is that of nearly all: found before anything is taken
		w.leg = w.legOf(way{})
		if ctx.Err() != nil {
			return
		}
		if w.leg.busy {
			q.memory.pause("busy "+domain, q.cfg.Now().Add(busyPause))
			return
		}
	}
	w.run()
	w.finish()
}

// worker is one destination's worth of work.
type worker struct {
	q        *Queue
	ctx      context.Context
	domain   string
	senders  map[string]bool // domains whose senders have routes of their own
	legs     map[way]*leg
	*leg     // of the message at hand
	leased   bool
	over     bool                           // the others are to do the rest
	messages map[int64]storage.QueueMessage // of the present lease
}

// begun tells the scheduler, once, that the first lease is taken or will not be.
func (w *worker) begun() {
	if !w.leased {
		w.leased = true
		w.q.slots.started(w.domain)
	}
}

// lease takes some recipients, grouped by message; none: nothing is due.
func (w *worker) lease(most int) []storage.QueueRecipient {
	defer w.begun()
	if w.ctx.Err() != nil || !w.q.cfg.Healthy() {
		return nil
	}
	if n, err := w.q.cfg.Store.QueueBacklog(w.ctx, w.domain, w.q.cfg.Now(), 1); err == nil && n == 0 {
		return nil
	}
	recipients, err := w.q.leaseFor(w.ctx, w.domain, most)
	if err != nil {
		if w.ctx.Err() == nil {
			w.q.log.Warn("recipients cannot be leased", "domain", w.domain, "error", err)
			pause(w.ctx, pollEvery)
		}
		return nil
	}
	clear(w.messages)
	return recipients
}

// run sends until nothing is due, or the connection has had its share.
func (w *worker) run() {
	for rounds := 0; !w.over && rounds < w.q.cfg.Limits.MessagesPerConnection; {
		most := leaseSize
		if w.leg != nil && w.refusal != nil {
			most, rounds = storage.MaxLeased, 0 // nothing is sent: all that is due gets its reply
		}
		recipients := w.lease(most)
		if len(recipients) == 0 {
			return
		}
		var recorded []<-chan struct{}
		var results []storage.QueueResult
		for len(recipients) > 0 {
			n := sameMessage(recipients, w.q.cfg.Limits.RecipientsPerMessage)
			some, tried := w.send(recipients[:n])
			results = append(results, some...)
			recipients = recipients[n:]
			rounds++
			if tried || len(recipients) == 0 { // what another system has accepted must be known at once
				recorded = append(recorded, w.q.record(results))
				results = nil
			}
		}
		for _, done := range recorded {
			<-done
		}
		w.q.awake()
	}
}

// sameMessage counts the first recipients that have the same message, up to most.
func sameMessage(recipients []storage.QueueRecipient, most int) int {
	n := 1
	for n < len(recipients) && n < most && recipients[n].QueueID == recipients[0].QueueID {
		n++
	}
	return n
}

// message is the one a recipient belongs to.
func (w *worker) message(id int64) (storage.QueueMessage, error) {
	if m, ok := w.messages[id]; ok {
		return m, nil
	}
	m, err := w.q.cfg.Store.QueueMessage(context.WithoutCancel(w.ctx), id)
	if err == nil {
		w.messages[id] = m
	}
	return m, err
}

// result is what is recorded of a recipient, and told to the observer.
func (w *worker) result(r storage.QueueRecipient, remote string, said reply) storage.QueueResult {
	now := w.q.cfg.Now()
	m, err := w.message(r.QueueID)
	if err != nil {
		return released(r, now)
	}
	result := w.q.settle(m, r, remote, said, now)
	w.q.cfg.Observer.Result(outcomeNames[result.Outcome])
	return result
}

var outcomeNames = [...]string{"released", "sent", "deferred", "failed"}

// released gives a recipient back untried.
func released(r storage.QueueRecipient, now time.Time) storage.QueueResult {
	return storage.QueueResult{Recipient: r.ID, Token: r.Lease, Outcome: storage.OutcomeReleased, At: now.UnixMilli(), Next: now.UnixMilli()}
}

// send sends one message to some recipients, and returns what is to be recorded,
// and whether another system was asked to take it.
func (w *worker) send(recipients []storage.QueueRecipient) (results []storage.QueueResult, tried bool) {
	q := w.q
	now := q.cfg.Now()
	if w.ctx.Err() != nil || q.fence() != nil {
		return releaseAll(recipients, now), false
	}
	m, err := w.message(recipients[0].QueueID)
	if err != nil {
		return releaseAll(recipients, now.Add(pollEvery)), false
	}
	w.leg = w.legOf(w.wayOf(m))
	switch {
	case w.ctx.Err() != nil:
		return releaseAll(recipients, now), false
	case w.refusal != nil:
		return w.replyAll(recipients, *w.refusal), false
	case w.busy:
		q.memory.pause("busy "+w.domain, now.Add(busyPause))
		w.over = true
		return releaseAll(recipients, now.Add(busyPause)), false
	case w.route.local:
		for _, r := range recipients {
			results = append(results, w.result(r, "", w.deliverOne(r)))
		}
		return results, false
	}
	t, err := w.transaction(m, recipients)
	if err == nil {
		err = w.connect(t)
	}
	if errors.Is(err, errCrowded) {
		w.over = true
		return releaseAll(recipients, now), false
	}
	if err != nil {
		said := said(451, "4.3.0", "%v", err)
		var session *sessionError
		if errors.As(err, &session) {
			said = session.reply
		}
		return w.replyAll(recipients, said), false
	}
	return w.transact(t), true
}

// releaseAll gives recipients back untried, to be tried at a time.
func releaseAll(recipients []storage.QueueRecipient, next time.Time) []storage.QueueResult {
	results := make([]storage.QueueResult, len(recipients))
	for i, r := range recipients {
		results[i] = released(r, next)
	}
	return results
}

// replyAll gives all recipients the same reply, which no host has said.
func (w *worker) replyAll(recipients []storage.QueueRecipient, said reply) []storage.QueueResult {
	results := make([]storage.QueueResult, len(recipients))
	for i, r := range recipients {
		results[i] = w.result(r, "", said)
	}
	return results
}

// transact runs one transaction over the connection there is.
func (w *worker) transact(t *transaction) []storage.QueueResult {
	q, c := w.q, w.client
	begun := time.Now()
	c.ends = begun.Add(q.cfg.Limits.Transaction)
	reused := c.messages > 0
	w.fit(t)
	err := c.send(t)
	if reused && c.broken && !t.opened {
		// The server had enough of the connection: that says nothing about the message.
		w.drop()
		if cerr := w.connect(t); cerr == nil {
			c = w.client
			c.ends = begun.Add(q.cfg.Limits.Transaction)
			w.fit(t)
			err = c.send(t)
		}
	}
	q.cfg.Observer.Transaction(time.Since(begun))
	now := q.cfg.Now()
	if t.confused || err != nil && !errors.Is(err, errLeaseLost) {
		if !q.memory.quirky(c.host, now) && !c.plain {
			q.memory.quirk(c.host, now)
			t.soften()
		}
		c.broken = true
	}
	results := make([]storage.QueueResult, 0, len(t.recipients))
	again, accepted := t.beyond()
	sent := false
	for i, r := range t.recipients {
		if accepted && again[i] { // RFC 5321 section 4.5.3.1.10: the others go in the next transaction
			results = append(results, released(r, now))
			continue
		}
		result := w.result(r, c.remote+", "+c.assured.String(), t.replies[i])
		result.Doubtful = t.unsure
		if result.Outcome == storage.OutcomeSent {
			sent = true
			if !c.ext.dsn { // RFC 3461 section 5.2.2: from here on nobody will tell
				result.Notice = notice(t.message, r, storage.NotifySuccess, storage.NoticeRelayed)
			}
		}
		results = append(results, result)
	}
	if sent {
		q.memory.pause("proven "+w.domain, now.Add(provenFor))
		q.memory.forget("suspect " + w.domain)
	}
	q.log.Info("message sent", "queue", t.message.ID, "id", t.message.TraceID, "recipients", len(t.recipients), "remote", c.remote,
		"tls", c.assured.String(), "reply", t.replies[0].String(), "took", time.Since(begun))
	if c.broken && w.client != nil {
		w.drop()
	}
	return results
}

// soften turns the refusal of what a host said it can do into "later", when it
// is tried without that.
func (t *transaction) soften() {
	for i, r := range t.replies {
		if r.permanent() && t.confused {
			t.replies[i] = said(451, "4.5.0", "tried again without extensions, after: %s", r)
		}
	}
}

// beyond marks recipients that were refused only because there were too many.
func (t *transaction) beyond() (marks []bool, accepted bool) {
	marks = make([]bool, len(t.replies))
	for i, r := range t.replies {
		marks[i] = r.code == 452 && (r.enhanced == "4.5.3" || r.enhanced == "")
		accepted = accepted || r.positive()
	}
	return marks, accepted
}
