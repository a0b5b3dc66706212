package mail

import (
	"cmp"
	"context"
	"slices"
	"strings"
	"sync"

	"trivet/storage"
	"trivet/storage/message"
)

// Limits of the address book.
const (
	bookMessages = 2000 // of what was sent lately that are looked at
	bookEntries  = 300  // addresses that a form offers
	bookAccounts = 1000 // whose books a node remembers
)

// books knows to whom accounts write: nobody has to keep a book. It is what the mailbox of what was sent says.
type books struct {
	store Store

	mu    sync.Mutex
	known map[int64]book // by account
}

type book struct {
	mailbox int64
	modseq  uint64 // of the mailbox that it was made from
	entries []string
}

func newBooks(store Store) *books { return &books{store: store, known: map[int64]book{}} }

// of are the addresses that an account writes to, those that it writes to most first.
func (b *books) of(ctx context.Context, account, sent int64) ([]string, error) {
	if sent == 0 {
		return nil, nil
	}
	view, err := b.store.Select(ctx, sent)
	if err != nil {
		return nil, err
	}
	b.mu.Lock()
	known, ok := b.known[account]
	b.mu.Unlock()
	if ok && known.mailbox == sent && known.modseq == view.Mailbox.HighestModSeq {
		return known.entries, nil
	}
	entries, err := b.read(ctx, view)
	if err != nil {
		return nil, err
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if len(b.known) >= bookAccounts {
		b.known = map[int64]book{}
	}
	b.known[account] = book{sent, view.Mailbox.HighestModSeq, entries}
	return entries, nil
}

// correspondent is somebody who was written to.
type correspondent struct {
	person
	times int
	last  int // the place of the newest message
}

func (b *books) read(ctx context.Context, view storage.View) ([]string, error) {
	people := map[string]*correspondent{}
	uids := view.UIDs[max(0, len(view.UIDs)-bookMessages):]
	for rest := ranges(uids); len(rest) > 0; {
		got, err := b.store.Items(ctx, view.Mailbox.ID, rest, storage.FieldEnvelope, len(uids))
		if err != nil {
			return nil, err
		}
		for i := range got {
			e, err := message.ParseEnvelope(got[i].Envelope)
			if err != nil {
				continue
			}
			for _, p := range append(append(persons(e.To), persons(e.Cc)...), persons(e.Bcc)...) {
				note(people, p, int(got[i].UID))
			}
		}
		rest = after(rest, got)
	}
	list := make([]*correspondent, 0, len(people))
	for _, p := range people {
		list = append(list, p)
	}
	slices.SortFunc(list, func(a, b *correspondent) int {
		return cmp.Or(cmp.Compare(b.times, a.times), cmp.Compare(b.last, a.last), strings.Compare(a.Address, b.Address))
	})
	var out []string
	for _, p := range list[:min(len(list), bookEntries)] {
		out = append(out, p.typed())
	}
	return out, nil
}

func note(people map[string]*correspondent, p person, uid int) {
	key := strings.ToLower(p.Address)
	if !strings.Contains(key, "@") {
		return
	}
	c := people[key]
	if c == nil {
		c = &correspondent{person: p}
		people[key] = c
	}
	if p.Name != "" {
		c.Name = p.Name
	}
	c.times, c.last = c.times+1, uid
}
