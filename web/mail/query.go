package mail

import (
	"strings"
	"time"

	"trivet/storage"
	"trivet/storage/message"
)

// query is what is searched for: all of it must fit. Texts are folded.
type query struct {
	text, from, to, subject []string
	attachment              bool
	before, after           time.Time // by when a message came; zero: any
	unread, read            bool
	flagged, answered       bool
	in                      string // a mailbox; empty: all but junk and trash
}

// maxWords bounds the words of a query.
const maxWords = 20

// parseQuery reads what people type: words, "phrases in quotes", and operators (from:, to:, subject:, has:attachment, before:, after:,
// is:unread, in:). What is no operator is a word.
func parseQuery(text string, zone *time.Location) query {
	var q query
	for _, field := range splitQuery(text) {
		name, value, found := strings.Cut(field, ":")
		if !found || value == "" || !q.operator(strings.ToLower(name), strings.Trim(value, `"`), zone) {
			if word := message.Fold(strings.Trim(field, `"`)); word != "" {
				q.text = append(q.text, word)
			}
		}
	}
	return q
}

// splitQuery separates at spaces that are not in quotes.
func splitQuery(text string) []string {
	var out []string
	var b strings.Builder
	quoted := false
	flush := func() {
		if b.Len() > 0 && len(out) < maxWords {
			out = append(out, b.String())
		}
		b.Reset()
	}
	for _, r := range text {
		switch {
		case r == '"' || r == '“' || r == '”' || r == '„':
			quoted = !quoted
			b.WriteByte('"')
		case r == ' ' && !quoted:
			flush()
		default:
			b.WriteRune(r)
		}
	}
	flush()
	return out
}

// operator takes an operator, or says that it is none.
func (q *query) operator(name, value string, zone *time.Location) bool {
	lists := map[string]*[]string{"from": &q.from, "von": &q.from, "to": &q.to, "an": &q.to, "cc": &q.to, "subject": &q.subject, "betreff": &q.subject}
	if list := lists[name]; list != nil {
		*list = append(*list, message.Fold(value))
		return true
	}
	switch name {
	case "in":
		q.in = strings.ToLower(value)
		return true
	case "before", "vor", "after", "since", "nach":
		day, ok := parseDay(value, zone)
		if !ok {
			return false
		}
		if name == "before" || name == "vor" {
			q.before = day
		} else {
			q.after = day
		}
		return true
	case "has", "hat", "is", "ist":
		return q.state(strings.ToLower(value))
	}
	return false
}

func (q *query) state(value string) bool {
	switch value {
	case "attachment", "attachments", "anhang":
		q.attachment = true
	case "unread", "unseen", "ungelesen":
		q.unread = true
	case "read", "seen", "gelesen":
		q.read = true
	case "flagged", "starred", "markiert":
		q.flagged = true
	case "answered", "replied", "beantwortet":
		q.answered = true
	default:
		return false
	}
	return true
}

// parseDay reads a day, a month or a year: its beginning.
func parseDay(value string, zone *time.Location) (time.Time, bool) {
	for _, layout := range []string{"2006-01-02", "2006/01/02", "2.1.2006", "2006-01", "2006"} {
		if day, err := time.ParseInLocation(layout, value, zone); err == nil {
			return day, true
		}
	}
	return time.Time{}, false
}

// empty reports whether nothing is searched for.
func (q query) empty() bool {
	return len(q.text)+len(q.from)+len(q.to)+len(q.subject) == 0 && !q.attachment && q.before.IsZero() && q.after.IsZero() &&
		!q.unread && !q.read && !q.flagged && !q.answered && q.in == ""
}

// index is the query for the search index, which knows texts only.
func (q query) index() storage.SearchQuery {
	var all []storage.SearchQuery
	for _, needle := range q.text {
		all = append(all, storage.SearchQuery{Any: []storage.SearchQuery{{Field: storage.SearchText, Needle: needle}, {Field: storage.SearchSubject, Needle: needle},
			{Field: storage.SearchAddresses, Needle: needle}}})
	}
	for _, needle := range append(append([]string{}, q.from...), q.to...) {
		all = append(all, storage.SearchQuery{Field: storage.SearchAddresses, Needle: needle})
	}
	for _, needle := range q.subject {
		all = append(all, storage.SearchQuery{Field: storage.SearchSubject, Needle: needle})
	}
	return storage.SearchQuery{All: all}
}

// mailboxes are those that are searched.
func (q query) mailboxes(all []box, name func(box) string) []box {
	var out []box
	for _, b := range all {
		switch {
		case q.in == "" && (b.Use == storage.UseJunk || b.Use == storage.UseTrash):
		case q.in == "" || q.in == "all" || q.in == "anywhere":
			out = append(out, b)
		case strings.EqualFold(b.Name, q.in) || strings.EqualFold(name(b), q.in) || b.Use != "" && strings.EqualFold(string(b.Use), `\`+q.in) ||
			b.Inbox && q.in == "inbox" || b.Use == storage.UseJunk && q.in == "spam":
			out = append(out, b)
		}
	}
	return out
}

// header reports whether what storage knows of a message fits; undecided: its text has to be read for the words that are left.
func (q query) header(it *storage.Item, e *message.Envelope) (fits bool, left []string) {
	flags := it.Flags
	switch {
	case q.unread && flags&storage.FlagSeen != 0, q.read && flags&storage.FlagSeen == 0, q.flagged && flags&storage.FlagFlagged == 0,
		q.answered && flags&storage.FlagAnswered == 0, !q.before.IsZero() && !it.InternalDate.Before(q.before), !q.after.IsZero() && it.InternalDate.Before(q.after):
		return false, nil
	}
	text := func(list ...[]message.Address) string {
		var b strings.Builder
		for _, l := range list {
			b.WriteString(message.Fold(message.DecodeHeader(storage.SearchAddressText(l))))
		}
		return b.String()
	}
	from, to, subject := text(e.From), text(e.To, e.Cc, e.Bcc), message.Fold(message.DecodeHeader(e.Subject))
	if !containsAll(from, q.from) || !containsAll(to, q.to) || !containsAll(subject, q.subject) || q.attachment && !hasAttachment(it.Structure) {
		return false, nil
	}
	for _, word := range q.text {
		if !strings.Contains(from, word) && !strings.Contains(to, word) && !strings.Contains(subject, word) && !strings.Contains(message.Fold(it.Preview), word) {
			left = append(left, word)
		}
	}
	return true, left
}

func containsAll(text string, needles []string) bool {
	for _, n := range needles {
		if !strings.Contains(text, n) {
			return false
		}
	}
	return true
}
