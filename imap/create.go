package imap

import (
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
	ctx, cancel := s.storage()
	defer cancel()
	box, err := s.server.cfg.Store.CreateMailbox(ctx, s.who.AccountID, name, use)
	if err != nil {
		return err
	}
	if box.Name != name && s.rev2() {
		// The name was normalised (RFC 9051 section 6.3.9.7).
		s.w.Raw("* LIST ()")
		s.listName(box.Name)
		s.w.Raw(` ("OLDNAME" (`)
		s.w.Mailbox(name)
		s.w.Raw("))\r\n")
	}
	return nil
}

// specialUses are the attributes a client may ask for.
var specialUses = map[string]storage.SpecialUse{
	`\ARCHIVE`: storage.UseArchive, `\DRAFTS`: storage.UseDrafts, `\JUNK`: storage.UseJunk,
	`\SENT`: storage.UseSent, `\TRASH`: storage.UseTrash,
	// All and Flagged would be virtual mailboxes, which there are none of.
	`\ALL`: storage.UseNone, `\FLAGGED`: storage.UseNone,
}

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
	switch {
	case c.Err() != nil:
	case !known || use == storage.UseNone || before != storage.UseNone:
		c.Fail("That special use is not possible")
	}
	return use
}
