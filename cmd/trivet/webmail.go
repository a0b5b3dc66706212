package main

import (
	"context"
	"errors"

	"trivet/auth"
	"trivet/raft"
	"trivet/smtp"
	"trivet/web/mail"
)

// poster sends what the webmail writes: through the server of submission, which does with it what it does with all mail of users.
type poster struct{ server *smtp.Server }

var _ mail.Sender = poster{}

// Check implements [mail.Sender].
func (p poster) Check(l mail.Letter) error { return asRefused(p.server.CheckPost(postOf(l))) }

// Send implements [mail.Sender].
func (p poster) Send(ctx context.Context, l mail.Letter) error {
	return asRefused(p.server.Post(ctx, postOf(l)))
}

func postOf(l mail.Letter) smtp.Post {
	return smtp.Post{Who: auth.Identity{AccountID: l.Account.ID, Address: l.Account.Address, Admin: l.Account.Admin}, Via: "HTTP",
		Sender: l.From, To: l.To, Message: l.Body}
}

func asRefused(err error) error {
	var refused *smtp.PostError
	if errors.As(err, &refused) {
		return &mail.Refused{Text: refused.Text, Temporary: refused.Temporary}
	}
	return err
}

// openWebmail mounts the webmail on the shell of the web.
func (n *node) openWebmail(submission *smtp.Server) (err error) {
	n.webmail, err = mail.New(mail.Config{Shell: n.shell, Store: n.store, Sender: poster{submission}, Logger: n.log, Clock: n.now,
		Leads: func() bool { return n.raft.Status().Role == raft.RoleLeader }})
	return err
}
