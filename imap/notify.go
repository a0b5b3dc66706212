package imap

import (
	"slices"
	"strings"

	"trivet/storage"
)

// NOTIFY (RFC 5465): the client is told of what happens in mailboxes that are not selected, and at once of what happens in
// the one that is.

// notifyEvents are the events of one group.
type notifyEvents uint8

const (
	eventMessageNew notifyEvents = 1 << iota
	eventMessageExpunge
	eventFlagChange
	eventMailboxName
	eventSubscriptionChange

	eventsOfMessages = eventMessageNew | eventMessageExpunge | eventFlagChange
)

var notifyEventNames = map[string]notifyEvents{
	"MESSAGENEW": eventMessageNew, "MESSAGEEXPUNGE": eventMessageExpunge, "FLAGCHANGE": eventFlagChange,
	"MAILBOXNAME": eventMailboxName, "SUBSCRIPTIONCHANGE": eventSubscriptionChange,
}

// notifyGroup is a filter of mailboxes with what is wanted of them.
type notifyGroup struct {
	source searchSource
	events notifyEvents
	fetch  *fetching // of new messages in the selected mailbox
}

// notification is what a session asked for, and what its client knows.
type notification struct {
	groups []notifyGroup
	watch  *storage.Watch
	known  map[int64]listed // by id
	names  map[int64]string
	subs   map[string]bool
}

// setNotify answers NOTIFY.
func (s *session) setNotify(c *call) error {
	c.SP()
	if c.TryWord("NONE") {
		if err := c.End(); err != nil {
			return err
		}
		s.stopNotify()
		return nil
	}
	if !c.TryWord("SET") {
		c.Fail("Expected SET or NONE")
	}
	statuses := false
	if c.Ahead(" STATUS") {
		c.SP()
		statuses = c.TryWord("STATUS")
	}
	groups, err := s.notifyGroups(c)
	if err != nil {
		return err
	}
	s.stopNotify()
	n := &notification{groups: groups, watch: s.server.cfg.Store.Watch(s.who.AccountID, 0)}
	s.notify = n
	names, err := s.names()
	if err != nil {
		s.stopNotify()
		return err
	}
	n.remember(names)
	if statuses {
		for _, name := range names.sorted {
			if box, exists := names.boxes[name]; exists && !s.isSelected(box.ID) && n.eventsOf(names, name)&eventsOfMessages != 0 {
				if err := s.statusResponse(name, &box.Mailbox, notifyItems); err != nil {
					return err
				}
			}
		}
	}
	return nil
}

// notifyItems are what the client is told of a mailbox in which something happened.
var notifyItems = []string{"MESSAGES", "UIDNEXT", "UIDVALIDITY", "UNSEEN", "HIGHESTMODSEQ"}

func (s *session) stopNotify() {
	if s.notify != nil {
		s.notify.watch.Close()
		s.notify = nil
	}
}

func (s *session) isSelected(mailbox int64) bool {
	return s.view != nil && s.view.mailbox.ID == mailbox
}

// notifyGroups reads event groups to the end of the command.
func (s *session) notifyGroups(c *call) ([]notifyGroup, error) {
	var groups []notifyGroup
	unknown := false
	for c.SP() {
		c.Expect('(')
		g := notifyGroup{source: s.readSource(c)}
		c.SP()
		if c.Peek() == '(' {
			c.List(func() { unknown = s.notifyEvent(c, &g) || unknown })
		} else if !c.TryWord("NONE") {
			c.Fail("Expected events or NONE")
		}
		c.Expect(')')
		const pair = eventMessageNew | eventMessageExpunge
		if g.events&eventsOfMessages != 0 && g.events&pair != pair {
			c.Fail("MessageNew and MessageExpunge go together, and FlagChange with them") // RFC 5465 section 5
		}
		if groups = append(groups, g); len(groups) > maxPatterns || c.AtEnd() || c.Err() != nil {
			break
		}
	}
	if err := c.End(); err != nil {
		return nil, err
	}
	if unknown {
		return nil, no("BADEVENT (MessageNew MessageExpunge FlagChange MailboxName SubscriptionChange)", "Some of the events are not supported")
	}
	return groups, nil
}

