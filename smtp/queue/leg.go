package queue

import (
	"strings"

	"trivet/storage"
)

// way tells apart how messages to one destination go there. Its zero value is
// the usual one.
type way struct {
	sender string // by the route of this domain's senders
	noTLS  bool   // policies on TLS do not count ("TLS-Required: No", RFC 8689 section 5)
}

// leg is a worker's way to its destination: a route, or why there is none, and a
// connection.
type leg struct {
	way     way
	key     string // what is remembered of it goes by this
	route   *route
	refusal *reply // what recipients get instead
	busy    bool   // the host has all the connections it may have
	client  *client
}

// wayOf says how a message goes.
func (w *worker) wayOf(m storage.QueueMessage) way {
	var as way
	if sender := strings.ToLower(asciiDomain(m.Sender)); len(w.senders) > 0 {
		if domain := sender[strings.LastIndexByte(sender, '@')+1:]; w.senders[domain] {
			as.sender = domain
		}
	}
	as.noTLS = m.TLSNo && !m.RequireTLS
	return as
}

// legOf finds the worker's leg, with a place among the connections to its host.
func (w *worker) legOf(as way) *leg {
	if l := w.legs[as]; l != nil {
		return l
	}
	q := w.q
	l := &leg{way: as, key: w.domain}
	w.legs[as] = l
	if as.sender != "" {
		l.key += " from " + as.sender
	}
	if as.noTLS {
		l.key += " without policy"
	}
	now := q.cfg.Now()
	if said, down := q.memory.whyDown(l.key, now); down {
		l.refusal = &said
		return l
	}
	l.route, l.refusal = q.findRoute(w.ctx, w.domain, as)
	switch {
	case l.refusal != nil:
		if !l.refusal.permanent() && w.ctx.Err() == nil {
			q.memory.down(l.key, *l.refusal, now.Add(q.cfg.Limits.DestinationPause))
		}
	case !l.route.local:
		l.busy = !q.slots.takeHop(l.route.hop())
	}
	return l
}

// drop closes the connection at hand, if there is one.
func (l *leg) drop() {
	if l.client != nil {
		l.client.quit()
		l.client = nil
	}
}

// finish leaves the connections to whoever has mail for the same hosts next.
func (w *worker) finish() {
	for _, l := range w.legs {
		if l.route == nil || l.route.local || l.busy {
			continue
		}
		if l.client != nil && w.ctx.Err() == nil && l.client.messages < w.q.cfg.Limits.MessagesPerConnection {
			w.q.idle.put(l.route, l.client, w.q.cfg.Limits.Idle)
		} else {
			l.drop()
		}
		w.q.slots.releaseHop(l.route.hop())
	}
}
