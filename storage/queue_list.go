package storage

import (
	"context"
	"fmt"
	"strings"
	"time"

	"zombiezen.com/go/sqlite"
)

// MaxQueuePage bounds what one listing of the queue returns.
const MaxQueuePage = 1000

// QueueChanged receives after changes that may have left something to send, or
// to report, on this node's state. It is for one receiver.
func (s *Store) QueueChanged() <-chan struct{} { return s.machine.queued }

// QueueRetries grows on every node when an operator changes the queue, say to have
// recipients tried again: what a node remembers of destinations that failed does not count then.
func (s *Store) QueueRetries() uint64 { return s.machine.retried.Load() }

// QueueDestination is a domain with recipients to be tried.
type QueueDestination struct {
	Domain string
	Next   time.Time // when the first of them is to be tried
}

// QueueDestinations returns the destinations that are due by now, after the one
// given (zero: from the start), in the order of their times.
func (s *Store) QueueDestinations(ctx context.Context, now time.Time, after QueueDestination, limit int) ([]QueueDestination, error) {
	var found []QueueDestination
	from := int64(0)
	if !after.Next.IsZero() {
		from = after.Next.UnixMilli()
	}
	err := s.with(ctx, func(c *conn) error {
		return c.rows("SELECT domain, next FROM queue_destination WHERE (next, domain) > (?, ?) AND next <= ? ORDER BY next, domain LIMIT ?",
			func(st *sqlite.Stmt) bool {
				found = append(found, QueueDestination{st.ColumnText(0), time.UnixMilli(st.ColumnInt64(1))})
				return true
			}, from, after.Domain, now.UnixMilli(), limit)
	})
	return found, readError("find due destinations", err)
}

// QueueBacklog counts the due recipients of a destination, up to limit.
func (s *Store) QueueBacklog(ctx context.Context, domain string, now time.Time, limit int) (n int, err error) {
	err = s.with(ctx, func(c *conn) error {
		_, err := c.row("SELECT count(*) FROM (SELECT 1 FROM queue_recipient WHERE domain = ? AND state = 0 AND next <= ? LIMIT ?)",
			func(st *sqlite.Stmt) { n = st.ColumnInt(0) }, domain, now.UnixMilli(), limit)
		return err
	})
	return n, readError("count due recipients", err)
}

// recipientColumns are what scanRecipient reads.
const recipientColumns = `r.id, r.queue_id, r.address, r.domain, r.original, r.notify, r.state, r.attempts, r.next, r.lease, r.notice, r.told,
	r.doubtful, r.attempted, r.node, r.remote, r.reply`

func scanRecipient(st *sqlite.Stmt) QueueRecipient {
	r := QueueRecipient{ID: st.ColumnInt64(0), QueueID: st.ColumnInt64(1), Address: st.ColumnText(2), Domain: st.ColumnText(3), Original: st.ColumnText(4),
		Notify: Notify(st.ColumnInt64(5)), State: QueueState(st.ColumnInt64(6)), Attempts: st.ColumnInt(7), Next: time.UnixMilli(st.ColumnInt64(8)).UTC(),
		Lease: uint64(st.ColumnInt64(9)), Notice: Notice(st.ColumnInt64(10)), Told: Notice(st.ColumnInt64(11)), MaybeDuplicate: st.ColumnBool(12),
		Node: st.ColumnText(14), Remote: st.ColumnText(15), Reply: st.ColumnText(16)}
	if at := st.ColumnInt64(13); at != 0 {
		r.Attempted = time.UnixMilli(at).UTC()
	}
	return r
}

// messageColumns are what scanQueueMessage reads, from column on.
const messageColumns = `m.id, m.message_id, m.sender, m.envelope_id, m.options, m.account_id, m.size, m.created, m.pending,
	ifnull((SELECT name FROM trail WHERE id = m.trail), '')`

func scanQueueMessage(st *sqlite.Stmt, col int) QueueMessage {
	options := st.ColumnInt64(col + 4)
	return QueueMessage{ID: st.ColumnInt64(col), MessageID: st.ColumnInt64(col + 1), Sender: st.ColumnText(col + 2), EnvelopeID: st.ColumnText(col + 3),
		Return: ReturnKind(options & optionReturn), UTF8: options&optionUTF8 != 0, EightBit: options&optionEightBit != 0, RequireTLS: options&optionRequireTLS != 0,
		TLSNo:   options&optionTLSNo != 0,
		Account: st.ColumnInt64(col + 5), Size: st.ColumnInt64(col + 6), Created: time.UnixMilli(st.ColumnInt64(col + 7)).UTC(), Pending: st.ColumnInt(col + 8),
		TraceID: st.ColumnText(col + 9)}
}

// LeasedRecipients returns what a lease holds of a destination, in the order of
// their messages. (That a token is not 0 is said in words, here and elsewhere, because
// the index on leases, which leaves 0 out, is used only then.)
func (s *Store) LeasedRecipients(ctx context.Context, token uint64, domain string) ([]QueueRecipient, error) {
	var found []QueueRecipient
	err := s.with(ctx, func(c *conn) error {
		return c.rows("SELECT "+recipientColumns+" FROM queue_recipient r WHERE r.lease = ? AND r.lease <> 0 AND r.domain = ? ORDER BY r.queue_id, r.id",
			func(st *sqlite.Stmt) bool {
				found = append(found, scanRecipient(st))
				return true
			}, token, domain)
	})
	return found, readError("read leased recipients", err)
}

