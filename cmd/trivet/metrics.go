package main

import (
	"cmp"
	"context"
	"strconv"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sys/unix"

	"trivet/auth"
	"trivet/raft"
	"trivet/smtp"
	"trivet/smtp/queue"
	"trivet/storage"
)

// metrics are the figures of a node; docs/reference.md lists them.
type metrics struct {
	smtpSessions prometheus.Gauge
	smtpRefused  prometheus.Counter
	smtpMessages *prometheus.CounterVec // by the code of the reply
	smtpBytes    *prometheus.CounterVec // by the code of the reply
	smtpSeconds  prometheus.Histogram
	proposals    *prometheus.HistogramVec // by outcome
	logins       *prometheus.CounterVec   // by outcome
	results      *prometheus.CounterVec   // of recipients elsewhere, by outcome
	connections  *prometheus.CounterVec   // to other systems, by outcome
	transactions prometheus.Histogram     // with other systems
	statements   *prometheus.CounterVec   // of SQL, by SQLSTATE
	sqlSeconds   prometheus.Histogram
	sqlEffects   prometheus.Counter // octets
	collectors   []prometheus.Collector
}

var _ smtp.Metrics = (*metrics)(nil)

// latencies are the bounds of the histograms, in seconds: from what a fast disk
// takes to what a client does not wait for.
func latencies() []float64 {
	return []float64{.0005, .001, .002, .005, .01, .02, .05, .1, .2, .5, 1, 2, 5, 10, 60}
}

func newMetrics() *metrics {
	m := &metrics{
		smtpSessions: prometheus.NewGauge(prometheus.GaugeOpts{Name: "trivet_smtp_sessions", Help: "Open SMTP sessions."}),
		smtpRefused: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "trivet_smtp_refused_connections_total", Help: "SMTP connections refused because there were too many."}),
		smtpMessages: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "trivet_smtp_messages_total", Help: "Messages that came by SMTP, by the code of the reply; 250 is accepted."}, []string{"code"}),
		smtpBytes: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "trivet_smtp_message_bytes_total", Help: "Octets of the messages that came by SMTP, by the code of the reply."}, []string{"code"}),
		smtpSeconds: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "trivet_smtp_message_seconds", Help: "Time from DATA to the reply.", Buckets: latencies()}),
		proposals: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "trivet_propose_seconds", Help: "Time of a change through the log, by outcome.", Buckets: latencies()}, []string{"outcome"}),
		logins: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "trivet_logins_total", Help: "Attempts to log in, by outcome."}, []string{"outcome"}),
	}
	m.results = prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "trivet_queue_results_total", Help: "Attempts to send to a recipient elsewhere, by outcome."}, []string{"outcome"})
	m.connections = prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "trivet_queue_connections_total", Help: "Connections to other mail servers, by outcome."}, []string{"outcome"})
	m.transactions = prometheus.NewHistogram(prometheus.HistogramOpts{
		Name: "trivet_queue_transaction_seconds", Help: "Time of sending one message to some recipients over a connection.", Buckets: latencies()})
	m.statements = prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "trivet_sql_statements_total", Help: "SQL statements, by SQLSTATE; 00000 is done."}, []string{"sqlstate"})
	m.sqlSeconds = prometheus.NewHistogram(prometheus.HistogramOpts{
		Name: "trivet_sql_statement_seconds", Help: "Time of an SQL statement, or of several in one transaction.", Buckets: latencies()})
	m.sqlEffects = prometheus.NewCounter(prometheus.CounterOpts{
		Name: "trivet_sql_effect_bytes_total", Help: "Octets that SQL transactions of this node put into the log."})
	build := prometheus.NewGauge(prometheus.GaugeOpts{Name: "trivet_build_info", Help: "Always 1; the label tells the release.",
		ConstLabels: prometheus.Labels{"version": release}})
	build.Set(1)
	m.collectors = []prometheus.Collector{m.smtpSessions, m.smtpRefused, m.smtpMessages, m.smtpBytes, m.smtpSeconds, m.proposals, m.logins, build,
		m.results, m.connections, m.transactions, m.statements, m.sqlSeconds, m.sqlEffects}
	return m
}

