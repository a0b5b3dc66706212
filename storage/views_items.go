package storage

import (
	"context"
	"errors"
	"io"
	"math"
	"strings"

	"zombiezen.com/go/sqlite"

	"trivet/storage/message"
)

// viewedMailbox is a mailbox that a viewer may look into.
type viewedMailbox struct {
	id, owner     int64
	name, account string
}

// mailboxes lists those whose messages a query is about.
func (v *viewer) mailboxes(ctx context.Context, q viewQuery) (found []viewedMailbox, err error) {
	id, oneID := q.number("mailbox_id")
	name, oneName := q.text("mailbox")
	address, oneAddress := q.text("account")
	if !oneID {
		id = 0
	}
	err = v.store.with(ctx, func(c *conn) error {
		return c.rows(`SELECT m.id, a.id, m.name, a.address FROM mailbox m JOIN account a ON a.id = m.account_id
			WHERE (?1 = 0 OR m.account_id = ?1) AND (?2 = 0 OR m.id = ?2) ORDER BY m.id`, func(st *sqlite.Stmt) bool {
			m := viewedMailbox{st.ColumnInt64(0), st.ColumnInt64(1), st.ColumnText(2), st.ColumnText(3)}
			if (!oneName || m.name == name) && (!oneAddress || m.account == address) {
				found = append(found, m)
			}
			return true
		}, v.owner(), id)
	})
	return found, readError("list mailboxes", err)
}

// viewedItem is a message in a mailbox, with what a view needs of it.
type viewedItem struct {
	Item
	in       viewedMailbox
	envelope *message.Envelope
	root     *message.Part
}

// items goes through the messages that a query is about; each becomes rows.
func (v *viewer) items(ctx context.Context, q viewQuery, fields Fields, rows func(*viewedItem) []viewRow) (pages, error) {
	boxes, err := v.mailboxes(ctx, q)
	if err != nil {
		return nil, err
	}
	first, last := q.between("uid", 1, math.MaxUint32)
	id, oneID := q.number("id")
	low, high := q.times("received")
	next := first
	return func(ctx context.Context) (page []viewRow, err error) {
		for len(boxes) > 0 && len(page) == 0 {
			if err := ctx.Err(); err != nil {
				return nil, err
			}
			var items []Item
			if next <= last {
				items, err = v.store.Items(ctx, boxes[0].id, []Range{{uint32(next), uint32(last)}}, fields, viewPage)
			}
			if err != nil {
				return nil, err
			}
			if len(items) == 0 {
				boxes, next = boxes[1:], first
				continue
			}
			next = int64(items[len(items)-1].UID) + 1
			for i := range items {
				it := &viewedItem{Item: items[i], in: boxes[0]}
				if oneID && it.MessageID != id || it.InternalDate.Before(low) || it.InternalDate.After(high) {
					continue
				}
				if err := it.parse(fields); err != nil {
					return nil, err
				}
				page = append(page, rows(it)...)
			}
		}
		return page, nil
	}, nil
}

// parse reads the envelope and the structure, if they were asked for.
func (it *viewedItem) parse(fields Fields) (err error) {
	if fields&FieldEnvelope != 0 {
		it.envelope, err = message.ParseEnvelope(it.Envelope)
	}
	if err == nil && fields&FieldStructure != 0 {
		it.root, err = message.ParseStructure(it.Structure)
	}
	return err
}

// itemColumns are those that every view of messages begins with.
var viewItemColumns = []viewColumn{
	{"account", kindText, 0.1, "address of the account that has it"},
	{"mailbox_id", kindInteger, 0.01, "mailbox.id"},
	{"mailbox", kindText, 0.02, "name of the mailbox"},
	{"uid", kindInteger, 0.0001, "number of the message in the mailbox, as in IMAP"},
	{"id", kindInteger, 0.000001, "content of the message: copies of it have the same"},
	{"received", kindTime, 0.001, "when it came"},
}

// head are the values of those columns.
func (it *viewedItem) head(more ...any) viewRow {
	row := viewRow{it.in.account, it.in.id, it.in.name, int64(it.UID), it.MessageID, shown(it.InternalDate)}
	return append(row, more...)
}

