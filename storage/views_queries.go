package storage

import (
	"slices"
	"strconv"
	"strings"
)

// MailQuery is a question about mail that many have, in SQL on the database mail.
type MailQuery struct {
	Name       string               `json:"name"`
	Title      string               `json:"title"`
	Parameters []MailQueryParameter `json:"parameters"`
	SQL        string               `json:"sql"` // with :name where a parameter goes
}

// MailQueryParameter is what a question is about.
type MailQueryParameter struct {
	Name    string `json:"name"`
	Text    string `json:"text"`
	Default string `json:"default"`
}

// Parameters that several questions have.
var (
	paramDays  = MailQueryParameter{"days", "how many days back", "30"}
	paramLimit = MailQueryParameter{"limit", "how many rows", "20"}
	paramFrom  = MailQueryParameter{"from", "part of a name or address", ""}
)

// MailQueries lists the questions that are shipped.
func MailQueries() []MailQuery {
	since := func(column string) string {
		return column + " >= datetime('now', '-' || CAST(:days AS INTEGER) || ' days')"
	}
	limit := " LIMIT CAST(:limit AS INTEGER)"
	return []MailQuery{
		{"writers", "Who writes to me most", []MailQueryParameter{{"days", "how many days back", "365"}, paramLimit},
			`SELECT r.address, max(r.name) AS name, count(DISTINCT r.id) AS messages, max(r.received) AS last FROM recipient r JOIN mailbox b ON b.id = r.mailbox_id
WHERE r.kind = 'from' AND b.special_use IS NOT '\Sent' AND b.special_use IS NOT '\Drafts' AND b.special_use IS NOT '\Junk' AND ` + since("r.received") + `
GROUP BY lower(r.address) ORDER BY messages DESC, last DESC` + limit},
		{"quota", "What is filling my quota", nil,
			`SELECT b.account, b.name AS mailbox, b.messages, b.bytes, round(100.0 * b.bytes / nullif(sum(b.bytes) OVER (PARTITION BY b.account), 0), 1) AS percent,
CASE WHEN a.quota_bytes THEN round(100.0 * b.bytes / a.quota_bytes, 1) END AS percent_of_quota FROM mailbox b JOIN account a ON a.address = b.account ORDER BY b.bytes DESC`},
		{"largest", "Which messages are the largest", []MailQueryParameter{paramLimit},
			`SELECT size, received, from_address, subject, attachments, group_concat(mailbox, ', ') AS mailboxes FROM message GROUP BY account, id ORDER BY size DESC` + limit},
		{"refused", "Which messages were refused, and why", []MailQueryParameter{{"days", "how many days back", "7"}},
			`SELECT at, sender, recipient, remote, code, reason, count FROM refusal WHERE ` + since("at") + ` ORDER BY at DESC`},
		{"find-file", "Find a file that somebody sent", []MailQueryParameter{paramFrom, {"file", "part of its name, or its type as application/pdf", "pdf"},
			{"since", "first day", "2000-01-01"}, {"until", "day behind the last", "2100-01-01"}, paramLimit},
			`SELECT t.received, m.from_name, m.from_address, m.subject, t.name AS file, t.type, t.size, t.mailbox, t.uid FROM attachment t
JOIN message m ON m.mailbox_id = t.mailbox_id AND m.uid = t.uid WHERE t.received >= :since AND t.received < :until
AND (instr(lower(t.name), lower(:file)) OR t.type = lower(:file)) AND instr(lower(ifnull(m.from_name, '') || ' ' || ifnull(m.from_address, '')), lower(:from)) ORDER BY t.received DESC` + limit},
		{"find", "Find messages by their words", []MailQueryParameter{{"words", "all of which they have", ""}, paramLimit},
			`SELECT m.received, m.from_address, m.subject, m.mailbox, m.uid FROM search(:words) s JOIN message m ON m.mailbox_id = s.mailbox_id AND m.uid = s.uid ORDER BY m.received DESC` + limit},
		{"unread", "Who sends what I do not read", []MailQueryParameter{{"days", "how many days back", "90"}, paramLimit},
			`SELECT from_address, count(*) AS messages, sum(NOT seen) AS unread, round(100.0 * sum(NOT seen) / count(*)) AS percent, sum(size) AS bytes FROM message
WHERE ` + since("received") + ` GROUP BY lower(from_address) HAVING unread > 0 ORDER BY unread DESC` + limit},
		{"unanswered", "What did people write to me that I have not answered", []MailQueryParameter{paramDays, paramLimit},
			`SELECT m.received, m.from_name, m.from_address, m.subject FROM message m JOIN mailbox b ON b.id = m.mailbox_id WHERE b.name = 'INBOX' AND NOT m.answered
AND NOT EXISTS (SELECT 1 FROM header h WHERE h.mailbox_id = m.mailbox_id AND h.uid = m.uid AND (lower(h.name) LIKE 'list-%' OR lower(h.name) = 'auto-submitted'))
AND ` + since("m.received") + ` ORDER BY m.received DESC` + limit},
		{"lists", "Which mailing lists and newsletters come, and do I read them", []MailQueryParameter{{"days", "how many days back", "90"}, paramLimit},
			`SELECT h.value AS list, count(*) AS messages, sum(NOT m.seen) AS unread, sum(m.size) AS bytes, max(m.received) AS last FROM header h
JOIN message m ON m.mailbox_id = h.mailbox_id AND m.uid = h.uid WHERE lower(h.name) = 'list-id' AND ` + since("h.received") + ` GROUP BY h.value ORDER BY messages DESC` + limit},
		{"conversations", "Which conversations are the longest", []MailQueryParameter{paramLimit},
			`SELECT subject, messages, unseen, people, first, last, bytes FROM thread ORDER BY messages DESC, last DESC` + limit},
		{"months", "How much mail came, month by month", nil,
			`SELECT substr(received, 1, 7) AS month, count(*) AS messages, sum(size) AS bytes FROM (SELECT DISTINCT account, id, received, size FROM message) GROUP BY month ORDER BY month DESC`},
		{"hours", "At which hours does mail come", []MailQueryParameter{paramDays},
			`SELECT substr(received, 12, 2) AS hour_utc, count(*) AS messages FROM message WHERE ` + since("received") + ` GROUP BY hour_utc ORDER BY hour_utc`},
		{"old-files", "Which old files could go", []MailQueryParameter{{"days", "older than so many days", "365"}, {"octets", "larger than so many octets", "1000000"}, paramLimit},
			`SELECT t.received, t.name AS file, t.type, t.size, t.mailbox, t.uid FROM attachment t WHERE t.received < datetime('now', '-' || CAST(:days AS INTEGER) || ' days')
AND t.size > CAST(:octets AS INTEGER) ORDER BY t.size DESC` + limit},
		{"junk", "Why is that in Junk", []MailQueryParameter{paramDays, paramLimit},
			`SELECT m.received, m.from_address, m.subject, round(m.spam, 3) AS spam, group_concat(r.name || ' ' || round(r.points, 1), ', ') AS reasons FROM message m JOIN mailbox b ON b.id = m.mailbox_id
JOIN spam_reason r ON r.mailbox_id = m.mailbox_id AND r.uid = m.uid WHERE b.special_use = '\Junk' AND ` + since("m.received") + ` GROUP BY m.mailbox_id, m.uid ORDER BY m.received DESC` + limit},
		{"undelivered", "What did I send that has not arrived", []MailQueryParameter{paramDays},
			`SELECT at, sender, recipient, state, reply, finished FROM delivery WHERE direction = 'out' AND state NOT IN ('sent') AND ` + since("at") + ` ORDER BY at DESC`},
		{"waiting", "What waits to be sent", nil,
			`SELECT created, account, sender, recipient, state, attempts, next, reply FROM queue WHERE state IN ('due', 'leased', 'held') ORDER BY created`},
		{"logins", "From where did somebody log in", []MailQueryParameter{paramDays, {"limit", "how many rows", "100"}},
			`SELECT account, service, remote, outcome, sum(count) AS times, max(at) AS last FROM login WHERE ` + since("at") + ` GROUP BY account, service, remote, outcome ORDER BY last DESC` + limit},
	}
}

