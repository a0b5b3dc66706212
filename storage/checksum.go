package storage

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"hash"
	"maps"
	"math"
	"slices"

	"zombiezen.com/go/sqlite"
)

// Checksum is the digest of the logical state. Two nodes that applied the same
// commands have the same one, whatever their files look like.
type Checksum struct {
	Index  uint64            `json:"index"` // last command contained
	Sum    string            `json:"sum"`   // SHA-256 over the tables', hexadecimal
	Tables map[string]string `json:"tables"`
	// Schema is the version of mail.db: what releases of different ones say cannot be compared.
	Schema int `json:"schema"`
}

// checksumTables are the tables of mail.db and the keys they are read by.
var checksumTables = [...]struct{ name, order string }{
	{"account", "id"}, {"acl", "mailbox_id, identifier"}, {"alias", "id"}, {"alias_target", "alias_id, target"}, {"web_session", "hash"}, {"second_factor", "id"}, {"recovery_code", "account_id, hash"}, {"second_factor_choice", "account_id"}, {"web_pending", "hash, purpose"}, {"saved_query", "account_id, database, name"}, {"domain_administrator", "domain_id, account_id"}, {"certificate_file", "name"}, {"certificate_lock", "name"}, {"annotation", "account_id, mailbox_id, reader, entry"}, {"credential", "account_id"}, {"domain", "id"},
	{"expunged", "mailbox_id, modseq, uid"}, {"invitation", "hash"}, {"mailbox", "id"}, {"mailbox_message", "mailbox_id, uid"}, {"message", "id"},
	{"app_password", "id"}, {"cram_secret", "account_id"}, {"dkim_key", "id"},
	{"domain_policy", "domain_id"}, {"forward", "account_id"}, {"mail_group", "id"}, {"mail_group_member", "group_id, address"},
	{"mail_group_sender", "group_id, address"}, {"vacation", "account_id"}, {"vacation_answer", "account_id, sender"},
	{"submission_count", "account_id"}, {"submission_limit", "account_id"}, {"ban", "network"}, {"good_login", "network, account_id"},
	{"pack", "id"}, {"part", "hash, n"}, {"request", `"index"`}, {"setting", "name"}, {"subscription", "account_id, name"},
	{"database", "id"}, {"database_grant", "database_id, account_id"}, {"database_part", "effect, n"}, {"token", "id"},
	{"event", "trail, id"}, {"queue_destination", "domain"}, {"queue_lease", "token"}, {"queue_message", "id"}, {"queue_recipient", "id"},
	{"route", "domain"}, {"sts_policy", "domain"}, {"tls_result", "day, domain, policy_type, policy, result, host, address"},
	{"trail", "id"}, {"trail_address", "address, trail"},
	{"sender_count", "day, domain, row"}, {"dmarc_report", "id"}, {"dmarc_report_row", "report_id, n"}, {"sender_policy", "domain"},
	{"spam_verdict", "message_id, account_id"}, {"spam_reason", "message_id, account_id, n"}, {"spam_policy", "scope"}, {"spam_lesson", "id"},
	{"spam_learned", "account_id, hash"}, {"spam_model", "account_id"}, {"spam_page", "account_id, page"}, {"spam_delta", "account_id, n"}, {"spam_share", "account_id"},
	{"greylist", "network, sender, recipient"}, {"reputation", "kind, name"}, {"known_sender", "account_id, address"}, {"kept_copy", "id"},
	{"kept_copy_account", "copy_id, account_id"}, {"spam_choice", "account_id"},
	{"outbox", "id"}, {"mail_filter", "account_id, n"}, {"preference", "account_id, name"},
	{"journal", "id"}, {"database_change", "database_id, version"},
	{"sender_route", "domain"}, {"tls_report", "id"}, {"tls_report_policy", "report_id, n"}, {"tls_report_failure", "report_id, n"},
}

// Checksum reads the whole directory and index and the users' databases, as of
// one command, and digests them. Bodies count by the hashes recorded of them; see [Store.Verify].
func (s *Store) Checksum(ctx context.Context) (Checksum, error) {
	s.machine.mu.Lock()
	c, databases, err := (*conn)(nil), frozenDatabases(nil), s.machine.reopen()
	if err == nil {
		c, databases, err = s.machine.frozen()
	}
	s.machine.mu.Unlock()
	if err != nil {
		return Checksum{}, readError("checksum", err)
	}
	defer c.close()
	defer databases.close()
	sum, err := checksum(ctx, c, databases)
	return sum, readError("checksum", err)
}

