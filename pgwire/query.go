package pgwire

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/jackc/pgx/v5/pgproto3"
	"github.com/jackc/pgx/v5/pgtype"

	"trivet/storage"
)

// statement is one that was prepared (Parse).
type statement struct {
	sql        string
	utility    bool     // answered by the session
	catalog    string   // what the catalogue is asked, in SQLite's words; empty: it is not
	parameters []uint32 // types
	columns    []pgproto3.FieldDescription
	guessed    []storage.SQLColumn // the columns, when the types of some are not known
}

// portal is a statement with parameters (Bind), and what is left of its rows.
type portal struct {
	*statement
	args    []storage.SQLValue
	columns []pgproto3.FieldDescription // if they are not those of the statement
	formats []int16
	rows    [][]storage.SQLValue // behind what Execute was asked for
	tag     string
	started bool
}

// simple answers a Query: statements, one after the other.
func (n *session) simple(ctx context.Context, sql string) {
	sql = n.pending + sql
	n.pending = ""
	if unfinished(sql) && len(sql) < maxPending { // psql cuts a trigger at its semicolons
		n.pending = sql + "\n"
		n.send(&pgproto3.EmptyQueryResponse{})
		return
	}
	if word(sql) == "" {
		n.send(&pgproto3.EmptyQueryResponse{})
		return
	}
	implicit := n.sql.Status() == 'I' && several(sql)
	if implicit { // a Query of several statements is one transaction
		if word(sql) == "BEGIN" || word(sql) == "START" || !implicitly(sql) {
			implicit = false
		} else if _, _, err := n.sql.Run(ctx, storage.SQLStatement{SQL: "BEGIN"}, &storage.SQLRows{}); err != nil {
			n.fail(err)
			return
		}
	}
	err := n.script(ctx, sql)
	if err != nil {
		n.fail(err)
	}
	if implicit && n.sql.Status() != 'I' {
		end := "COMMIT"
		if err != nil {
			end = "ROLLBACK"
		}
		if _, _, commit := n.sql.Run(ctx, storage.SQLStatement{SQL: end}, &storage.SQLRows{}); commit != nil && err == nil {
			n.fail(commit)
		}
	}
}

// script runs the statements of a Query.
func (n *session) script(ctx context.Context, sql string) error {
	for word(sql) != "" {
		rest, err := n.one(ctx, sql)
		if err != nil {
			return err
		}
		sql = rest
	}
	return nil
}

// one runs the first statement of sql.
func (n *session) one(ctx context.Context, sql string) (rest string, err error) {
	first, rest := cut(sql)
	if word(first) == "COPY" {
		return rest, n.copy(ctx, first)
	}
	s := &statement{sql: first}
	n.classify(s)
	switch {
	case s.utility:
		return rest, n.utility(ctx, s.sql, &stream{n: n})
	case s.catalog != "":
		return rest, n.askCatalog(ctx, s.catalog, nil, &stream{n: n})
	}
	out := &stream{n: n}
	done, left, err := n.sql.Run(ctx, storage.SQLStatement{SQL: s.sql}, out)
	if err != nil {
		return "", n.soften(err, s.sql)
	}
	if word(left) != "" { // where SQLite sees the end differently
		rest = left + ";" + rest
	}
	n.complete(tag(s.sql, done))
	return rest, nil
}

// soften makes a notice of what is no error in PostgreSQL.
func (n *session) soften(err error, sql string) error {
	var e *storage.SQLError
	if errors.As(err, &e) && e.State == "25P01" && (word(sql) == "COMMIT" || word(sql) == "ROLLBACK" || word(sql) == "END") {
		n.notice("25P01", "there is no transaction in progress")
		n.complete(word(sql))
		return nil
	}
	return err
}

func (n *session) complete(tag string) { n.send(&pgproto3.CommandComplete{CommandTag: []byte(tag)}) }