var viewMessage = viewTable{name: "message", text: "Messages, a row for each mailbox that shows one.",
	columns: append(viewItemColumns[:len(viewItemColumns):len(viewItemColumns)],
		viewColumn{"subject", kindText, 0, "decoded"},
		viewColumn{"from_name", kindText, 0, "of the first author, decoded"},
		viewColumn{"from_address", kindText, 0, "of the first author"},
		viewColumn{"recipients", kindText, 0, "addresses in To and Cc, separated by commas"},
		viewColumn{"sent", kindTime, 0, "what the message says in Date"},
		viewColumn{"saved", kindTime, 0, "when it came into this mailbox"},
		viewColumn{"size", kindInteger, 0, "octets"},
		viewColumn{"seen", kindBoolean, 0, "has been read"},
		viewColumn{"answered", kindBoolean, 0, "has been answered"},
		viewColumn{"flagged", kindBoolean, 0, "is marked as important"},
		viewColumn{"draft", kindBoolean, 0, "is a draft"},
		viewColumn{"deleted", kindBoolean, 0, "is marked as deleted"},
		viewColumn{"keywords", kindText, 0, "other flags, separated by spaces"},
		viewColumn{"message_id", kindText, 0, "the Message-ID field, with its angle brackets"},
		viewColumn{"in_reply_to", kindText, 0, "the In-Reply-To field"},
		viewColumn{"thread", kindText, 0, "message id of the first message of the conversation"},
		viewColumn{"attachments", kindInteger, 0, "how many there are"},
		viewColumn{"preview", kindText, 0, "the beginning of the text"},
		viewColumn{"verdict", kindText, 0, "what the checks found out, of the first Authentication-Results field"},
		viewColumn{"spam", kindReal, 0, "probability that it is unwanted, when it came; NULL: nobody looked"}),
	rows: func(v *viewer, ctx context.Context, q viewQuery) (pages, error) {
		fields := Fields(0)
		for field, columns := range map[Fields][]string{
			FieldEnvelope:  {"subject", "from_name", "from_address", "recipients", "message_id", "in_reply_to", "thread"},
			FieldStructure: {"attachments", "verdict"}, FieldThread: {"thread"}, FieldPreview: {"preview"}, FieldSentDate: {"sent"}} {
			if q.needs(columns...) {
				fields |= field
			}
		}
		return v.items(ctx, q, fields, func(it *viewedItem) []viewRow { return []viewRow{v.messageRow(it)} })
	}}

func (v *viewer) messageRow(it *viewedItem) viewRow {
	row := it.head(nil, nil, nil, nil, shown(it.SentDate), shown(it.SaveDate), it.Size,
		it.Flags&FlagSeen != 0, it.Flags&FlagAnswered != 0, it.Flags&FlagFlagged != 0, it.Flags&FlagDraft != 0, it.Flags&FlagDeleted != 0,
		it.Keywords, nil, nil, nil, nil, it.Preview, nil, func() (SQLValue, error) { return v.spam(it) })
	const subject, messageID, attachments, verdict = 6, 19, 22, 24
	if e := it.envelope; e != nil {
		if e.Has&message.HasSubject != 0 {
			row[subject] = strings.ToValidUTF8(message.DecodeHeader(e.Subject), "\ufffd")
		}
		if len(e.From) > 0 {
			row[subject+1], row[subject+2] = orNull(message.DecodeHeader(e.From[0].Name)), orNull(e.From[0].Addr())
		}
		row[subject+3] = orNull(addressTexts(e.To, e.Cc))
		row[messageID], row[messageID+1] = orNull(e.MessageID), orNull(e.InReplyTo)
		row[messageID+2] = orNull(it.thread())
	}
	if it.root != nil {
		count := int64(0)
		it.root.Walk(func(p *message.Part) bool {
			if p.Attachment() {
				count++
			}
			return true
		})
		row[attachments] = count
		row[verdict] = func() (SQLValue, error) { return v.verdict(it) }
	}
	return row
}

