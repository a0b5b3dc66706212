package storage

import (
	"slices"
	"strings"

	"zombiezen.com/go/sqlite"

	"trivet/storage/message"
)

// ReasonProven is the name of the reason in verdicts that says that the author's domain stands behind a message. The last
// word of its text is the organisational domain.
const ReasonProven = "dmarc.pass"

// learnReputation corrects what a message counted for its author, when somebody said what it is: as a message that was
// counted the other way. It is a part of what an account may teach all (see [SpamShare]), and only messages count whose author is
// proven: nobody can give others a bad name by a forgery.
func (t *tx) learnReputation(l LearnedItem) error {
	if !l.Charged || len(l.Hash) != SpamHashSize {
		return nil
	}
	var id int64
	var envelope []byte
	last := append(slices.Clone(l.Hash), slices.Repeat([]byte{0xff}, SpamHashSize)...)
	found, err := t.mail.row("SELECT id, envelope FROM message WHERE hash BETWEEN ? AND ?", func(st *sqlite.Stmt) {
		id, envelope = st.ColumnInt64(0), columnBytes(st, 1)
	}, l.Hash, last)
	if err != nil || !found {
		return err
	}
	text := ""
	proven, err := t.mail.row("SELECT text FROM spam_reason WHERE message_id = ? AND account_id = ? AND name = ?", func(st *sqlite.Stmt) { text = st.ColumnText(0) },
		id, l.Account, ReasonProven)
	if err != nil || !proven {
		return err
	}
	counts := []ReputationCount{{Kind: ReputationDomain, Name: text[strings.LastIndexByte(text, ' ')+1:]}}
	if address := authorOf(envelope); address != "" {
		counts = append(counts, ReputationCount{Kind: ReputationAddress, Name: address})
	}
	for i := range counts {
		counts[i].Wanted, counts[i].Unwanted = ReputationUnit, -ReputationUnit
		if l.Unwanted {
			counts[i].Wanted, counts[i].Unwanted = -ReputationUnit, ReputationUnit
		}
	}
	_, err = applyCountReputation(t, counts)
	return err
}

// authorOf is the address of the first author of a stored envelope, in lower case; empty: there is none.
func authorOf(envelope []byte) string {
	e, err := message.ParseEnvelope(envelope)
	if err != nil {
		return ""
	}
	for _, a := range e.From {
		if a.Kind == message.Mailbox && a.Host != "" {
			return strings.ToLower(a.Addr())
		}
	}
	return ""
}
