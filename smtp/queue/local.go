package queue

import (
	"crypto/sha256"
	"fmt"
	"io"

	"trivet/storage"
)

// deliverOne delivers to one recipient what was queued for a domain that is hosted here by now. The transaction is that of the queued
// recipient: done twice, it is delivered once.
func (w *worker) deliverOne(r storage.QueueRecipient) reply {
	to, err := w.q.cfg.Store.Resolve(w.ctx, r.Address)
	if err == nil && len(to.Accounts) == 0 {
		return said(550, "5.1.1", "there is no mailbox %s", r.Address)
	}
	if err == nil {
		err = w.put(r, to.Accounts)
	}
	switch {
	case err == nil:
		return said(250, "2.0.0", "delivered here")
	case storage.KindOf(err) == storage.KindOverQuota:
		return said(452, "4.2.2", "%v", err)
	}
	return said(451, "4.3.0", "%v", err)
}

func (w *worker) put(r storage.QueueRecipient, accounts []storage.Account) error {
	m, err := w.message(r.QueueID)
	if err != nil {
		return err
	}
	body, err := w.q.cfg.Store.OpenBody(w.ctx, m.MessageID)
	if err != nil {
		return err
	}
	defer body.Close()
	content, err := w.q.cfg.Store.Prepare(w.ctx, io.NewSectionReader(body, 0, body.Size()))
	if err != nil {
		return err
	}
	defer content.Close()
	d := storage.Delivery{Content: content, Received: w.q.cfg.Now(), Transaction: sha256.Sum256(fmt.Appendf(nil, "queued recipient %d", r.ID))}
	for _, a := range accounts {
		d.Recipients = append(d.Recipients, a.ID)
	}
	_, err = w.q.cfg.Store.Deliver(w.ctx, d)
	return err
}
