package main

import (
	"context"
	"net"
	"strings"
	"time"

	"trivet/auth"
	"trivet/smtp"
	"trivet/storage"
)

// keepJournal writes what is remembered of logins, refusals and changes.
func (n *node) keepJournal(ctx context.Context) {
	tick := time.NewTicker(storage.JournalPause)
	defer tick.Stop()
	for ctx.Err() == nil {
		select {
		case <-ctx.Done():
		case <-tick.C:
		}
		n.writeJournal(ctx)
	}
}

func (n *node) writeJournal(ctx context.Context) {
	patience, cancel := context.WithTimeout(context.WithoutCancel(ctx), storage.JournalPause)
	defer cancel()
	if err := n.store.WriteJournal(patience); err != nil && ctx.Err() == nil {
		n.log.Warn("some logins, refusals or changes are not in the journal", "error", err)
	}
}

// noteLogin remembers a guess at a password.
func (n *node) noteLogin(a auth.Attempt) {
	n.store.Note(storage.JournalEntry{Kind: storage.JournalLogin, Node: string(n.settings.Node), Account: a.Account, Address: a.Address,
		Remote: addressOf(a.Remote), Service: string(a.Service), Outcome: string(a.Outcome)})
}

// addressOf is the address of a client without its port.
func addressOf(remote net.Addr) string {
	if remote == nil {
		return ""
	}
	if host, _, err := net.SplitHostPort(remote.String()); err == nil {
		return host
	}
	return remote.String()
}

// noteRefusal remembers mail that was refused.
func (n *node) noteRefusal(r smtp.Refusal) {
	n.store.Note(storage.JournalEntry{Kind: storage.JournalRefusal, Node: string(n.settings.Node), Account: r.Account, Address: r.Recipient, Sender: r.Sender,
		Remote: r.Remote, Outcome: r.Code, Text: r.Reply})
}

// readOperations only tell: no journal is kept of them.
var readOperations = []string{"status", "trace", "verify", "doctor"}

// readEndings are how the names of others that only tell end.
var readEndings = []string{".list", ".show", ".dns", ".check", ".salt", ".waiting", ".get", ".status"}

// operatorName is who acts over the control socket.
const operatorName = "operator"

// noteChange remembers what somebody changed, over the control socket or the web. What was
// sent with it is not kept: there are secrets in it.
func (n *node) noteChange(by, operation, subject string, err error) {
	for _, name := range readOperations {
		if operation == name {
			return
		}
	}
	for _, end := range readEndings {
		if strings.HasSuffix(operation, end) {
			return
		}
	}
	outcome := "done"
	if err != nil {
		outcome = storage.KindOf(err).String()
	}
	entry := storage.JournalEntry{Kind: storage.JournalChange, Node: string(n.settings.Node), Address: by, Service: operation, Outcome: outcome, Text: subject}
	if strings.Contains(subject, "@") { // whom it concerns may know
		if a, err := n.store.AccountByAddress(context.Background(), subject); err == nil {
			entry.Account = a.ID
		}
	}
	n.store.Note(entry)
}
