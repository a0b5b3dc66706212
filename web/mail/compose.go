package mail

import (
	"context"
	"errors"
	"io"
	"mime/multipart"
	"net/http"
	"net/mail"
	"net/url"
	"slices"
	"strings"

	"trivet/storage"
	"trivet/storage/message"
	"trivet/web"
)

// composing is the form for writing.
type composing struct {
	Draft      string // names the stored draft; empty: there is none yet
	From       string
	Identities []string
	To         string
	Cc, Bcc    string
	Subject    string
	Text       string
	InReplyTo  string
	References string
	Source     string // what it answers or forwards: its name, a colon, and how
	Files      []attached
	Book       []string
	Problem    string
	Refused    bool // it was sent and came back: Problem says why
	Back       string
}

// More reports whether the fields that are seldom used are to be seen.
func (c *composing) More() bool { return c.Cc != "" || c.Bcc != "" }

// compose shows the form: empty, of a draft, or as an answer.
func (m *Room) compose(w http.ResponseWriter, r *http.Request, v *web.Visit) error {
	f, err := m.newFrame(r, v)
	if err != nil {
		return err
	}
	c := &composing{Back: f.Inbox().Path()}
	q := r.URL.Query()
	prefs, err := m.store.Preferences(r.Context(), v.Account.ID)
	if err != nil {
		return err
	}
	signature := ""
	if prefs[prefSignature] != "" {
		signature = "\n\n-- \n" + prefs[prefSignature]
	}
	switch {
	case q.Get("draft") != "":
		err = m.openDraft(r, v, f, c, q.Get("draft"))
	case q.Get("reply") != "":
		err = m.answer(r, v, c, q.Get("reply"), signature)
	case q.Get("forward") != "":
		err = m.forward(r, v, f, c, q.Get("forward"), signature)
	default:
		c.To, c.Subject, c.Text = q.Get("to"), q.Get("subject"), signature
		readMailto(c, q.Get("mailto"))
	}
	if err != nil {
		return err
	}
	return m.showForm(w, r, v, f, c, http.StatusOK)
}

// readMailto reads what a link to an address says (RFC 6068).
func readMailto(c *composing, target string) {
	to, query, _ := strings.Cut(target, "?")
	if unescaped, err := url.PathUnescape(to); err == nil && unescaped != "" {
		c.To = unescaped
	}
	fields, err := url.ParseQuery(query)
	if err != nil {
		return
	}
	for name, into := range map[string]*string{"cc": &c.Cc, "subject": &c.Subject} {
		if value := fields.Get(name); value != "" {
			*into = oneLine(value)
		}
	}
	if body := fields.Get("body"); body != "" {
		c.Text = body + c.Text
	}
}

func (m *Room) showForm(w http.ResponseWriter, r *http.Request, v *web.Visit, f *frame, c *composing, status int) error {
	var err error
	if c.Identities, err = m.identities(r.Context(), v.Account); err != nil {
		return err
	}
	if c.From == "" {
		c.From = c.Identities[0]
	}
	if !slices.Contains(c.Identities, c.From) {
		c.Identities = append(c.Identities, c.From)
	}
	if c.Book, err = m.books.of(r.Context(), v.Account.ID, f.With(storage.UseSent).ID); err != nil {
		return err
	}
	f.Compose, f.Problem = c, c.Problem
	title := "mail.compose"
	if c.Subject != "" {
		title = c.Subject
	}
	return m.render(w, r, v, f, title, status)
}

