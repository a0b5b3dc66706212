package pgwire

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5/pgproto3"

	"trivet/storage"
)

// catalogWords say that a statement asks the system catalogues, or one of the
// functions that come with them.
var catalogWords = []string{"PG_CATALOG", "INFORMATION_SCHEMA", "PG_CLASS", "PG_TYPE", "PG_NAMESPACE", "PG_ATTRIBUTE", "PG_INDEX", "PG_CONSTRAINT", "PG_PROC",
	"PG_DATABASE", "PG_ROLES", "PG_USER", "PG_SETTINGS", "PG_TABLES", "PG_VIEWS", "PG_DESCRIPTION", "PG_AM", "PG_ENUM", "PG_RANGE", "PG_EXTENSION", "PG_INDEXES",
	"PG_STAT_ACTIVITY", "PG_BACKEND_PID", "PG_IS_IN_RECOVERY", "PG_GET_KEYWORDS", "CURRENT_SCHEMA", "CURRENT_SCHEMAS", "CURRENT_DATABASE", "CURRENT_USER", "SESSION_USER", "CURRENT_SETTING", "SET_CONFIG",
	"INET_SERVER_ADDR", "INET_SERVER_PORT", "TO_REGCLASS", "TO_REGTYPE", "FORMAT_TYPE", "PG_TABLESPACE", "PG_ATTRDEF", "PG_TRIGGER", "PG_MATVIEWS", "PG_COLLATION", "PG_AUTHID", "PG_SEQUENCE", "PG_LANGUAGE"}

// classify finds out who answers a statement, and says it in SQLite's words.
func (n *session) classify(s *statement) {
	w := words(s.sql, 3)
	if len(w) == 0 {
		return
	}
	switch w[0] {
	case "SET", "SHOW", "RESET", "DISCARD", "DEALLOCATE", "LISTEN", "UNLISTEN", "LOCK", "CHECKPOINT":
		s.utility = true
		return
	case "START":
		s.sql = "BEGIN"
		return
	case "BEGIN": // ISOLATION LEVEL and the like: all transactions are serializable
		if len(w) > 1 && w[1] != "IMMEDIATE" && w[1] != "EXCLUSIVE" && w[1] != "DEFERRED" && w[1] != ";" {
			s.sql = "BEGIN"
		}
		return
	case "COMMIT", "END":
		if len(w) > 1 && w[1] == "WORK" {
			s.sql = "COMMIT"
		}
		return
	case "ABORT":
		s.sql = "ROLLBACK"
		return
	case "ROLLBACK":
		if len(w) > 1 && w[1] == "WORK" {
			s.sql = "ROLLBACK"
		}
		return
	case "SELECT", "WITH", "VALUES", "TABLE":
	default:
		s.sql = adapt(s.sql)
		return
	}
	tokens := lex(s.sql)
	if !n.asksCatalog(tokens) {
		s.sql = adapt(s.sql)
		return
	}
	if query, ok := expanded(tokens); ok {
		s.catalog = query
		return
	}
	s.catalog = n.translate(tokens)
}

// asksCatalog reports whether names of the catalogue stand where a name can.
func (n *session) asksCatalog(tokens []token) bool {
	for i, t := range tokens {
		if t.kind != tokenWord {
			continue
		}
		up := strings.ToUpper(t.text)
		if slices.Contains(catalogWords, up) {
			return true
		}
		if up == "VERSION" && i+1 < len(tokens) && tokens[i+1].text == "(" {
			return true
		}
	}
	return false
}

// answer sends a result of one column that was made here.
func answer(out *stream, column string, values ...string) error {
	out.columns = []pgproto3.FieldDescription{{Name: []byte(column), DataTypeOID: oidText, DataTypeSize: -1, TypeModifier: -1}}
	out.names = []storage.SQLColumn{{Name: column}}
	for _, v := range values {
		if err := out.Row([]storage.SQLValue{v}); err != nil {
			return err
		}
	}
	out.end()
	return nil
}

