package imap

import (
	"slices"
	"strings"

	"trivet/storage"
)

// names are the mailboxes and subscriptions of an account at one moment.
type names struct {
	boxes      map[string]listed
	subscribed map[string]bool
	superior   map[string]bool // names that have others below them
	sorted     []string        // existing, subscribed and superior names
}

func (s *session) names() (*names, error) {
	ctx, cancel := s.storage()
	defer cancel()
	boxes, err := s.server.cfg.Store.Mailboxes(ctx, s.who.AccountID)
	if err != nil {
		return nil, err
	}
	subscriptions, err := s.server.cfg.Store.Subscriptions(ctx, s.who.AccountID)
	if err != nil {
		return nil, err
	}
	n := &names{boxes: map[string]listed{}, subscribed: map[string]bool{}, superior: map[string]bool{}}
	for _, b := range boxes {
		n.boxes[b.Name] = listed{Mailbox: b, Rights: storage.RightsAll}
		n.add(b.Name)
	}
	shared, err := s.server.cfg.Store.SharedMailboxes(ctx, s.who.AccountID, s.who.Address)
	if err != nil {
		return nil, err
	}
	for _, m := range shared {
		name := fullName(m.Owner, m.Name)
		n.boxes[name] = listed{m.Mailbox, m.Owner, m.Rights}
		n.add(name)
	}
	for _, name := range subscriptions {
		n.subscribed[name] = true
		n.add(name)
	}
	slices.Sort(n.sorted)
	n.sorted = slices.Compact(n.sorted)
	return n, nil
}

// add takes in a name. A superior name that neither exists nor is subscribed can still be an answer:
// of LSUB, or with RECURSIVEMATCH.
func (n *names) add(name string) {
	n.sorted = append(n.sorted, name)
	for i := strings.LastIndex(name, storage.Delimiter); i > 0; i = strings.LastIndex(name[:i], storage.Delimiter) {
		if n.superior[name[:i]] {
			return
		}
		n.superior[name[:i]] = true
		n.sorted = append(n.sorted, name[:i])
	}
}

// childrenAttribute is the attribute of RFC 3348.
func (n *names) childrenAttribute(name string) string {
	if n.superior[name] {
		return `\HasChildren`
	}
	return `\HasNoChildren`
}

// matchAny reports whether a name matches one of the patterns. INBOX matches in any case
// (RFC 9051 section 5.1).
func matchAny(patterns []string, name string) bool {
	return slices.ContainsFunc(patterns, func(p string) bool {
		return match(p, name) || name == storage.Inbox && match(strings.ToUpper(p), name)
	})
}

// match reports whether a name matches a pattern in which "*" stands for anything and "%" for anything
// but the delimiter. It takes time proportional to the product of the lengths, whatever they hold.
func match(pattern, name string) bool {
	// reach[i]: the pattern so far matches name[:i].
	reach := make([]bool, len(name)+1)
	reach[0] = true
	for p := range len(pattern) {
		c := pattern[p]
		if c != '*' && c != '%' {
			for i := len(name); i > 0; i-- {
				reach[i] = reach[i-1] && name[i-1] == c
			}
			reach[0] = false
			continue
		}
		for i := 1; i <= len(name); i++ {
			reach[i] = reach[i] || reach[i-1] && (c == '*' || name[i-1] != storage.Delimiter[0])
		}
	}
	return reach[len(name)]
}
