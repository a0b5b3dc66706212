package mail

import (
	"context"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"trivet/storage"
	"trivet/web"
)

// did is what an action did, for the page after it.
type did struct {
	What string // a key of the catalogue
	N    int
	Undo string // what takes it back: messages where they are now
	To   int64  // and where they were
	Sent int64  // a message in the outbox that can be taken back
}

// actions are what can be done with messages, and where to they go.
var actions = map[string]storage.SpecialUse{"archive": storage.UseArchive, "trash": storage.UseTrash, "junk": storage.UseJunk,
	"notjunk": storage.UseNone, "move": storage.UseNone, "read": storage.UseNone, "unread": storage.UseNone, "flag": storage.UseNone, "unflag": storage.UseNone,
	"delete": storage.UseNone, "empty": storage.UseNone}

// maxUndo is how many messages can be put back by one click: their names are in the page's address.
const maxUndo = 60

// readDid is what the last action did, from a page's address.
func readDid(r *http.Request) *did {
	q := r.URL.Query()
	what := q.Get("did")
	if _, known := actions[what]; !known && what != "sent" && what != "recalled" && what != "saved" && what != "discarded" {
		return nil
	}
	d := &did{What: what}
	d.N, _ = strconv.Atoi(q.Get("n")) // 0 for what is no number
	d.To, _ = strconv.ParseInt(q.Get("to"), 10, 64)
	d.Sent, _ = strconv.ParseInt(q.Get("out"), 10, 64)
	if _, ok := parseSelection(q.Get("undo")); ok && d.To != 0 {
		d.Undo = q.Get("undo")
	}
	return d
}

// put says in a page's address what was done.
func (d did) put(back string) string {
	u, err := url.Parse(back)
	if err != nil {
		return "/mail"
	}
	q := u.Query()
	for _, name := range []string{"did", "n", "undo", "to", "out"} {
		q.Del(name)
	}
	q.Set("did", d.What)
	q.Set("n", strconv.Itoa(d.N))
	if d.Undo != "" {
		q.Set("undo", d.Undo)
		q.Set("to", strconv.FormatInt(d.To, 10))
	}
	if d.Sent != 0 {
		q.Set("out", strconv.FormatInt(d.Sent, 10))
	}
	u.RawQuery = q.Encode()
	return u.String()
}

// localBack is a path of the webmail to go back to.
func localBack(target string) string {
	if !strings.HasPrefix(target, "/mail") || strings.ContainsAny(target, "\\\r\n") {
		return "/mail"
	}
	return target
}

// act does something with the messages that are chosen.
func (m *Room) act(w http.ResponseWriter, r *http.Request, v *web.Visit) error {
	if err := r.ParseForm(); err != nil {
		return err
	}
	do, back := r.PostFormValue("do"), localBack(r.PostFormValue("back"))
	if id, found := strings.CutPrefix(do, "move:"); found {
		do = "move"
		r.PostForm.Set("to", id)
	}
	if _, known := actions[do]; !known {
		return &storage.Error{Op: "act", Kind: storage.KindInvalid}
	}
	chosen, err := m.chosen(r, v)
	if err != nil {
		return err
	}
	if len(chosen) == 0 && do != "empty" {
		http.Redirect(w, r, back, http.StatusSeeOther)
		return nil
	}
	d := did{What: do}
	switch do {
	case "read", "unread", "flag", "unflag":
		err = m.flag(r.Context(), do, chosen, &d)
	case "delete":
		err = m.remove(r.Context(), chosen, &d)
	case "empty":
		err = m.empty(r, v, &d)
	default:
		err = m.move(r, v, do, chosen, &d)
	}
	if err != nil {
		return err
	}
	http.Redirect(w, r, d.put(back), http.StatusSeeOther)
	return nil
}

// chosen are the messages that a form names, by mailbox, all of them the visitor's.
func (m *Room) chosen(r *http.Request, v *web.Visit) ([]selection, error) {
	invalid := &storage.Error{Op: "choose messages", Kind: storage.KindInvalid}
	all := map[int64][]uint32{}
	count := 0
	for _, text := range r.PostForm["sel"] {
		s, ok := parseSelection(text)
		if count += len(s.uids); !ok || count > MaxSelected {
			return nil, invalid
		}
		all[s.mailbox] = append(all[s.mailbox], s.uids...)
	}
	var out []selection
	for id, uids := range all {
		b, err := m.store.MailboxByID(r.Context(), id)
		if err != nil {
			return nil, err
		}
		if b.AccountID != v.Account.ID {
			return nil, web.ErrNotFound
		}
		slices.Sort(uids)
		out = append(out, selection{id, slices.Compact(uids)})
	}
	return out, nil
}

