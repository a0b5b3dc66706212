package imap

import (
	"context"
	"strings"

	"trivet/storage"
)

// othersPrefix is the first level of the names of mailboxes that belong to others: behind it come the
// owner's address and the name that the mailbox has for its owner (RFC 2342, "Other Users' Namespace").
const othersPrefix = "Other Users" + storage.Delimiter

// listed is a mailbox as its user may see it.
type listed struct {
	storage.Mailbox
	Owner  string // address of the account it belongs to; empty: one's own
	Rights storage.Rights
}

// fullName is the name of a mailbox of somebody else.
func fullName(owner, name string) string { return othersPrefix + owner + storage.Delimiter + name }

// find looks a mailbox up by the name the client uses, one's own or somebody else's, and holds the rights
// against what is needed. Of what one may not even see it says that it does not exist (RFC 4314 section 6).
func (s *session) find(ctx context.Context, name string, need storage.Rights) (listed, error) {
	rest, others := strings.CutPrefix(name, othersPrefix)
	if !others {
		box, err := s.server.cfg.Store.Mailbox(ctx, s.who.AccountID, name)
		return listed{Mailbox: box, Rights: storage.RightsAll}, err
	}
	owner, inner, _ := strings.Cut(rest, storage.Delimiter)
	shared, err := s.server.cfg.Store.SharedMailboxes(ctx, s.who.AccountID, s.who.Address)
	if err != nil {
		return listed{}, err
	}
	for _, m := range shared {
		if strings.EqualFold(m.Owner, owner) && (m.Name == inner || m.Name == storage.Inbox && strings.EqualFold(inner, storage.Inbox)) {
			if !m.Rights.Has(need) {
				return listed{}, no("NOPERM", "You may not do that with this mailbox")
			}
			return listed{m.Mailbox, m.Owner, m.Rights}, nil
		}
	}
	return listed{}, no("NONEXISTENT", "No such mailbox")
}

// lookup is find with a context of its own.
func (s *session) lookupMailbox(name string, need storage.Rights) (listed, error) {
	ctx, cancel := s.storage()
	defer cancel()
	return s.find(ctx, name, need)
}

// place is where a name that does not exist yet would be: whose account, under which name there.
type place struct {
	account int64
	name    string
	above   listed // the mailbox above it, when it is somebody else's
}

// placeOf finds the place for a new name. With somebody else it must be below a mailbox in which one may create.
func (s *session) placeOf(ctx context.Context, name string) (place, error) {
	rest, others := strings.CutPrefix(name+storage.Delimiter, othersPrefix)
	if !others {
		return place{account: s.who.AccountID, name: name}, nil
	}
	rest = strings.TrimSuffix(rest, storage.Delimiter)
	above := name
	if i := strings.LastIndex(name, storage.Delimiter); i > 0 {
		above = name[:i]
	}
	box, err := s.find(ctx, above, storage.RightCreate)
	if err != nil {
		if storage.KindOf(err) == storage.KindNotFound || strings.Count(rest, storage.Delimiter) < 2 {
			err = no("NOPERM", "You may not create mailboxes there")
		}
		return place{}, err
	}
	_, inner, _ := strings.Cut(rest, storage.Delimiter)
	return place{account: box.AccountID, name: inner, above: box}, nil
}

// permanentFlags are the flags that somebody with rights may change (RFC 4314 section 4).
func permanentFlags(r storage.Rights) string {
	var names []string
	if r.Has(storage.RightWrite) {
		names = append(names, `\Answered`, `\Flagged`)
	}
	if r.Has(storage.RightMark) {
		names = append(names, `\Deleted`)
	}
	if r.Has(storage.RightSeen) {
		names = append(names, `\Seen`)
	}
	if r.Has(storage.RightWrite) {
		names = append(names, `\Draft`, `\*`)
	}
	return strings.Join(names, " ")
}

// permitted returns those of the flags that rights allow to set.
func permitted(r storage.Rights, flags storage.Flags, keywords []string) (storage.Flags, []string) {
	if !r.Has(storage.RightSeen) {
		flags &^= storage.FlagSeen
	}
	if !r.Has(storage.RightMark) {
		flags &^= storage.FlagDeleted
	}
	if !r.Has(storage.RightWrite) {
		flags &= storage.FlagSeen | storage.FlagDeleted
		keywords = nil
	}
	return flags, keywords
}

// permittedChange narrows a change to what rights allow. It is refused when nothing is left of it, or when it would
// replace flags of which some may not be touched (RFC 4314 section 4).
func permittedChange(r storage.Rights, change storage.FlagChange) (storage.FlagChange, error) {
	const all = storage.RightSeen + storage.RightMark + storage.RightWrite
	if r.Has(all) {
		return change, nil
	}
	flags, keywords := permitted(r, change.Flags, change.Keywords)
	if change.Op == storage.FlagsReplace || flags == 0 && len(keywords) == 0 {
		return change, no("NOPERM", "You may not change these flags")
	}
	change.Flags, change.Keywords = flags, keywords
	return change, nil
}
