package main

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/textproto"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"trivet/storage"
)

func (c *cli) importMboxCommand() *cobra.Command {
	return c.importFilesCommand("mbox FILE-OR-FOLDER", "Import an mbox file, or all of a folder, each as a mailbox",
		func(root string) (importSource, error) { return mboxSource{root}, nil })
}

// mboxSource is an mbox file, or a folder of such files.
type mboxSource struct{ root string }

func (s mboxSource) String() string { return "mbox " + s.root }
func (s mboxSource) close() error   { return nil }

func (s mboxSource) prefetch(context.Context, *sourceMailbox, []incoming) error { return nil }

func (s mboxSource) mailboxes(context.Context) ([]sourceMailbox, error) {
	var out []sourceMailbox
	err := filepath.WalkDir(s.root, func(path string, e fs.DirEntry, err error) error {
		if err != nil || !e.Type().IsRegular() || !isMbox(path) {
			return err
		}
		name := s.nameOf(path)
		out = append(out, sourceMailbox{name: name, use: useByName(name)})
		return nil
	})
	if err == nil && len(out) == 0 {
		err = fmt.Errorf("%s has no mbox file: none begins with \"From \"", s.root)
	}
	return out, err
}

func isMbox(path string) bool {
	f, err := os.Open(path)
	if err != nil {
		return false
	}
	defer f.Close()
	head := make([]byte, 5)
	_, err = io.ReadFull(f, head)
	return err == nil && string(head) == "From "
}

// nameOf turns a file into a mailbox name; Thunderbird's "Work.sbd/2026" is Work/2026.
func (s mboxSource) nameOf(path string) string {
	rel, err := filepath.Rel(s.root, path)
	if err != nil || rel == "." {
		rel = filepath.Base(path)
	}
	levels := strings.Split(filepath.ToSlash(rel), "/")
	for i, l := range levels {
		levels[i] = strings.TrimSuffix(strings.TrimSuffix(l, ".sbd"), ".mbox")
	}
	if len(levels) == 1 && strings.EqualFold(levels[0], storage.Inbox) {
		return storage.Inbox
	}
	return strings.Join(levels, storage.Delimiter)
}

// load finds where each message is. Its key is the digest of its octets, and a number for the second of the same: an mbox has
// nothing better.
func (s mboxSource) load(_ context.Context, box *sourceMailbox) error {
	path, err := s.pathOf(box.name)
	if err != nil {
		return err
	}
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	box.validity = "mbox"
	seen := map[string]int{}
	return splitMbox(bufio.NewReaderSize(f, 64<<10), func(m mboxMessage) error {
		flags := mboxFlags(m.octets)
		m.octets = withoutStatus(m.octets)
		sum := sha256.Sum256(m.octets)
		key := hex.EncodeToString(sum[:16])
		seen[key]++
		in := incoming{key: fmt.Sprintf("%s-%d", key, seen[key]), size: int64(len(m.octets)), date: m.date, flagState: flags}
		offset, length := m.offset, m.length
		in.open = func() (io.ReadCloser, error) { return openMboxMessage(path, offset, length) }
		box.messages = append(box.messages, in)
		return nil
	})
}

func (s mboxSource) pathOf(name string) (found string, err error) {
	err = filepath.WalkDir(s.root, func(path string, e fs.DirEntry, err error) error {
		if err == nil && e.Type().IsRegular() && s.nameOf(path) == name && isMbox(path) {
			found = path
			return fs.SkipAll
		}
		return err
	})
	return found, err
}

// mboxMessage is a message in an mbox: where it is, its "From " line included, and what it is.
type mboxMessage struct {
	offset, length int64
	date           time.Time
	octets         []byte
}

// maxMboxMessage bounds one message, in octets; what is larger is no mail.
const maxMboxMessage = 256 << 20

