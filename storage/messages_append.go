package storage

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// Limits of [Store.AppendAll].
const (
	MaxAppend      = 1000    // messages in one call
	maxAppendBytes = 2 << 20 // octets of small bodies, compressed, in its command; those behind go ahead of it
	// maxAppendHead bounds what the command says of the messages besides, in octets; with the bodies it fits the log.
	maxAppendHead = 3 << 19
)

// NewMessage is a message to append.
type NewMessage struct {
	Content  *Content
	Flags    Flags
	Keywords []string
	Date     time.Time
}

type (
	appendAll struct {
		Mailbox  int64           `cbor:"1,keyasint"`
		Messages []appendMessage `cbor:"2,keyasint"` // their Mailbox is not used
		Replaced replaced        `cbor:"3,keyasint,omitempty"`
	}
	// replaced is the message that goes as the new ones come; UID 0: none.
	replaced struct {
		Mailbox int64  `cbor:"1,keyasint"`
		UID     uint32 `cbor:"2,keyasint"`
	}
)

// AppendAll adds messages to a mailbox, all or none, in order (RFC 3502). With
// replaceUID not 0 that message of mailbox replace goes in the same step (RFC
// 8508); KindNotFound when it is gone, and nothing is added then.
func (s *Store) AppendAll(ctx context.Context, mailbox int64, messages []NewMessage, replace int64, replaceUID uint32) ([]Appended, error) {
	if len(messages) > MaxAppend {
		return nil, fail("append", KindTooLarge, fmt.Sprintf("append at most %d messages at a time", MaxAppend))
	}
	b := appendAll{Mailbox: mailbox, Messages: make([]appendMessage, len(messages)), Replaced: replaced{replace, replaceUID}}
	inline, head := 0, 0
	for i, m := range messages {
		joined, err := canonicalKeywords(m.Keywords)
		if err != nil {
			return nil, err
		}
		seconds, zone := dateAndZone(m.Date)
		b.Messages[i] = appendMessage{s.record(m.Content), 0, m.Flags, joined, seconds, zone}
		c := &b.Messages[i].Content
		if head += c.head() + len(joined); head > maxAppendHead {
			return nil, fail("append", KindTooLarge, "the messages have too many parts and addresses for one command: append fewer at a time")
		}
		if inline += len(c.Inline); inline > maxAppendBytes {
			c.Inline, c.Parts = nil, 1
		}
	}
	return s.appendWithParts(ctx, b, messages)
}

// appendWithParts sends the parts of large bodies ahead, and again if they went
// missing.
func (s *Store) appendWithParts(ctx context.Context, b appendAll, messages []NewMessage) (out []Appended, err error) {
	for range 2 {
		for i, m := range messages {
			if b.Messages[i].Content.Parts == 0 {
				continue
			}
			known, err := s.hasMessage(ctx, b.Messages[i].Content.Hash)
			if err == nil && !known {
				err = s.upload(ctx, m.Content)
			}
			if err != nil {
				return nil, err
			}
		}
		_, err = s.propose(ctx, kindAppendAll, nil, b, &out)
		var e *Error
		if !errors.As(err, &e) || e.Op != opMissingParts {
			return out, err
		}
	}
	return nil, err
}

// head is what a command says of a message besides its body, in octets, roughly.
func (c *content) head() int {
	return len(c.Envelope) + len(c.BodyStructure) + len(c.Structure) + len(c.Preview) + len(c.Thread) + 128
}

func applyAppendAll(t *tx, b appendAll) (any, error) {
	out := make([]Appended, 0, len(b.Messages))
	// First what goes: an account at its quota can replace a message by a smaller one.
	if b.Replaced.UID != 0 {
		if err := t.replace(b.Replaced); err != nil {
			return nil, err
		}
	}
	for _, m := range b.Messages {
		m.Mailbox = b.Mailbox
		done, err := applyAppend(t, m)
		if err != nil {
			return nil, err
		}
		out = append(out, done.(Appended))
	}
	return out, nil
}

// replace removes one message for ever, whatever its flags.
func (t *tx) replace(r replaced) error {
	m, err := t.mailbox("replace", r.Mailbox)
	if err != nil {
		return err
	}
	items, size, err := t.itemsOf(r.Mailbox, []Range{{r.UID, r.UID}}, "")
	if err != nil {
		return err
	}
	if len(items) == 0 {
		return fail("replace", KindNotFound, "the message is gone")
	}
	if err := t.removeItems(m.ID, m.AccountID, items); err != nil {
		return err
	}
	return t.charge("replace", m.AccountID, -size, -1)
}
