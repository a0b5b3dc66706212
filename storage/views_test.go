package storage

import (
	"context"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"trivet/storage/database"
)

const withFile = "From: Bob Baker <bob@example.net>\r\nTo: alice@example.org, Carol <carol@example.org>\r\nCc: dan@example.com\r\nSubject: =?utf-8?q?The_caf=C3=A9_plan?=\r\n" +
	"Date: Sat, 02 May 2026 10:00:00 +0000\r\nMessage-ID: <plan@example.net>\r\nList-Id: <club.example.net>\r\nAuthentication-Results: mx.example.org; spf=pass\r\n" +
	"MIME-Version: 1.0\r\nContent-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\nContent-Type: text/plain\r\n\r\nThe quick brown trivet stands.\r\n" +
	"--b\r\nContent-Type: application/pdf; name=plan.pdf\r\nContent-Disposition: attachment; filename=plan.pdf\r\nContent-Transfer-Encoding: base64\r\n\r\nJVBERi0=\r\n--b--\r\n"

const answerToIt = "From: alice@example.org\r\nTo: bob@example.net\r\nSubject: Re: plan\r\nMessage-ID: <re@example.org>\r\nIn-Reply-To: <plan@example.net>\r\nReferences: <plan@example.net>\r\n\r\nfine\r\n"

// viewed is a state with mail of two accounts, an administrator and a journal.
func viewed(t testing.TB) (f *fixture, alice, bob, admin Account) {
	f = newFixture(t)
	ctx := context.Background()
	alice, bob = f.account("alice@example.org"), f.account("bob@example.org")
	admin, err := f.CreateAccount(ctx, NewAccount{Address: "admin@example.org", Admin: true})
	f.must(err)
	first := Delivery{Content: f.content([]byte(withFile)), Received: f.clock.Now(), Recipients: []int64{alice.ID}, Trail: &Trail{ID: "first", Via: "ESMTP"},
		Verdicts: []SpamVerdict{{Account: alice.ID, Points: 2.5, Probability: 0.9, Action: "accept", Reasons: []SpamReason{{"dnsbl", 2.5, "listed"}}}}}
	_, err = f.Deliver(ctx, first)
	f.must(err)
	f.append(f.inbox(alice), []byte(answerToIt), FlagSeen|FlagFlagged, "$Work")
	f.deliver([]byte("From: eve@example.net\r\nTo: bob@example.org\r\nSubject: secret of bob\r\n\r\nzanzibar\r\n"), bob)
	for i, from := range []Account{alice, bob} {
		d := f.outbound(10+i, "far@elsewhere.test")
		d.Outbound.Sender, d.Outbound.Account = from.Address, from.ID
		d.Trail = &Trail{ID: fmt.Sprintf("trail%d", i), Node: "n1", Sender: from.Address, Remote: "192.0.2.9", Via: "ESMTPSA " + from.Address}
		_, err := f.Deliver(ctx, d)
		f.must(err)
	}
	// Somebody from outside writes to bob in alice's name: that is no business of hers.
	d := Delivery{Content: f.content([]byte("From: alice@example.org\r\n\r\nforged\r\n")), Received: f.clock.Now(), Recipients: []int64{bob.ID},
		Trail: &Trail{ID: "forged", Sender: alice.Address, Remote: "198.51.100.1", Via: "ESMTP"}}
	d.Transaction[0] = 99
	_, err = f.Deliver(ctx, d)
	f.must(err)
	for _, a := range []Account{alice, bob} {
		f.Note(JournalEntry{Kind: JournalLogin, Account: a.ID, Address: a.Address, Service: "imap", Remote: "192.0.2.1", Outcome: "success"})
		f.Note(JournalEntry{Kind: JournalRefusal, Account: a.ID, Address: a.Address, Sender: "spam@example.net", Remote: "192.0.2.2", Outcome: "550", Text: "no"})
		f.Note(JournalEntry{Kind: JournalChange, Account: a.ID, Address: "operator", Service: "account.quota", Outcome: "done", Text: a.Address})
	}
	f.Note(JournalEntry{Kind: JournalLogin, Account: alice.ID, Address: alice.Address, Service: "imap", Remote: "192.0.2.1", Outcome: "success"})
	f.must(f.WriteJournal(ctx))
	return f, alice, bob, admin
}

