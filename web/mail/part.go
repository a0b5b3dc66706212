package mail

import (
	"context"
	"fmt"
	"io"
	"mime"
	"net/http"
	"strconv"
	"strings"

	"trivet/storage"
	"trivet/storage/message"
	"trivet/web"
)

// maxPartLevels is how deep parts have numbers.
const maxPartLevels = 100

// partPath reads the number of a part, like 1.2.
func partPath(at string) ([]int, error) {
	fields := strings.Split(at, ".")
	if len(fields) > maxPartLevels {
		return nil, web.ErrNotFound
	}
	path := make([]int, len(fields))
	for i, f := range fields {
		n, err := strconv.Atoi(f)
		if err != nil || n < 1 {
			return nil, web.ErrNotFound
		}
		path[i] = n
	}
	return path, nil
}

// downloadPolicy is that of a file: if a browser shows it all the same, nothing in it runs or loads.
const downloadPolicy = "default-src 'none'; style-src 'unsafe-inline'; sandbox"

// serveFile says that what follows is to be kept, not shown. The type is one that browsers do not run.
func serveFile(h http.Header, name, kind string) {
	h.Set("Content-Type", kind)
	h.Set("Content-Disposition", disposition("attachment", name))
	h.Set("Content-Security-Policy", downloadPolicy)
	h.Set("Cache-Control", "private, no-store")
}

// disposition is a Content-Disposition with a name, in ASCII and as it is (RFC 6266).
func disposition(kind, name string) string {
	if value := mime.FormatMediaType(kind, map[string]string{"filename": name}); value != "" {
		return value
	}
	return kind
}

// part sends a part: as a file, or a picture to look at.
func (m *Room) part(w http.ResponseWriter, r *http.Request, v *web.Visit) error {
	_, it, err := m.item(r, v, storage.FieldStructure)
	if err != nil {
		return err
	}
	_, t, err := findPart(it, r.PathValue("at"))
	if err != nil {
		return err
	}
	body, err := m.store.OpenBody(r.Context(), it.MessageID)
	if err != nil {
		return err
	}
	defer body.Close()
	var content io.Reader = io.NewSectionReader(body, t.part.BodyOffset, t.part.BodySize)
	if !t.part.Enclosed() {
		if decoded, err := message.DecodeBody(t.part, content); err == nil {
			content = decoded
		}
	}
	kind := "application/octet-stream"
	if isPicture(t.part) {
		kind = "image/" + strings.ReplaceAll(t.part.Subtype, "jpg", "jpeg")
	}
	serveFile(w.Header(), nameOf(t.part, t.at), kind)
	if r.URL.Query().Get("view") == "1" && isPicture(t.part) {
		w.Header().Set("Content-Disposition", disposition("inline", nameOf(t.part, t.at)))
	}
	_, _ = io.Copy(w, content) // fails only when the client has gone away
	return nil
}

// raw sends a message as it came.
func (m *Room) raw(w http.ResponseWriter, r *http.Request, v *web.Visit) error {
	_, it, err := m.item(r, v, storage.FieldEnvelope)
	if err != nil {
		return err
	}
	body, err := m.store.OpenBody(r.Context(), it.MessageID)
	if err != nil {
		return err
	}
	defer body.Close()
	name := "message"
	if e, err := message.ParseEnvelope(it.Envelope); err == nil {
		if subject := cleanName(message.DecodeHeader(e.Subject)); subject != "" {
			name = subject
		}
	}
	serveFile(w.Header(), name+".eml", "application/octet-stream")
	w.Header().Set("Content-Length", fmt.Sprint(body.Size()))
	return body.WriteRange(w, 0, body.Size())
}

// source is what is to be said of how a message came, and its octets.
type source struct {
	Subject string
	Path    string
	Back    string
	Fields  []headerField
	Text    string
	Cut     bool
	Size    int64
	Results []string // what was found out of who sent it (Authentication-Results)
	Why     *why
}

// why is what a message came to as unwanted mail, and for what reasons.
type why struct {
	Text    string
	Reasons []whyReason
}

type whyReason struct{ Points, Text string }

type headerField struct{ Name, Value string }

// maxSource is how much of a message is shown as it came, in octets.
const maxSource = 256 << 10

// source shows the header, and the octets, of a message.
func (m *Room) source(w http.ResponseWriter, r *http.Request, v *web.Visit) error {
	b, it, err := m.item(r, v, storage.FieldEnvelope|storage.FieldStructure)
	if err != nil {
		return err
	}
	body, err := m.store.OpenBody(r.Context(), it.MessageID)
	if err != nil {
		return err
	}
	defer body.Close()
	root, err := message.ParseStructure(it.Structure)
	if err != nil {
		return &storage.Error{Op: "read message", Err: err}
	}
	f, err := m.newFrame(r, v)
	if err != nil {
		return err
	}
	s := &source{Path: fmt.Sprintf("/mail/m/%d/%d", b.ID, it.UID), Back: fmt.Sprintf("%s/%d", boxPath(b.ID), it.UID), Size: body.Size(), Cut: body.Size() > maxSource}
	text := make([]byte, min(body.Size(), maxSource))
	if _, err := io.ReadFull(io.NewSectionReader(body, 0, body.Size()), text); err != nil {
		return err
	}
	s.Text = strings.ToValidUTF8(string(text), "\ufffd")
	header := text[:min(int64(len(text)), root.BodyOffset)]
	for field := range message.Fields(header) {
		if field.Name == nil {
			continue
		}
		value := message.DecodeHeader(field.Value())
		s.Fields = append(s.Fields, headerField{string(field.Name), value})
		if field.Is("Authentication-Results") {
			s.Results = append(s.Results, value)
		}
	}
	if e, err := message.ParseEnvelope(it.Envelope); err == nil {
		s.Subject = message.DecodeHeader(e.Subject)
	}
	if s.Why, err = m.why(r.Context(), it.MessageID, v); err != nil {
		return err
	}
	f.Source, f.Current = s, b.ID
	return m.render(w, r, v, f, "mail.source", http.StatusOK)
}

// why says what a message came to for the visitor's account.
func (m *Room) why(ctx context.Context, id int64, v *web.Visit) (*why, error) {
	verdict, err := m.store.SpamVerdict(ctx, id, v.Account.ID)
	switch {
	case err != nil && storage.KindOf(err) == storage.KindNotFound:
		return &why{Text: v.T("mail.no-reasons")}, nil
	case err != nil:
		return nil, err
	}
	w := &why{Text: v.T("mail.probability", fmt.Sprintf("%.1f %%", 100*verdict.Probability))}
	for _, reason := range verdict.Reasons {
		text := reason.Text
		if text == "" {
			text = reason.Name
		}
		w.Reasons = append(w.Reasons, whyReason{fmt.Sprintf("%+.1f", reason.Points), text})
	}
	return w, nil
}
