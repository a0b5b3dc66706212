package storage

import (
	"context"
	"slices"
	"time"

	"zombiezen.com/go/sqlite"
)

// RecordQueue records what became of recipients, at most [MaxResults]. It
// returns those that were refused because their lease was lost or superseded.
// request identifies the call: the same one again has no further effect.
func (s *Store) RecordQueue(ctx context.Context, request []byte, node string, results []QueueResult) (refused []int64, err error) {
	for i := range results {
		results[i].Reply, results[i].Remote = clip(results[i].Reply), clip(results[i].Remote)
	}
	_, err = s.propose(ctx, kindRecord, request, record{node, results}, &refused)
	return refused, err
}

func applyRecord(t *tx, b record) (any, error) {
	if len(b.Results) > MaxResults {
		return nil, fail("record results", KindTooLarge, "")
	}
	r := &recording{tx: t, node: b.Node, done: map[int64]int{}}
	refused := []int64{}
	for _, result := range b.Results {
		ok, err := r.result(result)
		if err != nil {
			return nil, err
		}
		if !ok {
			refused = append(refused, result.Recipient)
		}
	}
	return refused, r.finish()
}

// recording is one command that records results.
type recording struct {
	*tx
	node    string
	tokens  []uint64
	domains []string
	order   []int64       // queue ids that may have nothing left to do
	done    map[int64]int // how many recipients of each are done
}

// result records one, unless its lease is not held any more.
func (r *recording) result(q QueueResult) (bool, error) {
	var queue, trail int64
	var address, domain string
	doubtful := false
	found, err := r.mail.row(`SELECT r.queue_id, r.address, r.domain, r.doubtful, m.trail FROM queue_recipient r JOIN queue_message m ON m.id = r.queue_id
		WHERE r.id = ? AND r.lease = ? AND r.state = 1`, func(st *sqlite.Stmt) {
		queue, address, domain, doubtful, trail = st.ColumnInt64(0), st.ColumnText(1), st.ColumnText(2), st.ColumnBool(3), st.ColumnInt64(4)
	}, q.Recipient, q.Token)
	if err != nil || !found || q.Token == 0 {
		return false, err
	}
	if !slices.Contains(r.tokens, q.Token) {
		r.tokens = append(r.tokens, q.Token)
	}
	state, kind := StateDue, EventDeferred
	switch q.Outcome {
	case OutcomeReleased:
		r.domains = append(r.domains, domain)
		_, err := r.mail.exec("UPDATE queue_recipient SET state = 0, lease = 0, next = max(next, ?) WHERE id = ?", q.Next, q.Recipient)
		return true, err
	case OutcomeDeferred:
		r.domains = append(r.domains, domain)
	case OutcomeSent:
		state, kind = StateSent, EventSent
	default:
		state, kind = StateFailed, EventFailed
	}
	doubtful = doubtful || q.Doubtful
	_, err = r.mail.exec(`UPDATE queue_recipient SET state = ?, lease = 0, attempts = attempts + 1, next = ?, notice = notice | ?, attempted = ?,
		node = ?, remote = ?, reply = ?, doubtful = ? WHERE id = ?`, int64(state), q.Next, int64(q.Notice), q.At, r.node, q.Remote, q.Reply, doubtful, q.Recipient)
	if err != nil {
		return false, err
	}
	err = r.event(trail, Event{At: time.UnixMilli(q.At), Node: r.node, Kind: kind, Address: address, Remote: q.Remote, Text: q.Reply})
	if err == nil && state != StateDue && q.Notice == 0 {
		err = r.close(q.Recipient, queue, doubtful)
	}
	return true, err
}

// close ends a recipient of which nothing is left to do. One that was perhaps
// sent twice stays to be listed.
func (r *recording) close(recipient, queue int64, doubtful bool) error {
	r.order = append(r.order, queue)
	r.done[queue]++
	if doubtful {
		return nil
	}
	_, err := r.mail.exec("DELETE FROM queue_recipient WHERE id = ?", recipient)
	return err
}

// finish settles leases, destinations and messages.
func (r *recording) finish() error {
	for _, token := range r.tokens {
		_, err := r.mail.exec("DELETE FROM queue_lease WHERE token = ?1 AND NOT EXISTS (SELECT 1 FROM queue_recipient WHERE lease = ?1 AND lease <> 0)", token)
		if err != nil {
			return err
		}
	}
	if err := r.settleDestinations(r.domains); err != nil {
		return err
	}
	slices.Sort(r.order)
	r.order = slices.Compact(r.order)
	for _, queue := range r.order {
		if r.done[queue] == 0 {
			continue
		}
		if err := r.countDone(queue, r.done[queue]); err != nil {
			return err
		}
	}
	return r.dropEmptyMessages(r.order)
}

// countDone counts recipients that are done, and gives the content back after the last.
func (t *tx) countDone(queue int64, n int) error {
	var pending, message int64
	_, err := t.mail.row("UPDATE queue_message SET pending = pending - ? WHERE id = ? RETURNING pending, message_id",
		func(st *sqlite.Stmt) { pending, message = st.ColumnInt64(0), st.ColumnInt64(1) }, n, queue)
	if err != nil || pending > 0 || message == 0 {
		return err
	}
	if _, err := t.mail.exec("UPDATE queue_message SET message_id = 0 WHERE id = ?", queue); err != nil {
		return err
	}
	_, err = t.mail.exec("UPDATE message SET refs = refs - 1, unreferenced = ? WHERE id = ?", t.at, message)
	return err
}

// dropEmptyMessages deletes those of the messages that have no recipient left.
func (t *tx) dropEmptyMessages(ids []int64) error {
	slices.Sort(ids)
	for _, id := range slices.Compact(ids) {
		_, err := t.mail.exec("DELETE FROM queue_message WHERE id = ?1 AND pending = 0 AND NOT EXISTS (SELECT 1 FROM queue_recipient WHERE queue_id = ?1)", id)
		if err != nil {
			return err
		}
	}
	return nil
}

// settleReports marks recipients as reported to their sender, who gets the
// report by this same command; a report that went out already is refused.
func (t *tx) settleReports(reports []reported) error {
	r := &recording{tx: t, done: map[int64]int{}}
	for _, b := range reports {
		var queue, state int64
		var notice Notice
		var address string
		doubtful := false
		found, err := t.mail.row(`UPDATE queue_recipient SET notice = notice & ~?2, told = told | ?2 WHERE id = ?1 AND notice & ?2 <> 0
			RETURNING queue_id, state, notice, address, doubtful`, func(st *sqlite.Stmt) {
			queue, state, notice = st.ColumnInt64(0), st.ColumnInt64(1), Notice(st.ColumnInt64(2))
			address, doubtful = st.ColumnText(3), st.ColumnBool(4)
		}, b.Recipient, int64(b.Notice))
		if err != nil {
			return err
		}
		if !found {
			return fail("report", KindExists, "the sender has got this report")
		}
		if err := t.eventOf(queue, Event{At: time.UnixMilli(t.at), Kind: EventReported, Address: address, Text: noticeText(b.Notice)}); err != nil {
			return err
		}
		if notice == 0 && QueueState(state) >= StateSent {
			if err := r.close(b.Recipient, queue, doubtful); err != nil {
				return err
			}
		}
	}
	return r.finish()
}

func noticeText(n Notice) string {
	switch n {
	case NoticeFailed:
		return "failed"
	case NoticeDelayed:
		return "delayed"
	case NoticeRelayed:
		return "relayed"
	case NoticeDelivered:
		return "delivered"
	}
	return ""
}
