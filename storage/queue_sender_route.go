package storage

import (
	"context"
	"fmt"

	"zombiezen.com/go/sqlite"
)

// kindSetSenderRoute is of feature level 3.
const kindSetSenderRoute kind = 91

// senderRouteSchema is the host that takes what a domain's users and forwards send elsewhere,
// whoever it is for. password is a secret: it is in no view and no answer.
var senderRouteSchema = []string{
	`CREATE TABLE sender_route (domain TEXT PRIMARY KEY, host TEXT NOT NULL, port INTEGER NOT NULL, tls INTEGER NOT NULL,
		user TEXT NOT NULL, password TEXT NOT NULL) STRICT, WITHOUT ROWID`,
}

// applySetSenderRoute removes the route when it has no host.
func applySetSenderRoute(t *tx, r QueueRoute) (any, error) { return nil, t.putRoute("sender_route", r) }

// putRoute writes a route into its table, or removes it when it has no host.
func (t *tx) putRoute(table string, r QueueRoute) error {
	if r.Host == "" {
		n, err := t.mail.exec("DELETE FROM "+table+" WHERE domain = ?", r.Domain)
		if err == nil && n == 0 {
			err = fail("remove route of "+quote(r.Domain), KindNotFound, "see 'trivet route list'")
		}
		return err
	}
	n := 0
	if _, err := t.mail.row("SELECT count(*) FROM "+table+" WHERE domain <> ?", func(st *sqlite.Stmt) { n = st.ColumnInt(0) }, r.Domain); err != nil {
		return err
	}
	if n >= MaxRoutes {
		return fail("set route", KindTooLarge, fmt.Sprintf("there are at most %d routes", MaxRoutes))
	}
	mode := 0
	for i, name := range routeTLS {
		if name == r.TLS {
			mode = i
		}
	}
	_, err := t.mail.exec("INSERT OR REPLACE INTO "+table+" (domain, host, port, tls, user, password) VALUES (?, ?, ?, ?, ?, ?)",
		r.Domain, r.Host, int(r.Port), mode, r.User, r.Password)
	return err
}

// SenderRoutes returns the domains whose senders have a route of their own; usually there is none.
func (s *Store) SenderRoutes(ctx context.Context) (map[string]bool, error) {
	var found map[string]bool
	err := s.with(ctx, func(c *conn) error {
		return c.rows("SELECT domain FROM sender_route", func(st *sqlite.Stmt) bool {
			if found == nil {
				found = map[string]bool{}
			}
			found[st.ColumnText(0)] = true
			return true
		})
	})
	return found, readError("find routes of senders", err)
}

// SenderRouteFor returns the route of what a domain's senders send to another domain, with its
// password; nil: there is none, or the destination has a route of its own, which comes first.
func (s *Store) SenderRouteFor(ctx context.Context, sender, destination string) (*QueueRoute, error) {
	var r *QueueRoute
	err := s.with(ctx, func(c *conn) error {
		_, err := c.row(`SELECT domain, host, port, tls, user, password FROM sender_route
			WHERE domain = ? AND NOT EXISTS (SELECT 1 FROM route WHERE domain = ?)`, func(st *sqlite.Stmt) {
			route := scanRoute(st)
			route.Sender = true
			r = &route
		}, sender, destination)
		return err
	})
	return r, readError("find route", err)
}