// lines shows rows, a line each.
func lines(rows [][]SQLValue) string {
	var all []string
	for _, row := range rows {
		all = append(all, strings.TrimSuffix(fmt.Sprintln(row...), "\n"))
	}
	return strings.Join(all, "\n")
}

func TestViews(t *testing.T) {
	f, alice, bob, admin := viewed(t)
	inbox := f.inbox(alice)
	tests := []struct {
		name, sql, want string
		who             Account
	}{
		{"messages", "SELECT uid, mailbox, subject, from_name, from_address, recipients, seen, flagged, keywords, attachments FROM message ORDER BY uid",
			"1 INBOX The café plan Bob Baker bob@example.net alice@example.org, carol@example.org, dan@example.com 0 0  1\n2 INBOX Re: plan <nil> alice@example.org bob@example.net 1 1 $Work 0", alice},
		{"sent", "SELECT sent, message_id, in_reply_to, thread FROM message ORDER BY uid", "2026-05-02 10:00:00 <plan@example.net> <nil> <plan@example.net>\n<nil> <re@example.org> <plan@example.net> <plan@example.net>", alice},
		{"verdict", "SELECT verdict, preview FROM message WHERE uid = 1", "mx.example.org; spf=pass The quick brown trivet stands.", alice},
		{"one account", "SELECT count(*), min(account), max(account) FROM message", "2 alice@example.org alice@example.org", alice},
		{"the other", "SELECT subject FROM message WHERE subject IS NOT NULL", "secret of bob", bob},
		{"all of them", "SELECT count(*), count(DISTINCT account) FROM message", "4 2", admin},
		{"by account", "SELECT count(*) FROM message WHERE account = 'bob@example.org'", "2", admin},
		{"by account, another case", "SELECT count(*) FROM message WHERE account = 'BOB@example.org' COLLATE NOCASE", "2", admin},
		{"not hers", "SELECT count(*) FROM message WHERE account = 'bob@example.org'", "0", alice},
		{"by uid", "SELECT uid FROM message WHERE uid > 1 AND uid <= 7", "2", alice},
		{"by uid as text", "SELECT uid FROM message WHERE uid = '2'", "2", alice},
		{"by mailbox", fmt.Sprintf("SELECT count(*) FROM message WHERE mailbox_id = %d", inbox.ID), "2", alice},
		{"a mailbox of hers", fmt.Sprintf("SELECT count(*) FROM message WHERE mailbox_id = %d", inbox.ID), "0", bob},
		{"by date", "SELECT count(*) FROM message WHERE received >= '2000-01-01' AND received < '2100-01'", "2", alice},
		{"before", "SELECT count(*) FROM message WHERE received < '2000-01-01'", "0", alice},
		{"recipients", "SELECT kind, position, name, address, domain FROM recipient WHERE uid = 1 AND kind <> 'reply-to' AND kind <> 'sender'",
			"from 1 Bob Baker bob@example.net example.net\nto 1 <nil> alice@example.org example.org\nto 2 Carol carol@example.org example.org\ncc 1 <nil> dan@example.com example.com", alice},
		{"fields", "SELECT position, name, value FROM header WHERE uid = 1 AND name = 'Subject'", "4 Subject The café plan", alice},
		{"files", "SELECT position, name, type, disposition FROM attachment", "1 plan.pdf application/pdf attachment", alice},
		{"text", "SELECT trim(text, char(13, 10)) FROM body WHERE uid = 1", "The quick brown trivet stands.", alice},
		{"threads", "SELECT subject, messages, unseen, people FROM thread", "The café plan 2 1 2", alice},
		{"search", "SELECT uid FROM search('QUICK brown')", "1", alice},
		{"search a header", "SELECT uid FROM search('CAFÉ')", "1", alice},
		{"search a phrase", "SELECT count(*) FROM search('\"brown quick\"')", "0", alice},
		{"search others", "SELECT count(*) FROM search('zanzibar')", "0", alice},
		{"search one's own", "SELECT m.subject FROM search('zanzibar') s JOIN message m USING (mailbox_id, uid)", "secret of bob", bob},
		{"search nothing", "SELECT count(*) FROM search", "0", alice},
		{"mailboxes", "SELECT name, messages, unseen FROM mailbox WHERE messages > 0", "INBOX 2 1", alice},
		{"account", "SELECT address, messages FROM account", "alice@example.org 2", alice},
		{"deliveries", "SELECT id, sender, recipient, direction, state FROM delivery", "first <nil> alice@example.org in delivered\ntrail0 alice@example.org far@elsewhere.test out queued", alice},
		{"what came", "SELECT id, recipient, direction, state FROM delivery ORDER BY id", "forged bob@example.org in delivered\ntrail1 far@elsewhere.test out queued", bob},
		{"deliveries of all", "SELECT count(*) FROM delivery", "4", admin},
		{"one delivery", "SELECT count(*) FROM delivery WHERE id = 'trail1'", "1", admin},
		{"not her delivery", "SELECT count(*) FROM delivery WHERE id = 'trail1'", "0", alice},
		{"queue", "SELECT account, recipient, state FROM queue", "alice@example.org far@elsewhere.test due", alice},
		{"reasons", "SELECT position, name, points, text FROM spam_reason", "1 dnsbl 2.5 listed", alice},
		{"reasons of others", "SELECT count(*) FROM spam_reason", "0", bob},
		{"how likely", "SELECT spam FROM message ORDER BY uid", "0.9\n<nil>", alice},
		{"logins", "SELECT account, service, remote, outcome, count FROM login", "alice@example.org imap 192.0.2.1 success 2", alice},
		{"logins lately", "SELECT sum(count) FROM login WHERE at >= '2026-11-01'", "3", admin},
		{"logins to come", "SELECT count(*) FROM login WHERE at >= '2027-01-01'", "0", admin},
		{"refusals", "SELECT recipient, code, reason FROM refusal", "bob@example.org 550 no", bob},
		{"audit", "SELECT who, operation, subject FROM audit", "operator account.quota alice@example.org", alice},
		{"a transaction", "BEGIN; SELECT count(*) FROM message; SAVEPOINT s; RELEASE s; COMMIT; SELECT count(*) FROM message", "2", alice},
		{"columns", "SELECT count(*) > 10 FROM pragma_table_info('message')", "1", alice},
		{"views", "SELECT group_concat(name, ' ') FROM (SELECT name FROM sqlite_schema ORDER BY name)",
			"account attachment audit body delivery event header help login mailbox message queue recipient refusal search spam_reason thread", alice},
	}
	for _, test := range tests {
		rows, err := f.sql(test.who, MailDatabase, test.sql)
		if got := lines(rows); err != nil || got != test.want {
			t.Errorf("%s: %v\n%s\nwant\n%s", test.name, err, got, test.want)
		}
	}
}