// FindMailQuery returns the question of a name. KindNotFound: there is none.
func FindMailQuery(name string) (MailQuery, error) {
	all := MailQueries()
	if i := slices.IndexFunc(all, func(q MailQuery) bool { return q.Name == name }); i >= 0 {
		return all[i], nil
	}
	var names []string
	for _, q := range all {
		names = append(names, q.Name)
	}
	return MailQuery{}, fail("find query "+quote(name), KindNotFound, "there are "+strings.Join(names, ", "))
}

// With returns the SQL with values for the parameters; those left out have their
// defaults. Values stand in it as texts between quotation marks, so that what
// they are cannot be taken for SQL. KindInvalid: there is no such parameter.
func (q MailQuery) With(values map[string]string) (string, error) {
	for name := range values {
		if !slices.ContainsFunc(q.Parameters, func(p MailQueryParameter) bool { return p.Name == name }) {
			return "", fail("ask "+q.Name, KindInvalid, "it has no parameter "+strconv.Quote(name))
		}
	}
	pairs := make([]string, 0, 2*len(q.Parameters))
	for _, p := range q.Parameters {
		value, given := values[p.Name]
		if !given {
			value = p.Default
		}
		if strings.ContainsRune(value, 0) {
			return "", fail("ask "+q.Name, KindInvalid, "a value has a NUL")
		}
		pairs = append(pairs, ":"+p.Name, "'"+strings.ReplaceAll(value, "'", "''")+"'")
	}
	return strings.NewReplacer(pairs...).Replace(q.SQL), nil // in one pass: values are not looked at again
}
