package main

import (
	"context"
	"time"

	"trivet/auth"
	"trivet/smtp"
	"trivet/storage"
)

// settingSRSKey is the name under which the nodes share the secret of rewritten
// senders.
const settingSRSKey = "srs.key"

// Limits of what an account may submit in an hour, unless it has its own.
const (
	defaultSubmissionMessages   = 500
	defaultSubmissionRecipients = 1000
)

// smtpConfig is what both SMTP servers have in common.
func (n *node) smtpConfig() smtp.Config {
	return smtp.Config{Hostname: n.hostname(), Store: n.store, Logger: n.log, TLS: n.certs.exchange(), Limits: n.settings.smtpLimits(),
		Metrics: n.metrics, Refused: n.noteRefusal, Healthy: n.healthy, Clock: n.now, SRSKey: n.srsKey, Node: string(n.settings.Node),
		SpoolDir: n.dir.path("local/spool"), Guard: n.guard, GreetingDelay: time.Duration(n.settings.GreetingDelay)}
}

// submissionServer takes mail from users who log in.
func (n *node) submissionServer(authenticator *auth.Authenticator) *smtp.Server {
	c := n.smtpConfig()
	c.TLS = n.certs.server()
	c.Auth = authenticator
	c.Submission = n.settings.submissionLimit()
	c.Wrote = n.spamSenders.wrote
	return smtp.New(c)
}

// submissionLimit is what an account may submit in an hour if it has no limits of its own.
func (s settings) submissionLimit() storage.SubmissionLimit {
	return storage.SubmissionLimit{Messages: int64(s.SubmissionMessages), Recipients: int64(s.SubmissionRecipients)}
}

// submissionServices are the two listeners of submission: STARTTLS, and TLS at once.
func (n *node) submissionServices(open listeners, server *smtp.Server) []service {
	var services []service
	if l := open[listenSubmission]; l != nil {
		services = append(services, service{listenSubmission, l, server.Serve, server.Shutdown})
	}
	if l := open[listenSubmissions]; l != nil {
		services = append(services, service{listenSubmissions, l, server.ServeTLS, server.Shutdown})
	}
	return services
}

// srsKey returns the secret of rewritten senders, and makes it when mail is
// forwarded for the first time. Two nodes that do so at once get the same one.
func (n *node) srsKey(ctx context.Context) ([]byte, error) {
	key, err := n.store.Setting(ctx, settingSRSKey)
	if storage.KindOf(err) != storage.KindNotFound || err == nil {
		return key, err
	}
	if err := n.store.InitSetting(ctx, settingSRSKey, auth.NewSecret()); err != nil {
		return nil, err
	}
	return n.store.Setting(ctx, settingSRSKey)
}