// watch adds the figures that are read from their rooms when they are asked for.
func (m *metrics) watch(n *node) {
	gauge := func(name, help string, value func() float64) {
		m.collectors = append(m.collectors, prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: name, Help: help}, value))
	}
	gauge("trivet_ready", "1 when the node can do its work.", func() float64 {
		if n.raft.Ready() != nil {
			return 0
		}
		return 1
	})
	gauge("trivet_raft_leader", "1 when this node leads.", func() float64 {
		if n.raft.Status().Role != raft.RoleLeader {
			return 0
		}
		return 1
	})
	gauge("trivet_imap_sessions", "Open IMAP sessions.", func() float64 {
		if mailboxes := n.mail.Load(); mailboxes != nil {
			return float64(mailboxes.Sessions())
		}
		return 0
	})
	for state, count := range queueGauges() {
		gauge("trivet_queue_"+state, "Recipients elsewhere that are "+state+", or, of reports, whose sender is to get one.", func() float64 { return count(n.queueTotals()) })
	}
	gauge("trivet_queue_oldest_seconds", "Age of the oldest message in the queue.", func() float64 {
		if oldest := n.queueTotals().Oldest; !oldest.IsZero() {
			return n.now().Sub(oldest).Seconds()
		}
		return 0
	})
	gauge("trivet_search_waiting_messages", "Messages that are not in this node's search index yet; searches read them.", func() float64 {
		return float64(n.searchStatus().Waiting)
	})
	gauge("trivet_search_lag_seconds", "How long the first of them has waited, up to an hour.", func() float64 { return n.searchLag(n.searchStatus()).Seconds() })
	gauge("trivet_raft_applied_index", "Last change applied on this node.", func() float64 { return float64(n.raft.Status().Applied) })
	gauge("trivet_raft_commit_index", "Last entry known to be on a majority.", func() float64 { return float64(n.raft.Status().Commit) })
	gauge("trivet_raft_term", "Current term.", func() float64 { return float64(n.raft.Status().Term) })
	gauge("trivet_raft_log_bytes", "Octets of entries in the log, roughly.", func() float64 { return float64(n.raft.Status().LogBytes) })
	gauge("trivet_disk_free_bytes", "Free space on the disk of the data folder.", func() float64 {
		free, _ := n.disk.free(time.Now())
		return float64(free)
	})
}

// Session implements smtp.Metrics.
func (m *metrics) Session(delta int) { m.smtpSessions.Add(float64(delta)) }

// Refused implements smtp.Metrics.
func (m *metrics) Refused() { m.smtpRefused.Inc() }

// Message implements smtp.Metrics.
func (m *metrics) Message(code int, size int64, took time.Duration) {
	label := strconv.Itoa(code)
	m.smtpMessages.WithLabelValues(label).Inc()
	m.smtpBytes.WithLabelValues(label).Add(float64(size))
	m.smtpSeconds.Observe(took.Seconds())
}

// proposal counts a change that went through the log, or did not.
func (m *metrics) proposal(took time.Duration, err error) {
	outcome := "done"
	if err != nil {
		outcome = storage.KindOf(storageError(err)).String()
	}
	m.proposals.WithLabelValues(outcome).Observe(took.Seconds())
}

// sqlDone is the SQLSTATE of what went well.
const sqlDone = "00000"

// Statement implements [storage.SQLObserver].
func (m *metrics) Statement(state string, took time.Duration) {
	m.statements.WithLabelValues(cmp.Or(state, sqlDone)).Inc()
	m.sqlSeconds.Observe(took.Seconds())
}

// Effect implements [storage.SQLObserver].
func (m *metrics) Effect(octets int) { m.sqlEffects.Add(float64(octets)) }

// login counts an attempt to log in.
func (m *metrics) login(outcome auth.Outcome) { m.logins.WithLabelValues(string(outcome)).Inc() }

// diskSpace knows how much room a file system has, and asks at most once a second.
type diskSpace struct {
	path string

	mu    sync.Mutex
	asked time.Time
	last  uint64
	known bool
}

// free returns the octets that are left to this user, or false if that is not known.
func (d *diskSpace) free(now time.Time) (uint64, bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if now.Sub(d.asked) < time.Second && !d.asked.IsZero() {
		return d.last, d.known
	}
	var stat unix.Statfs_t
	d.known = unix.Statfs(d.path, &stat) == nil
	d.asked, d.last = now, stat.Bavail*uint64(stat.Bsize)
	return d.last, d.known
}

var _ queue.Observer = (*metrics)(nil)

// Result implements queue.Observer.
func (m *metrics) Result(outcome string) { m.results.WithLabelValues(outcome).Inc() }

// Connection implements queue.Observer.
func (m *metrics) Connection(outcome string) { m.connections.WithLabelValues(outcome).Inc() }

// Transaction implements queue.Observer.
func (m *metrics) Transaction(took time.Duration) { m.transactions.Observe(took.Seconds()) }

// queueGauges are the figures of the queue by the ends of their names.
func queueGauges() map[string]func(storage.QueueTotals) float64 {
	return map[string]func(storage.QueueTotals) float64{
		"due":             func(q storage.QueueTotals) float64 { return float64(q.Due) },
		"leased":          func(q storage.QueueTotals) float64 { return float64(q.Leased) },
		"held":            func(q storage.QueueTotals) float64 { return float64(q.Held) },
		"reports":         func(q storage.QueueTotals) float64 { return float64(q.Reports) },
		"maybe_duplicate": func(q storage.QueueTotals) float64 { return float64(q.MaybeDuplicate) },
	}
}

// queueTotals counts the queue for the metrics; nothing when that is not possible now.
func (n *node) queueTotals() storage.QueueTotals {
	ctx, cancel := context.WithTimeout(context.Background(), statusPatience)
	defer cancel()
	totals, err := n.store.QueueTotals(ctx)
	if err != nil {
		return storage.QueueTotals{}
	}
	return totals
}