// TestViewsFollowRights: whoever is no administrator any more, or may not log in, sees nothing from then on.
func TestViewsFollowRights(t *testing.T) {
	f, alice, _, admin := viewed(t)
	ctx := context.Background()
	count := func(s SQLSession) error {
		_, _, err := s.Run(ctx, SQLStatement{SQL: "SELECT count(*) FROM message"}, &SQLRows{})
		return err
	}
	a, err := f.OpenSQL(ctx, SQLUser{AccountID: admin.ID, Admin: true}, MailDatabase, "")
	f.must(err)
	defer a.Close()
	b, err := f.OpenSQL(ctx, SQLUser{AccountID: alice.ID}, MailDatabase, "")
	f.must(err)
	defer b.Close()
	f.must(count(a))
	f.must(count(b))
	f.must(f.SetDisabled(ctx, admin.Address, true))
	f.must(f.SetDisabled(ctx, alice.Address, true))
	if count(a) == nil || count(b) == nil {
		t.Error("they still see mail")
	}
}

// TestViewsAreReadOnly: nothing that writes gets through, in a transaction or not.
func TestViewsAreReadOnly(t *testing.T) {
	f, alice, _, admin := viewed(t)
	for _, who := range []Account{alice, admin} {
		for _, sql := range []string{"DELETE FROM message", "UPDATE message SET subject = 'x'", "INSERT INTO message (uid) VALUES (1)", "DROP TABLE message", "CREATE TABLE t (a)",
			"CREATE VIEW v AS SELECT 1", "VACUUM", "VACUUM INTO '/tmp/x'", "ANALYZE", "PRAGMA user_version = 1", "ATTACH ':memory:' AS a"} {
			for _, text := range []string{sql, "BEGIN; " + sql} {
				if _, err := f.sql(who, MailDatabase, text); err == nil {
					t.Errorf("%s: no error", text)
				}
			}
		}
	}
	s, err := f.OpenSQL(context.Background(), SQLUser{Operator: true}, MailDatabase, "")
	f.must(err)
	defer s.Close()
	if _, err := s.Transaction(context.Background(), []SQLStatement{{SQL: "SELECT count(*) FROM message"}, {SQL: "DELETE FROM message"}}); err == nil {
		t.Error("a list that writes: no error")
	}
	if done, err := s.Transaction(context.Background(), []SQLStatement{{SQL: "SELECT count(*) FROM message"}}); err != nil || lines(done.Rows[0].Data) != "4" {
		t.Errorf("a list that reads: %v %v", done, err)
	}
}

