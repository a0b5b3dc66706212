package mail

import (
	"context"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"trivet/storage"
	"trivet/storage/message"
	"trivet/web"
)

// listing is a page of a mailbox, or of what was found.
type listing struct {
	Box     box
	Search  bool
	Partial bool // not all that there is was looked at
	Rows    []row
	Total   int
	Page    int    // from 1
	Pages   int    // at least 1
	Path    string // of the first page
	Back    string // of this page
	Open    uint32 // UID of the message that is shown beside it
}

// row is a thread.
type row struct {
	Mailbox    int64
	UID        uint32 // of its newest message
	Selection  string // names its messages in forms
	Path       string
	Who        string
	Subject    string
	Preview    string
	Date       time.Time
	Count      int
	Unseen     bool
	Flagged    bool
	Answered   bool
	Draft      bool
	Attachment bool
	Where      box // of what was found
	Open       bool
}

// Name is what a screen reader says of the row's link.
func (r row) Name() string { return strings.TrimSpace(r.Who + ": " + r.Subject) }

// maxPage bounds how far a list is turned.
const maxPage = 100_000

// listed makes a page of a mailbox.
func (m *Room) listed(r *http.Request, b storage.Mailbox, open uint32) (*listing, error) {
	page, err := strconv.Atoi(r.URL.Query().Get("page"))
	if err != nil || page < 1 || page > maxPage {
		page = 1
	}
	view, err := m.store.Select(r.Context(), b.ID)
	if err != nil {
		return nil, err
	}
	shown, _ := boxOf(b)
	l := &listing{Box: shown, Page: page, Path: boxPath(b.ID), Open: open}
	var groups [][]uint32
	if err := m.threads.with(r.Context(), view, func(k *boxThreads) {
		groups, l.Total = k.page(view.UIDs, (page-1)*PageSize, PageSize)
	}); err != nil {
		return nil, err
	}
	l.Pages = max(1, (l.Total+PageSize-1)/PageSize)
	l.Back = l.pagePath(page)
	l.Rows, err = m.rows(r.Context(), b.ID, groups, shown.Use == storage.UseSent || shown.Use == storage.UseDrafts)
	for i := range l.Rows {
		row := &l.Rows[i]
		row.Open = open != 0 && slices.Contains(groups[i], open)
		row.Path = l.pathOf(row)
	}
	return l, err
}

// pathOf is where a row leads: to its message, or to what is being written.
func (l *listing) pathOf(r *row) string {
	if l.Box.Use == storage.UseDrafts {
		return "/mail/compose?draft=" + messageName(r.Mailbox, r.UID)
	}
	path := l.Path + "/" + strconv.FormatUint(uint64(r.UID), 10)
	if l.Page > 1 {
		path += "?page=" + strconv.Itoa(l.Page)
	}
	return path
}

func (l *listing) pagePath(page int) string {
	if page <= 1 {
		return l.Path
	}
	separator := "?"
	if strings.Contains(l.Path, "?") {
		separator = "&"
	}
	return l.Path + separator + "page=" + strconv.Itoa(page)
}

// Previous and Next are the pages beside this one; empty: there is none.
func (l *listing) Previous() string {
	if l.Page <= 1 {
		return ""
	}
	return l.pagePath(l.Page - 1)
}

// Next is the page with older messages.
func (l *listing) Next() string {
	if l.Page >= l.Pages {
		return ""
	}
	return l.pagePath(l.Page + 1)
}

// First and Last number the rows of the page.
func (l *listing) First() int { return (l.Page-1)*PageSize + min(1, len(l.Rows)) }

// Last is the number of the last row.
func (l *listing) Last() int { return (l.Page-1)*PageSize + len(l.Rows) }

// Junk, Trash, Drafts and Archive report what kind of mailbox is shown.
func (l *listing) Junk() bool { return l.Box.Use == storage.UseJunk }

// Trash reports whether the trash is shown.
func (l *listing) Trash() bool { return l.Box.Use == storage.UseTrash }

// Drafts reports whether drafts are shown.
func (l *listing) Drafts() bool { return l.Box.Use == storage.UseDrafts }

// Archive reports whether the archive is shown.
func (l *listing) Archive() bool { return l.Box.Use == storage.UseArchive }

// rowFields are what a row is made of.
const rowFields = storage.FieldEnvelope | storage.FieldPreview | storage.FieldStructure

// rows reads what a list shows of threads, each with its UIDs descending. toOthers: who they are for, not from.
func (m *Room) rows(ctx context.Context, mailbox int64, groups [][]uint32, toOthers bool) ([]row, error) {
	var wanted []uint32
	for _, g := range groups {
		wanted = append(wanted, g[:min(len(g), maxThreadOfList)]...)
	}
	slices.Sort(wanted)
	items := make(map[uint32]*storage.Item, len(wanted))
	for rest := ranges(wanted); len(rest) > 0; {
		got, err := m.store.Items(ctx, mailbox, rest, rowFields, len(wanted))
		if err != nil {
			return nil, err
		}
		for i := range got {
			items[got[i].UID] = &got[i]
		}
		rest = after(rest, got)
	}
	rows := make([]row, 0, len(groups))
	for _, g := range groups {
		r := row{Mailbox: mailbox, Count: len(g), UID: g[0], Selection: selection{mailbox, g}.String()}
		r.fill(g, items, toOthers)
		rows = append(rows, r)
	}
	return rows, nil
}