// splitMbox calls f for each message. A message begins at a line "From " behind an empty line or at the start.
func splitMbox(r *bufio.Reader, f func(mboxMessage) error) error {
	var m mboxMessage
	var raw []byte
	offset, empty, begun := int64(0), true, false
	end := func() error {
		if !begun {
			return nil
		}
		m.length = offset - m.offset
		m.octets = unescapeMbox(raw)
		return f(m)
	}
	for {
		line, err := r.ReadBytes('\n')
		if len(line) > 0 {
			if empty && bytes.HasPrefix(line, []byte("From ")) {
				if err := end(); err != nil {
					return err
				}
				begun, raw = true, raw[:0]
				m = mboxMessage{offset: offset, date: fromLineDate(string(line))}
			} else if begun {
				if raw = append(raw, line...); len(raw) > maxMboxMessage {
					return fmt.Errorf("the message at octet %d is larger than %d octets", m.offset, maxMboxMessage)
				}
			}
			empty = len(bytes.TrimRight(line, "\r\n")) == 0
			offset += int64(len(line))
		}
		if errors.Is(err, io.EOF) {
			return end()
		}
		if err != nil {
			return err
		}
	}
}

// unescapeMbox returns a message with CRLF, without the empty line that ends it in an mbox and without the ">" that mboxrd puts ahead of
// lines that look like the start of a message.
func unescapeMbox(raw []byte) []byte {
	raw = bytes.TrimSuffix(bytes.TrimSuffix(raw, []byte("\n")), []byte("\r"))
	if !bytes.HasSuffix(raw, []byte("\n")) { // the empty line was not there: what was taken off was the last line's end
		raw = append(raw, '\n')
	}
	out := make([]byte, 0, len(raw)+len(raw)/30)
	for line := range bytes.Lines(raw) {
		text := bytes.TrimRight(line, "\r\n")
		if quoted := bytes.TrimLeft(text, ">"); len(quoted) < len(text) && bytes.HasPrefix(quoted, []byte("From ")) {
			text = text[1:]
		}
		out = append(append(out, text...), "\r\n"...)
	}
	return out
}

func openMboxMessage(path string, offset, length int64) (io.ReadCloser, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	var octets []byte
	err = splitMbox(bufio.NewReader(io.NewSectionReader(f, offset, length)), func(m mboxMessage) error {
		octets = withoutStatus(m.octets)
		return nil
	})
	return io.NopCloser(bytes.NewReader(octets)), err
}

// fromLineDate reads the date at the end of "From sender Mon Nov  2 10:00:00 2026".
func fromLineDate(line string) time.Time {
	fields := strings.Fields(line)
	for n := 5; n <= 6 && len(fields) >= n; n++ {
		text := strings.Join(fields[len(fields)-n:], " ")
		for _, layout := range []string{"Mon Jan 2 15:04:05 2006", "Mon Jan 2 15:04:05 -0700 2006", "Mon Jan 2 15:04:05 2006 -0700"} {
			if t, err := time.Parse(layout, text); err == nil {
				return t
			}
		}
	}
	return time.Now().UTC()
}

// withoutStatus takes out the fields that mail programs put into a header to keep flags.
func withoutStatus(octets []byte) []byte {
	out := make([]byte, 0, len(octets))
	inHeader := true
	for line := range bytes.Lines(octets) {
		inHeader = inHeader && len(line) > 2
		if !inHeader || !isStatusField(line) {
			out = append(out, line...)
		}
	}
	return out
}

// mboxFlags reads Status, X-Status and X-Keywords, which mail programs keep in the header.
func mboxFlags(octets []byte) (f flagState) {
	head, _, _ := bytes.Cut(octets, []byte("\r\n\r\n"))
	header, _ := textproto.NewReader(bufio.NewReader(bytes.NewReader(append(head, "\r\n\r\n"...)))).ReadMIMEHeader()
	for _, c := range header.Get("Status") + header.Get("X-Status") {
		switch c {
		case 'R':
			f.flags |= storage.FlagSeen
		case 'A':
			f.flags |= storage.FlagAnswered
		case 'F':
			f.flags |= storage.FlagFlagged
		case 'D':
			f.flags |= storage.FlagDeleted
		case 'T':
			f.flags |= storage.FlagDraft
		}
	}
	for _, k := range strings.Fields(strings.ReplaceAll(header.Get("X-Keywords"), ",", " ")) {
		if validKeyword(k) {
			f.keywords = append(f.keywords, k)
		}
	}
	f.keywords = sortedKeywords(f.keywords)
	return f
}