// checksum digests what c sees in its transaction.
func checksum(ctx context.Context, c *conn, databases frozenDatabases) (Checksum, error) {
	sum := Checksum{Tables: map[string]string{}, Schema: len(mailMigrations)}
	var err error
	if sum.Index, err = readApplied(c); err != nil {
		return sum, err
	}
	all := sha256.New()
	for _, t := range checksumTables {
		h := sha256.New()
		var ctxErr error
		err := c.rows("SELECT * FROM "+t.name+" ORDER BY "+t.order, func(st *sqlite.Stmt) bool {
			hashRow(h, st)
			ctxErr = ctx.Err()
			return ctxErr == nil
		})
		if err == nil {
			err = ctxErr
		}
		if err != nil {
			return sum, err
		}
		digest := h.Sum(nil)
		sum.Tables[t.name] = hex.EncodeToString(digest)
		all.Write(digest)
	}
	digests, err := databases.digests(ctx)
	if err != nil {
		return sum, err
	}
	for _, name := range slices.Sorted(maps.Keys(digests)) {
		sum.Tables[name] = digests[name]
		all.Write([]byte(name + digests[name]))
	}
	sum.Sum = hex.EncodeToString(all.Sum(nil))
	return sum, nil
}

func hashRow(h hash.Hash, st *sqlite.Stmt) {
	var b []byte
	for col := range st.ColumnCount() {
		kind := st.ColumnType(col)
		b = append(b[:0], byte(kind))
		switch kind {
		case sqlite.TypeInteger:
			b = binary.BigEndian.AppendUint64(b, uint64(st.ColumnInt64(col)))
		case sqlite.TypeFloat:
			b = binary.BigEndian.AppendUint64(b, math.Float64bits(st.ColumnFloat(col)))
		case sqlite.TypeText, sqlite.TypeBlob:
			data := columnBytes(st, col)
			b = append(binary.BigEndian.AppendUint64(b, uint64(len(data))), data...)
		}
		h.Write(b)
	}
}

// Verification is what [Store.Verify] found.
type Verification struct {
	Checksum Checksum `json:"checksum"`
	Messages int64    `json:"messages"` // bodies read
	Octets   int64    `json:"octets"`   // of these
	Repaired int64    `json:"repaired"` // bodies that were damaged and came from another node
	Problems []string `json:"problems"` // empty: all is well
}

// maxProblems bounds what a verification lists.
const maxProblems = 100

// Verify runs SQLite's integrity check on every file, reads every body and
// compares its SHA-256, and recounts what apply keeps count of. progress, when
// not nil, is called with the messages read so far and their number.
func (s *Store) Verify(ctx context.Context, progress func(done, total int64)) (Verification, error) {
	v := Verification{Problems: []string{}}
	var err error
	if v.Checksum, err = s.Checksum(ctx); err != nil {
		return v, err
	}
	if err := s.verifyFiles(ctx, &v); err != nil {
		return v, err
	}
	if err := s.verifyDatabases(ctx, &v); err != nil {
		return v, err
	}
	if err := s.verifyRosters(ctx, &v); err != nil {
		return v, err
	}
	if err := s.verifyCounts(ctx, &v); err != nil {
		return v, err
	}
	return v, s.verifyBodies(ctx, &v, progress)
}

func (v *Verification) problem(format string, args ...any) {
	if len(v.Problems) < maxProblems {
		v.Problems = append(v.Problems, fmt.Sprintf(format, args...))
	}
}

func (s *Store) verifyFiles(ctx context.Context, v *Verification) error {
	s.machine.swap.RLock()
	defer s.machine.swap.RUnlock()
	files := s.machine.files
	pools := map[string]*pool{"mail.db": files.reads}
	files.packs.mu.RLock()
	for _, f := range files.packs.table {
		pools[packFileName(f.id)] = f.pool
	}
	files.packs.mu.RUnlock()
	for name, p := range pools {
		var damaged error
		err := p.with(ctx, func(c *conn) error {
			return c.rows("PRAGMA integrity_check", func(st *sqlite.Stmt) bool {
				if line := st.ColumnText(0); line != "ok" {
					v.problem("%s: %s", name, line)
					damaged = fmt.Errorf("%s: %s: %w", name, line, sqlite.ResultCorrupt.ToError())
				}
				return true
			})
		})
		if IsDamaged(err) {
			v.problem("%s: %v", name, err)
			damaged, err = fmt.Errorf("%s: %w", name, err), nil
		}
		_ = s.machine.noted(damaged)
		if err != nil {
			return readError("check "+name, err)
		}
	}
	return nil
}

// verifyDatabases runs SQLite's integrity check on the users' databases.
func (s *Store) verifyDatabases(ctx context.Context, v *Verification) error {
	s.machine.mu.Lock()
	databases, err := s.machine.freezeDatabases()
	s.machine.mu.Unlock()
	if err != nil {
		return readError("check databases", err)
	}
	defer databases.close()
	for id, d := range databases {
		problems, err := d.Problems(ctx)
		if err != nil {
			return readError("check "+databaseFileName(id), err)
		}
		for _, p := range problems {
			v.problem("%s: %s", databaseFileName(id), p)
		}
	}
	return nil
}

