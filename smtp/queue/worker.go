package queue

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"time"

	"trivet/storage"
)

// leaseSize is how many recipients a worker takes at a time. If the node dies,
// so many of each worker are listed as perhaps duplicates.
const leaseSize = 50

// work sends what is due of a destination.
func (q *Queue) work(ctx context.Context, domain string) {
	w := &worker{q: q, ctx: ctx, domain: domain, messages: map[int64]storage.QueueMessage{}}
	defer w.begun()
	now := q.cfg.Now()
	if said, down := q.memory.whyDown(domain, now); down {
		w.refuse(said)
		return
	}
	route, refusal := q.findRoute(ctx, domain)
	if ctx.Err() != nil {
		return
	}
	if refusal != nil {
		if !refusal.permanent() {
			q.memory.down(domain, *refusal, now.Add(q.cfg.Limits.DestinationPause))
		}
		w.refuse(*refusal)
		return
	}
	if route.local {
		w.deliverHere()
		return
	}
	if !q.slots.takeHop(route.hop()) {
		q.memory.pause("busy "+domain, now.Add(busyPause))
		return
	}
	defer q.slots.releaseHop(route.hop())
	w.route = route
	w.run()
	w.finish()
}

// worker is one connection's worth of work.
type worker struct {
	q        *Queue
	ctx      context.Context
	domain   string
	route    *route
	client   *client
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
		recipients := w.lease(leaseSize)
		if len(recipients) == 0 {
			return
		}
		var recorded []<-chan struct{}
		for len(recipients) > 0 {
			n := sameMessage(recipients, w.q.cfg.Limits.RecipientsPerMessage)
			recorded = append(recorded, w.q.record(w.send(recipients[:n])))
			recipients = recipients[n:]
			rounds++
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

// refuse gives everything that is due the same reply.
func (w *worker) refuse(said reply) {
	for {
		recipients := w.lease(storage.MaxLeased)
		if len(recipients) == 0 {
			return
		}
		var results []storage.QueueResult
		for _, r := range recipients {
			results = append(results, w.result(r, "", said))
		}
		<-w.q.record(results)
	}
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

// send sends one message to some recipients, and returns what is to be recorded.
func (w *worker) send(recipients []storage.QueueRecipient) []storage.QueueResult {
	q := w.q
	results := make([]storage.QueueResult, 0, len(recipients))
	if w.ctx.Err() != nil || q.fence() != nil {
		for _, r := range recipients {
			results = append(results, released(r, q.cfg.Now()))
		}
		return results
	}
	t, err := w.transaction(recipients)
	if err == nil {
		err = w.connect()
	}
	if errors.Is(err, errCrowded) {
		w.over = true
		for _, r := range recipients {
			results = append(results, released(r, q.cfg.Now()))
		}
		return results
	}
	if err != nil {
		said := said(451, "4.3.0", "%v", err)
		var session *sessionError
		if errors.As(err, &session) {
			said = session.reply
		}
		for _, r := range recipients {
			results = append(results, w.result(r, "", said))
		}
		return results
	}
	return w.transact(t)
}

// transact runs one transaction over the connection there is.
func (w *worker) transact(t *transaction) []storage.QueueResult {
	q, c := w.q, w.client
	begun := time.Now()
	c.ends = begun.Add(q.cfg.Limits.Transaction)
	reused := c.messages > 0
	err := c.send(t)
	if reused && c.broken && !t.opened {
		// The server had enough of the connection: that says nothing about the message.
		w.drop()
		if cerr := w.connect(); cerr == nil {
			c = w.client
			c.ends = begun.Add(q.cfg.Limits.Transaction)
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

// transaction opens the message of some recipients.
func (w *worker) transaction(recipients []storage.QueueRecipient) (*transaction, error) {
	m, err := w.message(recipients[0].QueueID)
	if err != nil {
		return nil, err
	}
	body, err := w.q.cfg.Store.OpenBody(context.WithoutCancel(w.ctx), m.MessageID)
	if err != nil {
		return nil, err
	}
	out, err := newOutgoing(body)
	if err != nil {
		return nil, err
	}
	return &transaction{message: m, recipients: recipients, body: out, fence: w.q.fence}, nil
}

// connect makes a connection unless there is one.
func (w *worker) connect() error {
	q := w.q
	if w.client != nil && w.client.messages < q.cfg.Limits.MessagesPerConnection {
		return nil
	}
	w.drop()
	now := q.cfg.Now()
	if said, down := q.memory.whyDown(w.domain, now); down {
		return &sessionError{reply: said}
	}
	for _, h := range w.route.hosts {
		if c := q.idle.get(w.route, h); c != nil {
			w.client = c
			return nil
		}
	}
	ctx, cancel := context.WithTimeout(q.life, q.cfg.Limits.Transaction)
	defer cancel()
	var worst error
	for _, h := range w.route.hosts {
		c, err := q.connectHost(ctx, w.route, h)
		if err == nil {
			q.cfg.Observer.Connection("connected")
			w.client = c
			return nil
		}
		q.cfg.Observer.Connection("failed")
		q.memory.failed(h.name, now)
		worst = worse(worst, err)
		q.log.Info("no connection", "domain", w.domain, "host", h.name, "error", err)
	}
	if q.slots.workersOf(w.domain) > 1 && q.memory.paused("proven "+w.domain, now) {
		q.memory.pause("busy "+w.domain, now.Add(crowdPause))
		return errCrowded
	}
	said := replyOf(worst)
	q.memory.pause("suspect "+w.domain, now.Add(suspicion))
	if !said.permanent() {
		q.memory.down(w.domain, said, now.Add(q.cfg.Limits.DestinationPause))
	}
	return &sessionError{reply: said, err: worst}
}

// errCrowded: the destination takes mail over other connections of ours, but
// wants no more of them.
var errCrowded = errors.New("no further connection")

// crowdPause is how long no further connection is tried then.
const crowdPause = 10 * time.Second

// worse keeps a failure that may pass over one that will not: another host may
// be back later.
func worse(a, b error) error {
	if a != nil && !replyOf(a).permanent() {
		return a
	}
	return b
}

// replyOf is what is recorded of a failed connection. A server that turns us away
// with 554 may let us in later (RFC 5321 section 3.1), but 521 and 556 mean that it takes no mail at all (RFC 7504).
func replyOf(err error) reply {
	var session *sessionError
	if !errors.As(err, &session) {
		return said(451, "4.4.1", "%v", err)
	}
	r := session.reply
	if r.permanent() && r.enhanced == "" && r.code != 521 && r.code != 556 {
		r = said(451, "4.3.2", "turned away: %s", r)
	}
	return r
}

// connectHost makes a connection to one host, as safe as it must be.
func (q *Queue) connectHost(ctx context.Context, r *route, h *host) (*client, error) {
	addresses, refusal := q.addresses(ctx, r, h)
	if refusal != nil {
		return nil, &sessionError{reply: *refusal}
	}
	c, err := q.session(ctx, r, h, addresses, !q.memory.paused("clear "+h.name, q.cfg.Now()))
	var session *sessionError
	if errors.As(err, &session) && session.tls != "" && !h.mustEncrypt(r) {
		// RFC 7435: without a policy, mail in clear is better than none.
		q.memory.pause("clear "+h.name, q.cfg.Now().Add(quirkAge))
		return q.session(ctx, r, h, addresses, false)
	}
	return c, err
}

// mustEncrypt reports whether mail may not go to the host in clear.
func (h *host) mustEncrypt(r *route) bool {
	return len(h.tlsa) > 0 || h.encrypt || r.needs > assuredNothing
}

// session connects, greets, and turns TLS on if the host has it and useTLS, or it must be.
func (q *Queue) session(ctx context.Context, r *route, h *host, addresses []netip.AddrPort, useTLS bool) (*client, error) {
	conn, err := q.dial(ctx, addresses)
	if err != nil {
		return nil, &sessionError{reply: said(451, "4.4.1", "connect to %s: %v", h.name, err), err: err}
	}
	remote := h.name
	if a := conn.RemoteAddr().String(); !h.literal.IsValid() {
		remote += " [" + a + "]"
	}
	// The connection may outlive the worker: only the end of everything cuts it.
	c, err := newClient(q.life, conn, &q.cfg.Limits, q.cfg.Hostname, h.name, remote)
	if err != nil {
		return nil, err
	}
	if err := q.encrypt(ctx, c, r, h, useTLS); err != nil {
		c.close()
		return nil, err
	}
	if r.relay != nil && r.relay.User != "" {
		if err := c.authenticate(r.relay.User, r.relay.Password); err != nil {
			c.quit()
			return nil, err
		}
	}
	if q.memory.quirky(h.name, q.cfg.Now()) {
		c.plain, c.ext.chunking, c.ext.pipelining = true, false, false
	}
	return c, nil
}

// encrypt begins TLS and counts for reports how that went.
func (q *Queue) encrypt(ctx context.Context, c *client, r *route, h *host, useTLS bool) error {
	must := h.mustEncrypt(r)
	if r.relay != nil && r.relay.TLS == "none" {
		return nil
	}
	var err error
	switch {
	case !c.ext.startTLS && must:
		err = &sessionError{reply: said(451, "4.7.4", "%s offers no TLS, which its policy demands", h.name), tls: resultNoSTARTTLS}
	case !c.ext.startTLS:
		q.tls.count(r.policy, resultNoSTARTTLS, h.name, addressOf(c.conn))
		return nil
	case useTLS || must:
		err = c.startTLS(ctx, q.tlsConfig(h, r))
	}
	var session *sessionError
	if errors.As(err, &session) {
		q.tls.count(r.policy, session.tls, h.name, addressOf(c.conn))
		return err
	}
	if err != nil {
		return err
	}
	c.assured = q.assure(h, c.tls)
	switch {
	case r.testing && c.assured < assuredName:
		q.tls.count(r.policy, tlsFailure(q.verifyName(h.name, *c.tls)), h.name, addressOf(c.conn))
	case c.tls != nil:
		q.tls.count(r.policy, "", h.name, addressOf(c.conn))
	}
	return nil
}

func addressOf(c net.Conn) string {
	a, err := netip.ParseAddrPort(c.RemoteAddr().String())
	if err != nil {
		return ""
	}
	return a.Addr().Unmap().String()
}

// drop closes the connection, if there is one.
func (w *worker) drop() {
	if w.client != nil {
		w.client.quit()
		w.client = nil
	}
}

// finish leaves the connection to whoever has mail for the same host next.
func (w *worker) finish() {
	if w.client == nil {
		return
	}
	if w.ctx.Err() != nil || w.client.messages >= w.q.cfg.Limits.MessagesPerConnection {
		w.drop()
		return
	}
	w.q.idle.put(w.route, w.client, w.q.cfg.Limits.Idle)
	w.client = nil
}
