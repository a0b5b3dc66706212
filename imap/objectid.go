package imap

import (
	"crypto/sha256"
	"encoding/hex"
	"io"
	"strconv"

	"trivet/storage"
	"trivet/storage/message"
)

// Object ids (RFC 8474). A mailbox keeps its number whatever its name; a message's is that of its
// content, so that copies share it; a thread's comes from the id of the message that began it.

func mailboxID(id int64) string { return "M" + strconv.FormatInt(id, 36) }

func emailID(message int64) string { return "E" + strconv.FormatInt(message, 36) }

func appendUint(b []byte, n uint32) []byte { return strconv.AppendUint(b, uint64(n), 10) }

// threadID names the thread of a message, of which FieldEnvelope, FieldThread and FieldStructure were read: by the
// first of its References, the message it answers, or itself. All that answer one message by the
// rules of RFC 5322 section 3.6.4 carry the id of the first.
func (s *session) threadID(it *storage.Item) string {
	root := ""
	if ids := s.references(it); len(ids) > 0 {
		root = ids[0]
	} else if e, err := message.ParseEnvelope(it.Envelope); err == nil {
		if ids := storage.MessageIDs(e.InReplyTo); len(ids) > 0 {
			root = ids[0]
		} else if ids := storage.MessageIDs(e.MessageID); len(ids) > 0 {
			root = ids[0]
		}
	}
	if root == "" {
		return "T" + emailID(it.MessageID)
	}
	sum := sha256.Sum256([]byte(root))
	return "T" + hex.EncodeToString(sum[:12])
}

// references returns the message ids of the References field. Of messages that came before those were
// kept, the header is read; what cannot be read has none.
func (s *session) references(it *storage.Item) []string {
	if it.Thread.Known {
		return storage.MessageIDs(it.Thread.References)
	}
	root, err := message.ParseStructure(it.Structure)
	if err != nil {
		return nil
	}
	body, err := s.openItem(it)
	if err != nil {
		return nil
	}
	defer body.Close()
	header := make([]byte, min(root.BodyOffset, maxHeaderRead))
	if n, err := body.ReadAt(header, 0); err != nil && err != io.EOF {
		header = header[:n]
	}
	value, _ := message.FindHeader(header, "References")
	return storage.MessageIDs(value)
}
