package mail

import (
	"context"

	"trivet/storage"
	"trivet/storage/message"
	"trivet/web"
)

// watch wakes the stream of events of a page when a mailbox of its account changes.
func (m *Room) watch(v *web.Visit) (<-chan struct{}, func()) {
	w := m.store.Watch(v.Account.ID, 0)
	return w.C, w.Close
}

// counts are the numbers of the side bar, by mailbox.
type counts struct {
	Boxes map[int64]uint32 `json:"boxes"`
	State string           `json:"state"` // see stateOf
}

// arrival is a message that came.
type arrival struct {
	From    string `json:"from"`
	Subject string `json:"subject"`
	Path    string `json:"path"`
}

// maxArrivals bounds the messages that are told one by one.
const maxArrivals = 5

// tell sends the numbers when they change, what came into INBOX, and that something changed at all.
func (m *Room) tell(v *web.Visit) func(context.Context, *web.Stream) error {
	state, next := "", uint32(0)
	return func(ctx context.Context, s *web.Stream) error {
		boxes, err := m.boxes(ctx, v.Account.ID)
		if err != nil {
			return err
		}
		c := counts{Boxes: map[int64]uint32{}, State: stateOf(boxes)}
		if c.State == state {
			return nil
		}
		for _, b := range boxes {
			c.Boxes[b.ID] = b.Count()
		}
		first := state == ""
		state = c.State
		if err := s.Send("count", c); err != nil {
			return err
		}
		inbox := (&frame{Boxes: boxes}).Inbox() // of the same moment as the state
		if first {
			next = inbox.uidNext
			return nil
		}
		if inbox.uidNext > next {
			if err := m.tellArrivals(ctx, s, inbox, next); err != nil {
				return err
			}
			next = inbox.uidNext
		}
		return nil
	}
}

func (m *Room) tellArrivals(ctx context.Context, s *web.Stream, inbox box, from uint32) error {
	from = max(from, inbox.uidNext-min(inbox.uidNext, maxArrivals))
	items, err := m.store.Items(ctx, inbox.ID, []storage.Range{{First: from, Last: inbox.uidNext}}, storage.FieldEnvelope, maxArrivals)
	if err != nil {
		return err
	}
	for _, it := range items {
		if it.Flags&storage.FlagSeen != 0 {
			continue
		}
		a := arrival{Path: boxPath(inbox.ID) + "/" + idText(int64(it.UID))}
		if e, err := message.ParseEnvelope(it.Envelope); err == nil {
			if people := peopleOf(e.From); len(people) > 0 {
				a.From = people[0]
			}
			a.Subject = message.DecodeHeader(e.Subject)
		}
		if err := s.Send("mail", a); err != nil {
			return err
		}
	}
	return nil
}
