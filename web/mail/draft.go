package mail

import (
	"bufio"
	"context"
	"crypto/rand"
	"encoding/base64"
	"encoding/hex"
	"io"
	"mime"
	"mime/quotedprintable"
	"net/mail"
	"strings"
	"time"

	"trivet/storage"
	"trivet/storage/message"
)

// draft is a message that is being written.
type draft struct {
	From       mail.Address
	To, Cc     string // as typed
	Bcc        string
	Subject    string
	Text       string
	InReplyTo  string
	References string
	ID         string // Message-ID
	Date       time.Time
	Files      []attached
}

// attached is a file of a draft: one that was sent with the form, or one that is in a message already.
type attached struct {
	Name, Type string
	Size       int64
	At         string                        // number of the part that it is in the stored draft; empty: it is new
	open       func() (io.ReadCloser, error) // of what is new
	body       *storage.Body                 // where it is already
	offset     int64                         // of the part there, with its header
	size       int64
}

// maxHeader bounds what is typed into one field, in octets.
const maxHeader = 64 << 10

// newMessageID is one that nobody else has.
func newMessageID(from string) string {
	var b [16]byte
	rand.Read(b[:])
	return "<" + hex.EncodeToString(b[:]) + "@" + from[strings.LastIndexByte(from, '@')+1:] + ">"
}

// recipients reads a field as people type it: addresses with or without names, separated by commas or semicolons.
func recipients(text string) ([]*mail.Address, error) {
	text = strings.Trim(strings.Map(func(r rune) rune {
		if r == '\n' || r == '\r' || r == '\t' {
			return ' '
		}
		return r
	}, text), " ,;")
	if text == "" {
		return nil, nil
	}
	list, err := mail.ParseAddressList(text)
	if err != nil {
		if list, err := mail.ParseAddressList(strings.ReplaceAll(text, ";", ",")); err == nil {
			return list, nil
		}
	}
	return list, err
}

// write writes the message (RFC 5322, RFC 2045).
func (d *draft) write(out io.Writer) error {
	w := bufio.NewWriter(out)
	d.header(w)
	if len(d.Files) == 0 {
		textHead(w)
		if err := d.text(w); err != nil {
			return err
		}
		return w.Flush()
	}
	boundary := newBoundary()
	w.WriteString("Content-Type: multipart/mixed; boundary=\"" + boundary + "\"\r\n\r\n--" + boundary + "\r\n")
	textHead(w)
	if err := d.text(w); err != nil {
		return err
	}
	for _, f := range d.Files {
		w.WriteString("\r\n--" + boundary + "\r\n")
		if err := f.write(w); err != nil {
			return err
		}
	}
	w.WriteString("\r\n--" + boundary + "--\r\n")
	return w.Flush()
}

func newBoundary() string {
	var b [18]byte
	rand.Read(b[:])
	return "=_" + hex.EncodeToString(b[:])
}

func textHead(w *bufio.Writer) {
	w.WriteString("Content-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: quoted-printable\r\n\r\n")
}

func (d *draft) text(w io.Writer) error {
	q := quotedprintable.NewWriter(w)
	if _, err := io.WriteString(q, strings.ReplaceAll(strings.ReplaceAll(d.Text, "\r\n", "\n"), "\n", "\r\n")); err != nil {
		return err
	}
	if !strings.HasSuffix(d.Text, "\n") {
		if _, err := io.WriteString(q, "\r\n"); err != nil {
			return err
		}
	}
	return q.Close()
}

// header writes the fields but for Content-Type.
func (d *draft) header(w *bufio.Writer) {
	field := func(name, value string) {
		if value != "" {
			w.WriteString(name + ": " + fold(value) + "\r\n")
		}
	}
	field("From", d.From.String())
	field("To", listed(d.To))
	field("Cc", listed(d.Cc))
	field("Bcc", listed(d.Bcc))
	field("Subject", encoded(d.Subject))
	field("Date", d.Date.Format(time.RFC1123Z))
	field("Message-ID", d.ID)
	field("In-Reply-To", oneLine(d.InReplyTo))
	field("References", oneLine(d.References))
	w.WriteString("MIME-Version: 1.0\r\n")
}

// listed is a field of addresses as it goes out. What cannot be read as such stays as it was typed, which a draft may have.
func listed(text string) string {
	list, err := recipients(text)
	if err != nil {
		return encoded(oneLine(text))
	}
	out := make([]string, len(list))
	for i, a := range list {
		out[i] = a.String()
	}
	return strings.Join(out, ", ")
}

func oneLine(text string) string { return strings.Join(strings.Fields(text), " ") }

// encoded is text in encoded words where it needs them (RFC 2047).
func encoded(text string) string {
	return mime.QEncoding.Encode("utf-8", strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f {
			return ' '
		}
		return r
	}, text))
}

// foldAt is how long a line of a header becomes if it can be folded, in octets.
const foldAt = 76

// fold breaks a field at spaces (RFC 5322 section 2.2.3).
func fold(value string) string {
	var b strings.Builder
	length := 12
	for i, word := range strings.Split(value, " ") {
		if i > 0 {
			if length+1+len(word) > foldAt && word != "" {
				b.WriteString("\r\n")
				length = 0
			}
			b.WriteByte(' ')
			length++
		}
		b.WriteString(word)
		length += len(word)
	}
	return b.String()
}

