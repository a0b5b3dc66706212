package pgwire

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"crypto/tls"

	"github.com/jackc/pgx/v5/pgproto3"

	"trivet/auth"
	"trivet/storage"
)

// serverVersion is what programs take us for, by which they choose their queries
// of the catalogue.
const serverVersion = "15.0"

// login takes the client's first messages, up to the first ReadyForQuery.
func (n *session) login() error {
	startup, err := n.start()
	if err != nil {
		return err
	}
	n.settings = map[string]string{}
	for name, value := range startup.Parameters {
		n.settings[strings.ToLower(name)] = value
	}
	n.user, n.database = n.settings["user"], n.settings["database"]
	if n.database == "" {
		n.database = n.user
	}
	if n.crowded {
		n.fatal("53300", "there are too many connections; try again later")
		return errEnd
	}
	if err := n.authenticate(); err != nil {
		return err
	}
	if !n.server.admit(n) {
		n.fatal("53300", "this account has too many connections; close some")
		return errEnd
	}
	if err := n.open(); err != nil {
		n.back.Send(errorResponse("FATAL", err))
		n.flush()
		return err
	}
	n.send(&pgproto3.AuthenticationOk{})
	n.parameters()
	n.send(&pgproto3.BackendKeyData{ProcessID: n.pid, SecretKey: n.secret})
	return n.ready()
}

// start takes what comes before the StartupMessage: SSLRequest, CancelRequest.
func (n *session) start() (*pgproto3.StartupMessage, error) {
	n.back = pgproto3.NewBackend(n.conn, n.conn)
	n.back.SetMaxBodyLen(maxLoginMessage)
	for range 4 {
		message, err := n.back.ReceiveStartupMessage()
		if err != nil {
			return nil, err
		}
		switch m := message.(type) {
		case *pgproto3.StartupMessage:
			return m, nil
		case *pgproto3.CancelRequest:
			n.server.cancel(m.ProcessID, m.SecretKey)
			return nil, errEnd
		case *pgproto3.GSSEncRequest:
			if _, err := n.conn.Write([]byte{'N'}); err != nil {
				return nil, err
			}
		case *pgproto3.SSLRequest:
			if err := n.startTLS(); err != nil {
				return nil, err
			}
		}
	}
	return nil, errors.New("too many requests before the StartupMessage")
}

func (n *session) startTLS() error {
	_, already := n.conn.(*tls.Conn)
	if n.server.cfg.TLS == nil || already {
		_, err := n.conn.Write([]byte{'N'})
		return err
	}
	if _, err := n.conn.Write([]byte{'S'}); err != nil {
		return err
	}
	// What came in clear behind the request must not be taken for what comes inside TLS
	// (CVE-2021-23214): the backend has read the request and nothing else, or the handshake fails.
	secure := auth.ServerTLS(n.conn, n.server.cfg.TLS)
	if err := secure.HandshakeContext(n.server.ctx); err != nil {
		return fmt.Errorf("TLS: %w", err)
	}
	n.mu.Lock()
	n.conn = secure
	n.mu.Unlock()
	n.back = pgproto3.NewBackend(n.conn, n.conn)
	n.back.SetMaxBodyLen(maxLoginMessage)
	return nil
}

// channel is what package auth is told of the connection.
func (n *session) channel() auth.Channel {
	c := auth.Channel{Remote: n.conn.RemoteAddr(), Service: auth.ServiceSQL, User: n.user}
	if secure, ok := n.conn.(*tls.Conn); ok {
		c.TLS, c.Secure = secure, true
	}
	c.Secure = c.Secure || auth.Loopback(c.Remote)
	return c
}

// authenticate has the client prove who it is, by SCRAM.
func (n *session) authenticate() error {
	if n.server.cfg.Trusted {
		return nil
	}
	channel := n.channel()
	if !channel.Secure {
		n.fatal("28000", "connections from elsewhere need TLS; use sslmode=require")
		return errEnd
	}
	err := n.exchange(channel)
	switch {
	case err == nil:
		return nil
	case errors.Is(err, auth.ErrThrottled), errors.Is(err, auth.ErrUnavailable), errors.Is(err, auth.ErrDisabled):
		n.fatal("28000", err.Error())
	case errors.Is(err, auth.ErrCredentials), errors.Is(err, auth.ErrMalformed), errors.Is(err, auth.ErrMechanism):
		n.fatal("28P01", fmt.Sprintf("password authentication failed for user %q", n.user))
	}
	return err
}

