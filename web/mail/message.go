package mail

import (
	"context"
	"html/template"
	"io"
	"net/http"
	"path"
	"slices"
	"strconv"
	"strings"
	"time"

	"trivet/storage"
	"trivet/storage/message"
	"trivet/web"
)

// conversation is what the reading pane shows: a thread.
type conversation struct {
	Subject   string
	Selection string // all its messages in this mailbox
	Messages  []letter
	Junk      bool
	Trash     bool
	Flagged   bool
	Back      string
	Newer     string // the thread above in the list; empty: none
	Older     string
	UID       uint32
}

// letter is a message that is read.
type letter struct {
	Mailbox int64
	UID     uint32
	Name    string // names it in forms and addresses
	Path    string // below which its parts are
	From    person
	To, Cc  []person
	Bcc     []person
	Date    time.Time
	Preview string
	Open    bool // it is shown whole; others by their first line
	Unseen  bool
	Flagged bool
	Draft   bool
	Sent    bool // it was found in the mailbox of what was sent
	Blocks  []block
	Files   []file
	Blocked int  // pictures elsewhere that were not fetched
	Remote  bool // they are fetched now
	Why     *why
}

// person is an address with its name.
type person struct{ Name, Address string }

// Shown is the name, or the address.
func (p person) Shown() string {
	if p.Name != "" {
		return p.Name
	}
	return p.Address
}

// Initial is one letter for somebody.
func (p person) Initial() string {
	for _, r := range p.Shown() {
		if r > ' ' && !strings.ContainsRune(`"'<(`, r) {
			return strings.ToUpper(string(r))
		}
	}
	return "?"
}

// Hue is one of twelve colours, the same for an address always.
func (p person) Hue() int {
	sum := 0
	for _, c := range strings.ToLower(p.Address) {
		sum = sum*31 + int(c)
	}
	return (sum%12 + 12) % 12
}

// block is a piece of what a message says.
type block struct {
	Text   template.HTML // of a text; empty: it is HTML in a frame
	Frame  string        // where that is
	Height int           // about how high, in pixels
	Cut    bool          // there is more than is shown
	Source string        // where the rest is
}

// file is a part that can be kept.
type file struct {
	Name, Type string
	Size       int64 // octets, about: of what it is when decoded
	Path       string
	Picture    bool
}

// messageFields are what a message is shown by.
const messageFields = storage.FieldEnvelope | storage.FieldStructure | storage.FieldPreview | storage.FieldThread

// read shows a message with its thread, beside its mailbox or what was found.
func (m *Room) read(w http.ResponseWriter, r *http.Request, v *web.Visit) error {
	b, it, err := m.item(r, v, messageFields)
	if err != nil {
		return err
	}
	m.markSeen(r.Context(), b.ID, it)
	f, err := m.newFrame(r, v)
	if err != nil {
		return err
	}
	if strings.HasPrefix(r.URL.Path, "/mail/search/") {
		f.Query = r.URL.Query().Get("q")
		f.List, err = m.found(r, v, f)
		f.List.Open = it.UID
		for i := range f.List.Rows {
			row := &f.List.Rows[i]
			row.Open = row.Mailbox == b.ID && row.UID == it.UID
		}
	} else {
		f.Current = b.ID
		f.List, err = m.listed(r, b, it.UID)
	}
	if err != nil {
		return err
	}
	if f.Thread, err = m.conversation(r.Context(), f, b, it, r.URL.Query().Get("images") == messageName(b.ID, it.UID)); err != nil {
		return err
	}
	for i := range f.Thread.Messages {
		if l := &f.Thread.Messages[i]; l.UID == it.UID && l.Mailbox == b.ID {
			if l.Why, err = m.why(r.Context(), it.MessageID, v); err != nil {
				return err
			}
		}
	}
	return m.render(w, r, v, f, f.Thread.Subject, http.StatusOK)
}

