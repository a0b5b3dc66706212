package queue

import (
	"context"
	"crypto/rand"
	"time"

	"trivet/storage"
)

// combiner makes one command of what many workers want while the command before
// is under way: under little load nobody waits, under much the commands get larger.
type combiner[T any] struct {
	in   chan T
	most int
	run  func([]T)
}

func newCombiner[T any](most int, run func([]T)) *combiner[T] {
	return &combiner[T]{in: make(chan T), most: most, run: run}
}

// work runs until ctx ends.
func (c *combiner[T]) work(ctx context.Context) {
	for {
		var some []T
		select {
		case <-ctx.Done():
			return
		case first := <-c.in:
			some = append(some, first)
		}
		for more := true; more && len(some) < c.most; {
			select {
			case next := <-c.in:
				some = append(some, next)
			default:
				more = false
			}
		}
		c.run(some)
	}
}

// leaseRequest asks for recipients of a destination.
type leaseRequest struct {
	want   storage.QueueWant
	answer chan leaseAnswer // has room for one
}

type leaseAnswer struct {
	token uint64
	err   error
}

// leaseFor takes due recipients of a destination, and returns until when the lease holds at the least.
func (q *Queue) leaseFor(ctx context.Context, domain string, most int) ([]storage.QueueRecipient, error) {
	request := leaseRequest{storage.QueueWant{Domain: domain, Max: most}, make(chan leaseAnswer, 1)}
	select {
	case q.leases.in <- request:
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	answer := <-request.answer // always comes: run answers all
	if answer.err != nil || answer.token == 0 {
		return nil, answer.err
	}
	return q.cfg.Store.LeasedRecipients(context.WithoutCancel(ctx), answer.token, domain)
}

// takeLeases is one command for what some workers want, or more where several
// want the same destination: what a token holds of a destination is one worker's.
func (q *Queue) takeLeases(requests []leaseRequest) {
	for len(requests) > 0 {
		var now, later []leaseRequest
		taken := make(map[string]bool, len(requests))
		for _, r := range requests {
			if taken[r.want.Domain] {
				later = append(later, r)
				continue
			}
			taken[r.want.Domain] = true
			now = append(now, r)
		}
		q.takeLease(now)
		requests = later
	}
}

func (q *Queue) takeLease(requests []leaseRequest) {
	wants := make([]storage.QueueWant, len(requests))
	for i, r := range requests {
		wants[i] = r.want
	}
	begun := time.Now()
	ctx, cancel := context.WithTimeout(context.Background(), leasePatience)
	defer cancel()
	token, _, err := q.cfg.Store.LeaseQueue(ctx, q.cfg.Node, wants, q.cfg.Limits.Lease)
	if err == nil {
		q.holdUntil(begun.Add(q.cfg.Limits.Lease))
	}
	for _, r := range requests {
		r.answer <- leaseAnswer{token, err}
	}
}

// Patience with the log: a lease that comes late is of no use, a result is recorded however long it takes.
const (
	leasePatience  = 10 * time.Second
	recordPatience = 30 * time.Second
	recordPause    = time.Second
)

// recordRequest is results of one worker.
type recordRequest struct {
	results []storage.QueueResult
	done    chan struct{}
}

// record records results in the background; the channel closes when that is done.
func (q *Queue) record(results []storage.QueueResult) <-chan struct{} {
	request := recordRequest{results, make(chan struct{})}
	q.unrecorded.Add(1)
	go func() { q.records.in <- request }()
	return request.done
}

// putRecords is one command for the results of some workers. It is tried until
// it is done: what the other side has accepted must be known.
func (q *Queue) putRecords(requests []recordRequest) {
	var all []storage.QueueResult
	for _, r := range requests {
		all = append(all, r.results...)
	}
	for len(all) > 0 {
		some := all[:min(len(all), storage.MaxResults)]
		all = all[len(some):]
		q.putResults(some)
	}
	for _, r := range requests {
		close(r.done)
		q.unrecorded.Done()
	}
}

func (q *Queue) putResults(results []storage.QueueResult) {
	request := make([]byte, 16)
	rand.Read(request)
	for {
		ctx, cancel := context.WithTimeout(q.life, recordPatience)
		refused, err := q.cfg.Store.RecordQueue(ctx, request, q.cfg.Node, results)
		cancel()
		if err == nil {
			if len(refused) > 0 {
				q.log.Warn("results were refused: the lease was lost, and the recipients are tried again", "recipients", refused)
			}
			return
		}
		if q.life.Err() != nil {
			q.log.Error("results could not be recorded; the recipients are tried again", "recipients", len(results), "error", err)
			return
		}
		q.log.Warn("results cannot be recorded yet", "recipients", len(results), "error", err)
		pause(q.life, recordPause)
	}
}

// pause waits, and returns false when ctx ended first.
func pause(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}