// QueueMessage reads a message of the queue. KindNotFound: there is none.
func (s *Store) QueueMessage(ctx context.Context, id int64) (QueueMessage, error) {
	var m QueueMessage
	err := s.with(ctx, func(c *conn) error {
		found, err := c.row("SELECT "+messageColumns+" FROM queue_message m WHERE m.id = ?", func(st *sqlite.Stmt) { m = scanQueueMessage(st, 0) }, id)
		if err == nil && !found {
			err = fail(fmt.Sprintf("read queued message %d", id), KindNotFound, "see 'trivet queue list'")
		}
		return err
	})
	return m, readError("read queued message", err)
}

// QueueNotices returns messages of which the sender is to get a report, with
// the recipients that it is to be of, at most limit of each.
func (s *Store) QueueNotices(ctx context.Context, limit int) (map[int64][]QueueRecipient, error) {
	found := map[int64][]QueueRecipient{}
	err := s.with(ctx, func(c *conn) error {
		return c.rows(`SELECT `+recipientColumns+` FROM queue_recipient r WHERE r.notice <> 0 ORDER BY r.queue_id LIMIT ?`, func(st *sqlite.Stmt) bool {
			r := scanRecipient(st)
			found[r.QueueID] = append(found[r.QueueID], r)
			return true
		}, limit)
	})
	return found, readError("find reports to send", err)
}

// QueueFilter chooses recipients of the queue; its zero value all of them.
type QueueFilter struct {
	Queue          int64       `json:"queue,omitempty"`           // of this message
	ID             int64       `json:"id,omitempty"`              // this one
	Domain         string      `json:"domain,omitempty"`          // to this destination
	Sender         string      `json:"sender,omitempty"`          // from this address
	Address        string      `json:"address,omitempty"`         // to this address
	State          *QueueState `json:"state,omitempty"`           // in this state
	MaybeDuplicate bool        `json:"maybe_duplicate,omitempty"` // perhaps sent twice
	After          int64       `json:"after,omitempty"`           // with greater ids: the next page
	Limit          int         `json:"limit,omitempty"`           // at most so many; 0 or more than [MaxQueuePage]: that
}

// QueueEntry is a recipient with its message.
type QueueEntry struct {
	QueueRecipient
	Message QueueMessage `json:"message"`
}

// where is the filter as SQL: every text is constant, so that statements are few.
func (f QueueFilter) where() (string, []any) {
	conditions := []string{"r.id > ?"}
	args := []any{f.After}
	add := func(condition string, arg ...any) {
		conditions, args = append(conditions, condition), append(args, arg...)
	}
	if f.Queue != 0 {
		add("r.queue_id = ?", f.Queue)
	}
	if f.ID != 0 {
		add("r.id = ?", f.ID)
	}
	if f.Domain != "" {
		add("r.domain = ?", f.Domain)
	}
	if f.Sender != "" {
		add("m.sender = ? COLLATE NOCASE", f.Sender)
	}
	if f.Address != "" {
		add("r.address = ? COLLATE NOCASE", f.Address)
	}
	if f.State != nil {
		add("r.state = ?", int64(*f.State))
	}
	if f.MaybeDuplicate {
		add("r.doubtful <> 0")
	} else if f.ID == 0 && f.Queue == 0 {
		add("(r.state < 3 OR r.notice <> 0)") // what is done is listed as perhaps a duplicate only
	}
	return strings.Join(conditions, " AND "), args
}

// ListQueue returns recipients by their ids, a page at a time.
func (s *Store) ListQueue(ctx context.Context, f QueueFilter) ([]QueueEntry, error) {
	where, args := f.where()
	limit := f.Limit
	if limit <= 0 || limit > MaxQueuePage {
		limit = MaxQueuePage
	}
	found := []QueueEntry{}
	err := s.with(ctx, func(c *conn) error {
		return c.rows("SELECT "+recipientColumns+", "+messageColumns+" FROM queue_recipient r JOIN queue_message m ON m.id = r.queue_id WHERE "+where+
			" ORDER BY r.id LIMIT ?", func(st *sqlite.Stmt) bool {
			found = append(found, QueueEntry{scanRecipient(st), scanQueueMessage(st, 17)})
			return true
		}, append(args, limit)...)
	})
	return found, readError("list the queue", err)
}

// QueueTotals are the figures of the queue.
type QueueTotals struct {
	Due            int       `json:"due"`
	Leased         int       `json:"leased"`
	Held           int       `json:"held"`
	Reports        int       `json:"reports"` // recipients whose sender is to get a report
	MaybeDuplicate int       `json:"maybe_duplicate"`
	Oldest         time.Time `json:"oldest,omitzero"` // when the oldest message came
}

// QueueTotals counts the queue.
func (s *Store) QueueTotals(ctx context.Context) (QueueTotals, error) {
	var q QueueTotals
	err := s.snapshot(ctx, func(c *conn) error {
		_, err := c.row(`SELECT (SELECT count(*) FROM queue_recipient WHERE state = 0), (SELECT count(*) FROM queue_recipient WHERE lease <> 0),
			(SELECT count(*) FROM queue_recipient WHERE state = 2), (SELECT count(*) FROM queue_recipient WHERE notice <> 0),
			(SELECT count(*) FROM queue_recipient WHERE doubtful <> 0), (SELECT created FROM queue_message WHERE pending > 0 ORDER BY id LIMIT 1)`,
			func(st *sqlite.Stmt) {
				q = QueueTotals{Due: st.ColumnInt(0), Leased: st.ColumnInt(1), Held: st.ColumnInt(2), Reports: st.ColumnInt(3), MaybeDuplicate: st.ColumnInt(4)}
				if !st.ColumnIsNull(5) {
					q.Oldest = time.UnixMilli(st.ColumnInt64(5)).UTC()
				}
			})
		return err
	})
	return q, readError("count the queue", err)
}
