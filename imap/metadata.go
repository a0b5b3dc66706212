package imap

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"trivet/storage"
)

// Annotations (RFC 5464). Those of the server, mailbox "", are of the account.

// metadataOptions are those of GETMETADATA.
type metadataOptions struct {
	maxSize int64 // of a value; 0: any
	depth   int   // levels below an entry that come with it
}

// anyDepth stands for "infinity".
const anyDepth = 1 << 20

// maxEntries bounds the entries of one command.
const maxEntries = 100

// getMetadata answers GETMETADATA.
func (s *session) getMetadata(c *call) error {
	var o metadataOptions
	c.SP()
	if c.Peek() == '(' {
		o = metadataOptionList(c)
		c.SP()
	}
	name := c.Mailbox(s.utf8())
	c.SP()
	if c.Ahead("(MAXSIZE ") || c.Ahead("(DEPTH ") { // where the examples of RFC 5464 have them
		o = metadataOptionList(c)
		c.SP()
	}
	entries := entryNames(c)
	if err := c.End(); err != nil {
		return err
	}
	account, mailbox := s.who.AccountID, int64(0)
	if name != "" {
		box, err := s.lookupMailbox(name, storage.RightRead)
		if err != nil {
			return err
		}
		account, mailbox = box.AccountID, box.ID
	}
	long, err := s.metadataResponse(name, account, mailbox, entries, o)
	if err == nil && long > 0 {
		c.code = fmt.Sprintf("METADATA LONGENTRIES %d", long) // RFC 5464 section 4.2.1
	}
	return err
}

func metadataOptionList(c *call) (o metadataOptions) {
	c.List(func() {
		switch c.Word() {
		case "MAXSIZE":
			c.SP()
			o.maxSize = c.Number64()
		case "DEPTH":
			c.SP()
			switch word := c.Word(); word {
			case "0":
			case "1":
				o.depth = 1
			case "INFINITY":
				o.depth = anyDepth
			default:
				c.Fail("DEPTH is 0, 1 or infinity")
			}
		default:
			c.Fail("Unknown GETMETADATA option")
		}
	})
	return o
}

func entryNames(c *call) []string {
	var names []string
	one := func() {
		if len(names) == maxEntries {
			c.Fail("Too many entries")
		}
		names = append(names, strings.ToLower(c.AString()))
	}
	if c.Peek() == '(' {
		c.List(one)
	} else {
		one()
	}
	return names
}

// metadataResponse writes the METADATA response of a mailbox, if there is anything in it, and returns the size of the largest
// value that was left out.
func (s *session) metadataResponse(name string, account, mailbox int64, entries []string, o metadataOptions) (long int, err error) {
	ctx, cancel := s.storage()
	defer cancel()
	all, err := s.server.cfg.Store.Annotations(ctx, account, mailbox, s.who.AccountID)
	if err != nil {
		return 0, err
	}
	first := true
	for _, a := range all {
		if !slices.ContainsFunc(entries, func(entry string) bool { return o.covers(entry, a.Entry) }) {
			continue
		}
		if o.maxSize > 0 && int64(len(a.Value)) > o.maxSize {
			long = max(long, len(a.Value))
			continue
		}
		if first {
			s.w.Raw("* METADATA ")
			s.w.Mailbox(name)
			s.w.Raw(" (")
		} else {
			s.w.SP()
		}
		first = false
		s.w.AString(a.Entry)
		s.w.SP()
		s.w.String(string(a.Value))
	}
	if !first {
		s.w.Raw(")\r\n")
	}
	return long, nil
}

// covers reports whether asking for an entry gives another one as well.
func (o metadataOptions) covers(entry, other string) bool {
	rest, below := strings.CutPrefix(other, entry+"/")
	return other == entry || below && strings.Count(rest, "/") < o.depth
}

// setMetadata answers SETMETADATA.
func (s *session) setMetadata(c *call) error {
	c.SP()
	name := c.Mailbox(s.utf8())
	c.SP()
	var entries []storage.Annotation
	c.List(func() {
		a := storage.Annotation{Entry: c.AString()}
		c.SP()
		if value, ok := c.NString(); ok {
			a.Value = []byte(value)
		}
		if len(entries) == maxEntries {
			c.Fail("Too many entries")
		}
		entries = append(entries, a)
	})
	if err := c.End(); err != nil {
		return err
	}
	account := s.who.AccountID
	if name != "" {
		box, err := s.lookupMailbox(name, metadataRights(entries))
		if err != nil {
			return err
		}
		account = box.AccountID
		for i := range entries {
			entries[i].Mailbox = box.ID
		}
	}
	ctx, cancel := s.storage()
	defer cancel()
	return metadataError(s.server.cfg.Store.Annotate(ctx, account, s.who.AccountID, entries), entries)
}

// metadataRights are what RFC 5464 section 3.3 asks for: to change what all see one must be allowed to write.
func metadataRights(entries []storage.Annotation) storage.Rights {
	for _, a := range entries {
		if !strings.HasPrefix(strings.ToLower(a.Entry), "/private/") {
			return storage.RightRead + storage.RightWrite
		}
	}
	return storage.RightRead
}

// metadataError gives the response codes of RFC 5464 section 4.3.
func metadataError(err error, entries []storage.Annotation) error {
	var e *storage.Error
	if !errors.As(err, &e) || e.Kind != storage.KindTooLarge {
		return err
	}
	for _, a := range entries {
		if len(a.Value) > storage.MaxAnnotation {
			return no(fmt.Sprintf("METADATA MAXSIZE %d", storage.MaxAnnotation), "The value is too large")
		}
	}
	return no("METADATA TOOMANY", "There are too many annotations")
}
