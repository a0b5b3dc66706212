package queue

import (
	"encoding/binary"
	"hash/fnv"
	"time"

	"trivet/storage"
)

// waits are the times between attempts; the last one goes on (RFC 5321 section
// 4.5.4.1: soon at first, then at longer intervals).
var waits = [...]time.Duration{time.Minute, 5 * time.Minute, 15 * time.Minute, 30 * time.Minute, time.Hour, 2 * time.Hour, 4 * time.Hour}

// jitterPercent spreads attempts that failed together.
const jitterPercent = 20

// nextAttempt is when a recipient is to be tried again after it failed at now
// for the attempts+1st time. Recipients of one message to one destination stay
// together, so that they share a transaction.
func nextAttempt(now time.Time, r storage.QueueRecipient) time.Time {
	wait := waits[min(r.Attempts, len(waits)-1)]
	h := fnv.New64a()
	h.Write(binary.BigEndian.AppendUint64([]byte(r.Domain), uint64(r.QueueID)))
	h.Write([]byte{byte(r.Attempts)})
	spread := wait * jitterPercent / 100
	return now.Add(wait + time.Duration(h.Sum64()%uint64(spread)))
}

// leastAttempts is how often a recipient must have been tried before it counts as
// that old: as often as it is in a quarter of the time. The age is a difference of
// wall clocks, of which one may be wrong or jump, and attempts are apart by real time.
func leastAttempts(age time.Duration) int {
	n := 1
	for next := waits[0]; next <= age/4; next += waits[min(n, len(waits)-1)] {
		n++
	}
	return n
}

// settle turns the reply to a recipient into what is recorded of it.
func (q *Queue) settle(m storage.QueueMessage, r storage.QueueRecipient, remote string, said reply, now time.Time) storage.QueueResult {
	result := storage.QueueResult{Recipient: r.ID, Token: r.Lease, At: now.UnixMilli(), Remote: remote, Reply: said.String()}
	age := now.Sub(m.Created)
	switch {
	case said.positive():
		result.Outcome = storage.OutcomeSent
	case said.permanent():
		result.Outcome = storage.OutcomeFailed
		result.Notice = notice(m, r, storage.NotifyFailure, storage.NoticeFailed)
	case age >= q.cfg.Limits.Expire && r.Attempts+1 >= leastAttempts(q.cfg.Limits.Expire):
		result.Outcome = storage.OutcomeFailed
		result.Notice = notice(m, r, storage.NotifyFailure, storage.NoticeFailed)
		result.Reply = expired + result.Reply
	default:
		result.Outcome = storage.OutcomeDeferred
		next := nextAttempt(now, r)
		if end := m.Created.Add(q.cfg.Limits.Expire); end.After(now) && next.After(end) {
			next = end // one last attempt
		}
		result.Next = next.UnixMilli()
		if age >= q.cfg.Limits.Delay && (r.Told|r.Notice)&storage.NoticeDelayed == 0 {
			result.Notice = notice(m, r, storage.NotifyDelay, storage.NoticeDelayed)
		}
	}
	return result
}

// expired begins the reply of what was given up for its age.
const expired = "not delivered in time; last: "

// notice is n if the sender wants to hear of it. The null sender never does (RFC 5321 section 4.5.5).
func notice(m storage.QueueMessage, r storage.QueueRecipient, kind storage.Notify, n storage.Notice) storage.Notice {
	if m.Sender == "" || !r.Notify.Wants(kind) {
		return 0
	}
	return n
}