// thread is the message id of the first message of the conversation, as this
// one tells it.
func (it *viewedItem) thread() string {
	for _, ids := range []string{it.Thread.References, it.envelope.InReplyTo, it.envelope.MessageID} {
		if found := MessageIDs(ids); len(found) > 0 {
			return found[0]
		}
	}
	return ""
}

func addressTexts(lists ...[]message.Address) string {
	var all []string
	for _, list := range lists {
		for _, a := range list {
			if text := a.Addr(); text != "" {
				all = append(all, text)
			}
		}
	}
	return strings.Join(all, ", ")
}

func (v *viewer) spam(it *viewedItem) (SQLValue, error) {
	verdict, err := v.store.SpamVerdict(context.Background(), it.MessageID, it.in.owner)
	if KindOf(err) == KindNotFound && err != nil {
		return nil, nil
	}
	return verdict.Probability, err
}

var viewSpamReason = viewTable{name: "spam_reason", text: "Why messages were taken for unwanted, or not.",
	columns: append(viewItemColumns[:len(viewItemColumns):len(viewItemColumns)],
		viewColumn{"position", kindInteger, 0, "from 1, what counts most first"},
		viewColumn{"name", kindText, 0, "of the check"},
		viewColumn{"points", kindReal, 0, "log-odds; above 0 speaks for unwanted"},
		viewColumn{"text", kindText, 0, "the detail"}),
	rows: func(v *viewer, ctx context.Context, q viewQuery) (pages, error) {
		var failed error
		next, err := v.items(ctx, q, 0, func(it *viewedItem) (rows []viewRow) {
			verdict, err := v.store.SpamVerdict(ctx, it.MessageID, it.in.owner)
			if err != nil && KindOf(err) != KindNotFound {
				failed = err
			}
			for i, r := range verdict.Reasons {
				rows = append(rows, it.head(int64(i+1), r.Name, r.Points, orNull(r.Text)))
			}
			return rows
		})
		return untilFailed(next, &failed), err
	}}

func (v *viewer) verdict(it *viewedItem) (SQLValue, error) {
	header, err := v.header(it)
	if err != nil {
		return nil, err
	}
	value, _ := message.FindHeader(header, "Authentication-Results")
	return orNull(value), nil
}

