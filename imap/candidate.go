package imap

import (
	"errors"
	"io"
	"strings"
	"time"

	"trivet/storage"
	"trivet/storage/message"
)

// candidate is a message while SEARCH looks at it. What it needs of the message it reads when a
// criterion asks, once. An error makes every test false and ends the search.
type candidate struct {
	session  *session
	view     *view
	n        uint32
	item     *storage.Item
	envelope *message.Envelope
	root     *message.Part
	octets   *storage.Body
	header   []byte
	err      error
}

func (c *candidate) close() {
	if c.octets != nil {
		_ = c.octets.Close()
	}
}

func (c *candidate) fail(err error) {
	if c.err == nil {
		c.err = err
	}
}

func (c *candidate) recent() bool {
	v := c.view
	return v.recent != 0 && v.uids[c.n-1] >= v.recent && !c.session.rev2()
}

// parsedEnvelope is never nil.
func (c *candidate) parsedEnvelope() *message.Envelope {
	if c.envelope == nil {
		e, err := message.ParseEnvelope(c.item.Envelope)
		if err != nil {
			c.fail(err)
			e = &message.Envelope{}
		}
		c.envelope = e
	}
	return c.envelope
}

func (c *candidate) date() (time.Time, bool) { return message.ParseDate(c.parsedEnvelope().Date) }

func (c *candidate) subject() string { return c.parsedEnvelope().Subject }

func (c *candidate) from() string { return addresses(c.parsedEnvelope().From) }

func (c *candidate) to() string { return addresses(c.parsedEnvelope().To) }

func (c *candidate) cc() string { return addresses(c.parsedEnvelope().Cc) }

func (c *candidate) bcc() string { return addresses(c.parsedEnvelope().Bcc) }

func addresses(list []message.Address) string { return storage.SearchAddressText(list) }

// open makes octets and root ready, and reports whether there is anything to look at.
func (c *candidate) open() bool {
	if c.err != nil || c.octets != nil {
		return c.err == nil
	}
	root, err := message.ParseStructure(c.item.Structure)
	if err != nil {
		c.fail(err)
		return false
	}
	body, err := c.session.openItem(c.item)
	switch {
	case err == nil:
		c.root, c.octets = root, body
	case storage.KindOf(err) != storage.KindNotFound: // else it went meanwhile, and matches nothing
		c.fail(err)
	}
	return err == nil
}

// headerOf reads a part's header, or as much of it as is searched.
func (c *candidate) headerOf(p *message.Part) []byte {
	buf := make([]byte, min(p.BodyOffset-p.HeaderOffset, storage.MaxSearchHeader))
	if _, err := c.octets.ReadAt(buf, p.HeaderOffset); err != nil && !errors.Is(err, io.EOF) {
		c.fail(err)
	}
	return buf
}

// inHeader looks for text in the fields of a name, or in the whole of every field for no name. No text
// asks whether there is such a field.
func (c *candidate) inHeader(name, needle string) bool {
	if !c.open() {
		return false
	}
	if c.header == nil {
		c.header = c.headerOf(c.root)
	}
	return fieldContains(c.header, name, needle)
}

func fieldContains(header []byte, name, needle string) bool {
	for f := range message.Fields(header) {
		switch {
		case name == "" && contains(string(f.Name)+": "+f.Value(), needle):
			return true
		case name != "" && f.Is(name) && contains(f.Value(), needle):
			return true
		}
	}
	return false
}

// inBody looks for text in the text parts, in documents and in the headers of enclosed messages.
func (c *candidate) inBody(needle string) bool {
	if needle == "" {
		return true
	}
	if !c.open() {
		return false
	}
	found := false
	var documents message.Documents
	c.root.Walk(func(p *message.Part) bool {
		found = found || c.err == nil && c.inPart(p, &documents, needle)
		return !found && c.err == nil
	})
	return found
}

func (c *candidate) inPart(p *message.Part, documents *message.Documents, needle string) bool {
	switch {
	case p.Enclosed() && len(p.Children) > 0:
		return fieldContains(c.headerOf(p.Children[0]), "", needle)
	case p.IsDocument():
		text, err := documents.Text(p, io.NewSectionReader(c.octets, p.BodyOffset, p.BodySize))
		if err != nil {
			c.fail(err)
		}
		return strings.Contains(message.Fold(text), needle)
	case p.Type != "text":
		return false
	}
	found, err := streamContains(c.decodedText(p), p.BodySize, needle)
	if err != nil {
		c.fail(err)
	}
	if found || p.Subtype != "html" {
		return found
	}
	// As somebody reads it: without tags, with entities.
	return contains(message.TextFromHTML(c.decodedText(p), storage.MaxSearchHTML), needle)
}

func (c *candidate) decodedText(p *message.Part) io.Reader {
	return message.DecodeText(p, io.NewSectionReader(c.octets, p.BodyOffset, p.BodySize))
}
