package queue

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"time"

	"trivet/storage"
)

// transaction opens the message of some recipients.
func (w *worker) transaction(m storage.QueueMessage, recipients []storage.QueueRecipient) (*transaction, error) {
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

// fit converts the message if the server cannot take it as it is. What cannot be
// converted is refused.
func (w *worker) fit(t *transaction) {
	if w.client.ext.eightBit || t.converted || !t.body.hasEightBit() || t.needsUTF8() {
		return
	}
	if err := w.q.convert(context.WithoutCancel(w.ctx), t); err != nil {
		t.unconvertible = err
	}
}

// connect makes a connection unless there is one, to a host that can take the
// message if there is such a host.
func (w *worker) connect(t *transaction) error {
	if w.client != nil && w.client.messages < w.q.cfg.Limits.MessagesPerConnection {
		return w.another(t)
	}
	w.drop()
	if err := w.dial(); err != nil {
		return err
	}
	return w.another(t)
}

// another exchanges the connection for one to another host if that one can take
// the message and this one cannot: where a message requires TLS, all hosts are to be
// tried (RFC 8689 section 4.2.1). It fails if one that could not be asked may be able to.
func (w *worker) another(t *transaction) error {
	refusal := w.client.unfit(t)
	if refusal == nil || len(w.route.hosts) < 2 {
		return nil
	}
	ctx, cancel := context.WithTimeout(w.q.life, w.q.cfg.Limits.Transaction)
	defer cancel()
	var worst error
	for _, h := range w.route.hosts {
		if h.name == w.client.host {
			continue
		}
		c, err := w.q.connectHost(ctx, w.route, h)
		if err != nil {
			worst = worse(worst, err)
			continue
		}
		if c.unfit(t) == nil {
			w.client.quit()
			w.client = c
			return nil
		}
		c.quit()
	}
	if said := replyOf(worst); worst != nil && !said.permanent() {
		return &sessionError{reply: said, err: worst}
	}
	return nil
}

// dial makes a connection to the first host that can be reached.
func (w *worker) dial() error {
	q := w.q
	now := q.cfg.Now()
	if said, down := q.memory.whyDown(w.key, now); down {
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
		q.memory.down(w.key, said, now.Add(q.cfg.Limits.DestinationPause))
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