// stream sends rows as they come.
type stream struct {
	n       *session
	columns []pgproto3.FieldDescription // said already, or what the first row says
	formats []int16
	quiet   bool // the description was sent before (Describe)
	names   []storage.SQLColumn
	count   int64
	row     pgproto3.DataRow
	scratch []byte
	most    int64 // rows to send; 0: all
	keep    *[][]storage.SQLValue
}

// Columns implements [storage.SQLSink]. The description waits for the first row,
// which says what the types of expressions are.
func (s *stream) Columns(c []storage.SQLColumn) error {
	s.names = c
	return nil
}

// Row implements [storage.SQLSink].
func (s *stream) Row(row []storage.SQLValue) error {
	if s.most > 0 && s.count >= s.most && s.keep != nil {
		*s.keep = append(*s.keep, slices.Clone(row))
		return nil
	}
	if s.count == 0 {
		s.header(row)
	}
	s.count++
	s.row.Values = s.row.Values[:0]
	s.scratch = s.scratch[:0]
	size := 0
	for i, v := range row {
		from := len(s.scratch)
		if v == nil {
			s.row.Values = append(s.row.Values, nil)
			continue
		}
		column := s.columns[min(i, len(s.columns)-1)]
		b, err := encode(s.scratch, v, column.DataTypeOID, column.Format)
		if err != nil {
			return err
		}
		s.scratch = b
		s.row.Values = append(s.row.Values, b[from:len(b):len(b)])
		size += len(b) - from
	}
	s.n.send(&s.row)
	return s.n.sized(size + 8*len(row))
}

// header sends the description of the rows (RowDescription), unless that was done.
func (s *stream) header(first []storage.SQLValue) {
	if s.columns == nil {
		s.columns = fields(s.names, first)
	}
	for i := range s.columns {
		s.columns[i].Format = formatOf(s.formats, i)
	}
	if !s.quiet {
		s.n.send(&pgproto3.RowDescription{Fields: s.columns})
	}
	s.quiet = true
}

// end sends the description of a result without rows.
func (s *stream) end() {
	if s.names != nil && s.count == 0 {
		s.header(nil)
	}
}

func fields(columns []storage.SQLColumn, first []storage.SQLValue) []pgproto3.FieldDescription {
	described := make([]pgproto3.FieldDescription, len(columns))
	for i, c := range columns {
		oid := declaredOID(c.Declared)
		if oid == 0 {
			oid = oidText
			if i < len(first) {
				oid = valueOID(first[i])
			}
		}
		described[i] = pgproto3.FieldDescription{Name: []byte(c.Name), DataTypeOID: oid, DataTypeSize: sizeOfType(oid), TypeModifier: -1}
	}
	return described
}

func formatOf(formats []int16, i int) int16 {
	switch {
	case len(formats) == 1:
		return formats[0]
	case i < len(formats):
		return formats[i]
	}
	return formatText
}

// limitParameter finds parameters that must be numbers for SQLite.
var limitParameter = regexp.MustCompile(`(?i)\b(?:limit|offset)\s+\$(\d{1,5})`)

// countingColumn finds columns that are integers, whatever the rows.
var countingColumn = regexp.MustCompile(`(?i)\b(count|length|row_number|rank|dense_rank|ntile|instr|unicode|unixepoch|last_insert_rowid|changes)\s*\([^()]*\)(?:\s+over\s*\([^()]*\))?(?:\s+(?:as\s+)?"?(\w+))?`)

// parse prepares a statement (Parse).
func (n *session) parse(ctx context.Context, m *pgproto3.Parse) error {
	if len(n.statements) >= MaxPrepared {
		return &storage.SQLError{State: "54000", Message: "this connection holds too many prepared statements", Hint: "close some"}
	}
	if m.Name != "" && n.statements[m.Name] != nil {
		return &storage.SQLError{State: "42P05", Message: fmt.Sprintf("prepared statement %q already exists", m.Name)}
	}
	s := &statement{sql: m.Query, parameters: slices.Clone(m.ParameterOIDs)}
	n.classify(s)
	if !s.utility && s.catalog == "" {
		if err := n.learn(ctx, s); err != nil {
			return err
		}
	}
	n.statements[m.Name] = s
	n.send(&pgproto3.ParseComplete{})
	return nil
}