// markSeen notes that a message is read. That fails without a majority, and then it is read all the same.
func (m *Room) markSeen(ctx context.Context, mailbox int64, it storage.Item) {
	if it.Flags&storage.FlagSeen != 0 {
		return
	}
	_, err := m.store.StoreFlags(ctx, mailbox, storage.FlagChange{UIDs: []storage.Range{{First: it.UID, Last: it.UID}}, Op: storage.FlagsAdd, Flags: storage.FlagSeen})
	if err != nil {
		m.log.Debug("a message is not marked as read", "error", err)
	}
}

// conversation makes the thread of a message.
func (m *Room) conversation(ctx context.Context, f *frame, b storage.Mailbox, it storage.Item, remote bool) (*conversation, error) {
	view, err := m.store.Select(ctx, b.ID)
	if err != nil {
		return nil, err
	}
	var uids []uint32
	if err := m.threads.with(ctx, view, func(k *boxThreads) { uids = k.group(view.UIDs, it.UID) }); err != nil {
		return nil, err
	}
	shown, _ := boxOf(b)
	c := &conversation{Junk: shown.Use == storage.UseJunk, Trash: shown.Use == storage.UseTrash, Back: f.List.Back, UID: it.UID}
	if shown.Use == storage.UseDrafts || f.List.Search {
		uids = []uint32{it.UID}
	}
	c.Selection = selection{b.ID, uids}.String()
	items, err := m.thread(ctx, b.ID, uids)
	if err != nil {
		return nil, err
	}
	for i := range items {
		if err := m.addLetter(ctx, c, b.ID, &items[i], items[i].UID == it.UID, remote); err != nil {
			return nil, err
		}
	}
	if sent := f.With(storage.UseSent); sent.ID != 0 && sent.ID != b.ID && !f.List.Search {
		if err := m.addAnswers(ctx, c, sent.ID, items); err != nil {
			return nil, err
		}
	}
	e, err := message.ParseEnvelope(it.Envelope)
	if err == nil {
		c.Subject = strings.TrimSpace(message.DecodeHeader(e.Subject))
	}
	c.neighbours(f.List)
	return c, nil
}

// neighbours are the threads above and below in the list.
func (c *conversation) neighbours(l *listing) {
	for i := range l.Rows {
		if !l.Rows[i].Open {
			continue
		}
		if i > 0 {
			c.Newer = l.Rows[i-1].Path
		}
		if i+1 < len(l.Rows) {
			c.Older = l.Rows[i+1].Path
		}
	}
}

// thread reads the newest messages of a thread.
func (m *Room) thread(ctx context.Context, mailbox int64, uids []uint32) ([]storage.Item, error) {
	uids = uids[max(0, len(uids)-MaxThread):]
	var all []storage.Item
	for rest := ranges(uids); len(rest) > 0; {
		got, err := m.store.Items(ctx, mailbox, rest, messageFields, len(uids))
		if err != nil {
			return nil, err
		}
		all = append(all, got...)
		rest = after(rest, got)
	}
	return all, nil
}

// addAnswers adds what the account sent in a thread.
func (m *Room) addAnswers(ctx context.Context, c *conversation, sent int64, items []storage.Item) error {
	view, err := m.store.Select(ctx, sent)
	if err != nil || len(view.UIDs) == 0 {
		return err
	}
	var ids []uint64
	for i := range items {
		ids = append(ids, m.threads.idsOf(&items[i])...)
	}
	var uids []uint32
	if err := m.threads.with(ctx, view, func(k *boxThreads) { uids = k.naming(view.UIDs, ids) }); err != nil {
		return err
	}
	answers, err := m.thread(ctx, sent, uids)
	if err != nil {
		return err
	}
	for i := range answers {
		if err := m.addLetter(ctx, c, sent, &answers[i], false, false); err != nil {
			return err
		}
		c.Messages[len(c.Messages)-1].Sent = true
	}
	slices.SortStableFunc(c.Messages, func(a, b letter) int { return a.Date.Compare(b.Date) })
	return nil
}