// write writes a part: what is in a message already is copied as it is.
func (f *attached) write(w *bufio.Writer) error {
	if f.body != nil {
		return f.body.WriteRange(w, f.offset, f.size)
	}
	content, err := f.open()
	if err != nil {
		return err
	}
	defer content.Close()
	kind, _, err := mime.ParseMediaType(f.Type)
	if err != nil || strings.HasPrefix(kind, "multipart/") || strings.HasPrefix(kind, "message/") {
		kind = "application/octet-stream"
	}
	w.WriteString("Content-Type: " + kind + "\r\nContent-Transfer-Encoding: base64\r\nContent-Disposition: " + strings.ReplaceAll(disposition("attachment", f.Name), "; ", ";\r\n ") + "\r\n\r\n")
	lines := &lineBreaker{w: w}
	encoder := base64.NewEncoder(base64.StdEncoding, lines)
	if _, err := io.Copy(encoder, content); err != nil {
		return err
	}
	return encoder.Close()
}

// lineBreaker breaks Base64 into lines (RFC 2045 section 6.8).
type lineBreaker struct {
	w      *bufio.Writer
	length int
}

// Write implements io.Writer.
func (l *lineBreaker) Write(p []byte) (int, error) {
	n := len(p)
	for len(p) > 0 {
		if l.length == foldAt {
			l.w.WriteString("\r\n")
			l.length = 0
		}
		piece := p[:min(len(p), foldAt-l.length)]
		if _, err := l.w.Write(piece); err != nil {
			return 0, err
		}
		l.length += len(piece)
		p = p[len(piece):]
	}
	return n, nil
}

// save stores a draft in place of what it was, and returns its UID.
func (m *Room) save(ctx context.Context, mailbox int64, d *draft, replace uint32) (uint32, error) {
	pr, pw := io.Pipe()
	go func() { pw.CloseWithError(d.write(pw)) }()
	content, err := m.store.Prepare(ctx, pr)
	pr.CloseWithError(err) // what is written is read, or the writer is told
	if err != nil {
		return 0, err
	}
	defer content.Close()
	messages := []storage.NewMessage{{Content: content, Flags: storage.FlagDraft | storage.FlagSeen, Date: m.now()}}
	done, err := m.store.AppendAll(ctx, mailbox, messages, mailbox, replace)
	if storage.KindOf(err) == storage.KindNotFound && err != nil && replace != 0 { // it went elsewhere meanwhile: nothing that was typed is lost
		done, err = m.store.AppendAll(ctx, mailbox, messages, 0, 0)
	}
	if err != nil {
		return 0, err
	}
	return done[0].UID, nil
}

// readDraft reads a draft from its mailbox. The body is to be closed after the draft was written, for its files are in there.
func (m *Room) readDraft(ctx context.Context, mailbox int64, uid uint32) (*draft, *storage.Body, error) {
	it, err := m.one(ctx, mailbox, uid, storage.FieldEnvelope|storage.FieldStructure|storage.FieldThread)
	if err != nil {
		return nil, nil, err
	}
	root, err := message.ParseStructure(it.Structure)
	if err != nil {
		return nil, nil, &storage.Error{Op: "read draft", Err: err}
	}
	body, err := m.store.OpenBody(ctx, it.MessageID)
	if err != nil {
		return nil, nil, err
	}
	d := &draft{References: it.Thread.References}
	if e, err := message.ParseEnvelope(it.Envelope); err == nil {
		if from := persons(e.From); len(from) > 0 {
			d.From = mail.Address{Name: from[0].Name, Address: from[0].Address}
		}
		d.To, d.Cc, d.Bcc = typed(e.To), typed(e.Cc), typed(e.Bcc)
		d.Subject, d.InReplyTo, d.ID = message.DecodeHeader(e.Subject), e.InReplyTo, e.MessageID
	}
	text, files, err := contents(body, root)
	if err != nil {
		body.Close()
		return nil, nil, err
	}
	d.Text, d.Files = text, files
	return d, body, nil
}

// typed is a list of addresses as one would type it.
func typed(list []message.Address) string {
	var out []string
	for _, p := range persons(list) {
		out = append(out, p.typed())
	}
	return strings.Join(out, ", ")
}

// typed is an address with its name, in quotes where that has what separates addresses.
func (p person) typed() string {
	switch {
	case p.Name == "" || p.Name == p.Address:
		return p.Address
	case strings.ContainsAny(p.Name, `,;:<>@()[]\".`):
		return `"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(p.Name) + `" <` + p.Address + ">"
	}
	return p.Name + " <" + p.Address + ">"
}

// contents are the text and the files of a message.
func contents(body *storage.Body, root *message.Part) (string, []attached, error) {
	shown := plan(root)
	var text strings.Builder
	for _, t := range shown.texts {
		part, err := plainText(body, t.part)
		if err != nil {
			return "", nil, err
		}
		text.WriteString(part)
	}
	var files []attached
	for _, f := range shown.files {
		files = append(files, attached{Name: nameOf(f.part, f.at), Type: f.part.Type + "/" + f.part.Subtype, Size: decodedSize(f.part), At: f.at,
			body: body, offset: f.part.HeaderOffset, size: f.part.End() - f.part.HeaderOffset})
	}
	if len(files) == 1 && len(root.Children) == 0 { // the message itself, whose header is not that of a part
		files[0].body = nil
		files[0].open = func() (io.ReadCloser, error) {
			r, err := message.DecodeBody(root, io.NewSectionReader(body, root.BodyOffset, root.BodySize))
			return io.NopCloser(r), err
		}
	}
	return strings.ReplaceAll(text.String(), "\r\n", "\n"), files, nil
}

// plainText is a text part without markup.
func plainText(body *storage.Body, p *message.Part) (string, error) {
	if p.Subtype != "html" {
		return readText(body, p, MaxText)
	}
	r := message.DecodeText(p, io.NewSectionReader(body, p.BodyOffset, p.BodySize))
	return message.TextFromHTML(r, MaxText), nil
}