// learn finds out the parameters and columns of a statement.
func (n *session) learn(ctx context.Context, s *statement) error {
	d, err := n.sql.Describe(ctx, s.sql)
	if err != nil {
		return err
	}
	if word(d.Rest) != "" {
		return &storage.SQLError{State: "42601", Message: "cannot insert multiple commands into a prepared statement"}
	}
	for len(s.parameters) < d.Parameters {
		s.parameters = append(s.parameters, 0)
	}
	n.infer(ctx, s)
	for _, found := range limitParameter.FindAllStringSubmatch(s.sql, -1) {
		if i, _ := strconv.Atoi(found[1]); i >= 1 && i <= len(s.parameters) && s.parameters[i-1] == 0 {
			s.parameters[i-1] = oidInt8
		}
	}
	if len(d.Columns) == 0 {
		return nil
	}
	var first []storage.SQLValue
	if d.Kind.ReadOnly && slices.ContainsFunc(d.Columns, func(c storage.SQLColumn) bool { return c.Declared == "" }) {
		if first = n.sql.Peek(ctx, s.sql, make([]storage.SQLValue, len(s.parameters))); first == nil {
			s.guessed = d.Columns // Describe of a portal, with its parameters, may know better
		}
	}
	s.columns = fields(d.Columns, first)
	if first == nil {
		for _, found := range countingColumn.FindAllStringSubmatch(s.sql, -1) {
			for i, c := range d.Columns {
				if c.Declared == "" && (strings.EqualFold(c.Name, found[2]) || strings.HasPrefix(strings.ToLower(c.Name), strings.ToLower(found[1])+"(")) {
					s.columns[i].DataTypeOID, s.columns[i].DataTypeSize = oidInt8, 8
				}
			}
		}
	}
	return nil
}

// bind gives a statement its parameters (Bind).
func (n *session) bind(m *pgproto3.Bind) error {
	s := n.statements[m.PreparedStatement]
	if s == nil {
		return &storage.SQLError{State: "26000", Message: fmt.Sprintf("prepared statement %q does not exist", m.PreparedStatement)}
	}
	if len(n.portals) >= MaxPrepared {
		return &storage.SQLError{State: "54000", Message: "this connection holds too many portals", Hint: "close some"}
	}
	p := &portal{statement: s, formats: slices.Clone(m.ResultFormatCodes)}
	for i, data := range m.Parameters {
		oid := uint32(0)
		if i < len(s.parameters) {
			oid = s.parameters[i]
		}
		v, err := decode(data, oid, formatOf(m.ParameterFormatCodes, i), n.types())
		if err != nil {
			return err
		}
		p.args = append(p.args, v)
	}
	n.portals[m.DestinationPortal] = p
	n.send(&pgproto3.BindComplete{})
	return nil
}

func (n *session) types() *pgtype.Map {
	if n.typeMap == nil {
		n.typeMap = pgtype.NewMap()
	}
	return n.typeMap
}

