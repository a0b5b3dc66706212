package storage

import (
	"context"
	"fmt"
	"time"

	"zombiezen.com/go/sqlite"
)

// QueueChange is what an operator does to recipients in the queue.
type QueueChange uint8

// The changes. None of them touches a recipient that a node is just trying.
const (
	QueueRetry QueueChange = iota + 1 // try now; also ends a hold
	QueueHold                         // do not try until told so
	QueueDrop                         // take it out, with a report to the sender
	QueueErase                        // take it out, and tell nobody
	QueueMute                         // forget the report that is to be sent of it: nobody can take it
)

// maxQueueChange bounds the recipients that one command changes.
const maxQueueChange = 1000

type changeQueue struct {
	Change     QueueChange `cbor:"1,keyasint"`
	Recipients []int64     `cbor:"2,keyasint"`
}

// ChangeQueue does something to recipients of the queue and returns how many
// it was done to: those that are gone or just being tried are left alone.
func (s *Store) ChangeQueue(ctx context.Context, change QueueChange, recipients []int64) (int, error) {
	total := 0
	for len(recipients) > 0 {
		n, some := 0, recipients[:min(len(recipients), maxQueueChange)]
		if _, err := s.propose(ctx, kindChangeQueue, nil, changeQueue{change, some}, &n); err != nil {
			return total, err
		}
		total, recipients = total+n, recipients[len(some):]
	}
	return total, nil
}

// queued is a recipient that is to be changed.
type queued struct {
	queue           int64
	address, domain string
	state           QueueState
	notify          Notify
	sender          string
	doubtful        bool
}

func applyChangeQueue(t *tx, b changeQueue) (any, error) {
	if len(b.Recipients) > maxQueueChange {
		return nil, fail("change the queue", KindTooLarge, fmt.Sprintf("at most %d recipients at a time", maxQueueChange))
	}
	r := &recording{tx: t, done: map[int64]int{}}
	count := 0
	for _, id := range b.Recipients {
		var q queued
		found, err := t.mail.row(`SELECT r.queue_id, r.address, r.domain, r.state, r.notify, m.sender, r.doubtful FROM queue_recipient r
			JOIN queue_message m ON m.id = r.queue_id WHERE r.id = ? AND CASE WHEN ? THEN r.notice <> 0 ELSE r.state <> 1 AND r.notice & 13 = 0 END`, func(st *sqlite.Stmt) {
			q = queued{st.ColumnInt64(0), st.ColumnText(1), st.ColumnText(2), QueueState(st.ColumnInt64(3)), Notify(st.ColumnInt64(4)), st.ColumnText(5), st.ColumnBool(6)}
		}, id, b.Change == QueueMute)
		if err != nil {
			return nil, err
		}
		if !found {
			continue
		}
		changed, err := r.change(b.Change, id, q)
		if err != nil {
			return nil, err
		}
		if changed {
			count++
		}
	}
	return count, r.finish()
}

// change does it to one recipient.
func (r *recording) change(change QueueChange, id int64, q queued) (bool, error) {
	done := q.state >= StateSent
	var kind EventKind
	var err error
	switch {
	case change == QueueRetry && !done:
		kind = EventRetried
		_, err = r.mail.exec("UPDATE queue_recipient SET state = 0, next = ? WHERE id = ?", r.at, id)
	case change == QueueHold && q.state == StateDue:
		kind = EventHeld
		_, err = r.mail.exec("UPDATE queue_recipient SET state = 2 WHERE id = ?", id)
	case change == QueueDrop && !done && q.sender != "" && q.notify.Wants(NotifyFailure):
		kind = EventDropped
		_, err = r.mail.exec("UPDATE queue_recipient SET state = 4, notice = 1, attempted = ?, remote = '', reply = ? WHERE id = ?",
			r.at, "554 5.7.0 The administrator of the sending system took the message out of its queue", id)
	case change == QueueMute:
		_, err = r.mail.exec("UPDATE queue_recipient SET told = told | notice, notice = 0 WHERE id = ?", id)
		if err == nil && done {
			err = r.close(id, q.queue, q.doubtful)
		}
		return true, err
	case change == QueueDrop || change == QueueErase:
		kind = EventDropped
		if _, err = r.mail.exec("DELETE FROM queue_recipient WHERE id = ?", id); err == nil && !done {
			err = r.close(id, q.queue, false)
		}
		r.order = append(r.order, q.queue)
	default:
		return false, nil
	}
	if err != nil {
		return false, err
	}
	r.domains = append(r.domains, q.domain)
	return true, r.eventOf(q.queue, Event{At: time.UnixMilli(r.at), Kind: kind, Address: q.address})
}
