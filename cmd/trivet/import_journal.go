package main

import (
	"bufio"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
)

// journal remembers what an import has done, a line of JSON for each message, so that the same import can be taken up after
// it was cut short, and repeated for what came since.
type journal struct {
	file    *os.File
	w       *bufio.Writer
	entries map[string]map[string]journalEntry // by mailbox of the source and its validity, then key
}

// journalEntry is what became of a message.
type journalEntry struct {
	Mailbox  string `json:"m,omitempty"` // of the source
	Validity string `json:"v,omitempty"`
	Key      string `json:"k,omitempty"`
	UID      uint32 `json:"u"`           // here; 0: it was expunged here as well
	Flags    string `json:"f,omitempty"` // as they were at the source
}

// appending is the key of the entry that says from which UID on a run has appended to a mailbox; 0: it came to its end.
const appending = ""

// journalFile is where an import remembers what it did.
func (o *importOptions) journalFile(dir dataDir, src importSource) string {
	if o.journal != "" {
		return o.journal
	}
	sum := sha256.Sum256([]byte(src.String() + "\n" + o.to.server + "\n" + o.to.account + "\n" + o.into))
	return filepath.Join(string(dir), "local", "import", hex.EncodeToString(sum[:8])+".journal")
}

// openJournal reads what there is. A last line that was cut short is left out. With readOnly nothing is written.
func openJournal(path string, readOnly bool) (*journal, error) {
	j := &journal{entries: map[string]map[string]journalEntry{}}
	if err := j.read(path); err != nil {
		return nil, err
	}
	if readOnly {
		return j, nil
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return nil, err
	}
	f, err := os.OpenFile(path, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return nil, fmt.Errorf("open the journal: %w", err)
	}
	j.file, j.w = f, bufio.NewWriter(f)
	_, err = f.WriteString("\n") // ends a line that was cut short
	return j, err
}

func (j *journal) read(path string) error {
	f, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("open the journal: %w", err)
	}
	defer f.Close()
	lines := bufio.NewScanner(f)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		var e journalEntry
		if len(lines.Bytes()) > 0 && json.Unmarshal(lines.Bytes(), &e) == nil {
			j.remember(e)
		}
	}
	return lines.Err()
}

func mailboxKey(name, validity string) string { return validity + "\n" + name }

func (j *journal) remember(e journalEntry) {
	key := mailboxKey(e.Mailbox, e.Validity)
	if j.entries[key] == nil {
		j.entries[key] = map[string]journalEntry{}
	}
	j.entries[key][e.Key] = e
}

// of returns what is known of a mailbox.
func (j *journal) of(box *sourceMailbox) map[string]journalEntry {
	return j.entries[mailboxKey(box.name, box.validity)]
}

// add writes entries; they are on their way to disk when it returns.
func (j *journal) add(entries ...journalEntry) error {
	for _, e := range entries {
		j.remember(e)
		line, err := json.Marshal(e)
		if err != nil {
			return err
		}
		if _, err := j.w.Write(append(line, '\n')); err != nil {
			return fmt.Errorf("write the journal: %w", err)
		}
	}
	return j.w.Flush()
}

func (j *journal) close() {
	if j.file != nil {
		_ = j.file.Close()
	}
}