// describe says what parameters and columns there are (Describe).
func (n *session) describe(ctx context.Context, m *pgproto3.Describe) error {
	s, formats := n.statements[m.Name], []int16(nil)
	if m.ObjectType == 'P' {
		p := n.portals[m.Name]
		if p == nil {
			return &storage.SQLError{State: "34000", Message: fmt.Sprintf("portal %q does not exist", m.Name)}
		}
		s, formats = p.statement, p.formats
		if s.guessed != nil {
			p.columns = fields(s.guessed, n.sql.Peek(ctx, s.sql, p.args))
		}
		if p.columns != nil {
			s = &statement{columns: p.columns}
		}
	} else {
		if s == nil {
			return &storage.SQLError{State: "26000", Message: fmt.Sprintf("prepared statement %q does not exist", m.Name)}
		}
		n.send(&pgproto3.ParameterDescription{ParameterOIDs: s.parameters})
	}
	if s.columns == nil && (s.catalog != "" || s.utility) {
		n.learnAnswer(ctx, s)
	}
	if s.columns == nil {
		n.send(&pgproto3.NoData{})
		return nil
	}
	described := slices.Clone(s.columns)
	for i := range described {
		described[i].Format = formatOf(formats, i)
	}
	n.send(&pgproto3.RowDescription{Fields: described})
	return nil
}

// execute runs a portal, or goes on with it (Execute).
func (n *session) execute(ctx context.Context, m *pgproto3.Execute) error {
	p := n.portals[m.Portal]
	if p == nil {
		return &storage.SQLError{State: "34000", Message: fmt.Sprintf("portal %q does not exist", m.Portal)}
	}
	columns := p.columns
	if columns == nil {
		columns = p.statement.columns
	}
	out := &stream{n: n, columns: slices.Clone(columns), formats: p.formats, quiet: true, most: int64(m.MaxRows), keep: &p.rows}
	if m.MaxRows == 0 {
		out.keep = nil
	}
	if p.started {
		return p.resume(out)
	}
	p.started = true
	if err := p.run(ctx, n, out); err != nil {
		return err
	}
	return p.finish(n, out)
}

func (p *portal) run(ctx context.Context, n *session, out *stream) error {
	switch {
	case p.utility:
		return n.utility(ctx, p.sql, out)
	case p.catalog != "":
		return n.askCatalog(ctx, p.catalog, p.args, out)
	case word(p.sql) == "":
		n.send(&pgproto3.EmptyQueryResponse{})
		return nil
	}
	done, _, err := n.sql.Run(ctx, storage.SQLStatement{SQL: p.sql, Args: p.args}, out)
	if err != nil {
		return n.soften(err, p.sql)
	}
	p.tag = tag(p.sql, done)
	return nil
}

// resume sends more rows of a portal that was suspended.
func (p *portal) resume(out *stream) error {
	rows := p.rows
	p.rows = nil
	for _, row := range rows {
		if err := out.Row(row); err != nil {
			return err
		}
	}
	if strings.HasPrefix(p.tag, "SELECT") {
		p.tag = "SELECT " + strconv.FormatInt(min(out.count, int64(len(rows))), 10)
	}
	return p.finish(out.n, out)
}

func (p *portal) finish(n *session, out *stream) error {
	switch {
	case len(p.rows) > 0:
		n.send(&pgproto3.PortalSuspended{})
	case p.tag != "":
		n.complete(p.tag)
	}
	return nil
}

// tag is how a command is said to be complete.
func tag(sql string, out storage.SQLOutcome) string {
	switch verb := word(sql); verb {
	case "INSERT", "REPLACE":
		return "INSERT 0 " + strconv.FormatInt(out.Changed, 10)
	case "UPDATE", "DELETE":
		return verb + " " + strconv.FormatInt(out.Changed, 10)
	case "SELECT", "VALUES", "PRAGMA", "EXPLAIN":
		return "SELECT " + strconv.FormatInt(out.Rows, 10)
	case "WITH":
		if !out.Kind.ReadOnly {
			return "INSERT 0 " + strconv.FormatInt(out.Changed, 10)
		}
		return "SELECT " + strconv.FormatInt(out.Rows, 10)
	case "CREATE", "DROP", "ALTER":
		return verb + " " + secondWord(sql)
	case "END":
		return "COMMIT"
	case "COMMIT":
		if out.Kind.Transaction == "ROLLBACK" {
			return "ROLLBACK"
		}
		return verb
	default:
		return verb
	}
}