// after is what is left of ranges when some items came of it: none came, or less than there are.
func after(rest []storage.Range, got []storage.Item) []storage.Range {
	if len(got) == 0 {
		return nil
	}
	last := got[len(got)-1].UID
	for len(rest) > 0 && rest[0].Last <= last {
		rest = rest[1:]
	}
	if len(rest) > 0 && rest[0].First <= last {
		rest = slices.Clone(rest)
		rest[0].First = last + 1
	}
	return rest
}

// fill puts a thread into its row.
func (r *row) fill(uids []uint32, items map[uint32]*storage.Item, toOthers bool) {
	var names []string
	for _, uid := range uids {
		it := items[uid]
		if it == nil {
			continue
		}
		r.Unseen = r.Unseen || it.Flags&storage.FlagSeen == 0
		r.Flagged = r.Flagged || it.Flags&storage.FlagFlagged != 0
		e, err := message.ParseEnvelope(it.Envelope)
		if err != nil {
			continue
		}
		who := e.From
		if toOthers {
			who = append(append(slices.Clone(e.To), e.Cc...), e.Bcc...)
		}
		for _, name := range peopleOf(who) {
			if !slices.Contains(names, name) {
				names = append(names, name)
			}
		}
		if r.Date.IsZero() {
			r.Date, r.Preview = it.InternalDate, it.Preview
			r.Subject = strings.TrimSpace(message.DecodeHeader(e.Subject))
			r.Answered, r.Draft = it.Flags&storage.FlagAnswered != 0, it.Flags&storage.FlagDraft != 0
		}
		r.Attachment = r.Attachment || hasAttachment(it.Structure)
	}
	const most = 3
	if len(names) > most {
		names = append(names[:most:most], "…")
	}
	if len(names) > 1 {
		for i, n := range names {
			names[i] = shortName(n)
		}
	}
	r.Who = strings.Join(names, ", ")
}

// peopleOf are addresses as people know them.
func peopleOf(list []message.Address) []string {
	var names []string
	for _, a := range list {
		if a.Kind != message.Mailbox {
			continue
		}
		names = append(names, personOf(a))
	}
	return names
}

// personOf is the name of an address, or the address.
func personOf(a message.Address) string {
	if name := strings.TrimSpace(message.DecodeHeader(a.Name)); name != "" {
		return name
	}
	return a.Addr()
}

// shortName is the first of somebody's names, where there are several people.
func shortName(name string) string {
	if strings.Contains(name, "@") {
		return name
	}
	first, _, _ := strings.Cut(name, " ")
	return strings.TrimSuffix(first, ",")
}

// hasAttachment reports whether a message has a file.
func hasAttachment(structure []byte) bool {
	root, err := message.ParseStructure(structure)
	if err != nil {
		return false
	}
	return !root.Walk(func(p *message.Part) bool { return !isFile(p) })
}

// isFile reports whether a part is one to be kept: pictures within the text are none.
func isFile(p *message.Part) bool {
	if p.Multipart() {
		return false
	}
	if p.Enclosed() {
		return true
	}
	return p.Attachment() && (p.Disposition == "attachment" || p.ID == "")
}

// list shows a mailbox.
func (m *Room) list(w http.ResponseWriter, r *http.Request, v *web.Visit) error {
	b, err := m.mailbox(r, v)
	if err != nil {
		return err
	}
	f, err := m.newFrame(r, v)
	if err != nil {
		return err
	}
	f.Current, f.Pane = b.ID, "list"
	if f.List, err = m.listed(r, b, 0); err != nil {
		return err
	}
	return m.render(w, r, v, f, f.List.Box.Label, http.StatusOK)
}

// selection names messages of a mailbox in a form: 7.3-4-9.
type selection struct {
	mailbox int64
	uids    []uint32
}

func (s selection) String() string {
	b := strconv.AppendInt(nil, s.mailbox, 10)
	separator := byte('.')
	for _, uid := range s.uids {
		b = append(b, separator)
		b = strconv.AppendUint(b, uint64(uid), 10)
		separator = '-'
	}
	return string(b)
}

// messageName names one message.
func messageName(mailbox int64, uid uint32) string { return selection{mailbox, []uint32{uid}}.String() }

// parseSelection reads what String wrote.
func parseSelection(text string) (selection, bool) {
	box, rest, ok := strings.Cut(text, ".")
	id, err := strconv.ParseInt(box, 10, 64)
	if !ok || err != nil {
		return selection{}, false
	}
	s := selection{mailbox: id}
	for field := range strings.SplitSeq(rest, "-") {
		uid, err := strconv.ParseUint(field, 10, 32)
		if err != nil || uid == 0 || len(s.uids) >= MaxSelected {
			return selection{}, false
		}
		s.uids = append(s.uids, uint32(uid))
	}
	return s, true
}