// addLetter adds a message; only those that are shown whole are read.
func (m *Room) addLetter(ctx context.Context, c *conversation, mailbox int64, it *storage.Item, open, remote bool) error {
	l := letter{Mailbox: mailbox, UID: it.UID, Name: messageName(mailbox, it.UID), Date: it.InternalDate, Preview: it.Preview,
		Open: open || it.Flags&storage.FlagSeen == 0, Unseen: it.Flags&storage.FlagSeen == 0, Flagged: it.Flags&storage.FlagFlagged != 0,
		Draft: it.Flags&storage.FlagDraft != 0, Remote: remote && open}
	l.Path = "/mail/m/" + strconv.FormatInt(mailbox, 10) + "/" + strconv.FormatUint(uint64(it.UID), 10)
	if e, err := message.ParseEnvelope(it.Envelope); err == nil {
		if from := persons(e.From); len(from) > 0 {
			l.From = from[0]
		}
		l.To, l.Cc, l.Bcc = persons(e.To), persons(e.Cc), persons(e.Bcc)
	}
	c.Flagged = c.Flagged || l.Flagged
	var err error
	if l.Open {
		err = m.readLetter(ctx, &l, it)
	}
	c.Messages = append(c.Messages, l)
	return err
}

func persons(list []message.Address) []person {
	var out []person
	for _, a := range list {
		if a.Kind == message.Mailbox {
			out = append(out, person{strings.TrimSpace(message.DecodeHeader(a.Name)), a.Addr()})
		}
	}
	return out
}

// readLetter reads what a message says, and which files it has.
func (m *Room) readLetter(ctx context.Context, l *letter, it *storage.Item) error {
	root, err := message.ParseStructure(it.Structure)
	if err != nil {
		return &storage.Error{Op: "read message", Err: err}
	}
	body, err := m.store.OpenBody(ctx, it.MessageID)
	if err != nil {
		return err
	}
	defer body.Close()
	p := plan(root)
	left := int64(MaxText)
	for _, t := range p.texts {
		if t.part.Subtype == "html" {
			if err := m.addFrame(ctx, l, it, root, body, t); err != nil {
				return err
			}
			continue
		}
		text, err := readText(body, t.part, left)
		if err != nil {
			return err
		}
		cut := int64(len(text)) >= left
		left -= min(left, int64(len(text)))
		l.Blocks = append(l.Blocks, block{Text: textHTML(text), Cut: cut, Source: l.Path + "/part/" + t.at})
		if left <= 0 {
			break
		}
	}
	for _, f := range p.files {
		l.Files = append(l.Files, file{Name: nameOf(f.part, f.at), Type: f.part.Type + "/" + f.part.Subtype, Size: decodedSize(f.part),
			Path: l.Path + "/part/" + f.at, Picture: isPicture(f.part)})
	}
	return nil
}

// addFrame adds a piece of HTML, which is shown at an address of its own.
func (m *Room) addFrame(ctx context.Context, l *letter, it *storage.Item, root *message.Part, body *storage.Body, t numbered) error {
	page, err := m.cleaned(ctx, it.MessageID, root, body, t, l.Remote)
	if err != nil {
		return err
	}
	b := block{Frame: l.Path + "/html/" + t.at, Height: page.height, Cut: page.cut, Source: l.Path + "/part/" + t.at}
	if l.Remote {
		b.Frame += "?images=1"
	} else {
		l.Blocked += page.remote
	}
	l.Blocks = append(l.Blocks, b)
	return nil
}

// readText is a text part as UTF-8, at most limit octets of it.
func readText(body *storage.Body, p *message.Part, limit int64) (string, error) {
	var b strings.Builder
	_, err := io.Copy(&b, io.LimitReader(message.DecodeText(p, io.NewSectionReader(body, p.BodyOffset, p.BodySize)), limit))
	return strings.ToValidUTF8(b.String(), "\ufffd"), err
}

// numbered is a part with its number (RFC 9051 section 6.4.5).
type numbered struct {
	part *message.Part
	at   string
}

// reading is how a message is shown: what it says, and its files.
type reading struct {
	texts, files []numbered
	inline       []numbered // pictures that HTML may show by their Content-ID
}