// utility answers what SQLite has no statement for.
func (n *session) utility(ctx context.Context, sql string, out *stream) error {
	tokens := slices.DeleteFunc(lex(sql), func(t token) bool { return t.kind == tokenSpace || t.text == ";" })
	verb := strings.ToUpper(tokens[0].text)
	switch verb {
	case "SHOW":
		if err := n.show(tokens[1:], out); err != nil {
			return err
		}
	case "SET":
		if err := n.set(ctx, tokens[1:]); err != nil {
			return err
		}
	case "RESET":
		verb = "RESET"
	case "DISCARD":
		clear(n.statements)
		clear(n.portals)
		verb = "DISCARD ALL"
	case "DEALLOCATE":
		n.deallocate(tokens[1:])
	case "LISTEN":
		return &storage.SQLError{State: "0A000", Message: "LISTEN is not supported"}
	case "LOCK":
		verb = "LOCK TABLE" // transactions are serializable without it
	}
	n.complete(verb)
	return nil
}

func (n *session) deallocate(tokens []token) {
	for _, t := range tokens {
		if strings.EqualFold(t.text, "ALL") {
			clear(n.statements)
			return
		}
		delete(n.statements, unquote(t.text))
	}
}

// setting returns the value of a setting.
func (n *session) setting(name string) (string, bool) {
	name = strings.ToLower(name)
	for known, value := range n.reported() {
		if strings.ToLower(known) == name {
			return value, true
		}
	}
	if v, ok := n.settings[name]; ok {
		return v, true
	}
	v, ok := map[string]string{"transaction_isolation": "serializable", "transaction isolation level": "serializable", "search_path": "public",
		"statement_timeout": "0", "max_identifier_length": "63", "bytea_output": "hex", "trivet.consistency": "session", "lc_collate": "C", "lc_ctype": "C",
		"default_transaction_read_only": "off", "transaction_read_only": "off", "extra_float_digits": "1", "client_min_messages": "notice",
		"server_version_num": "150000", "default_transaction_isolation": "serializable"}[name]
	return v, ok
}

func (n *session) show(tokens []token, out *stream) error {
	var parts []string
	for _, t := range tokens {
		parts = append(parts, unquote(t.text))
	}
	name := strings.ReplaceAll(strings.Join(parts, " "), " . ", ".")
	if strings.EqualFold(name, "time zone") {
		name = "TimeZone"
	}
	if strings.EqualFold(name, "all") {
		all := n.reported()
		maps.Copy(all, n.settings)
		return answer(out, "setting", slices.Sorted(maps.Keys(all))...)
	}
	value, ok := n.setting(name)
	if !ok {
		return &storage.SQLError{State: "42704", Message: fmt.Sprintf("unrecognized configuration parameter %q", name)}
	}
	return answer(out, strings.ToLower(name), value)
}

// set takes SET name = value. What means nothing here is taken as well:
// programs set what PostgreSQL has.
func (n *session) set(_ context.Context, tokens []token) error {
	if len(tokens) > 0 && (strings.EqualFold(tokens[0].text, "SESSION") || strings.EqualFold(tokens[0].text, "LOCAL")) {
		tokens = tokens[1:]
	}
	var name, value strings.Builder
	into := &name
	for _, t := range tokens {
		if into == &name && (t.text == "=" || strings.EqualFold(t.text, "TO")) {
			into = &value
			continue
		}
		if into == &value && value.Len() > 0 {
			value.WriteByte(' ')
		}
		into.WriteString(unquote(t.text))
	}
	key := strings.ToLower(name.String())
	if key == "" || value.Len() == 0 || len(key) > 64 || value.Len() > 1024 || len(n.settings) > 256 {
		return nil // SET TRANSACTION …, SET TIME ZONE …
	}
	if key == "trivet.consistency" {
		if n.sql.Status() != 'I' {
			return &storage.SQLError{State: "25001", Message: "the consistency cannot be changed in a transaction"}
		}
		sql, err := n.server.cfg.Databases.OpenSQL(n.server.ctx, n.sqlUser(), n.database, storage.Consistency(value.String()))
		if err != nil {
			return err
		}
		sql.SetAbortOnError()
		n.sql.Close()
		n.sql = sql
	}
	n.settings[key] = value.String()
	if key == "application_name" {
		n.send(&pgproto3.ParameterStatus{Name: "application_name", Value: value.String()})
	}
	return nil
}

// unquote returns what a name or text in quotes stands for.
func unquote(text string) string {
	if len(text) >= 2 && (text[0] == '\'' || text[0] == '"') && text[len(text)-1] == text[0] {
		q := text[:1]
		return strings.ReplaceAll(text[1:len(text)-1], q+q, q)
	}
	return text
}
