package mail

import (
	"cmp"
	"context"
	"net/http"
	"slices"
	"strconv"
	"strings"

	"trivet/storage"
	"trivet/web"
)

// frame is what every page of the webmail shows, and one of the things beside it.
type frame struct {
	Boxes   []box
	Current int64  // mailbox
	Pane    string // list or item: which one a small window shows
	Query   string // of the search
	State   string // of all mailboxes: another one when something changed
	Did     *did   // what was done last; nil: nothing
	Problem string // why it was not

	List     *listing
	Thread   *conversation
	Compose  *composing
	Settings *settings
	Source   *source
}

// box is a mailbox as the side bar shows it.
type box struct {
	ID       int64
	Name     string // as it is called, in full
	Label    string // a key of the catalogue, or the last level of its name
	Sign     string
	Use      storage.SpecialUse
	Depth    int
	Unseen   uint32
	Messages uint32
	Inbox    bool
	modseq   uint64
	uidNext  uint32
}

// Path is where the mailbox is.
func (b box) Path() string { return boxPath(b.ID) }

// Indent is the level of a mailbox of one's own, for the style sheet.
func (b box) Indent() int { return min(b.Depth, 4) }

// Own reports whether it is none of those that every account has.
func (b box) Own() bool { return !b.Inbox && b.Use == storage.UseNone }

// Count is what the side bar says: what is unread, or of drafts and the outbox how many there are.
func (b box) Count() uint32 {
	switch b.Use {
	case storage.UseDrafts:
		return b.Messages
	case storage.UseSent, storage.UseTrash, storage.UseArchive:
		return 0
	}
	return b.Unseen
}

func boxPath(id int64) string { return "/mail/b/" + strconv.FormatInt(id, 10) }

// uses are the mailboxes that every account has, in the order in which they are shown.
var uses = [...]struct {
	use         storage.SpecialUse
	label, sign string
}{
	{storage.UseDrafts, "mail.drafts", "draft"}, {storage.UseSent, "mail.sent", "send"}, {storage.UseArchive, "mail.archive", "archive"},
	{storage.UseJunk, "mail.junk", "junk"}, {storage.UseTrash, "mail.trash", "trash"},
}

func boxOf(b storage.Mailbox) (box, int) {
	out := box{ID: b.ID, Name: b.Name, Use: b.SpecialUse, Unseen: b.Unseen, Messages: b.Messages, Inbox: b.Name == storage.Inbox, Sign: "folder", modseq: b.HighestModSeq, uidNext: b.UIDNext}
	if out.Inbox {
		out.Label, out.Sign = "mail.inbox", "inbox"
		return out, 0
	}
	for i, u := range uses {
		if b.SpecialUse == u.use {
			out.Label, out.Sign = u.label, u.sign
			return out, i + 1
		}
	}
	out.Use = storage.UseNone
	out.Depth = strings.Count(b.Name, storage.Delimiter)
	out.Label = b.Name[strings.LastIndex(b.Name, storage.Delimiter)+1:]
	return out, len(uses) + 1
}

// boxes are the mailboxes of an account: INBOX, those for a use, then those of its own by name.
func (m *Room) boxes(ctx context.Context, account int64) ([]box, error) {
	list, err := m.store.Mailboxes(ctx, account)
	if err != nil {
		return nil, err
	}
	type placed struct {
		box
		place int
	}
	all := make([]placed, len(list))
	for i, b := range list {
		all[i].box, all[i].place = boxOf(b)
	}
	slices.SortStableFunc(all, func(a, b placed) int {
		return cmp.Or(cmp.Compare(a.place, b.place), strings.Compare(strings.ToLower(a.Name), strings.ToLower(b.Name)))
	})
	out := make([]box, len(all))
	for i, p := range all {
		out[i] = p.box
	}
	return out, nil
}

// Box is the mailbox with an id, or one without.
func (f *frame) Box(id int64) box {
	for _, b := range f.Boxes {
		if b.ID == id {
			return b
		}
	}
	return box{}
}

// With is the first mailbox for a use.
func (f *frame) With(use storage.SpecialUse) box {
	for _, b := range f.Boxes {
		if b.Use == use {
			return b
		}
	}
	return box{}
}

// Inbox is the one that every account has.
func (f *frame) Inbox() box {
	for _, b := range f.Boxes {
		if b.Inbox {
			return b
		}
	}
	return box{}
}

// newFrame reads what is common to all pages.
func (m *Room) newFrame(r *http.Request, v *web.Visit) (*frame, error) {
	boxes, err := m.boxes(r.Context(), v.Account.ID)
	if err != nil {
		return nil, err
	}
	return &frame{Boxes: boxes, Pane: "item", Did: readDid(r), State: stateOf(boxes)}, nil
}

// stateOf tells the states of mailboxes apart: their modification sequences only grow, and so do ids.
func stateOf(boxes []box) string {
	sum := uint64(0)
	for _, b := range boxes {
		sum += b.modseq + uint64(b.ID)
	}
	return strconv.FormatUint(sum, 10)
}

func (m *Room) render(w http.ResponseWriter, r *http.Request, v *web.Visit, f *frame, title string, status int) error {
	return m.shell.Render(w, r, v, web.View{Title: title, Page: m.page, Data: f, Status: status, App: true,
		Styles: []string{"mail.css"}, Modules: []string{"mail.js"}})
}

// mailbox is the one in a request's path, if it is the visitor's.
func (m *Room) mailbox(r *http.Request, v *web.Visit) (storage.Mailbox, error) {
	id, err := strconv.ParseInt(r.PathValue("mailbox"), 10, 64)
	if err != nil {
		return storage.Mailbox{}, web.ErrNotFound
	}
	b, err := m.store.MailboxByID(r.Context(), id)
	if err == nil && b.AccountID != v.Account.ID {
		err = web.ErrNotFound
	}
	return b, err
}

// item is the message in a request's path.
func (m *Room) item(r *http.Request, v *web.Visit, fields storage.Fields) (storage.Mailbox, storage.Item, error) {
	b, err := m.mailbox(r, v)
	if err != nil {
		return b, storage.Item{}, err
	}
	uid, err := strconv.ParseUint(r.PathValue("uid"), 10, 32)
	if err != nil {
		return b, storage.Item{}, web.ErrNotFound
	}
	it, err := m.one(r.Context(), b.ID, uint32(uid), fields)
	return b, it, err
}

// one reads one message of a mailbox.
func (m *Room) one(ctx context.Context, mailbox int64, uid uint32, fields storage.Fields) (storage.Item, error) {
	items, err := m.store.Items(ctx, mailbox, []storage.Range{{First: uid, Last: uid}}, fields, 1)
	if err != nil {
		return storage.Item{}, err
	}
	if len(items) == 0 {
		return storage.Item{}, &storage.Error{Op: "read message", Kind: storage.KindNotFound, Hint: "it was moved or deleted"}
	}
	return items[0], nil
}