// openDraft goes on with a draft.
func (m *Room) openDraft(r *http.Request, v *web.Visit, f *frame, c *composing, name string) error {
	s, err := m.ownMessage(r.Context(), v, name)
	if err != nil {
		return err
	}
	d, body, err := m.readDraft(r.Context(), s.mailbox, s.uids[0])
	if err != nil {
		return err
	}
	defer body.Close()
	c.Draft, c.From, c.To, c.Cc, c.Bcc, c.Subject = name, d.From.Address, d.To, d.Cc, d.Bcc, d.Subject
	c.Text, c.InReplyTo, c.References, c.Files, c.Source = d.Text, d.InReplyTo, d.References, d.Files, r.URL.Query().Get("source")
	waiting, err := m.store.Outbox(r.Context(), v.Account.ID)
	if err != nil {
		return err
	}
	for _, o := range waiting {
		if o.Mailbox != s.mailbox || o.UID != s.uids[0] {
			continue
		}
		if o.SourceUID != 0 {
			c.Source = messageName(o.SourceMailbox, o.SourceUID) + ":" + strings.TrimPrefix(o.SourceFlag, `\`)
		}
		c.Problem, c.Refused = o.Problem, o.Problem != ""
		// Who opens it goes on writing: it is not sent behind their back.
		if err := m.store.RecallOutbox(r.Context(), v.Account.ID, o.ID); err != nil && storage.KindOf(err) != storage.KindNotFound {
			return err
		}
	}
	f.Current = s.mailbox
	return nil
}

// ownMessage is the one message that a name means, if it is the visitor's.
func (m *Room) ownMessage(ctx context.Context, v *web.Visit, name string) (selection, error) {
	s, ok := parseSelection(name)
	if !ok || len(s.uids) != 1 {
		return s, web.ErrNotFound
	}
	b, err := m.store.MailboxByID(ctx, s.mailbox)
	if err == nil && b.AccountID != v.Account.ID {
		err = web.ErrNotFound
	}
	return s, err
}

// origin is a message that is answered or forwarded.
type origin struct {
	selection
	item  storage.Item
	env   *message.Envelope
	text  string
	files []attached
	body  *storage.Body
}

func (m *Room) origin(ctx context.Context, v *web.Visit, name string) (*origin, error) {
	s, err := m.ownMessage(ctx, v, name)
	if err != nil {
		return nil, err
	}
	o := &origin{selection: s}
	if o.item, err = m.one(ctx, s.mailbox, s.uids[0], messageFields); err != nil {
		return nil, err
	}
	root, err := message.ParseStructure(o.item.Structure)
	if err == nil {
		o.env, err = message.ParseEnvelope(o.item.Envelope)
	}
	if err != nil {
		return nil, &storage.Error{Op: "read message", Err: err}
	}
	if o.body, err = m.store.OpenBody(ctx, o.item.MessageID); err != nil {
		return nil, err
	}
	o.text, o.files, err = contents(o.body, root)
	return o, err
}

// answer begins a reply (RFC 5322 section 3.6.4), with all=1 to everybody.
func (m *Room) answer(r *http.Request, v *web.Visit, c *composing, name, signature string) error {
	o, err := m.origin(r.Context(), v, name)
	if err != nil {
		return err
	}
	defer o.body.Close()
	own, err := m.identities(r.Context(), v.Account)
	if err != nil {
		return err
	}
	to := persons(o.env.ReplyTo)
	if len(to) == 0 || isOneOf(own, to) && len(to) == 1 {
		to = persons(o.env.ReplyTo)
		if isOneOf(own, persons(o.env.From)) { // one's own: to whom it went
			to = persons(o.env.To)
		}
	}
	c.To = typedList(to)
	if r.URL.Query().Get("all") == "1" {
		var others []person
		for _, p := range append(persons(o.env.To), persons(o.env.Cc)...) {
			if !isOneOf(own, []person{p}) && !slices.ContainsFunc(to, func(q person) bool { return strings.EqualFold(p.Address, q.Address) }) {
				others = append(others, p)
			}
		}
		c.Cc = typedList(others)
	}
	c.From = addressed(own, o.env)
	c.Subject = prefixed("Re: ", message.DecodeHeader(o.env.Subject), "re:", "aw:")
	c.InReplyTo = o.env.MessageID
	c.References = oneLine(o.item.Thread.References + " " + o.env.MessageID)
	c.Source = name + ":Answered"
	c.Back = boxPath(o.mailbox) + "/" + strings.SplitN(name, ".", 2)[1]
	who := ""
	if from := persons(o.env.From); len(from) > 0 {
		who = from[0].Shown()
	}
	c.Text = signature + "\n\n" + v.T("mail.wrote", who, v.When(o.item.InternalDate, m.now().AddDate(1, 0, 0))) + "\n" + quote(o.text)
	return nil
}

// forward begins a message that has another in it, with its files.
func (m *Room) forward(r *http.Request, v *web.Visit, f *frame, c *composing, name, signature string) error {
	o, err := m.origin(r.Context(), v, name)
	if err != nil {
		return err
	}
	defer o.body.Close()
	subject := message.DecodeHeader(o.env.Subject)
	c.Subject = prefixed("Fwd: ", subject, "fwd:", "fw:", "wg:")
	c.References = oneLine(o.item.Thread.References + " " + o.env.MessageID)
	c.Source = name + ":$Forwarded"
	c.Back = boxPath(o.mailbox) + "/" + strings.SplitN(name, ".", 2)[1]
	c.Text = signature + "\n\n" + v.T("mail.forwarded-head", typedList(persons(o.env.From)), o.item.InternalDate.In(v.Zone).Format("2006-01-02 15:04"), subject, typed(o.env.To)) + "\n\n" + o.text
	if len(o.files) == 0 {
		return nil
	}
	own, err := m.identities(r.Context(), v.Account)
	if err != nil {
		return err
	}
	drafts, err := m.forUse(r.Context(), f, v.Account.ID, storage.UseDrafts)
	if err != nil {
		return err
	}
	d := &draft{From: mail.Address{Name: v.Account.Name, Address: own[0]}, Subject: c.Subject, Text: c.Text, References: c.References,
		ID: newMessageID(own[0]), Date: m.now(), Files: o.files}
	uid, err := m.save(r.Context(), drafts, d, 0)
	if err != nil {
		return err
	}
	c.Draft, c.Files = messageName(drafts, uid), o.files
	for i := range c.Files {
		c.Files[i].At = numberOf("", i+1)
	}
	return nil
}

func isOneOf(own []string, people []person) bool {
	return slices.ContainsFunc(people, func(p person) bool {
		return slices.ContainsFunc(own, func(a string) bool { return strings.EqualFold(a, p.Address) })
	})
}

func typedList(people []person) string {
	out := make([]string, len(people))
	for i, p := range people {
		out[i] = p.typed()
	}
	return strings.Join(out, ", ")
}

// addressed is the identity that a message was sent to.
func addressed(own []string, e *message.Envelope) string {
	for _, p := range append(persons(e.To), persons(e.Cc)...) {
		for _, a := range own {
			if strings.EqualFold(a, p.Address) {
				return a
			}
		}
	}
	return own[0]
}

// prefixed is a subject with what says that it is an answer, once.
func prefixed(prefix, subject string, known ...string) string {
	for _, k := range known {
		if strings.HasPrefix(strings.ToLower(strings.TrimSpace(subject)), k) {
			return subject
		}
	}
	return prefix + subject
}

// quote is a text as an answer quotes it.
func quote(text string) string {
	var b strings.Builder
	for line := range strings.SplitSeq(strings.TrimRight(text, "\n"), "\n") {
		if strings.HasPrefix(line, ">") || line == "" {
			b.WriteString(">" + line + "\n")
		} else {
			b.WriteString("> " + line + "\n")
		}
	}
	return b.String()
}

// identities are the addresses of an account that it may write as: its own first, then its aliases.
func (m *Room) identities(ctx context.Context, a storage.Account) ([]string, error) {
	own := []string{a.Address}
	aliases, err := m.store.Aliases(ctx)
	if err != nil {
		return nil, err
	}
	for _, alias := range aliases {
		if !slices.Contains(alias.Targets, a.Address) {
			continue
		}
		to, err := m.store.Resolve(ctx, alias.Address)
		if err != nil {
			return nil, err
		}
		if slices.Contains(to.Owners, a.ID) {
			own = append(own, alias.Address)
		}
	}
	return own, nil
}

// formMemory is how much of a form is kept in memory, in octets; files beyond it go to disk.
const formMemory = 4 << 20

// write answers the form: it saves, attaches, sends or throws away.
func (m *Room) write(w http.ResponseWriter, r *http.Request, v *web.Visit) error {
	if err := r.ParseMultipartForm(formMemory); err != nil && !errors.Is(err, http.ErrNotMultipart) {
		return err
	}
	if r.MultipartForm != nil {
		defer r.MultipartForm.RemoveAll() // what is left in the folder for temporary files goes with the process
	}
	f, err := m.newFrame(r, v)
	if err != nil {
		return err
	}
	drafts, err := m.forUse(r.Context(), f, v.Account.ID, storage.UseDrafts)
	if err != nil {
		return err
	}
	d, old, body, err := m.fromForm(r, v, drafts)
	if body != nil {
		defer body.Close()
	}
	if err != nil {
		return err
	}
	do := r.PostFormValue("do")
	if remove, found := strings.CutPrefix(do, "remove:"); found {
		d.Files = slices.DeleteFunc(d.Files, func(a attached) bool { return a.At == remove })
	}
	switch do {
	case "discard":
		if old != 0 {
			err = m.remove(r.Context(), []selection{{drafts, []uint32{old}}}, &did{})
		}
		if err == nil {
			http.Redirect(w, r, did{What: "discarded"}.put(f.Inbox().Path()), http.StatusSeeOther)
		}
		return err
	case "send":
		return m.send(w, r, v, f, d, drafts, old)
	}
	uid, err := m.save(r.Context(), drafts, d, old)
	if err != nil {
		return err
	}
	http.Redirect(w, r, draftPath(messageName(drafts, uid), r.PostFormValue("source")), http.StatusSeeOther)
	return nil
}

func draftPath(name, source string) string {
	path := "/mail/compose?draft=" + name
	if source != "" {
		path += "&source=" + url.QueryEscape(source)
	}
	return path
}

// fromForm reads what was typed, with the files of the stored draft and the new ones.
func (m *Room) fromForm(r *http.Request, v *web.Visit, drafts int64) (d *draft, old uint32, body *storage.Body, err error) {
	d = &draft{From: mail.Address{Name: v.Account.Name, Address: strings.TrimSpace(r.PostFormValue("from"))}, To: r.PostFormValue("to"), Cc: r.PostFormValue("cc"),
		Bcc: r.PostFormValue("bcc"), Subject: oneLine(r.PostFormValue("subject")), Text: r.PostFormValue("text"),
		InReplyTo: oneLine(r.PostFormValue("inreplyto")), References: oneLine(r.PostFormValue("references")), Date: m.now()}
	if d.From.Address == "" {
		d.From.Address = v.Account.Address
	}
	for _, field := range []string{d.To, d.Cc, d.Bcc, d.Subject, d.References, d.InReplyTo, d.From.Address} {
		if len(field) > maxHeader {
			return d, 0, nil, &storage.Error{Op: "write", Kind: storage.KindTooLarge, Hint: "a field is too long"}
		}
	}
	d.ID = newMessageID(d.From.Address)
	if name := r.PostFormValue("draft"); name != "" {
		s, err := m.ownMessage(r.Context(), v, name)
		if err != nil || s.mailbox != drafts {
			return d, 0, nil, web.ErrNotFound
		}
		stored, b, err := m.readDraft(r.Context(), s.mailbox, s.uids[0])
		switch {
		case err == nil:
			old, body, d.Files = s.uids[0], b, stored.Files
		case storage.KindOf(err) != storage.KindNotFound:
			return d, 0, nil, err
		}
	}
	if r.MultipartForm != nil {
		for _, h := range r.MultipartForm.File["file"] {
			if h.Size > 0 {
				d.Files = append(d.Files, newFile(h))
			}
		}
	}
	return d, old, body, nil
}

func newFile(h *multipart.FileHeader) attached {
	name := cleanName(h.Filename)
	if name == "" {
		name = "file"
	}
	return attached{Name: name, Type: h.Header.Get("Content-Type"), Size: h.Size, open: func() (io.ReadCloser, error) { return h.Open() }}
}

// send puts a message into the outbox, or shows the form again and says what is wrong.
func (m *Room) send(w http.ResponseWriter, r *http.Request, v *web.Visit, f *frame, d *draft, drafts int64, old uint32) error {
	problem := m.check(v, d)
	uid, err := m.save(r.Context(), drafts, d, old)
	if err != nil {
		return err
	}
	name := messageName(drafts, uid)
	if problem != "" {
		c := &composing{Draft: name, From: d.From.Address, To: d.To, Cc: d.Cc, Bcc: d.Bcc, Subject: d.Subject, Text: d.Text, InReplyTo: d.InReplyTo,
			References: d.References, Source: r.PostFormValue("source"), Files: d.Files, Problem: problem, Back: f.Inbox().Path()}
		for i := range c.Files {
			c.Files[i].At = numberOf("", i+1)
		}
		return m.showForm(w, r, v, f, c, http.StatusUnprocessableEntity)
	}
	o := storage.Outgoing{Account: v.Account.ID, Mailbox: drafts, UID: uid, Due: m.now().Add(UndoTime)}
	back := f.Inbox().Path()
	if source, flag, ok := strings.Cut(r.PostFormValue("source"), ":"); ok {
		if s, err := m.ownMessage(r.Context(), v, source); err == nil && (flag == "Answered" || flag == "$Forwarded") {
			o.SourceMailbox, o.SourceUID, o.SourceFlag = s.mailbox, s.uids[0], flag
			back = boxPath(s.mailbox)
		}
	}
	id, err := m.store.PutOutbox(r.Context(), o)
	if err != nil {
		return err
	}
	http.Redirect(w, r, did{What: "sent", Sent: id}.put(back), http.StatusSeeOther)
	return nil
}

// check says what keeps a message from being sent; empty: nothing.
func (m *Room) check(v *web.Visit, d *draft) string {
	to, err := d.envelope()
	switch {
	case err != nil:
		return v.T("mail.problem-address", err.Error())
	case len(to) == 0:
		return v.T("mail.problem-nobody")
	case len(to) > MaxRecipients:
		return v.T("mail.problem-many", MaxRecipients)
	}
	if err := m.sender.Check(Letter{Account: v.Account, From: d.From.Address, To: to}); err != nil {
		return err.Error()
	}
	return ""
}

// envelope are all who get a message, each once.
func (d *draft) envelope() ([]string, error) {
	var to []string
	for _, field := range []string{d.To, d.Cc, d.Bcc} {
		list, err := recipients(field)
		if err != nil {
			return nil, errors.New(oneLine(field))
		}
		for _, a := range list {
			if !slices.Contains(to, a.Address) {
				to = append(to, a.Address)
			}
		}
	}
	return to, nil
}

// recall takes a message back that was about to be sent, and goes on writing it.
func (m *Room) recall(w http.ResponseWriter, r *http.Request, v *web.Visit) error {
	waiting, err := m.store.Outbox(r.Context(), v.Account.ID)
	if err != nil {
		return err
	}
	for _, o := range waiting {
		if r.PathValue("id") != idText(o.ID) {
			continue
		}
		if err := m.store.RecallOutbox(r.Context(), v.Account.ID, o.ID); err != nil {
			return err
		}
		source := ""
		if o.SourceUID != 0 {
			source = messageName(o.SourceMailbox, o.SourceUID) + ":" + o.SourceFlag
		}
		http.Redirect(w, r, did{What: "recalled"}.put(draftPath(messageName(o.Mailbox, o.UID), source)), http.StatusSeeOther)
		return nil
	}
	return &storage.Error{Op: "take back", Kind: storage.KindNotFound, Hint: "it is sent"}
}
