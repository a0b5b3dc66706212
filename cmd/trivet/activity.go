package main

import (
	"context"
	"strings"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"

	"trivet/web/admin"
)

// activityMinutes is how long a node remembers what it did, for the charts of the administration.
const activityMinutes = 180

// activity is what a node did in each of the last minutes: the growth of its counters.
type activity struct {
	mu      sync.Mutex
	minutes []admin.Sample
	last    admin.Sample // the counters
}

// watchActivity looks at the counters each minute until ctx ends.
func (n *node) watchActivity(ctx context.Context) {
	tick := time.NewTicker(time.Minute)
	defer tick.Stop()
	n.activity.add(n.metrics.counters(n.now()))
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			n.activity.add(n.metrics.counters(n.now()))
		}
	}
}

func (a *activity) add(now admin.Sample) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if !a.last.At.IsZero() {
		a.minutes = append(a.minutes, admin.Sample{At: now.At, Received: now.Received - a.last.Received, Refused: now.Refused - a.last.Refused,
			Sent: now.Sent - a.last.Sent, Statements: now.Statements - a.last.Statements})
		a.minutes = a.minutes[max(0, len(a.minutes)-activityMinutes):]
	}
	a.last = now
}

// list returns the minutes, the oldest first; the one that is under way, as far as it is, comes last.
func (a *activity) list(now admin.Sample) []admin.Sample {
	a.mu.Lock()
	defer a.mu.Unlock()
	running := admin.Sample{At: now.At, Received: now.Received - a.last.Received, Refused: now.Refused - a.last.Refused,
		Sent: now.Sent - a.last.Sent, Statements: now.Statements - a.last.Statements}
	return append(append([]admin.Sample{}, a.minutes...), running)
}

// counters are the figures that activity is made of.
func (m *metrics) counters(at time.Time) admin.Sample {
	is := func(label string) func(string) bool { return func(value string) bool { return value == label } }
	return admin.Sample{At: at, Received: total(m.smtpMessages, is("250")), Refused: total(m.smtpMessages, func(code string) bool { return !strings.HasPrefix(code, "2") }),
		Sent: total(m.results, is("sent")), Statements: total(m.statements, func(string) bool { return true })}
}

// total adds up the counters of a vector whose only label has one of some values.
func total(c prometheus.Collector, with func(label string) bool) (sum float64) {
	found := make(chan prometheus.Metric, 64)
	go func() { defer close(found); c.Collect(found) }()
	for metric := range found {
		var m dto.Metric
		if metric.Write(&m) == nil && len(m.GetLabel()) > 0 && with(m.GetLabel()[0].GetValue()) {
			sum += m.GetCounter().GetValue()
		}
	}
	return sum
}
