package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"

	"trivet/auth"
	"trivet/storage"
)

// mailboxesPath is where the control socket turns into an IMAP session of an account: whoever may open the socket may do everything.
const mailboxesPath = "/mailboxes"

// withMailboxes answers mailboxesPath and leaves the other paths to next.
func (n *node) withMailboxes(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != mailboxesPath {
			next.ServeHTTP(w, r)
			return
		}
		if err := n.becomeIMAP(w, r); err != nil {
			answerControl(w, nil, err)
		}
	})
}

func (n *node) becomeIMAP(w http.ResponseWriter, r *http.Request) error {
	server := n.mail.Load()
	if server == nil {
		return &storage.Error{Op: "open the mailboxes", Kind: storage.KindUnavailable, Hint: "the node is starting; try again in a moment"}
	}
	account := r.URL.Query().Get("account")
	credentials, err := n.store.Credentials(r.Context(), account)
	if err != nil {
		return &storage.Error{Op: "open the mailboxes of " + account, Kind: storage.KindOf(err), Hint: "see 'trivet account list'"}
	}
	conn, buffered, err := http.NewResponseController(w).Hijack()
	if err != nil {
		return err
	}
	_, err = buffered.WriteString("HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: imap\r\n\r\n")
	if err == nil {
		err = buffered.Flush()
	}
	if err != nil {
		return conn.Close()
	}
	server.ServeAs(conn, auth.Identity{AccountID: credentials.AccountID, Address: credentials.Address})
	return nil
}

// dialMailboxes opens an IMAP session of an account through the control socket.
func (c *controller) dialMailboxes(ctx context.Context, account string) (net.Conn, error) {
	path, done, err := c.dir.shortSocket()
	if err != nil {
		return nil, err
	}
	defer done()
	var dialer net.Dialer
	conn, err := dialer.DialContext(ctx, "unix", path)
	if err != nil {
		return nil, c.unreachable(err)
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://control"+mailboxesPath, nil)
	if err != nil {
		return nil, err
	}
	query := request.URL.Query()
	query.Set("account", account)
	request.URL.RawQuery = query.Encode()
	request.Header.Set("Connection", "Upgrade")
	request.Header.Set("Upgrade", "imap")
	if err := request.Write(conn); err != nil {
		_ = conn.Close()
		return nil, err
	}
	r := bufio.NewReader(conn)
	response, err := http.ReadResponse(r, request)
	if err != nil {
		_ = conn.Close()
		return nil, err
	}
	if response.StatusCode != http.StatusSwitchingProtocols {
		defer conn.Close()
		return nil, readRefusal(response)
	}
	return &bufferedConn{conn, r}, nil
}

// readRefusal reads why there is no session.
func readRefusal(response *http.Response) error {
	defer response.Body.Close()
	var answer controlAnswer
	if err := json.NewDecoder(io.LimitReader(response.Body, maxControlResponse)).Decode(&answer); err != nil {
		return fmt.Errorf("ask the node for the mailboxes: %w", err)
	}
	if answer.Error == nil {
		return errors.New("the node gave no session of the mailboxes")
	}
	return answer.Error.error()
}

// bufferedConn is a connection of which something was read already.
type bufferedConn struct {
	net.Conn
	r *bufio.Reader
}

func (c *bufferedConn) Read(p []byte) (int, error) { return c.r.Read(p) }

// mailboxArgument is where an import goes to, or an export comes from.
type mailboxArgument struct {
	account string
	server  string // "imaps://host:port"; empty: the node of the data folder
	secret  string
}

// open logs in.
func (m mailboxArgument) open(ctx context.Context, dir dataDir) (*dialog, error) {
	if m.server == "" {
		conn, err := newController(dir).dialMailboxes(ctx, m.account)
		if err != nil {
			return nil, err
		}
		return newDialog(conn)
	}
	u, err := parseIMAPServer(m.server)
	if err != nil {
		return nil, err
	}
	conn, err := u.dial(ctx)
	if err != nil {
		return nil, err
	}
	d, err := newDialog(conn)
	if err == nil {
		_, err = d.do("LOGIN " + quoteIMAP(m.account) + " " + quoteIMAP(m.secret))
	}
	if err == nil {
		_, err = d.do("ENABLE IMAP4rev2")
	}
	if err != nil {
		_ = conn.Close()
		return nil, fmt.Errorf("log in at %s as %s: %w", u.address, m.account, err)
	}
	return d, nil
}
