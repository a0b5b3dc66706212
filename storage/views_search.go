package storage

import (
	"context"
	"errors"
	"io"
	"slices"
	"strings"
	"unicode"

	"trivet/storage/message"
)

// maxViewedText is how much of the text of one part is looked at, in octets.
const maxViewedText = 16 << 20

var viewSearch = viewTable{name: "search", text: "search('words') finds the messages that have all of the words in their header or text, that of attached office documents included; \"several words\" between quotation marks are one. Capitals do not matter.",
	columns: append(viewItemColumns[:len(viewItemColumns):len(viewItemColumns)],
		viewColumn{"words", kindText, argument, "what is looked for"}),
	rows: func(v *viewer, ctx context.Context, q viewQuery) (pages, error) {
		text, ok := q.text("words")
		needles := searchWords(text)
		if !ok || len(needles) == 0 {
			return once(nil), nil
		}
		var narrowed SearchQuery
		for _, n := range needles {
			narrowed.All = append(narrowed.All, SearchQuery{Field: SearchText, Needle: n})
		}
		maybe := func(int64) bool { return true }
		if narrowed.Narrows() {
			ids, mark, err := v.store.index.Search(narrowed)
			if err != nil {
				return nil, readError("search the index", err)
			}
			maybe = func(id int64) bool {
				_, found := slices.BinarySearch(ids, id)
				return found || id > mark
			}
		}
		var failed error
		next, err := v.items(ctx, q, 0, func(it *viewedItem) []viewRow {
			if failed != nil || !maybe(it.MessageID) {
				return nil
			}
			found, err := v.has(ctx, it, needles)
			if failed = err; !found {
				return nil
			}
			return []viewRow{it.head(text)}
		})
		return untilFailed(next, &failed), err
	}}

// searchWords are the folded words of a search.
func searchWords(text string) (words []string) {
	for i, part := range strings.Split(text, `"`) {
		if i%2 == 1 {
			words = append(words, message.Fold(part))
			continue
		}
		for word := range strings.FieldsFuncSeq(message.Fold(part), unicode.IsSpace) {
			words = append(words, word)
		}
	}
	return slices.DeleteFunc(words, func(w string) bool { return w == "" })
}

// has reports whether a message has all of the needles.
func (v *viewer) has(ctx context.Context, it *viewedItem, needles []string) (bool, error) {
	if err := ctx.Err(); err != nil {
		return false, err
	}
	with, err := v.store.Items(ctx, it.in.id, []Range{{it.UID, it.UID}}, FieldStructure, 1)
	if err != nil || len(with) == 0 || with[0].MessageID != it.MessageID {
		return false, err
	}
	root, err := message.ParseStructure(with[0].Structure)
	if err != nil {
		return false, err
	}
	body, err := v.store.OpenBody(ctx, it.MessageID)
	if err != nil {
		if KindOf(err) == KindNotFound {
			err = nil // it went meanwhile
		}
		return false, err
	}
	defer body.Close()
	left := slices.Clone(needles)
	look := func(text string) {
		left = slices.DeleteFunc(left, func(n string) bool { return strings.Contains(text, n) })
	}
	if err = lookAtHeader(body, root, look); err != nil {
		return false, err
	}
	var documents message.Documents
	root.Walk(func(p *message.Part) bool {
		if len(left) > 0 && err == nil {
			err = lookAtPart(body, p, &documents, look)
		}
		return len(left) > 0 && err == nil
	})
	return len(left) == 0, err
}

func lookAtHeader(body *Body, p *message.Part, look func(folded string)) error {
	header, err := headerOf(body, p)
	for f := range message.Fields(header) {
		look(message.Fold(message.DecodeHeader(string(f.Name) + ": " + f.Value())))
	}
	return err
}

