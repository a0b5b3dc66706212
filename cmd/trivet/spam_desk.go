package main

import (
	"context"
	"time"

	senders "trivet/spam/sender"
	"trivet/storage"
	"trivet/storage/message"
	pages "trivet/web/release"
)

// desk is what the pages of signed links do; it implements pages.Desk.
type desk struct{ n *node }

func (d desk) Links(ctx context.Context) (pages.Links, error) { return d.n.spamSenders.links(ctx) }

func (d desk) KeptCopy(ctx context.Context, id int64) (storage.KeptCopy, error) {
	return d.n.store.KeptCopy(ctx, id)
}

func (d desk) ReleaseCopy(ctx context.Context, id int64) error { return d.n.store.ReleaseCopy(ctx, id) }

func (d desk) Proven(token, proof string) bool { return senders.Proven(token, proof) }

func (d desk) Now() time.Time { return d.n.now() }

// junked finds a message that a link is for, if it still is in the mailbox for junk of its account.
func (d desk) junked(ctx context.Context, j pages.Junk) (storage.Item, *message.Envelope, error) {
	box, err := d.n.store.MailboxByID(ctx, j.Mailbox)
	if err != nil {
		return storage.Item{}, nil, err
	}
	if box.AccountID != j.Account || box.SpecialUse != storage.UseJunk {
		return storage.Item{}, nil, &storage.Error{Op: "find the message", Kind: storage.KindNotFound}
	}
	items, err := d.n.store.Items(ctx, j.Mailbox, []storage.Range{{First: j.UID, Last: j.UID}}, storage.FieldEnvelope, 1)
	if err == nil && len(items) == 0 {
		err = &storage.Error{Op: "find the message", Kind: storage.KindNotFound}
	}
	if err != nil {
		return storage.Item{}, nil, err
	}
	envelope, err := message.ParseEnvelope(items[0].Envelope)
	return items[0], envelope, err
}

func (d desk) Junked(ctx context.Context, j pages.Junk) (pages.Letter, error) {
	item, envelope, err := d.junked(ctx, j)
	if err != nil {
		return pages.Letter{}, err
	}
	from, _ := authorText(envelope)
	return pages.Letter{From: from, Subject: message.DecodeHeader(envelope.Subject), Date: item.InternalDate}, nil
}

// authorText is who a message says it is from, for people, and the address alone.
func authorText(e *message.Envelope) (text, address string) {
	for _, a := range e.From {
		if a.Kind != message.Mailbox {
			continue
		}
		text = a.Addr()
		if name := message.DecodeHeader(a.Name); name != "" {
			text = name + " <" + text + ">"
		}
		return text, a.Addr()
	}
	return "", ""
}

// Unjunk moves a message to INBOX. That teaches the filter; who sent it is known from then on.
func (d desk) Unjunk(ctx context.Context, j pages.Junk) error {
	_, envelope, err := d.junked(ctx, j)
	if err != nil {
		return err
	}
	inbox, err := d.n.store.Mailbox(ctx, j.Account, storage.Inbox)
	if err != nil {
		return err
	}
	if _, err := d.n.store.Move(ctx, j.Mailbox, []storage.Range{{First: j.UID, Last: j.UID}}, inbox.ID); err != nil {
		return err
	}
	if _, address := authorText(envelope); address != "" {
		d.n.spamSenders.ledger.Remember(storage.KnownSender{Account: j.Account, Address: canonicalSender(address), How: storage.SenderReleased})
	}
	return nil
}