func (n *session) exchange(channel auth.Channel) error {
	ctx, cancel := context.WithTimeout(n.server.ctx, loginTime)
	defer cancel()
	var mechanisms []string
	for _, m := range n.server.cfg.Auth.Mechanisms(ctx, channel) {
		if strings.HasPrefix(m, auth.MechanismSCRAM) {
			mechanisms = append(mechanisms, m)
		}
	}
	n.send(&pgproto3.AuthenticationSASL{AuthMechanisms: mechanisms})
	if err := n.flush(); err != nil {
		return err
	}
	if err := n.back.SetAuthType(pgproto3.AuthTypeSASL); err != nil {
		return err
	}
	message, err := n.back.Receive()
	if err != nil {
		return err
	}
	first, ok := message.(*pgproto3.SASLInitialResponse)
	if !ok || !slices.Contains(mechanisms, first.AuthMechanism) {
		return auth.ErrMechanism
	}
	e, err := n.server.cfg.Auth.Start(ctx, first.AuthMechanism, channel)
	if err != nil {
		return err
	}
	challenge, _, err := e.Next(first.Data)
	if err != nil {
		return err
	}
	n.send(&pgproto3.AuthenticationSASLContinue{Data: challenge})
	if err := n.flush(); err != nil {
		return err
	}
	if err := n.back.SetAuthType(pgproto3.AuthTypeSASLContinue); err != nil {
		return err
	}
	if message, err = n.back.Receive(); err != nil {
		return err
	}
	final, ok := message.(*pgproto3.SASLResponse)
	if !ok {
		return auth.ErrMalformed
	}
	if challenge, _, err = e.Next(final.Data); err != nil {
		return err
	}
	if _, _, err = e.Next(nil); err != nil { // PostgreSQL's client does not answer the last message
		return err
	}
	n.identity = e.Identity()
	n.send(&pgproto3.AuthenticationSASLFinal{Data: challenge})
	return nil
}

// sqlUser is who storage is asked for.
func (n *session) sqlUser() storage.SQLUser {
	return storage.SQLUser{AccountID: n.identity.AccountID, Admin: n.identity.Admin, Operator: n.server.cfg.Trusted}
}

// open opens the database.
func (n *session) open() error {
	consistency := storage.Consistency(n.settings["trivet.consistency"])
	for option := range strings.FieldsSeq(n.settings["options"]) { // -c trivet.consistency=linearizable
		option = strings.TrimPrefix(strings.TrimPrefix(option, "-c"), "--")
		if name, value, ok := strings.Cut(option, "="); ok {
			n.settings[strings.ToLower(name)] = value
			if strings.EqualFold(name, "trivet.consistency") {
				consistency = storage.Consistency(value)
			}
		}
	}
	sql, err := n.server.cfg.Databases.OpenSQL(n.server.ctx, n.sqlUser(), n.database, consistency)
	if err != nil {
		return err
	}
	sql.SetAbortOnError()
	n.sql = sql
	n.statements, n.portals = map[string]*statement{}, map[string]*portal{}
	return nil
}

// reported are the settings that clients want to know of (ParameterStatus).
func (n *session) reported() map[string]string {
	admin := "off"
	if n.identity.Admin || n.server.cfg.Trusted {
		admin = "on"
	}
	return map[string]string{
		"server_version": serverVersion, "server_encoding": "UTF8", "client_encoding": "UTF8", "DateStyle": "ISO, MDY",
		"IntervalStyle": "postgres", "TimeZone": "UTC", "integer_datetimes": "on", "standard_conforming_strings": "on",
		"is_superuser": admin, "session_authorization": n.user, "application_name": n.settings["application_name"],
		"trivet_version": n.server.cfg.Version,
	}
}

func (n *session) parameters() {
	all := n.reported()
	for _, name := range slices.Sorted(maps.Keys(all)) {
		n.send(&pgproto3.ParameterStatus{Name: name, Value: all[name]})
	}
}
