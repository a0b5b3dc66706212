package database

import (
	"context"
	"sync"
	"time"
)

// Statements outside of a transaction run on the node that leads, whichever a
// client asked: two nodes that execute on the same version would conflict all
// the time. A transaction that a client began runs where it is. When it lost
// against others before, the single statements wait for it, for a moment.

// Answer is what became of a [Job] that another node ran.
type Answer struct {
	Result JobResult `cbor:"1,keyasint"`
	Err    *Error    `cbor:"2,keyasint,omitempty"`
}

// Bounds of a [Database.Hold].
const (
	// HoldTime is how long single statements wait at most for a transaction that
	// lost against others before.
	HoldTime = 250 * time.Millisecond
	// holdPatience is how long such a transaction waits for them at most, before
	// it goes on without.
	holdPatience = 5 * time.Second
)

// Here runs jobs on this node, whoever leads, and returns what became of each.
func (d *Database) Here(ctx context.Context, jobs []Job) []Answer {
	queued := make([]*job, len(jobs))
	for i, in := range jobs {
		queued[i] = &job{Job: in, ctx: ctx, here: true, done: make(chan struct{})}
		if err := d.enqueue(queued[i]); err != nil {
			queued[i].finish(err)
		}
	}
	answers := make([]Answer, len(jobs))
	for i, j := range queued {
		<-j.done
		if answers[i].Result = j.result; j.err != nil {
			answers[i].Err = asError(ctx, j.err)
		}
	}
	return answers
}

// elsewhere has the node that leads run what can be, and returns the jobs that
// are to be run here.
func (d *Database) elsewhere(batch []*job) (here []*job) {
	var away []*job
	for _, j := range batch {
		if j.here || j.ctx.Err() != nil {
			here = append(here, j)
		} else {
			away = append(away, j)
		}
	}
	if len(away) == 0 {
		return batch
	}
	jobs := make([]Job, len(away))
	for i, j := range away {
		jobs[i] = j.Job
	}
	answers, asked, err := d.host.RunElsewhere(context.WithoutCancel(away[0].ctx), jobs)
	if !asked {
		return batch
	}
	if err == nil && len(answers) != len(away) {
		err = fail(StateUnknown, "", "the node that leads gave %d answers to %d questions", len(answers), len(away))
	}
	for i, j := range away {
		switch {
		case err != nil:
			j.finish(err)
		case answers[i].Err != nil:
			j.finish(answers[i].Err)
		default:
			j.result = answers[i].Result
			for k := range j.result.Outcomes {
				j.result.Outcomes[k].Text = j.Statements[k].SQL
			}
			j.finish(nil)
		}
	}
	return here
}

// Hold keeps single statements from running on this node until release is
// called, for [HoldTime] at most. An error says that it could not be had soon.
func (d *Database) Hold(ctx context.Context) (release func(), err error) {
	patience := time.NewTimer(holdPatience)
	defer patience.Stop()
	select {
	case d.gate <- struct{}{}:
	case <-ctx.Done():
		return nil, ctx.Err()
	case <-patience.C:
		return nil, fail(StateConflict, "", "others are at it all the time")
	}
	open := sync.OnceFunc(func() { <-d.gate })
	timer := time.AfterFunc(HoldTime, open)
	return func() { timer.Stop(); open() }, nil
}

// hold is Hold on the node that leads.
func (d *Database) hold(ctx context.Context) (release func()) {
	release, asked := d.host.HoldElsewhere(ctx)
	if !asked {
		var err error
		if release, err = d.Hold(ctx); err != nil {
			release = nil
		}
	}
	if release == nil {
		return func() {} // it tries its luck
	}
	return release
}

func asError(ctx context.Context, err error) *Error {
	if e, ok := clientError(ctx, err).(*Error); ok {
		return e
	}
	return &Error{State: StateOf(err), Message: err.Error(), Err: err}
}