func TestMailQueries(t *testing.T) {
	f, alice, _, admin := viewed(t)
	for _, q := range MailQueries() {
		for _, who := range []Account{alice, admin} {
			sql, err := q.With(nil)
			f.must(err)
			if _, err := f.sql(who, MailDatabase, sql); err != nil {
				t.Errorf("%s: %v", q.Name, err)
			}
		}
	}
	ask := func(name string, values map[string]string) string {
		q, err := FindMailQuery(name)
		f.must(err)
		sql, err := q.With(values)
		f.must(err)
		return lines(f.mustSQL(alice, MailDatabase, sql))
	}
	if got := ask("find-file", map[string]string{"from": "bob", "file": "PDF"}); !strings.Contains(got, "plan.pdf") {
		t.Errorf("Bob's file: %q", got)
	}
	if got := ask("find-file", map[string]string{"from": "' OR 1 --"}); got != "" {
		t.Errorf("a value that looks like SQL: %q", got)
	}
	if got := ask("find", map[string]string{"words": "trivet"}); !strings.Contains(got, "café") {
		t.Errorf("words: %q", got)
	}
	if got := ask("writers", map[string]string{"days": "100000"}); !strings.Contains(got, "bob@example.net Bob Baker 1") {
		t.Errorf("writers: %q", got)
	}
	if _, err := FindMailQuery("x"); KindOf(err) != KindNotFound {
		t.Errorf("no such query: %v", err)
	}
	if q, _ := FindMailQuery("find"); q.Parameters != nil {
		if _, err := q.With(map[string]string{"x": ""}); KindOf(err) != KindInvalid {
			t.Errorf("no such parameter: %v", err)
		}
	}
}

// TestViewsAreDocumented holds the manual to the views.
func TestViewsAreDocumented(t *testing.T) {
	manual, err := os.ReadFile("../docs/howto/mail-sql.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, v := range MailViews() {
		if !strings.Contains(string(manual), "### "+v.Name+"\n") {
			t.Errorf("view %s is not in the manual", v.Name)
		}
		for _, c := range v.Columns {
			if !strings.Contains(string(manual), "`"+c.Name+"`") {
				t.Errorf("column %s of %s is not in the manual", c.Name, v.Name)
			}
		}
	}
	for _, q := range MailQueries() {
		if !strings.Contains(string(manual), "`"+q.Name+"`") {
			t.Errorf("query %s is not in the manual", q.Name)
		}
	}
}

