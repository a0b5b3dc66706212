package sender

import (
	"context"
	"errors"
	"slices"
	"sync"

	"trivet/storage"
)

// Bounds of what waits to be written. What comes beyond them until the next batch is left out: a sender is then put
// off once more, or not counted.
const (
	maxPendingContacts = 5000
	maxPendingCounts   = 4000
	maxPendingSenders  = 4000
)

// Ledger gathers what is to be remembered until somebody writes it. Its methods may be called concurrently.
type Ledger struct {
	mu       sync.Mutex
	contacts map[storage.Contact]storage.GreylistContact
	counts   map[reputed]storage.ReputationCount
	senders  map[acquainted]storage.KnownSender
}

type (
	reputed struct {
		kind storage.ReputationKind
		name string
	}
	acquainted struct {
		account int64
		address string
	}
)

// Writer is what of [storage.Store] a ledger writes to.
type Writer interface {
	NoteContacts(ctx context.Context, contacts []storage.GreylistContact) error
	CountReputation(ctx context.Context, counts []storage.ReputationCount) error
	RememberSenders(ctx context.Context, senders []storage.KnownSender) error
}

// contact notes a contact: the first of several that wait, unless one of them passed.
func (l *Ledger) contact(c storage.GreylistContact) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.contacts == nil {
		l.contacts = map[storage.Contact]storage.GreylistContact{}
	}
	known, there := l.contacts[c.Contact]
	if there && (known.Passed || !c.Passed) || !there && len(l.contacts) >= maxPendingContacts {
		return
	}
	l.contacts[c.Contact] = c
}

// count adds to a reputation, in thousandths of messages.
func (l *Ledger) count(kind storage.ReputationKind, name string, wanted, unwanted int64) {
	if name == "" {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.counts == nil {
		l.counts = map[reputed]storage.ReputationCount{}
	}
	key := reputed{kind, name}
	c, there := l.counts[key]
	if !there && len(l.counts) >= maxPendingCounts {
		return
	}
	l.counts[key] = storage.ReputationCount{Kind: kind, Name: name, Wanted: c.Wanted + wanted, Unwanted: c.Unwanted + unwanted}
}

// Remember notes that an account knows a sender.
func (l *Ledger) Remember(k storage.KnownSender) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.senders == nil {
		l.senders = map[acquainted]storage.KnownSender{}
	}
	key := acquainted{k.Account, k.Address}
	known, there := l.senders[key]
	if !there && len(l.senders) >= maxPendingSenders {
		return
	}
	k.How = max(k.How, known.How)
	l.senders[key] = k
}

// take empties the ledger.
func (l *Ledger) take() (contacts []storage.GreylistContact, counts []storage.ReputationCount, senders []storage.KnownSender) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, c := range l.contacts {
		contacts = append(contacts, c)
	}
	for _, c := range l.counts {
		counts = append(counts, c)
	}
	for _, k := range l.senders {
		senders = append(senders, k)
	}
	l.contacts, l.counts, l.senders = nil, nil, nil
	return contacts, counts, senders
}

// Flush writes what waits. What cannot be written is lost: nothing depends on it but that a sender is put off once more.
func (l *Ledger) Flush(ctx context.Context, w Writer) error {
	contacts, counts, senders := l.take()
	var errs []error
	for _, write := range []struct {
		any bool
		do  func() error
	}{
		{len(contacts) > 0, func() error { return w.NoteContacts(ctx, contacts) }},
		{len(counts) > 0, func() error { return w.CountReputation(ctx, counts) }},
		{len(senders) > 0, func() error { return w.RememberSenders(ctx, slices.Clip(senders)) }},
	} {
		if write.any {
			errs = append(errs, write.do())
		}
	}
	return errors.Join(errs...)
}