// notifyEvent reads one event, and reports whether it is not supported.
func (s *session) notifyEvent(c *call, g *notifyGroup) (unknown bool) {
	word := c.Word()
	event, known := notifyEventNames[word]
	g.events |= event
	if event == eventMessageNew && c.Ahead(" (") && strings.HasPrefix(g.source.kind, "SELECTED") {
		c.SP()
		g.fetch = &fetching{}
		c.List(func() { g.fetch.add(c, fetchItemOf(c)) })
		g.fetch.seen = false
	}
	return !known
}

// eventsOf returns what is wanted of a mailbox that is not selected: the first group that has it decides (RFC 5465 section 3.1).
func (n *notification) eventsOf(names *names, name string) notifyEvents {
	for _, g := range n.groups {
		if !strings.HasPrefix(g.source.kind, "SELECTED") && g.source.includes(names, name, false) {
			return g.events
		}
	}
	return 0
}

// selected returns the group of the selected mailbox, or nil.
func (n *notification) selected() *notifyGroup {
	if n == nil {
		return nil
	}
	i := slices.IndexFunc(n.groups, func(g notifyGroup) bool { return strings.HasPrefix(g.source.kind, "SELECTED") })
	if i < 0 {
		return nil
	}
	return &n.groups[i]
}

func (n *notification) remember(names *names) {
	n.known, n.names, n.subs = map[int64]listed{}, map[int64]string{}, names.subscribed
	for name, box := range names.boxes {
		n.known[box.ID], n.names[box.ID] = box, name
	}
}

// notifyChanges tells what happened since the client was told last.
func (s *session) notifyChanges() error {
	n := s.notify
	names, err := s.names()
	if err != nil {
		s.log.Warn("imap notify", "error", err)
		return nil // the next change is told together with this one
	}
	for _, name := range names.sorted {
		box, exists := names.boxes[name]
		if !exists {
			continue
		}
		events := n.eventsOf(names, name)
		old, known := n.known[box.ID]
		if events&eventMailboxName != 0 && (!known || n.names[box.ID] != name) {
			s.notifyName(names, name, n.names[box.ID])
		}
		if known && !s.isSelected(box.ID) && happened(events, &old.Mailbox, &box.Mailbox) {
			if err := s.statusResponse(name, &box.Mailbox, notifyItems); err != nil {
				return err
			}
		}
	}
	s.notifyGone(names)
	s.notifySubscriptions(names)
	n.remember(names)
	return nil
}

// happened reports whether one of the events is between two states of a mailbox.
func happened(events notifyEvents, old, now *storage.Mailbox) bool {
	arrived := now.UIDNext - old.UIDNext
	return events&eventMessageNew != 0 && arrived > 0 ||
		events&eventMessageExpunge != 0 && now.Messages < old.Messages+arrived ||
		events&eventFlagChange != 0 && now.HighestModSeq != old.HighestModSeq
}

// notifyName tells of a mailbox that is new, or that had another name (RFC 5465 section 5.4).
func (s *session) notifyName(names *names, name, old string) {
	s.w.Raw("* LIST (" + names.childrenAttribute(name) + ")")
	s.listName(name)
	if old != "" {
		s.w.Raw(` ("OLDNAME" (`)
		s.w.Mailbox(old)
		s.w.Raw("))")
	}
	s.w.CRLF()
}

func (s *session) notifyGone(now *names) {
	n := s.notify
	there := map[int64]bool{}
	for _, box := range now.boxes {
		there[box.ID] = true
	}
	var gone []string
	before := &names{boxes: map[string]listed{}, subscribed: n.subs}
	for id, name := range n.names {
		before.boxes[name] = n.known[id]
		if !there[id] {
			gone = append(gone, name)
		}
	}
	slices.Sort(gone)
	for _, name := range gone {
		if _, again := now.boxes[name]; !again && n.eventsOf(before, name)&eventMailboxName != 0 {
			s.w.Raw(`* LIST (\NonExistent)`)
			s.listName(name)
			s.w.CRLF()
		}
	}
}

// notifySubscriptions tells of names that are subscribed to, or no longer (RFC 5465 section 5.5).
func (s *session) notifySubscriptions(now *names) {
	n := s.notify
	for _, name := range now.sorted {
		if now.subscribed[name] == n.subs[name] || n.eventsOf(now, name)&eventSubscriptionChange == 0 {
			continue
		}
		s.w.Raw("* LIST (")
		if now.subscribed[name] {
			s.w.Raw(`\Subscribed`)
		}
		s.w.Byte(')')
		s.listName(name)
		s.w.CRLF()
	}
}
