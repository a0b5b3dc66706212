package mail

import (
	"context"
	"errors"
	"io"
	"strconv"
	"time"

	"trivet/storage"
)

// How the outbox is worked through.
const (
	outboxEvery    = 500 * time.Millisecond // between two looks at it
	outboxPiece    = 20                     // messages at a time
	outboxPatience = 2 * time.Minute        // for a node that began to send; then another does
	outboxGiveUp   = 30 * time.Minute       // of trying a message that is refused for the moment
)

func idText(id int64) string { return strconv.FormatInt(id, 10) }

// Run sends what is due, on the node that leads, until ctx ends.
func (m *Room) Run(ctx context.Context) {
	tick := time.NewTicker(outboxEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		if m.leads() {
			m.sendDue(ctx)
		}
	}
}

// sendDue sends the messages whose time has come.
func (m *Room) sendDue(ctx context.Context) {
	due, err := m.store.DueOutbox(ctx, m.now(), outboxPiece)
	if err != nil {
		m.log.Debug("the outbox cannot be read", "error", err)
		return
	}
	for _, o := range due {
		if err := m.store.ClaimOutbox(ctx, o.ID, outboxPatience); err != nil {
			continue // taken back, or another node is at it
		}
		if err := m.sendOne(ctx, o); err != nil {
			m.log.Warn("a message of the webmail is not sent", "account", o.Account, "error", err)
		}
	}
}

// sendOne posts a draft and moves it to what is sent. A node that dies between the two is succeeded by another, and the
// server knows the message again.
func (m *Room) sendOne(ctx context.Context, o storage.Outgoing) error {
	err := m.post(ctx, o)
	var refused *Refused
	switch {
	case err == nil:
		err = m.sent(ctx, o)
	case storage.KindOf(err) == storage.KindNotFound: // the draft was deleted: nobody wants it sent
		err = nil
	case errors.As(err, &refused) && (!refused.Temporary || m.now().Sub(o.Due) > outboxGiveUp):
		return m.store.EndOutbox(ctx, o.ID, refused.Text)
	}
	if err != nil {
		return err // the claim runs out, and it is tried again
	}
	return m.store.EndOutbox(ctx, o.ID, "")
}

func (m *Room) post(ctx context.Context, o storage.Outgoing) error {
	account, err := m.store.Account(ctx, o.Account)
	if err != nil {
		return err
	}
	d, body, err := m.readDraft(ctx, o.Mailbox, o.UID)
	if err != nil {
		return err
	}
	defer body.Close()
	to, err := d.envelope()
	if err != nil {
		return &Refused{Text: err.Error()}
	}
	return m.sender.Send(ctx, Letter{Account: account, From: d.From.Address, To: to, Body: io.NewSectionReader(body, 0, body.Size())})
}

// sent puts a draft where what was sent is, and marks what it answers.
func (m *Room) sent(ctx context.Context, o storage.Outgoing) error {
	boxes, err := m.boxes(ctx, o.Account)
	if err != nil {
		return err
	}
	dest, err := m.forUse(ctx, &frame{Boxes: boxes}, o.Account, storage.UseSent)
	if err != nil {
		return err
	}
	it := []storage.Range{{First: o.UID, Last: o.UID}}
	if _, err := m.store.StoreFlags(ctx, o.Mailbox, storage.FlagChange{UIDs: it, Op: storage.FlagsReplace, Flags: storage.FlagSeen}); err != nil {
		return err
	}
	if _, err := m.store.Move(ctx, o.Mailbox, it, dest); err != nil {
		return err
	}
	if o.SourceUID == 0 {
		return nil
	}
	change := storage.FlagChange{UIDs: []storage.Range{{First: o.SourceUID, Last: o.SourceUID}}, Op: storage.FlagsAdd}
	if o.SourceFlag == "Answered" {
		change.Flags = storage.FlagAnswered
	} else {
		change.Keywords = []string{o.SourceFlag}
	}
	_, err = m.store.StoreFlags(ctx, o.SourceMailbox, change)
	if storage.KindOf(err) == storage.KindNotFound {
		err = nil // its mailbox is gone
	}
	return err
}