// counts are queries that find rows whose counters are wrong: each gives a text.
var counts = [...]string{
	`SELECT 'message ' || m.id || ': refs ' || m.refs || ', in ' || count(i.uid) || ' mailboxes, ' || ifnull(q.n, 0) || ' times in the queue and kept ' || ifnull(k.n, 0) || ' times' FROM message m
		LEFT JOIN mailbox_message i ON i.message_id = m.id LEFT JOIN (SELECT message_id, count(*) AS n FROM queue_message GROUP BY message_id) q
		ON q.message_id = m.id LEFT JOIN (SELECT message_id, count(*) AS n FROM kept_copy GROUP BY message_id) k
		ON k.message_id = m.id GROUP BY m.id HAVING m.refs <> count(i.uid) + ifnull(q.n, 0) + ifnull(k.n, 0)`,
	`SELECT 'queued message ' || m.id || ': pending ' || m.pending FROM queue_message m LEFT JOIN queue_recipient r ON r.queue_id = m.id
		GROUP BY m.id HAVING m.pending <> total(r.state < 3 OR r.notice <> 0) OR (m.pending = 0) <> (m.message_id = 0) OR count(r.id) = 0`,
	`SELECT 'destination ' || ifnull(d.domain, q.domain) || ': next ' || ifnull(d.next, '-') || ', first due ' || ifnull(q.first, '-')
		FROM queue_destination d FULL JOIN (SELECT domain, min(next) AS first FROM queue_recipient WHERE state = 0 GROUP BY domain) q
		ON q.domain = d.domain WHERE d.next IS NOT q.first`,
	`SELECT 'queued recipient ' || r.id || ': lease ' || r.lease FROM queue_recipient r
		WHERE (r.state = 1) <> (r.lease <> 0) OR r.lease <> 0 AND NOT EXISTS (SELECT 1 FROM queue_lease l WHERE l.token = r.lease)`,
	`SELECT 'mailbox ' || b.id || ': counts ' || b.messages || '/' || b.unseen || '/' || b.deleted || '/' || b.size
		FROM mailbox b LEFT JOIN mailbox_message i ON i.mailbox_id = b.id GROUP BY b.id
		HAVING b.messages <> count(i.uid) OR b.unseen <> total(i.flags & 1 = 0) OR b.deleted <> total(i.flags & 8 <> 0) OR b.size <> total(i.size)
			OR b.uidnext <= ifnull(max(i.uid), 0) OR b.highestmodseq < ifnull(max(i.modseq), 0)`,
	`SELECT 'account ' || a.address || ': uses ' || a.used_bytes || ' octets in ' || a.used_messages || ' messages'
		FROM account a LEFT JOIN mailbox b ON b.account_id = a.id GROUP BY a.id
		HAVING a.used_bytes <> total(b.size) OR a.used_messages <> total(b.messages)`,
	`SELECT 'mailbox_message ' || i.mailbox_id || '/' || i.uid || ': no such message or mailbox' FROM mailbox_message i
		WHERE NOT EXISTS (SELECT 1 FROM message m WHERE m.id = i.message_id) OR NOT EXISTS (SELECT 1 FROM mailbox b WHERE b.id = i.mailbox_id)`,
}

func (s *Store) verifyCounts(ctx context.Context, v *Verification) error {
	err := s.snapshot(ctx, func(c *conn) error {
		for _, sql := range counts {
			err := c.rows(sql, func(st *sqlite.Stmt) bool {
				v.problem("%s", st.ColumnText(0))
				return len(v.Problems) < maxProblems
			})
			if err != nil {
				return err
			}
		}
		return nil
	})
	return readError("check counts", err)
}

func (s *Store) verifyBodies(ctx context.Context, v *Verification, progress func(done, total int64)) error {
	type row struct {
		id   int64
		hash []byte
	}
	var total, last int64
	err := s.with(ctx, func(c *conn) error {
		_, err := c.row("SELECT count(*) FROM message", func(st *sqlite.Stmt) { total = st.ColumnInt64(0) })
		return err
	})
	for err == nil {
		var page []row
		err = s.with(ctx, func(c *conn) error {
			return c.rows("SELECT id, hash FROM message WHERE id > ? ORDER BY id LIMIT 500", func(st *sqlite.Stmt) bool {
				page = append(page, row{st.ColumnInt64(0), columnBytes(st, 1)})
				return true
			}, last)
		})
		if len(page) == 0 {
			break
		}
		for _, r := range page {
			last = r.id
			if err := ctx.Err(); err != nil {
				return readError("check bodies", err)
			}
			s.verifyBody(ctx, v, r.id, r.hash)
			v.Messages++
		}
		if progress != nil {
			progress(v.Messages, total)
		}
	}
	return readError("check bodies", err)
}

func (s *Store) verifyBody(ctx context.Context, v *Verification, id int64, want []byte) {
	b, err := s.OpenBody(ctx, id)
	if KindOf(err) == KindNotFound && err != nil {
		return // collected meanwhile
	}
	if err != nil {
		v.problem("message %d: %v", id, err)
		return
	}
	defer b.Close()
	sum, octets, err := hashOf(b)
	v.Octets += octets
	if err == nil && string(sum) == string(want) {
		return
	}
	if err == nil {
		err = s.repair(ctx, id)
	}
	if err != nil {
		v.problem("message %d: the body does not have the SHA-256 recorded of it: %v", id, err)
		return
	}
	v.Repaired++
}