// TestViewsEnd: a statement on views ends at its limit, and takes no more memory than its page.
func TestViewsEnd(t *testing.T) {
	f, alice, _, _ := viewed(t)
	ctx, cancel := context.WithTimeout(context.Background(), 50*time.Millisecond)
	defer cancel()
	s, err := f.OpenSQL(ctx, SQLUser{AccountID: alice.ID}, MailDatabase, "")
	f.must(err)
	defer s.Close()
	_, _, err = s.Run(ctx, SQLStatement{SQL: "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT count(*) FROM n, message"}, &SQLRows{})
	if e := (*SQLError)(nil); err == nil || !asSQL(err, &e) || e.State != database.StateCanceled {
		t.Errorf("without end: %v", err)
	}
}

func asSQL(err error, into **SQLError) bool {
	e, ok := SQLErrorOf(err).(*SQLError)
	*into = e
	return ok
}

// TestJournal forgets what is old, and what is too much waits nowhere.
func TestJournal(t *testing.T) {
	f, _, _, admin := viewed(t)
	for i := range maxJournalWaiting + 10 {
		f.Note(JournalEntry{Kind: JournalRefusal, Sender: fmt.Sprint(i), Text: strings.Repeat("x", 2*MaxJournalText)})
	}
	f.must(f.WriteJournal(context.Background()))
	if got := lines(f.mustSQL(admin, MailDatabase, "SELECT count(*), max(length(reason)) FROM refusal WHERE recipient IS NULL")); got != fmt.Sprint(maxJournalWaiting, MaxJournalText) {
		t.Errorf("entries: %s", got)
	}
	f.clock.advance(JournalAge + time.Hour)
	for range 4 {
		f.must(f.Housekeep(context.Background()))
	}
	if got := f.count("SELECT count(*) FROM journal"); got != 0 {
		t.Errorf("%d entries are left", got)
	}
}

// TestViewColumns: no column looks like a secret, and every page goes by its key.
func TestViewColumns(t *testing.T) {
	for _, v := range MailViews() {
		for _, c := range v.Columns {
			if slices.ContainsFunc([]string{"hash", "_key", "salt", "secret", "password", "token", "chunk"}, func(s string) bool { return strings.Contains(c.Name, s) }) {
				t.Errorf("%s.%s", v.Name, c.Name)
			}
		}
	}
}

func BenchmarkViews(b *testing.B) {
	f := newFixture(b)
	alice := f.account("alice@example.org")
	inbox := f.inbox(alice)
	const count = 100_000
	for i := range count {
		_, err := f.Append(context.Background(), inbox.ID, f.content(fmt.Appendf(nil, "From: writer%d@example.net\r\nTo: alice@example.org\r\nSubject: number %d\r\nMessage-ID: <%d@x>\r\n\r\nbody %d\r\n", i%500, i, i, i)), 0, nil,
			time.Date(2026, 1, 1, 0, i, 0, 0, time.UTC))
		f.must(err)
	}
	s, err := f.OpenSQL(context.Background(), SQLUser{AccountID: alice.ID}, MailDatabase, "")
	f.must(err)
	defer s.Close()
	for _, bench := range []struct{ name, sql string }{
		{"point", fmt.Sprintf("SELECT subject FROM message WHERE mailbox_id = %d AND uid = 50000", inbox.ID)},
		{"range", fmt.Sprintf("SELECT subject, from_address FROM message WHERE mailbox_id = %d AND uid BETWEEN 50000 AND 50100", inbox.ID)},
		{"day", "SELECT subject FROM message WHERE received >= '2026-02-01' AND received < '2026-02-02'"},
		{"count", "SELECT count(*) FROM message"},
		{"writers", "SELECT from_address, count(*) FROM message GROUP BY 1 ORDER BY 2 DESC LIMIT 10"},
		{"newest", "SELECT subject FROM message ORDER BY received DESC LIMIT 20"},
		{"search", "SELECT count(*) FROM search('number 77777')"},
	} {
		b.Run(bench.name, func(b *testing.B) {
			for b.Loop() {
				_, _, err := s.Run(context.Background(), SQLStatement{SQL: bench.sql}, &SQLRows{})
				f.must(err)
			}
		})
	}
}
