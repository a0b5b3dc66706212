package database

import (
	"context"
	"errors"
	"time"
)

// Job is what is to be done in one transaction of its own: all of it or nothing.
type Job struct {
	Statements []Statement `cbor:"1,keyasint"`
	Privilege  Privilege   `cbor:"2,keyasint"`           // of whoever asks
	LastID     int64       `cbor:"3,keyasint,omitempty"` // what last_insert_rowid() says at first
}

// JobResult is what became of a [Job]: for each statement an outcome and its rows.
type JobResult struct {
	Outcomes []Outcome `cbor:"1,keyasint"`
	Rows     []Rows    `cbor:"2,keyasint"`
}

// job is one that waits for its turn.
type job struct {
	Job
	ctx    context.Context
	result JobResult
	err    error
	done   chan struct{}
	failed bool // in this attempt
	here   bool // to be run on this node, whoever leads
}

const (
	// batchJobs bounds the jobs that share an entry of the log.
	batchJobs = 256
	// eachJobs bounds those of one client that wait at a time.
	eachJobs = 64
	// attempts bounds how often jobs are run again because another node was faster.
	attempts = 20
	// restPeriod is how long a committer without work keeps its connections.
	restPeriod = time.Minute
)

// Do runs a job, together with those of others: each has a savepoint, and all of
// them one entry in the log.
func (d *Database) Do(ctx context.Context, in Job) (JobResult, error) {
	j := &job{Job: in, ctx: ctx, done: make(chan struct{})}
	if err := d.enqueue(j); err != nil {
		return JobResult{}, err
	}
	<-j.done // not earlier: whether it was done must be known
	return j.result, j.err
}

// Each runs jobs one after the other, each by itself, without waiting for one
// before the next is queued: so they share entries of the log.
func (d *Database) Each(ctx context.Context, jobs []Job) ([]JobResult, []error) {
	results, errs := make([]JobResult, len(jobs)), make([]error, len(jobs))
	queued := make([]*job, 0, eachJobs)
	first := 0
	finish := func() {
		for i, j := range queued {
			if j.done != nil {
				<-j.done
				results[first+i] = j.result
			}
			errs[first+i] = j.err
		}
		first += len(queued)
		queued = queued[:0]
	}
	for _, in := range jobs {
		j := &job{Job: in, ctx: ctx, done: make(chan struct{})}
		if err := d.enqueue(j); err != nil {
			j.err, j.done = err, nil
		}
		if queued = append(queued, j); len(queued) == eachJobs {
			finish()
		}
	}
	finish()
	return results, errs
}

func (d *Database) enqueue(j *job) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.closed {
		return fail(StateUnavailable, "", "the database is closed")
	}
	select {
	case d.jobs <- j:
	default:
		return fail(StateUnavailable, "try again later", "too many changes of this database are waiting")
	}
	if !d.committed {
		d.committed = true
		d.committer.Go(d.commit)
	}
	return nil
}

// commit is the goroutine that runs the jobs of a database, while there are any.
func (d *Database) commit() {
	var w *workspace
	release := func() {
		if w != nil {
			w.done()
			w = nil
		}
	}
	defer release()
	rest := time.NewTimer(restPeriod)
	defer rest.Stop()
	for {
		select {
		case j, open := <-d.jobs:
			if !open {
				return
			}
			if batch := d.elsewhere(d.collect(j)); len(batch) > 0 {
				d.gate <- struct{}{}
				w = d.runBatch(w, batch)
				<-d.gate
			}
			rest.Reset(restPeriod)
		case <-rest.C:
			d.mu.Lock()
			if len(d.jobs) == 0 {
				d.committed = false
				d.mu.Unlock()
				return
			}
			d.mu.Unlock()
		}
	}
}

// collect returns the jobs that wait, from first on.
func (d *Database) collect(first *job) []*job {
	batch := []*job{first}
	for len(batch) < batchJobs && !batch[len(batch)-1].alone() {
		select {
		case j, open := <-d.jobs:
			if !open {
				return batch
			}
			batch = append(batch, j)
		default:
			return batch
		}
	}
	return batch
}

// alone reports whether the job cannot share a transaction.
func (j *job) alone() bool { return len(j.Statements) == 1 && verb(j.Statements[0].SQL) == "VACUUM" }

// finish answers whoever waits for the job.
func (j *job) finish(err error) {
	if err != nil {
		j.result, j.err = JobResult{}, err
	}
	close(j.done)
}

// runBatch runs jobs in the order in which they came and answers them. It
// returns the workspace for the next batch, or nil.
func (d *Database) runBatch(w *workspace, batch []*job) *workspace {
	if last := batch[len(batch)-1]; last.alone() && len(batch) > 1 {
		w = d.runBatch(w, batch[:len(batch)-1])
		batch = batch[len(batch)-1:]
	}
	var err error
	for attempt := range attempts {
		if w != nil && w.stale() {
			w.done()
			w = nil
		}
		if w == nil {
			if w, err = d.workspace(); err != nil {
				break
			}
		}
		if batch, err = w.attempt(batch); len(batch) == 0 || !errors.Is(err, ErrVersion) {
			break
		}
		w.done() // spoiled: another is opened
		w = nil
		time.Sleep(time.Duration(attempt) * 2 * time.Millisecond)
	}
	if errors.Is(err, ErrVersion) {
		err = fail(StateConflict, "try again", "the database is changed by others all the time")
	}
	for _, j := range batch {
		j.finish(err)
	}
	if w != nil && !w.idle() {
		w.done()
		return nil
	}
	return w
}

