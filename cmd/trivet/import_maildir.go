package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"trivet/imap/wire"
	"trivet/storage"
)

func (c *cli) importMaildirCommand() *cobra.Command {
	return c.importFilesCommand("maildir FOLDER", "Import a Maildir with its folders: Maildir++ (.Sent, .Work.2026) or folders within folders",
		func(root string) (importSource, error) {
			if !isMaildir(root) && len(subfolders(root)) == 0 {
				return nil, fmt.Errorf("%s is no Maildir: there is no folder cur in it", root)
			}
			return maildirSource{root}, nil
		})
}

// maildirSource is a Maildir.
type maildirSource struct{ root string }

func (s maildirSource) String() string { return "maildir " + s.root }
func (s maildirSource) close() error   { return nil }

func (s maildirSource) prefetch(context.Context, *sourceMailbox, []incoming) error { return nil }

func isMaildir(dir string) bool {
	info, err := os.Stat(filepath.Join(dir, "cur"))
	return err == nil && info.IsDir()
}

// maildirParts are the folders of a Maildir itself.
var maildirParts = map[string]bool{"cur": true, "new": true, "tmp": true}

func subfolders(dir string) []string {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil
	}
	var names []string
	for _, e := range entries {
		if e.IsDir() && !maildirParts[e.Name()] {
			names = append(names, e.Name())
		}
	}
	return names
}

func (s maildirSource) mailboxes(context.Context) ([]sourceMailbox, error) {
	var out []sourceMailbox
	err := filepath.WalkDir(s.root, func(dir string, e fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case !e.IsDir():
			return nil
		case maildirParts[e.Name()] && dir != s.root:
			return fs.SkipDir
		case isMaildir(dir):
			name := s.nameOf(dir)
			out = append(out, sourceMailbox{name: name, use: useByName(name)})
		}
		return nil
	})
	return out, err
}

// nameOf turns a folder into a mailbox name: "." separates levels where it begins the folder's name, as in Maildir++.
func (s maildirSource) nameOf(dir string) string {
	rel, err := filepath.Rel(s.root, dir)
	if err != nil || rel == "." {
		return storage.Inbox
	}
	var levels []string
	for part := range strings.SplitSeq(filepath.ToSlash(rel), "/") {
		if inner, plus := strings.CutPrefix(part, "."); plus {
			levels = append(levels, strings.Split(inner, ".")...)
		} else {
			levels = append(levels, part)
		}
	}
	for i, l := range levels {
		if decoded, err := wire.DecodeUTF7(l); err == nil {
			levels[i] = decoded
		}
	}
	return strings.Join(levels, storage.Delimiter)
}

// dirOf finds the folder of a mailbox again.
func (s maildirSource) dirOf(name string) (dir string, err error) {
	err = filepath.WalkDir(s.root, func(path string, e fs.DirEntry, err error) error {
		if err == nil && e.IsDir() && isMaildir(path) && s.nameOf(path) == name {
			dir = path
			return fs.SkipAll
		}
		return err
	})
	return dir, err
}

// load lists the messages of cur and new. A message's key is its file name up to the flags, which never changes.
func (s maildirSource) load(_ context.Context, box *sourceMailbox) error {
	dir, err := s.dirOf(box.name)
	if err != nil {
		return err
	}
	box.validity = "maildir"
	keywords := dovecotKeywords(dir)
	for _, part := range []string{"cur", "new"} {
		entries, err := os.ReadDir(filepath.Join(dir, part))
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return err
		}
		for _, e := range entries {
			info, err := e.Info()
			if err != nil || !info.Mode().IsRegular() || strings.HasPrefix(e.Name(), ".") {
				continue
			}
			path := filepath.Join(dir, part, e.Name())
			key, info2, _ := strings.Cut(e.Name(), ":2,")
			box.messages = append(box.messages, incoming{key: key, size: info.Size(), date: info.ModTime(),
				flagState: maildirFlags(info2, keywords), open: func() (io.ReadCloser, error) { return openCRLF(path) }})
		}
	}
	return nil
}

// maildirFlags reads the letters behind ":2,".
func maildirFlags(letters string, keywords map[byte]string) (f flagState) {
	for i := range len(letters) {
		switch c := letters[i]; c {
		case 'S':
			f.flags |= storage.FlagSeen
		case 'R':
			f.flags |= storage.FlagAnswered
		case 'F':
			f.flags |= storage.FlagFlagged
		case 'T':
			f.flags |= storage.FlagDeleted
		case 'D':
			f.flags |= storage.FlagDraft
		case 'P':
			f.keywords = append(f.keywords, "$Forwarded")
		default:
			if k := keywords[c]; k != "" {
				f.keywords = append(f.keywords, k)
			}
		}
	}
	f.keywords = sortedKeywords(f.keywords)
	return f
}

// dovecotKeywords reads what the letters a to z stand for in a folder that Dovecot kept.
func dovecotKeywords(dir string) map[byte]string {
	f, err := os.Open(filepath.Join(dir, "dovecot-keywords"))
	if err != nil {
		return nil
	}
	defer f.Close()
	names := map[byte]string{}
	for lines := bufio.NewScanner(f); lines.Scan(); {
		var n int
		var name string
		if _, err := fmt.Sscanf(lines.Text(), "%d %s", &n, &name); err == nil && n >= 0 && n < 26 && validKeyword(name) {
			names[byte('a'+n)] = name
		}
	}
	return names
}

// validKeyword reports whether a name can be a keyword here.
func validKeyword(name string) bool {
	return name != "" && len(name) <= storage.MaxKeyword && !strings.ContainsFunc(name, func(r rune) bool {
		return r <= ' ' || r >= 0x7f || strings.ContainsRune(`(){%*"\]`, r)
	})
}

// useByName guesses the special use of a mailbox whose source does not tell it.
func useByName(name string) storage.SpecialUse {
	return map[string]storage.SpecialUse{
		"sent": storage.UseSent, "sent items": storage.UseSent, "sent messages": storage.UseSent, "drafts": storage.UseDrafts,
		"trash": storage.UseTrash, "deleted items": storage.UseTrash, "deleted messages": storage.UseTrash,
		"junk": storage.UseJunk, "spam": storage.UseJunk, "junk e-mail": storage.UseJunk, "archive": storage.UseArchive,
	}[strings.ToLower(name)]
}

// crlfReader turns bare line feeds into CRLF, which IMAP's sizes and signatures count on.
type crlfReader struct {
	r    *bufio.Reader
	c    io.Closer
	last byte
	held bool // a line feed is still to come
}

func openCRLF(path string) (io.ReadCloser, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	return &crlfReader{r: bufio.NewReaderSize(f, 32<<10), c: f}, nil
}

func (c *crlfReader) Close() error { return c.c.Close() }

func (c *crlfReader) Read(p []byte) (int, error) {
	n := 0
	for n < len(p) {
		if c.held {
			p[n], c.last, c.held = '\n', '\n', false
			n++
			continue
		}
		b, err := c.r.ReadByte()
		if err != nil {
			if n > 0 {
				return n, nil
			}
			return 0, err
		}
		if b == '\n' && c.last != '\r' {
			b, c.held = '\r', true
		}
		p[n], c.last = b, b
		n++
	}
	return n, nil
}
