package storage

import (
	"context"
	"fmt"
	"time"

	"zombiezen.com/go/sqlite"
)

// SubmissionLimit is what an account may submit in an hour. 0: any number; -1, of
// an account: what the settings of the node say.
type SubmissionLimit struct {
	Messages   int64 `json:"messages" cbor:"1,keyasint"`
	Recipients int64 `json:"recipients" cbor:"2,keyasint"`
}

// Submission says that a [Delivery] was submitted by an account, which may not
// submit more than the limit in an hour. KindLimited: it has.
type Submission struct {
	Account    int64           `cbor:"1,keyasint"`
	Recipients int64           `cbor:"2,keyasint"`
	Limit      SubmissionLimit `cbor:"3,keyasint"` // of the node's settings; that of the account comes first
}

// SubmissionState is what an account has submitted in this hour, and may.
type SubmissionState struct {
	SubmissionLimit // 0: any number
	Used            SubmissionLimit
	Until           time.Time // when counting starts again
}

// Left is how many more messages and recipients may be submitted before Until.
func (s SubmissionState) Left() (messages, recipients int64) {
	left := func(limit, used int64) int64 {
		if limit == 0 {
			return 1 << 40
		}
		return max(0, limit-used)
	}
	return left(s.Messages, s.Used.Messages), left(s.Recipients, s.Used.Recipients)
}

const hourMilli = int64(time.Hour / time.Millisecond)

// Submitted returns what an account has submitted in this hour, with limit where
// the account has none of its own.
func (s *Store) Submitted(ctx context.Context, account int64, limit SubmissionLimit) (SubmissionState, error) {
	var state SubmissionState
	err := s.with(ctx, func(c *conn) (err error) {
		state, err = readSubmission(c, account, limit, s.cfg.Now().UnixMilli())
		return err
	})
	return state, readError("count submissions", err)
}

func readSubmission(c *conn, account int64, limit SubmissionLimit, at int64) (SubmissionState, error) {
	hour := at / hourMilli
	state := SubmissionState{SubmissionLimit: limit, Until: millis((hour + 1) * hourMilli)}
	_, err := c.row("SELECT messages, recipients FROM submission_limit WHERE account_id = ?", func(st *sqlite.Stmt) {
		if n := st.ColumnInt64(0); n >= 0 {
			state.Messages = n
		}
		if n := st.ColumnInt64(1); n >= 0 {
			state.Recipients = n
		}
	}, account)
	if err != nil {
		return state, err
	}
	_, err = c.row("SELECT messages, recipients FROM submission_count WHERE account_id = ? AND hour = ?", func(st *sqlite.Stmt) {
		state.Used = SubmissionLimit{st.ColumnInt64(0), st.ColumnInt64(1)}
	}, account, hour)
	return state, err
}

// countSubmission counts a message, or refuses it. The count is of the hour that
// the command came in: hours of the proposers' clocks.
func (t *tx) countSubmission(b Submission) error {
	state, err := readSubmission(t.mail, b.Account, b.Limit, t.at)
	if err != nil {
		return err
	}
	messages, recipients := state.Left()
	if messages < 1 || recipients < b.Recipients {
		return fail("submit", KindLimited, fmt.Sprintf("the limit of %d messages and %d recipients an hour is reached; try again after %s",
			state.Messages, state.Recipients, state.Until.Format("15:04 MST")))
	}
	_, err = t.mail.exec("INSERT OR REPLACE INTO submission_count (account_id, hour, messages, recipients) VALUES (?, ?, ?, ?)",
		b.Account, t.at/hourMilli, state.Used.Messages+1, state.Used.Recipients+b.Recipients)
	return err
}

type setSubmissionLimit struct {
	Address string          `cbor:"1,keyasint"`
	Limit   SubmissionLimit `cbor:"2,keyasint"`
}

// SetSubmissionLimit gives an account limits of its own; -1: as the settings say.
func (s *Store) SetSubmissionLimit(ctx context.Context, address string, limit SubmissionLimit) error {
	if limit.Messages < -1 || limit.Recipients < -1 {
		return fail("limit "+quote(address), KindInvalid, "a limit is 0 (any number) or more")
	}
	return s.decideFor(ctx, kindSetSubmissionLimit, address, func(a string) any { return setSubmissionLimit{a, limit} })
}

func applySetSubmissionLimit(t *tx, b setSubmissionLimit) (any, error) {
	id, err := t.account("limit "+b.Address, b.Address)
	if err != nil {
		return nil, err
	}
	if b.Limit.Messages < 0 && b.Limit.Recipients < 0 {
		_, err = t.mail.exec("DELETE FROM submission_limit WHERE account_id = ?", id)
		return nil, err
	}
	_, err = t.mail.exec("INSERT OR REPLACE INTO submission_limit (account_id, messages, recipients) VALUES (?, ?, ?)", id, b.Limit.Messages, b.Limit.Recipients)
	return nil, err
}
