package storage

import (
	"context"
	"slices"
	"strings"
	"time"

	"zombiezen.com/go/sqlite"
)

const trailColumns = "t.id, t.name, t.at, t.node, t.sender, t.remote, t.via, t.verdict, t.size, t.delivered, t.queued"

// trails goes through the ways of messages that a viewer may know of, in the
// order in which they began for each of the viewer's addresses.
func (v *viewer) trails(q viewQuery, rows func(ctx context.Context, t *Traced) ([]viewRow, error)) pages {
	addresses := append([]string{v.address}, v.others...)
	if v.all {
		addresses = []string{""}
	}
	name, oneName := q.text("id")
	low, high := q.times("at")
	seen := map[int64]bool{} // trails found by another address of the viewer
	after := int64(0)
	return func(ctx context.Context) (page []viewRow, err error) {
		for len(addresses) > 0 && len(page) == 0 {
			var found []Traced
			found, err = v.trailPage(ctx, addresses[0], name, after)
			if err != nil {
				return nil, err
			}
			if len(found) == 0 {
				addresses, after = addresses[1:], 0
				continue
			}
			after = found[len(found)-1].trail
			for i := range found {
				t := &found[i]
				if oneName && t.ID != name || outside(t.at.UnixMilli(), low, high) || seen[t.trail] {
					continue
				}
				if len(v.others) > 0 && !v.all {
					seen[t.trail] = true
				}
				more, err := rows(ctx, t)
				if err != nil {
					return nil, err
				}
				page = append(page, more...)
			}
		}
		return page, nil
	}
}

func (v *viewer) trailPage(ctx context.Context, address, name string, after int64) (found []Traced, err error) {
	sql, args := "SELECT "+trailColumns+" FROM trail t WHERE t.id > ?1 ORDER BY t.id LIMIT ?2", []any{after, int64(viewPage)}
	switch {
	case name != "":
		sql, args = "SELECT "+trailColumns+" FROM trail t WHERE t.name = ?3 AND t.id > ?1 ORDER BY t.id LIMIT ?2", append(args, name)
	case !v.all:
		sql = "SELECT " + trailColumns + " FROM trail_address a JOIN trail t ON t.id = a.trail WHERE a.address = ?3 AND a.trail > ?1 ORDER BY a.trail LIMIT ?2"
		args = append(args, asciiLower(address))
	}
	err = v.store.with(ctx, func(c *conn) error {
		return c.rows(sql, func(st *sqlite.Stmt) bool {
			found = append(found, Traced{trail: st.ColumnInt64(0), ID: st.ColumnText(1), at: millis(st.ColumnInt64(2)), node: st.ColumnText(3), Sender: st.ColumnText(4),
				remote: st.ColumnText(5), via: st.ColumnText(6), verdict: st.ColumnText(7), Size: st.ColumnInt64(8), delivered: st.ColumnText(9), queued: st.ColumnText(10)})
			return true
		}, args...)
	})
	return found, readError("read the ways of messages", err)
}

// submitted reports whether the viewer sent a message through us: who logged in
// stands at the end of how it came, where nobody else can write.
func (v *viewer) submitted(t *Traced) bool {
	return v.all || t.remote != "" && v.address != "" && strings.HasSuffix(t.via, " "+v.address)
}

// recipients calls f for the recipients of a message that the viewer may know
// of: those of its own messages, and itself. Others' are nobody's business (Bcc).
func (v *viewer) recipients(t *Traced, f func(address string, here bool)) {
	mine := v.submitted(t)
	for i, list := range []string{t.delivered, t.queued} {
		for address := range strings.FieldsFuncSeq(list, func(r rune) bool { return r == '\n' }) {
			if mine || i == 0 && address == v.address {
				f(address, i == 0)
			}
		}
	}
}

var viewDelivery = viewTable{name: "delivery", text: "The ways of messages through this system in the last 30 days, a row for each recipient. An account sees what it got and what it sent.",
	columns: []viewColumn{
		{"id", kindText, 0.00001, "as the Received field and 'trivet trace' name it"},
		{"at", kindTime, 0.01, "when it came"},
		{"sender", kindText, 0, "reverse path; NULL: a report"},
		{"recipient", kindText, 0, ""},
		{"direction", kindText, 0, "in: to a mailbox here; out: to another system"},
		{"state", kindText, 0, "delivered, queued, sent, deferred, failed, held, dropped: the last that happened"},
		{"reply", kindText, 0, "what the other system said last"},
		{"finished", kindTime, 0, "when that was"},
		{"size", kindInteger, 0, "octets"},
		{"remote", kindText, 0, "who sent it to us; NULL: it was made here"},
		{"via", kindText, 0, "protocol, TLS, who logged in"},
		{"verdict", kindText, 0, "what the checks said"},
		{"node", kindText, 0, "which took it"},
	},
	rows: func(v *viewer, ctx context.Context, q viewQuery) (pages, error) {
		events := q.needs("state", "reply", "finished")
		return v.trails(q, func(ctx context.Context, t *Traced) (rows []viewRow, err error) {
			v.recipients(t, func(address string, here bool) {
				row := viewRow{t.ID, shown(t.at), orNull(t.Sender), address, "in", "delivered", nil, shown(t.at), t.Size, orNull(t.remote), orNull(t.via), orNull(t.verdict), orNull(t.node)}
				if !here {
					row[4], row[5], row[7] = "out", "queued", nil
				}
				if !here && events && err == nil {
					err = v.lastEvent(ctx, t.trail, address, row)
				}
				rows = append(rows, row)
			})
			return rows, err
		}), nil
	}}

