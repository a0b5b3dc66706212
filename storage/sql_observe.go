package storage

import (
	"context"
	"time"

	"trivet/storage/database"
)

// SQLObserver is told of statements, for figures. It must be quick.
type SQLObserver interface {
	// Statement is told of each statement, or list of them in one transaction: how it ended, empty when well, and how long it took.
	Statement(state string, took time.Duration)
	// Effect is told how many octets of a database's file a transaction changed.
	Effect(octets int)
}

// observed is a session whose statements are counted.
type observed struct {
	SQLSession
	by SQLObserver
}

func (o observed) note(began time.Time, err error) {
	state := ""
	if err != nil {
		state = string(database.StateOf(SQLErrorOf(err)))
	}
	o.by.Statement(state, time.Since(began))
}

// Run implements [SQLSession].
func (o observed) Run(ctx context.Context, in SQLStatement, sink SQLSink) (out SQLOutcome, rest string, err error) {
	began := time.Now()
	out, rest, err = o.SQLSession.Run(ctx, in, sink)
	o.note(began, err)
	return out, rest, err
}

// Transaction implements [SQLSession].
func (o observed) Transaction(ctx context.Context, statements []SQLStatement) (SQLResult, error) {
	began := time.Now()
	done, err := o.SQLSession.Transaction(ctx, statements)
	o.note(began, err)
	return done, err
}

// Each implements [SQLSession].
func (o observed) Each(ctx context.Context, statements []SQLStatement) ([]SQLResult, []error) {
	began := time.Now()
	done, errs := o.SQLSession.Each(ctx, statements)
	each := time.Since(began) / time.Duration(max(len(errs), 1)) // they share entries of the log, and so their time
	for _, err := range errs {
		o.note(time.Now().Add(-each), err)
	}
	return done, errs
}
