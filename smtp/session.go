package smtp

import (
	"crypto/rand"
	"crypto/tls"
	"encoding/base32"
	"net"
	"net/netip"
	"strconv"
	"time"

	gosmtp "github.com/emersion/go-smtp"

	"trivet/auth"
	"trivet/storage"
)

// session is what is known of one client. Its methods of upper case are the
// verbs as go-smtp calls them, after the gate has looked at each command.
type session struct {
	server *Server
	gate   *gate
	id     string     // random; a message's id is this with a number
	remote netip.Addr // zero if the network is not IP
	ends   time.Time  // no command is read after it; zero: never
	tls    *tls.ConnectionState
	who    auth.Identity // zero: nobody has logged in
	via    string        // how a post came, which is not by SMTP; see [Post]

	helo     string // as the client named itself; empty before EHLO and after STARTTLS
	extended bool   // by EHLO, not HELO

	mail        mailCommand // the last MAIL that was well formed
	rcpt        rcptCommand // the last RCPT that was well formed
	accepted    bool        // MAIL was accepted: a transaction is open
	rcpts       []recipient // accepted in this transaction
	messages    int         // transactions so far, for their ids
	refusals    int         // recipients refused for good in this session
	transaction string      // id of the open transaction
	mayAddress  int64       // recipients that may still be submitted in this hour
}

// recipient is one that was accepted.
type recipient struct {
	path     path
	to       storage.Recipient
	notify   storage.Notify
	original string // ORCPT
	returned bool   // a failure of what was forwarded comes back
}

var (
	_ gosmtp.Session = (*session)(nil)

	idEncoding = base32.NewEncoding("abcdefghijklmnopqrstuvwxyz234567").WithPadding(base32.NoPadding)
)

// randomID is the id of a session.
func randomID() string {
	var random [10]byte
	rand.Read(random[:])
	return idEncoding.EncodeToString(random[:])
}

func newSession(srv *Server, g *gate) *session {
	return &session{server: srv, gate: g, id: randomID(),
		remote: address(g.conn.RemoteAddr()), ends: deadline(srv.cfg.Limits.SessionTime)}
}

// address is the IP address in a, unmapped, or zero.
func address(a net.Addr) netip.Addr {
	if t, ok := a.(*net.TCPAddr); ok {
		return t.AddrPort().Addr().Unmap()
	}
	return netip.Addr{}
}

func (s *session) inTransaction() bool { return s.accepted }

// submits reports whether this is a session of a user, not of another server.
func (s *session) submits() bool { return s.server.cfg.Auth != nil }

// begin opens a transaction.
func (s *session) begin() {
	s.messages++
	s.accepted, s.transaction = true, s.id+"-"+strconv.Itoa(s.messages)
}

// Reset ends the transaction, if any (RFC 5321 section 4.1.1.5).
func (s *session) Reset() {
	s.accepted, s.rcpts = false, s.rcpts[:0]
}

// Logout is called when go-smtp closes the connection.
func (s *session) Logout() error { return nil }