func lookAtPart(body *Body, p *message.Part, documents *message.Documents, look func(folded string)) error {
	switch {
	case p.Enclosed() && len(p.Children) > 0:
		return lookAtHeader(body, p.Children[0], look)
	case p.IsDocument():
		text, err := documents.Text(p, io.NewSectionReader(body, p.BodyOffset, p.BodySize))
		look(message.Fold(text))
		return err
	case p.Type != "text":
		return nil
	}
	text := func() io.Reader { return message.DecodeText(p, io.NewSectionReader(body, p.BodyOffset, p.BodySize)) }
	plain, err := io.ReadAll(io.LimitReader(text(), maxViewedText))
	if err != nil && !errors.Is(err, io.EOF) {
		return err
	}
	look(message.Fold(string(plain)))
	if p.Subtype == "html" { // as somebody reads it
		look(message.Fold(message.TextFromHTML(text(), MaxSearchHTML)))
	}
	return nil
}

var viewHelp = viewTable{name: "help", text: "What the views and their columns mean.",
	columns: []viewColumn{
		{"view", kindText, 0, ""},
		{"name", kindText, 0, "of the column; NULL: the view itself"},
		{"type", kindText, 0, ""},
		{"meaning", kindText, 0, ""},
	},
	rows: func(*viewer, context.Context, viewQuery) (pages, error) {
		var rows []viewRow
		for _, d := range MailViews() {
			rows = append(rows, viewRow{d.Name, nil, nil, d.Text})
			for _, c := range d.Columns {
				rows = append(rows, viewRow{d.Name, c.Name, c.Type, orNull(c.Text)})
			}
		}
		return once(rows), nil
	}}

// MailView says what one of the views over mail is.
type MailView struct {
	Name    string           `json:"name"`
	Text    string           `json:"text"`
	Columns []MailViewColumn `json:"columns"`
}

// MailViewColumn is a column of a view.
type MailViewColumn struct {
	Name string `json:"name"`
	Type string `json:"type"`
	Text string `json:"text"`
}

// MailViews lists the views of the database mail.
func MailViews() []MailView {
	var all []MailView
	for _, t := range viewsOfMail() {
		d := MailView{Name: t.name, Text: t.text}
		for _, c := range t.columns {
			if c.key != argument {
				d.Columns = append(d.Columns, MailViewColumn{c.name, strings.ToLower(c.kind), c.text})
			}
		}
		all = append(all, d)
	}
	return append(all, threadView)
}

// viewsOfMail are the views that are Go code.
func viewsOfMail() []*viewTable {
	return []*viewTable{&viewAccount, &viewMailbox, &viewMessage, &viewRecipient, &viewHeader, &viewAttachment, &viewBody, &viewSearch, &viewSpamReason,
		&viewDelivery, &viewEvent, &viewQueue, &viewLogin, &viewRefusal, &viewAudit}
}

// threadView is made of another in SQL.
var threadView = MailView{Name: "thread", Text: "Conversations.", Columns: []MailViewColumn{
	{"account", "text", ""},
	{"thread", "text", "message id of the first message"},
	{"subject", "text", "of the first message that is there"},
	{"messages", "integer", ""},
	{"unseen", "integer", "of them, not read yet"},
	{"people", "integer", "how many have written"},
	{"first", "timestamp", "when the first came"},
	{"last", "timestamp", "when the last came"},
	{"bytes", "integer", "octets of the messages"},
}}

// mailViewStatements make the views that are SQL on the others. A copy of a
// message in another mailbox counts once.
var mailViewStatements = []string{`CREATE VIEW thread AS SELECT account, thread, subject, count(*) AS messages, sum(NOT seen) AS unseen, count(DISTINCT from_address) AS people,
	min(received) AS first, max(received) AS last, sum(size) AS bytes
	FROM (SELECT account, thread, id, subject, max(seen) AS seen, from_address, min(received) AS received, size FROM message WHERE thread IS NOT NULL GROUP BY account, thread, id)
	GROUP BY account, thread`}