// idle lets go of what the last transaction needed, and reports whether the
// workspace is fit for another.
func (w *workspace) idle() bool {
	w.over.rest(nothing{}, 0, false)
	return !w.spoiled && !w.inTransaction() && w.snap.end() == nil
}

func (w *workspace) stale() bool {
	w.d.mu.Lock()
	defer w.d.mu.Unlock()
	return w.generation != w.d.generation
}

// attempt runs the jobs and replicates what they changed. It answers the jobs
// that are over, and returns the others with what they failed with.
func (w *workspace) attempt(batch []*job) ([]*job, error) {
	if err := w.rest(); err != nil {
		return batch, clientError(context.Background(), err)
	}
	batch, err := w.runJobs(batch)
	if err != nil {
		return batch, clientError(context.Background(), w.explain(err))
	}
	version, err := w.replicate(context.WithoutCancel(batch[0].ctx))
	if err != nil {
		return batch, err
	}
	for _, j := range batch {
		for i := range j.result.Outcomes {
			j.result.Outcomes[i].Version = version
		}
		if j.failed {
			j.result = JobResult{}
		}
		close(j.done)
	}
	return nil, nil
}

// runJobs runs the jobs in one transaction of the overlay. One whose error ends
// the transaction is answered, and the others run again without it.
func (w *workspace) runJobs(batch []*job) ([]*job, error) {
	if batch[0].alone() {
		batch[0].run(w)
		return batch, nil
	}
again:
	if err := w.ours("BEGIN"); err != nil {
		return batch, err
	}
	for i, j := range batch {
		if err := w.runOne(j); err != nil {
			return batch, err
		}
		if !w.inTransaction() {
			if j.err == nil {
				j.err = fail(StateInternal, "", "the transaction ended by itself")
			}
			if len(batch) == 1 {
				return batch, nil
			}
			close(j.done)
			batch = append(append([]*job{}, batch[:i]...), batch[i+1:]...)
			goto again
		}
	}
	return batch, w.ours("COMMIT")
}

// runOne runs a job below a savepoint.
func (w *workspace) runOne(j *job) error {
	if err := w.ours("SAVEPOINT job"); err != nil {
		return err
	}
	j.run(w)
	if !w.inTransaction() {
		return nil
	}
	if j.failed {
		if err := w.ours("ROLLBACK TO job"); err != nil {
			return err
		}
	}
	return w.ours("RELEASE job")
}

// run runs the statements of the job.
func (j *job) run(w *workspace) {
	j.result, j.err, j.failed = JobResult{Outcomes: make([]Outcome, 0, len(j.Statements)), Rows: make([]Rows, 0, len(j.Statements))}, nil, false
	ctx, cancel := clock(j.ctx, w.d.engine.Limits.WriteTime)
	defer cancel()
	err := ctx.Err()
	if err != nil {
		err = fail(StateCanceled, "", "the statement was cancelled")
	}
	changes := w.changes()
	w.setLastID(j.LastID)
	left := w.d.engine.Limits.ReturnBytes
	for i := 0; err == nil && i < len(j.Statements); i++ {
		rows := Rows{most: left}
		var out Outcome
		if out, err = w.statement(ctx, j.Statements[i], j.Privilege, &rows); err == nil {
			left -= rows.size
			j.result.Outcomes = append(j.result.Outcomes, out)
			j.result.Rows = append(j.result.Rows, rows)
		}
	}
	if err == nil {
		err = w.check(changes)
	}
	j.err, j.failed = err, err != nil
}

// statement runs one statement of a client.
func (w *workspace) statement(ctx context.Context, in Statement, may Privilege, sink Sink) (Outcome, error) {
	st, rest, kept, err := w.clientStatement(in.SQL)
	if err != nil {
		return Outcome{}, clientError(ctx, w.explain(err))
	}
	if st == nil {
		return Outcome{}, nil
	}
	defer st.free(kept)
	if verb(rest) != "" {
		return Outcome{}, fail(StateSyntax, "send them one by one", "there is more than one statement")
	}
	if err := st.permitted(may); err != nil {
		return Outcome{}, err
	}
	if st.info.Transaction != "" || st.info.Savepoint != "" {
		return Outcome{}, fail(StateInTransaction, "", "statements that begin or end a transaction cannot stand here")
	}
	if err := st.fill(in); err != nil {
		return Outcome{}, clientError(ctx, err)
	}
	w.rule.vacuum = verb(in.SQL) == "VACUUM"
	out, err := st.run(ctx, sink, 0)
	w.rule.vacuum = false
	out.Text = in.SQL
	return out, clientError(ctx, w.explain(causeOf(err)))
}

// causeOf returns what SQLite said, when that is what err comes from.
func causeOf(err error) error {
	var s *sqliteError
	var e *Error
	if errors.As(err, &e) && e.State == StateFull && errors.As(err, &s) {
		return s
	}
	return err
}

// permitted refuses a statement for which the privilege is not enough.
func (s *stmt) permitted(may Privilege) error {
	if s.info.Needs > may {
		return fail(StateDenied, "ask the owner of the database for a grant", "permission denied: the statement needs the privilege %q, you have %q", s.info.Needs, may)
	}
	return nil
}

// check refuses what goes beyond the limits of a transaction.
func (w *workspace) check(changesBefore int64) error {
	if most := w.d.engine.Limits.RowsChanged; w.changes()-changesBefore > most {
		return fail(StateTooLong, "change fewer in one transaction", "more than %d rows were changed", most)
	}
	if w.unresolved() {
		return fail(StateForeignKey, "", "FOREIGN KEY constraint failed")
	}
	return nil
}