// plan finds out what of a message is shown.
func plan(root *message.Part) reading {
	var r reading
	if root.Multipart() {
		r.walk(root, "")
	} else {
		r.leaf(numbered{root, "1"})
	}
	return r
}

func (r *reading) walk(p *message.Part, at string) {
	if p.Subtype == "alternative" {
		r.alternative(p, at)
		return
	}
	for i, child := range p.Children {
		r.part(child, numberOf(at, i))
	}
}

func (r *reading) part(p *message.Part, at string) {
	if p.Multipart() {
		r.walk(p, at)
		return
	}
	r.leaf(numbered{p, at})
}

func numberOf(at string, i int) string {
	if at != "" {
		at += "."
	}
	return at + strconv.Itoa(i+1)
}

// alternative takes the last of several forms that can be shown (RFC 2046 section 5.1.4).
func (r *reading) alternative(p *message.Part, at string) {
	for i := len(p.Children) - 1; i >= 0; i-- {
		var form reading
		form.part(p.Children[i], numberOf(at, i))
		if len(form.texts) > 0 || i == 0 {
			r.texts = append(r.texts, form.texts...)
			r.files, r.inline = append(r.files, form.files...), append(r.inline, form.inline...)
			break
		}
	}
	for i, child := range p.Children { // what stands beside, like an invitation, is to be had as a file
		if !child.Multipart() && child.Type != "text" && !r.has(child) {
			r.files = append(r.files, numbered{child, numberOf(at, i)})
		}
	}
}

func (r *reading) has(p *message.Part) bool {
	same := func(n numbered) bool { return n.part == p }
	return slices.ContainsFunc(r.files, same) || slices.ContainsFunc(r.inline, same)
}

func (r *reading) leaf(n numbered) {
	p := n.part
	switch {
	case p.Type == "text" && (p.Subtype == "plain" || p.Subtype == "html") && p.Disposition != "attachment" && !p.Enclosed():
		r.texts = append(r.texts, n)
	case p.ID != "" && isPicture(p) && p.Disposition != "attachment":
		r.inline = append(r.inline, n)
	default:
		r.files = append(r.files, n)
	}
}

// pictures are the types that may stand within HTML. SVG is none of them: it is a document.
var pictures = []string{"png", "jpeg", "jpg", "gif", "webp"}

func isPicture(p *message.Part) bool {
	return p.Type == "image" && slices.Contains(pictures, p.Subtype)
}

// decodedSize is about how large a part is without its encoding.
func decodedSize(p *message.Part) int64 {
	if p.Encoding == "base64" {
		return p.BodySize * 3 / 4 * 76 / 78
	}
	return p.BodySize
}

// nameOf is what a part is called as a file.
func nameOf(p *message.Part, at string) string {
	if name := cleanName(p.Filename()); name != "" {
		return name
	}
	switch {
	case p.Enclosed():
		return cleanName(message.DecodeHeader(p.Envelope.Subject)) + ".eml"
	case p.Type == "text" && p.Subtype == "calendar":
		return "invitation.ics"
	}
	return "part-" + at + "." + p.Subtype
}

// The longest name of a file, and how much of it may be its extension, in octets.
const (
	maxFileName  = 150
	maxExtension = 10
)

// cleanName is a name without folders and without what some system takes amiss.
func cleanName(name string) string {
	name = name[strings.LastIndexAny(name, `/\`)+1:]
	name = strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f || strings.ContainsRune(`"<>|:*?`, r) || r >= 0x202a && r <= 0x202e || r >= 0x2066 && r <= 0x2069 || r == 0x200e || r == 0x200f {
			return -1
		}
		return r
	}, strings.ToValidUTF8(name, ""))
	if len(name) > maxFileName {
		extension := path.Ext(name)
		if len(extension) > maxExtension {
			extension = ""
		}
		name = strings.ToValidUTF8(name[:maxFileName-len(extension)], "") + extension
	}
	return strings.Trim(name, " .")
}
