package imap

import (
	"context"
	"strings"

	"trivet/storage"
)

// create answers CREATE (RFC 9051 section 6.3.4), with the USE of RFC 6154 section 3.
func (s *session) create(c *call) error {
	c.SP()
	given := c.Mailbox(s.utf8())
	use := storage.UseNone
	if c.Try(' ') {
		use = createUse(c)
	}
	if err := c.End(); err != nil {
		return err
	}
	// The delimiter at the end says that names below are to follow; every name may have some.
	name := strings.TrimSuffix(given, storage.Delimiter)
	if use == useImpossible {
		return no("USEATTR", "That special use is not possible") // RFC 6154 section 3
	}
	ctx, cancel := s.storage()
	defer cancel()
	at, err := s.placeOf(ctx, name)
	if err != nil {
		return err
	}
	box, err := s.server.cfg.Store.CreateMailbox(ctx, at.account, at.name, use)
	if err != nil {
		return s.useTaken(ctx, name, use, err)
	}
	if at.above.ID != 0 {
		if err := s.inheritRights(ctx, at.above.ID, box.ID); err != nil {
			return err
		}
	}
	c.code = "MAILBOXID (" + mailboxID(box.ID) + ")" // RFC 8474 section 4.1
	if box.Name != at.name && s.rev2() {
		// The name was normalised (RFC 9051 section 6.3.9.7).
		s.w.Raw("* LIST ()")
		s.listName(box.Name)
		s.w.Raw(` ("OLDNAME" (`)
		s.w.Mailbox(name)
		s.w.Raw("))\r\n")
	}
	return nil
}

// inheritRights gives a mailbox that was made with somebody else the rights of the one above it, without which whoever
// made it could not use it (RFC 4314 section 3.1 leaves that to the server).
func (s *session) inheritRights(ctx context.Context, above, box int64) error {
	grants, err := s.server.cfg.Store.Grants(ctx, above)
	if err != nil {
		return err
	}
	for _, g := range grants {
		if err := s.server.cfg.Store.SetRights(ctx, box, g.Identifier, 0, g.Rights); err != nil {
			return err
		}
	}
	return nil
}

// useTaken tells a special use that another mailbox has from a name that is taken.
func (s *session) useTaken(ctx context.Context, name string, use storage.SpecialUse, err error) error {
	if use == storage.UseNone || storage.KindOf(err) != storage.KindExists {
		return err
	}
	if _, missing := s.server.cfg.Store.Mailbox(ctx, s.who.AccountID, name); missing != nil {
		return no("USEATTR", "Another mailbox has that special use")
	}
	return err
}

// specialUses are the attributes a client may ask for.
var specialUses = map[string]storage.SpecialUse{
	`\ARCHIVE`: storage.UseArchive, `\DRAFTS`: storage.UseDrafts, `\JUNK`: storage.UseJunk,
	`\SENT`: storage.UseSent, `\TRASH`: storage.UseTrash,
}

// useImpossible stands for \All and \Flagged, which would be virtual mailboxes, for attributes that
// nobody knows, and for several at once.
const useImpossible storage.SpecialUse = "impossible"

func createUse(c *call) storage.SpecialUse {
	use := storage.UseNone
	c.List(func() {
		if !c.TryWord("USE") {
			c.Fail("Unknown CREATE parameter")
		}
		c.SP()
		c.List(func() { use = specialUse(c, use) })
	})
	return use
}

func specialUse(c *call, before storage.SpecialUse) storage.SpecialUse {
	use, known := specialUses[strings.ToUpper(c.Attribute())]
	if !known || before != storage.UseNone {
		return useImpossible
	}
	return use
}