// header reads the header of a message; one that is gone has none.
func (v *viewer) header(it *viewedItem) ([]byte, error) {
	body, err := v.store.OpenBody(context.Background(), it.MessageID)
	if KindOf(err) == KindNotFound && err != nil {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer body.Close()
	return headerOf(body, it.root)
}

func headerOf(body *Body, p *message.Part) ([]byte, error) {
	header := make([]byte, min(p.BodyOffset-p.HeaderOffset, MaxSearchHeader))
	if _, err := body.ReadAt(header, p.HeaderOffset); err != nil && !errors.Is(err, io.EOF) {
		return nil, err
	}
	return header, nil
}

var viewHeader = viewTable{name: "header", text: "Fields of the headers of messages.",
	columns: append(viewItemColumns[:len(viewItemColumns):len(viewItemColumns)],
		viewColumn{"position", kindInteger, 0, "from 1"},
		viewColumn{"name", kindText, 0, "as it is written"},
		viewColumn{"value", kindText, 0, "unfolded and decoded"}),
	rows: func(v *viewer, ctx context.Context, q viewQuery) (pages, error) {
		var failed error
		next, err := v.items(ctx, q, FieldStructure, func(it *viewedItem) (rows []viewRow) {
			header, err := v.header(it)
			if err != nil {
				failed = err
			}
			for f := range message.Fields(header) {
				rows = append(rows, it.head(int64(len(rows)+1), string(f.Name), orNull(message.DecodeHeader(f.Value()))))
			}
			return rows
		})
		return untilFailed(next, &failed), err
	}}

// untilFailed ends rows with an error that came while they were made.
func untilFailed(next pages, failed *error) pages {
	return func(ctx context.Context) ([]viewRow, error) {
		page, err := next(ctx)
		if *failed != nil {
			return nil, *failed
		}
		return page, err
	}
}

var viewRecipient = viewTable{name: "recipient", text: "Who is named in the headers of messages.",
	columns: append(viewItemColumns[:len(viewItemColumns):len(viewItemColumns)],
		viewColumn{"kind", kindText, 0, "from, sender, reply-to, to, cc or bcc"},
		viewColumn{"position", kindInteger, 0, "in that field, from 1"},
		viewColumn{"name", kindText, 0, "decoded"},
		viewColumn{"address", kindText, 0, "as it is written"},
		viewColumn{"domain", kindText, 0, "of the address, in lower case"}),
	rows: func(v *viewer, ctx context.Context, q viewQuery) (pages, error) {
		return v.items(ctx, q, FieldEnvelope, func(it *viewedItem) (rows []viewRow) {
			e := it.envelope
			for _, field := range []struct {
				kind string
				list []message.Address
			}{{"from", e.From}, {"sender", e.Sender}, {"reply-to", e.ReplyTo}, {"to", e.To}, {"cc", e.Cc}, {"bcc", e.Bcc}} {
				position := int64(0)
				for _, a := range field.list {
					if a.Kind != message.Mailbox {
						continue
					}
					position++
					rows = append(rows, it.head(field.kind, position, orNull(message.DecodeHeader(a.Name)), orNull(a.Addr()), orNull(strings.ToLower(a.Host))))
				}
			}
			return rows
		})
	}}

var viewAttachment = viewTable{name: "attachment", text: "Files in messages.",
	columns: append(viewItemColumns[:len(viewItemColumns):len(viewItemColumns)],
		viewColumn{"position", kindInteger, 0, "from 1"},
		viewColumn{"name", kindText, 0, "of the file"},
		viewColumn{"type", kindText, 0, "as application/pdf"},
		viewColumn{"size", kindInteger, 0, "octets as sent: in base64 a third more than the file has"},
		viewColumn{"disposition", kindText, 0, "attachment or inline"},
		viewColumn{"content_id", kindText, 0, "by which the text refers to it"}),
	rows: func(v *viewer, ctx context.Context, q viewQuery) (pages, error) {
		return v.items(ctx, q, FieldStructure, func(it *viewedItem) (rows []viewRow) {
			it.root.Walk(func(p *message.Part) bool {
				if p.Attachment() {
					rows = append(rows, it.head(int64(len(rows)+1), orNull(message.DecodeHeader(p.Filename())), p.Type+"/"+p.Subtype, p.BodySize, orNull(p.Disposition), orNull(p.ID)))
				}
				return true
			})
			return rows
		})
	}}

// MaxViewBody bounds the text of one message in the view body, in octets.
const MaxViewBody = 1 << 20

var viewBody = viewTable{name: "body", text: "The text of messages.",
	columns: append(viewItemColumns[:len(viewItemColumns):len(viewItemColumns)],
		viewColumn{"text", kindText, 0, "what somebody reads; of HTML without the tags; at most 1 MiB"}),
	rows: func(v *viewer, ctx context.Context, q viewQuery) (pages, error) {
		return v.items(ctx, q, FieldStructure, func(it *viewedItem) []viewRow {
			return []viewRow{it.head(func() (SQLValue, error) { return v.bodyText(it) })}
		})
	}}

// bodyText is the text of a message: its plain parts, or its HTML when there are none.
func (v *viewer) bodyText(it *viewedItem) (SQLValue, error) {
	body, err := v.store.OpenBody(context.Background(), it.MessageID)
	if KindOf(err) == KindNotFound && err != nil {
		return nil, nil // it went meanwhile
	}
	if err != nil {
		return nil, err
	}
	defer body.Close()
	for _, subtype := range []string{"plain", "html"} {
		var b strings.Builder
		it.root.Walk(func(p *message.Part) bool {
			if err == nil && p.Type == "text" && p.Subtype == subtype && !p.Attachment() {
				var text string
				if text, err = partText(body, p, MaxViewBody-b.Len()); err == nil {
					b.WriteString(text)
				}
			}
			return err == nil && b.Len() < MaxViewBody
		})
		if err != nil || b.Len() > 0 {
			return strings.ToValidUTF8(b.String(), "\ufffd"), err
		}
	}
	return "", nil
}

// partText decodes at most limit octets of a part of text.
func partText(body *Body, p *message.Part, limit int) (string, error) {
	in := message.DecodeText(p, io.NewSectionReader(body, p.BodyOffset, p.BodySize))
	if p.Subtype == "html" {
		return message.TextFromHTML(in, limit), nil
	}
	text, err := io.ReadAll(io.LimitReader(in, int64(limit)))
	return string(text), err
}

var viewMailbox = viewTable{name: "mailbox", text: "Mailboxes.",
	columns: []viewColumn{
		{"id", kindInteger, 0.001, "stays when it is renamed"},
		{"account", kindText, 0.1, "address of its owner"},
		{"name", kindText, 0, "levels are separated by /"},
		{"special_use", kindText, 0, `as \Sent, if it has one`},
		{"messages", kindInteger, 0, "in it"},
		{"unseen", kindInteger, 0, "not read yet"},
		{"bytes", kindInteger, 0, "octets of its messages"},
		{"uidvalidity", kindInteger, 0, "as in IMAP"},
		{"uidnext", kindInteger, 0, "the next uid"},
		{"highestmodseq", kindInteger, 0, "grows with each change"},
		{"created", kindTime, 0, ""},
	},
	rows: func(v *viewer, ctx context.Context, q viewQuery) (pages, error) {
		return v.byID(`SELECT m.id, a.address, m.name, m.special_use, m.messages, m.unseen, m.size, m.uidvalidity, m.uidnext, m.highestmodseq, m.created
			FROM mailbox m JOIN account a ON a.id = m.account_id WHERE m.id > ?1 AND (?3 = 0 OR m.account_id = ?3) ORDER BY m.id LIMIT ?2`, []any{v.owner()}, func(st *sqlite.Stmt) viewRow {
			return viewRow{st.ColumnInt64(0), st.ColumnText(1), st.ColumnText(2), orNull(st.ColumnText(3)), st.ColumnInt64(4), st.ColumnInt64(5), st.ColumnInt64(6),
				st.ColumnInt64(7), st.ColumnInt64(8), st.ColumnInt64(9), shownMillis(st.ColumnInt64(10))}
		}), nil
	}}

var viewAccount = viewTable{name: "account", text: "Accounts, and what they use of their quota.",
	columns: []viewColumn{
		{"id", kindInteger, 0.01, ""},
		{"address", kindText, 0, ""},
		{"name", kindText, 0, "of the person"},
		{"admin", kindBoolean, 0, "is an administrator"},
		{"disabled", kindBoolean, 0, "may not log in"},
		{"messages", kindInteger, 0, "in all mailboxes"},
		{"bytes", kindInteger, 0, "octets of them"},
		{"quota_messages", kindInteger, 0, "NULL: any number"},
		{"quota_bytes", kindInteger, 0, "NULL: any number"},
		{"created", kindTime, 0, ""},
	},
	rows: func(v *viewer, ctx context.Context, q viewQuery) (pages, error) {
		quota := func(n int64) any {
			if n == 0 {
				return nil
			}
			return n
		}
		return v.byID(`SELECT id, address, name, admin, disabled, used_messages, used_bytes, quota_messages, quota_bytes, created FROM account
			WHERE id > ?1 AND (?3 = 0 OR id = ?3) ORDER BY id LIMIT ?2`, []any{v.owner()}, func(st *sqlite.Stmt) viewRow {
			return viewRow{st.ColumnInt64(0), st.ColumnText(1), orNull(st.ColumnText(2)), st.ColumnBool(3), st.ColumnBool(4), st.ColumnInt64(5), st.ColumnInt64(6),
				quota(st.ColumnInt64(7)), quota(st.ColumnInt64(8)), shownMillis(st.ColumnInt64(9))}
		}), nil
	}}
