package main

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"trivet/imap/wire"
	"trivet/storage"
)

// maildirTarget writes a Maildir++. Messages that are there already, by UID and UIDVALIDITY of the export's names, are written again under
// the same name, so that an export can be repeated.
type maildirTarget struct {
	root, dir string
	keywords  []string // of the mailbox; the letters a to z stand for them, as in Dovecot's
}

func newMaildirTarget(root string) (*maildirTarget, error) {
	return &maildirTarget{root: root}, os.MkdirAll(root, 0o700)
}

func (t *maildirTarget) begin(mailbox string) error {
	t.dir, t.keywords = t.root, nil
	if mailbox != storage.Inbox {
		levels := strings.Split(mailbox, storage.Delimiter)
		for i, l := range levels {
			levels[i] = strings.ReplaceAll(wire.EncodeUTF7(l), ".", "_")
		}
		t.dir = filepath.Join(t.root, "."+strings.Join(levels, "."))
	}
	for part := range maildirParts {
		if err := os.MkdirAll(filepath.Join(t.dir, part), 0o700); err != nil {
			return err
		}
	}
	if t.dir == t.root {
		return nil
	}
	return os.WriteFile(filepath.Join(t.dir, "maildirfolder"), nil, 0o600)
}

// add writes to tmp and moves to cur, as Maildir has it.
func (t *maildirTarget) add(m exportedMessage, octets io.Reader) error {
	name := fmt.Sprintf("%d.U%d.trivet,S=%d", m.date.Unix(), m.uid, m.size)
	tmp := filepath.Join(t.dir, "tmp", name)
	if err := writeMessage(tmp, octets); err != nil {
		return err
	}
	if err := os.Chtimes(tmp, m.date, m.date); err != nil {
		return err
	}
	old, err := filepath.Glob(filepath.Join(t.dir, "cur", name+":2,*"))
	if err != nil {
		return err
	}
	for _, path := range old {
		if err := os.Remove(path); err != nil {
			return err
		}
	}
	return os.Rename(tmp, filepath.Join(t.dir, "cur", name+":2,"+t.letters(m.flagState)))
}

func writeMessage(path string, r io.Reader) error {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_WRONLY|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	w := bufio.NewWriterSize(f, 64<<10)
	_, err = io.Copy(w, r)
	return errors.Join(err, w.Flush(), f.Close())
}

// letters are the flags as they stand in a file name, in the order of the alphabet.
func (t *maildirTarget) letters(f flagState) string {
	var b []byte
	for bit, c := range map[storage.Flags]byte{storage.FlagSeen: 'S', storage.FlagAnswered: 'R', storage.FlagFlagged: 'F', storage.FlagDeleted: 'T', storage.FlagDraft: 'D'} {
		if f.flags&bit != 0 {
			b = append(b, c)
		}
	}
	for _, k := range f.keywords {
		if k == "$Forwarded" {
			b = append(b, 'P')
			continue
		}
		i := slices.Index(t.keywords, k)
		if i < 0 && len(t.keywords) < 26 {
			i = len(t.keywords)
			t.keywords = append(t.keywords, k)
		}
		if i >= 0 {
			b = append(b, byte('a'+i))
		}
	}
	slices.Sort(b)
	return string(b)
}

func (t *maildirTarget) end() error {
	path := filepath.Join(t.dir, "dovecot-keywords")
	if len(t.keywords) == 0 {
		if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		return nil
	}
	var b strings.Builder
	for i, k := range t.keywords {
		fmt.Fprintf(&b, "%d %s\n", i, k)
	}
	return os.WriteFile(path, []byte(b.String()), 0o600)
}