// inPieces calls do with ranges, as many at a time as a command takes.
func inPieces(uids []uint32, do func([]storage.Range) error) error {
	for piece := range slices.Chunk(ranges(uids), storage.MaxRanges) {
		if err := do(piece); err != nil {
			return err
		}
	}
	return nil
}

func (m *Room) flag(ctx context.Context, do string, chosen []selection, d *did) error {
	change := storage.FlagChange{Op: storage.FlagsAdd, Flags: storage.FlagSeen}
	if do == "unread" || do == "unflag" {
		change.Op = storage.FlagsRemove
	}
	if do == "flag" || do == "unflag" {
		change.Flags = storage.FlagFlagged
	}
	for _, s := range chosen {
		uids := s.uids
		if do == "flag" || do == "unread" {
			uids = uids[len(uids)-1:] // of a thread the newest message
		}
		if len(chosen) == 1 && len(s.uids) > 1 && do != "read" && do != "unflag" {
			uids = s.uids
		}
		if err := inPieces(uids, func(piece []storage.Range) error {
			change.UIDs = piece
			_, err := m.store.StoreFlags(ctx, s.mailbox, change)
			return err
		}); err != nil {
			return err
		}
		d.N += len(uids)
	}
	return nil
}

// remove deletes messages for ever.
func (m *Room) remove(ctx context.Context, chosen []selection, d *did) error {
	for _, s := range chosen {
		if err := inPieces(s.uids, func(piece []storage.Range) error {
			if _, err := m.store.StoreFlags(ctx, s.mailbox, storage.FlagChange{UIDs: piece, Op: storage.FlagsAdd, Flags: storage.FlagDeleted | storage.FlagSeen}); err != nil {
				return err
			}
			gone, err := m.store.Expunge(ctx, s.mailbox, piece)
			d.N += len(gone)
			return err
		}); err != nil {
			return err
		}
	}
	return nil
}

// empty deletes what is in the trash or among junk, for ever.
func (m *Room) empty(r *http.Request, v *web.Visit, d *did) error {
	id, err := strconv.ParseInt(r.PostFormValue("to"), 10, 64)
	if err != nil {
		return web.ErrNotFound
	}
	b, err := m.store.MailboxByID(r.Context(), id)
	if err != nil {
		return err
	}
	if b.AccountID != v.Account.ID || b.SpecialUse != storage.UseTrash && b.SpecialUse != storage.UseJunk {
		return web.ErrNotFound
	}
	view, err := m.store.Select(r.Context(), b.ID)
	if err != nil || len(view.UIDs) == 0 {
		return err
	}
	return m.remove(r.Context(), []selection{{b.ID, view.UIDs}}, d)
}

// move puts messages into another mailbox. Into and out of that for junk, it teaches.
func (m *Room) move(r *http.Request, v *web.Visit, do string, chosen []selection, d *did) error {
	dest, err := m.destination(r, v, do)
	if err != nil {
		return err
	}
	for _, s := range chosen {
		if s.mailbox == dest {
			continue
		}
		var now []uint32
		if err := inPieces(s.uids, func(piece []storage.Range) error {
			moved, err := m.store.Move(r.Context(), s.mailbox, piece, dest)
			now = append(now, moved.Dest...)
			return err
		}); err != nil {
			return err
		}
		d.N += len(now)
		if len(now) > 0 && len(now) <= maxUndo && len(chosen) == 1 {
			d.Undo, d.To = selection{dest, now}.String(), s.mailbox
		}
	}
	return nil
}

// destination is where an action moves messages to. A mailbox for a use that is missing is made.
func (m *Room) destination(r *http.Request, v *web.Visit, do string) (int64, error) {
	boxes, err := m.boxes(r.Context(), v.Account.ID)
	if err != nil {
		return 0, err
	}
	f := &frame{Boxes: boxes}
	switch do {
	case "notjunk":
		return f.Inbox().ID, nil
	case "move":
		id, err := strconv.ParseInt(r.PostFormValue("to"), 10, 64)
		if err != nil || f.Box(id).ID == 0 {
			return 0, web.ErrNotFound
		}
		return id, nil
	}
	return m.forUse(r.Context(), f, v.Account.ID, actions[do])
}

// forUse is the mailbox for a use, which is made if there is none.
func (m *Room) forUse(ctx context.Context, f *frame, account int64, use storage.SpecialUse) (int64, error) {
	if b := f.With(use); b.ID != 0 {
		return b.ID, nil
	}
	b, err := m.store.CreateMailbox(ctx, account, strings.TrimPrefix(string(use), `\`), use)
	return b.ID, err
}