// lastEvent fills in what happened last to a recipient elsewhere.
func (v *viewer) lastEvent(ctx context.Context, trail int64, address string, row viewRow) error {
	err := v.store.with(ctx, func(c *conn) error {
		_, err := c.row("SELECT kind, reply, at FROM event WHERE trail = ? AND address = ? AND kind <> ? ORDER BY id DESC LIMIT 1", func(st *sqlite.Stmt) {
			row[5], row[6], row[7] = EventKind(st.ColumnInt64(0)).String(), orNull(st.ColumnText(1)), shownMillis(st.ColumnInt64(2))
		}, trail, address, int64(EventReported))
		return err
	})
	return readError("read the ways of messages", err)
}

var viewEvent = viewTable{name: "event", text: "What happened to messages that go to other systems, step by step. An account sees those of what it sent.",
	columns: []viewColumn{
		{"id", kindText, 0.00001, "delivery.id"},
		{"at", kindTime, 0, "when it happened"},
		{"kind", kindText, 0, "sent, deferred, failed, lost, reported, held, retried or dropped"},
		{"recipient", kindText, 0, ""},
		{"remote", kindText, 0, "the other system"},
		{"reply", kindText, 0, "what it said"},
		{"node", kindText, 0, "which tried"},
	},
	rows: func(v *viewer, ctx context.Context, q viewQuery) (pages, error) {
		q.columns = slices.Clone(q.columns)
		q.columns[1].name = "" // the time of an event is not that of its message
		return v.trails(q, func(ctx context.Context, t *Traced) (rows []viewRow, err error) {
			if !v.submitted(t) {
				return nil, nil
			}
			whole := Traced{trail: t.trail}
			if err := v.store.with(ctx, whole.read); err != nil {
				return nil, readError("read the ways of messages", err)
			}
			for _, e := range whole.Events {
				if e.Kind > EventQueued {
					rows = append(rows, viewRow{t.ID, shown(e.At), e.Kind.String(), orNull(e.Address), orNull(e.Remote), orNull(e.Text), orNull(e.Node)})
				}
			}
			return rows, nil
		}), nil
	}}

var viewQueue = viewTable{name: "queue", text: "What waits to be sent to other systems, a row for each recipient.",
	columns: []viewColumn{
		{"queue_id", kindInteger, 0.0001, "as 'trivet queue' names it"},
		{"account", kindText, 0, "who sent it"},
		{"sender", kindText, 0, "reverse path; NULL: a report"},
		{"recipient", kindText, 0, ""},
		{"state", kindText, 0, "due, leased, held, sent or failed"},
		{"attempts", kindInteger, 0, "so far"},
		{"next", kindTime, 0, "when it is tried again"},
		{"remote", kindText, 0, "the other system, of the last attempt"},
		{"reply", kindText, 0, "what it said"},
		{"size", kindInteger, 0, "octets"},
		{"created", kindTime, 0, "when it came"},
	},
	rows: func(v *viewer, ctx context.Context, q viewQuery) (pages, error) {
		return v.byID(`SELECT r.id, r.queue_id, ifnull(a.address, ''), q.sender, r.address, r.state, r.attempts, r.next, r.remote, r.reply, q.size, q.created FROM queue_recipient r
			JOIN queue_message q ON q.id = r.queue_id LEFT JOIN account a ON a.id = q.account_id WHERE r.id > ?1 AND (?3 = 0 OR q.account_id = ?3) ORDER BY r.id LIMIT ?2`,
			[]any{v.owner()}, func(st *sqlite.Stmt) viewRow {
				return viewRow{st.ColumnInt64(1), orNull(st.ColumnText(2)), orNull(st.ColumnText(3)), st.ColumnText(4), QueueState(st.ColumnInt64(5)).String(), st.ColumnInt64(6),
					shownMillis(st.ColumnInt64(7)), orNull(st.ColumnText(8)), orNull(st.ColumnText(9)), st.ColumnInt64(10), shownMillis(st.ColumnInt64(11))}
			}), nil
	}}

// outside reports whether a moment, in milliseconds, lies outside of bounds in seconds.
func outside(ms int64, low, high time.Time) bool {
	t := time.UnixMilli(ms)
	return t.Before(low) || !t.Before(high.Add(time.Second))
}
