package imap

import (
	"context"
	"strings"

	"trivet/storage"
)

// The commands of ACL (RFC 4314).

// getACL answers GETACL.
func (s *session) getACL(c *call) error {
	name, box, err := s.administered(c)
	if err != nil {
		return err
	}
	if err := c.End(); err != nil {
		return err
	}
	ctx, cancel := s.storage()
	defer cancel()
	grants, err := s.server.cfg.Store.Grants(ctx, box.ID)
	if err != nil {
		return err
	}
	owner, err := s.ownerOf(ctx, box)
	if err != nil {
		return err
	}
	s.w.Raw("* ACL ")
	s.w.Mailbox(name)
	for _, g := range append([]storage.Grant{{Identifier: owner, Rights: storage.RightsAll}}, grants...) {
		s.w.SP()
		s.w.AString(g.Identifier)
		s.w.SP()
		s.w.Raw(string(g.Rights))
	}
	s.w.CRLF()
	return nil
}

// administered reads the name of a mailbox whose rights one may see and set.
func (s *session) administered(c *call) (string, listed, error) {
	c.SP()
	name := c.Mailbox(s.utf8())
	if c.Err() != nil {
		return "", listed{}, c.Err()
	}
	box, err := s.lookupMailbox(name, storage.RightAdmin)
	return name, box, err
}

func (s *session) ownerOf(ctx context.Context, box listed) (string, error) {
	if box.Owner != "" {
		return box.Owner, nil
	}
	return s.who.Address, nil
}

// identifier reads whom rights are for. A user name without a domain is one of the client's own domain.
func (s *session) identifier(c *call) string {
	c.SP()
	id := c.AString()
	if id == "" || strings.HasPrefix(id, "-") {
		c.Fail("There are no such identifiers here") // negative rights, RFC 4314 section 2
	}
	if _, domain, ok := strings.Cut(s.who.Address, "@"); ok && id != storage.Anyone && !strings.Contains(id, "@") {
		id += "@" + domain
	}
	return id
}

// setACL answers SETACL.
func (s *session) setACL(c *call) error {
	_, box, err := s.administered(c)
	if err != nil {
		return err
	}
	id := s.identifier(c)
	c.SP()
	text := c.AString()
	if err := c.End(); err != nil {
		return err
	}
	change := byte(0)
	if text != "" && (text[0] == '+' || text[0] == '-') {
		change, text = text[0], text[1:]
	}
	rights, err := storage.ParseRights(text)
	if err != nil {
		return bad("Unknown right") // RFC 4314 section 3.1
	}
	return s.setRights(box, id, change, rights)
}

// deleteACL answers DELETEACL.
func (s *session) deleteACL(c *call) error {
	_, box, err := s.administered(c)
	if err != nil {
		return err
	}
	id := s.identifier(c)
	if err := c.End(); err != nil {
		return err
	}
	return s.setRights(box, id, 0, "")
}

func (s *session) setRights(box listed, id string, change byte, rights storage.Rights) error {
	ctx, cancel := s.storage()
	defer cancel()
	if owner, err := s.ownerOf(ctx, box); err != nil || strings.EqualFold(owner, id) {
		return no("CANNOT", "The owner always has all rights")
	}
	err := s.server.cfg.Store.SetRights(ctx, box.ID, id, change, rights)
	if err != nil && storage.KindOf(err) == storage.KindNotFound {
		return no("", "There is no such account")
	}
	return err
}

// listRights answers LISTRIGHTS: nothing but what an owner has is always granted, and every right can be by itself.
func (s *session) listRights(c *call) error {
	name, box, err := s.administered(c)
	if err != nil {
		return err
	}
	id := s.identifier(c)
	if err := c.End(); err != nil {
		return err
	}
	ctx, cancel := s.storage()
	defer cancel()
	owner, err := s.ownerOf(ctx, box)
	if err != nil {
		return err
	}
	s.w.Raw("* LISTRIGHTS ")
	s.w.Mailbox(name)
	s.w.SP()
	s.w.AString(id)
	if strings.EqualFold(id, owner) {
		s.w.Raw(" " + string(storage.RightsAll))
	} else {
		s.w.Raw(` "" ` + strings.Join(strings.Split(string(storage.RightsAll), ""), " "))
	}
	s.w.CRLF()
	return nil
}

// myRights answers MYRIGHTS.
func (s *session) myRights(c *call) error {
	c.SP()
	name := c.Mailbox(s.utf8())
	if err := c.End(); err != nil {
		return err
	}
	box, err := s.lookupMailbox(name, "")
	if err != nil {
		return err
	}
	s.myRightsResponse(name, box.Rights)
	return nil
}

func (s *session) myRightsResponse(name string, rights storage.Rights) {
	s.w.Raw("* MYRIGHTS ")
	s.w.Mailbox(name)
	s.w.SP()
	s.w.Raw(string(rights))
	s.w.CRLF()
}
