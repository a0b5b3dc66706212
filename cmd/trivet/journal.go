package main

import (
	"context"
	"net"
	"slices"
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

// tellingOperations change nothing: the journal has no entry of them. Others are entered also when all that they were asked for
// this time is how something stands.
var tellingOperations = []string{"status", "trace", "verify", "doctor", "account.list", "account.salt", "activity.list", "alias.list", "ban.list", "certificate.list",
	"certificate.show", "certificate.waiting", "database.list", "dkim.list", "domain.check", "domain.dns", "domain.list", "factor.list", "forward.list", "group.list", "group.show",
	"imap.withheld", "password.list", "queue.list", "queue.show", "report.list", "report.show", "report.tls.list", "report.tls.show", "route.list", "sender.list", "settings.list", "settings.try",
	"spam.check", "spam.choices", "spam.dnsbl.check", "spam.greylist", "spam.kept", "spam.key", "spam.policies", "spam.reputation", "spam.stats", "token.list", "vacation.show"}

// operatorName is who acts over the control socket.
const operatorName = "operator"

// actorKey is where the context of an operation says who asks for it.
type actorKey struct{}

// withActor says who asks for what runs under the context; actor tells.
func withActor(ctx context.Context, name string) context.Context {
	return context.WithValue(ctx, actorKey{}, name)
}

func actor(ctx context.Context) string {
	if name, ok := ctx.Value(actorKey{}).(string); ok {
		return name
	}
	return operatorName
}

// noteChange remembers what somebody changed, over the control socket or the web. What was
// sent with it is not kept: there are secrets in it.
func (n *node) noteChange(by, operation, subject string, err error) {
	if slices.Contains(tellingOperations, operation) {
		return
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
