package main

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"trivet/storage"
)

// mboxTarget writes a file for each mailbox, in the form mboxrd: lines that look like the start of a message get a ">" ahead, as do those
// that have one already, so that nothing is lost. Flags stand in Status, X-Status and X-Keywords.
type mboxTarget struct {
	root string
	file *os.File
	w    *bufio.Writer
}

func newMboxTarget(root string) (*mboxTarget, error) {
	return &mboxTarget{root: root}, os.MkdirAll(root, 0o700)
}

func (t *mboxTarget) begin(mailbox string) (err error) {
	levels := strings.Split(mailbox, storage.Delimiter)
	for i, l := range levels {
		if l == "." || l == ".." {
			levels[i] = strings.ReplaceAll(l, ".", "_")
		}
	}
	path := filepath.Join(t.root, filepath.Join(levels...)+".mbox")
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return err
	}
	t.file, err = os.OpenFile(path, os.O_CREATE|os.O_WRONLY|os.O_TRUNC, 0o600)
	t.w = bufio.NewWriterSize(t.file, 64<<10)
	return err
}

func (t *mboxTarget) add(m exportedMessage, octets io.Reader) error {
	fmt.Fprintf(t.w, "From MAILER-DAEMON %s\n", m.date.UTC().Format("Mon Jan _2 15:04:05 2006"))
	r := bufio.NewReaderSize(octets, 64<<10)
	inHeader := true
	for {
		line, err := r.ReadBytes('\n')
		if len(line) > 0 {
			text := bytes.TrimSuffix(bytes.TrimSuffix(line, []byte("\n")), []byte("\r"))
			if inHeader && len(text) == 0 {
				t.statusFields(m.flagState)
				inHeader = false
			}
			if !inHeader || !isStatusField(text) {
				t.line(text)
			}
		}
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return err
		}
	}
	if inHeader { // there is no body
		t.statusFields(m.flagState)
	}
	return t.w.WriteByte('\n')
}

func (t *mboxTarget) line(text []byte) {
	if bytes.HasPrefix(bytes.TrimLeft(text, ">"), []byte("From ")) {
		_ = t.w.WriteByte('>') // the writer remembers its error
	}
	_, _ = t.w.Write(text)
	_ = t.w.WriteByte('\n')
}

// isStatusField reports whether a header line is one of those that are written anew.
func isStatusField(line []byte) bool {
	name, _, ok := bytes.Cut(line, []byte(":"))
	return ok && (strings.EqualFold(string(name), "Status") || strings.EqualFold(string(name), "X-Status") || strings.EqualFold(string(name), "X-Keywords"))
}

func (t *mboxTarget) statusFields(f flagState) {
	status, x := "O", ""
	if f.flags&storage.FlagSeen != 0 {
		status = "RO"
	}
	for _, flag := range []struct {
		bit    storage.Flags
		letter string
	}{{storage.FlagAnswered, "A"}, {storage.FlagFlagged, "F"}, {storage.FlagDeleted, "D"}, {storage.FlagDraft, "T"}} {
		if f.flags&flag.bit != 0 {
			x += flag.letter
		}
	}
	fmt.Fprintf(t.w, "Status: %s\n", status)
	if x != "" {
		fmt.Fprintf(t.w, "X-Status: %s\n", x)
	}
	if len(f.keywords) > 0 {
		fmt.Fprintf(t.w, "X-Keywords: %s\n", strings.Join(f.keywords, " "))
	}
}

func (t *mboxTarget) end() error { return errors.Join(t.w.Flush(), t.file.Close()) }
