package pgwire

import (
	"bufio"
	"bytes"
	"context"
	"encoding/csv"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"

	"github.com/jackc/pgx/v5/pgproto3"

	"trivet/storage"
)

// copying is a COPY statement.
type copying struct {
	table     string // as written, with its quotes
	columns   []string
	query     string // of COPY (query) TO
	in        bool
	csv       bool
	header    bool
	delimiter byte
	null      string
}

var errCopySyntax = &storage.SQLError{State: "42601", Message: "this form of COPY is not supported",
	Hint: "write COPY table [(columns)] FROM STDIN or TO STDOUT, or COPY (query) TO STDOUT, [WITH (FORMAT csv, HEADER, DELIMITER ',', NULL '')]"}

// parseCopy reads a COPY statement.
func parseCopy(sql string) (*copying, error) {
	tokens := slices.DeleteFunc(lex(sql), func(t token) bool { return t.text == ";" })
	at := 0
	next := func() string {
		for at < len(tokens) && tokens[at].kind == tokenSpace {
			at++
		}
		if at == len(tokens) {
			return ""
		}
		at++
		return tokens[at-1].text
	}
	inside := func() string { // up to the closing bracket
		var b strings.Builder
		for depth := 1; at < len(tokens); at++ {
			switch tokens[at].text {
			case "(":
				depth++
			case ")":
				depth--
			}
			if depth == 0 {
				at++
				return b.String()
			}
			b.WriteString(tokens[at].text)
		}
		return b.String()
	}
	c := &copying{delimiter: '\t', null: `\N`}
	next() // COPY
	if c.table = next(); c.table == "(" {
		c.table, c.query = "", inside()
	}
	word := next()
	if word == "." { // schema.table
		c.table = next()
		word = next()
	}
	if word == "(" {
		for name := range strings.SplitSeq(inside(), ",") {
			c.columns = append(c.columns, strings.TrimSpace(name))
		}
		word = next()
	}
	c.in = strings.EqualFold(word, "FROM")
	if !c.in && !strings.EqualFold(word, "TO") || c.in && c.query != "" || c.table == "" && c.query == "" {
		return nil, errCopySyntax
	}
	if end := next(); !strings.EqualFold(end, "STDIN") && !strings.EqualFold(end, "STDOUT") {
		return nil, errCopySyntax
	}
	return c, c.options(tokens[at:])
}

func (c *copying) options(tokens []token) error {
	tokens = slices.DeleteFunc(slices.Clone(tokens), func(t token) bool {
		return t.kind == tokenSpace || t.text == "(" || t.text == ")" || t.text == "," || strings.EqualFold(t.text, "WITH") || strings.EqualFold(t.text, "AS")
	})
	delimiter, null := "", (*string)(nil)
	for i := 0; i < len(tokens); i++ {
		value := ""
		if i+1 < len(tokens) {
			value = unquote(strings.TrimPrefix(strings.TrimPrefix(tokens[i+1].text, "E"), "e"))
		}
		switch strings.ToUpper(tokens[i].text) {
		case "FORMAT":
			if c.csv = strings.EqualFold(value, "csv"); !c.csv && !strings.EqualFold(value, "text") {
				return &storage.SQLError{State: "0A000", Message: "COPY knows the formats text and csv"}
			}
			i++
		case "CSV":
			c.csv = true
		case "HEADER":
			c.header = !strings.EqualFold(value, "false") && value != "0" && !strings.EqualFold(value, "off")
			if up := strings.ToUpper(value); up == "TRUE" || up == "FALSE" || up == "ON" || up == "OFF" || up == "MATCH" || value == "0" || value == "1" {
				i++
			}
		case "DELIMITER":
			delimiter = strings.ReplaceAll(value, `\t`, "\t")
			i++
		case "NULL":
			null = &value
			i++
		case "BINARY":
			return &storage.SQLError{State: "0A000", Message: "COPY knows the formats text and csv"}
		case "ENCODING", "QUOTE", "ESCAPE":
			i++
		default:
			return errCopySyntax
		}
	}
	if c.csv {
		c.delimiter, c.null = ',', ""
	}
	if len(delimiter) > 1 {
		return errCopySyntax
	}
	if delimiter != "" {
		c.delimiter = delimiter[0]
	}
	if null != nil {
		c.null = *null
	}
	return nil
}

func (n *session) copy(ctx context.Context, sql string) error {
	c, err := parseCopy(sql)
	if err != nil {
		return err
	}
	if c.in {
		return n.copyIn(ctx, c)
	}
	return n.copyOut(ctx, c)
}

// copySink sends rows as CopyData.
type copySink struct {
	n      *session
	c      *copying
	began  bool
	count  int64
	buffer bytes.Buffer
}

func (s *copySink) Columns(columns []storage.SQLColumn) error {
	s.n.send(&pgproto3.CopyOutResponse{ColumnFormatCodes: make([]uint16, len(columns))})
	s.began = true
	if !s.c.header {
		return nil
	}
	row := make([]storage.SQLValue, len(columns))
	for i, c := range columns {
		row[i] = c.Name
	}
	return s.write(row)
}

func (s *copySink) Row(row []storage.SQLValue) error {
	s.count++
	return s.write(row)
}

func (s *copySink) write(row []storage.SQLValue) error {
	s.buffer.Reset()
	for i, v := range row {
		if i > 0 {
			s.buffer.WriteByte(s.c.delimiter)
		}
		s.field(v)
	}
	s.buffer.WriteByte('\n')
	s.n.send(&pgproto3.CopyData{Data: s.buffer.Bytes()})
	return s.n.sized(s.buffer.Len())
}

func (s *copySink) field(v storage.SQLValue) {
	if v == nil {
		s.buffer.WriteString(s.c.null)
		return
	}
	text := textOf(v)
	if data, ok := v.([]byte); ok {
		text = `\x` + hex.EncodeToString(data)
	}
	if s.c.csv {
		if text == s.c.null || strings.ContainsAny(text, "\"\r\n"+string(s.c.delimiter)) {
			text = `"` + strings.ReplaceAll(text, `"`, `""`) + `"`
		}
		s.buffer.WriteString(text)
		return
	}
	for i := range len(text) {
		switch c := text[i]; c {
		case '\\':
			s.buffer.WriteString(`\\`)
		case '\n':
			s.buffer.WriteString(`\n`)
		case '\r':
			s.buffer.WriteString(`\r`)
		case '\t':
			s.buffer.WriteString(`\t`)
		case s.c.delimiter:
			s.buffer.WriteByte('\\')
			s.buffer.WriteByte(c)
		default:
			s.buffer.WriteByte(c)
		}
	}
}

func (n *session) copyOut(ctx context.Context, c *copying) error {
	sql := c.query
	if sql == "" {
		list := "*"
		if c.columns != nil {
			list = strings.Join(c.columns, ", ")
		}
		sql = "SELECT " + list + " FROM " + c.table
	}
	out := &copySink{n: n, c: c}
	if _, _, err := n.sql.Run(ctx, storage.SQLStatement{SQL: sql}, out); err != nil {
		return err
	}
	n.send(&pgproto3.CopyDone{})
	n.complete("COPY " + strconv.FormatInt(out.count, 10))
	return nil
}

// copyData is what the client sends, as a reader.
type copyData struct {
	n    *session
	left []byte
	done bool
}

// errCopyFail: the client gave up (CopyFail).
var errCopyFail = &storage.SQLError{State: "57014", Message: "COPY from stdin failed: the client gave up"}

func (d *copyData) Read(into []byte) (int, error) {
	for len(d.left) == 0 {
		if d.done {
			return 0, io.EOF
		}
		message, err := d.n.back.Receive()
		if err != nil {
			return 0, err
		}
		switch m := message.(type) {
		case *pgproto3.CopyData:
			d.left = m.Data
		case *pgproto3.CopyDone:
			d.done = true
		case *pgproto3.CopyFail:
			d.done = true
			return 0, errCopyFail
		case *pgproto3.Flush, *pgproto3.Sync:
		default:
			return 0, errors.New("another message in the middle of COPY")
		}
	}
	size := copy(into, d.left)
	d.left = d.left[size:]
	return size, nil
}

// copyIn inserts rows, in one transaction.
func (n *session) copyIn(ctx context.Context, c *copying) error {
	width := len(c.columns)
	if width == 0 {
		d, err := n.sql.Describe(ctx, "SELECT * FROM "+c.table)
		if err != nil {
			return err
		}
		width = len(d.Columns)
	}
	insert := "INSERT INTO " + c.table
	if c.columns != nil {
		insert += " (" + strings.Join(c.columns, ", ") + ")"
	}
	insert += " VALUES (?" + strings.Repeat(", ?", width-1) + ")"
	own := n.sql.Status() == 'I'
	if own {
		if _, _, err := n.sql.Run(ctx, storage.SQLStatement{SQL: "BEGIN"}, &storage.SQLRows{}); err != nil {
			return err
		}
	}
	n.send(&pgproto3.CopyInResponse{ColumnFormatCodes: make([]uint16, width)})
	if err := n.flush(); err != nil {
		return err
	}
	data := &copyData{n: n}
	count, err := n.insertAll(ctx, c, insert, width, data)
	for !data.done { // the client goes on until it is asked to stop
		if _, left := io.Copy(io.Discard, data); left != nil {
			break
		}
	}
	if own {
		end := "COMMIT"
		if err != nil {
			end = "ROLLBACK"
		}
		if _, _, e := n.sql.Run(ctx, storage.SQLStatement{SQL: end}, &storage.SQLRows{}); e != nil && err == nil {
			err = e
		}
	}
	if err == nil {
		n.complete("COPY " + strconv.FormatInt(count, 10))
	}
	return err
}

func (n *session) insertAll(ctx context.Context, c *copying, insert string, width int, data io.Reader) (count int64, err error) {
	next := c.textRows(data)
	if c.csv {
		next = c.csvRows(data)
	}
	for line := int64(1); ; line++ {
		row, err := next()
		if errors.Is(err, io.EOF) {
			return count, nil
		}
		if err != nil {
			return count, err
		}
		if c.header && line == 1 {
			continue
		}
		if len(row) != width {
			return count, &storage.SQLError{State: "22P04", Message: fmt.Sprintf("row %d has %d columns, not %d", line, len(row), width)}
		}
		if _, _, err := n.sql.Run(ctx, storage.SQLStatement{SQL: insert, Args: row}, &storage.SQLRows{}); err != nil {
			return count, fmt.Errorf("row %d: %w", line, err)
		}
		count++
	}
}

// maxCopyLine bounds a row of COPY in the text format, in octets.
const maxCopyLine = 32 << 20

func (c *copying) textRows(r io.Reader) func() ([]storage.SQLValue, error) {
	lines := bufio.NewScanner(r)
	lines.Buffer(make([]byte, 64<<10), maxCopyLine)
	return func() ([]storage.SQLValue, error) {
		if !lines.Scan() || lines.Text() == `\.` {
			if err := lines.Err(); err != nil {
				return nil, err
			}
			return nil, io.EOF
		}
		var row []storage.SQLValue
		for field := range strings.SplitSeq(lines.Text(), string(c.delimiter)) {
			if field == c.null {
				row = append(row, nil)
				continue
			}
			row = append(row, blobOf(unescape(field)))
		}
		return row, nil
	}
}

// blobOf takes \x and hexadecimal digits for a BLOB.
func blobOf(text string) storage.SQLValue {
	if digits, ok := strings.CutPrefix(text, `\x`); ok {
		if raw, err := hex.DecodeString(digits); err == nil {
			return raw
		}
	}
	return text
}

// unescape resolves the backslashes of the text format.
func unescape(s string) string {
	if !strings.Contains(s, `\`) {
		return s
	}
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] != '\\' || i+1 == len(s) {
			b.WriteByte(s[i])
			continue
		}
		i++
		switch s[i] {
		case 'n':
			b.WriteByte('\n')
		case 't':
			b.WriteByte('\t')
		case 'r':
			b.WriteByte('\r')
		default:
			b.WriteByte(s[i])
		}
	}
	return b.String()
}

func (c *copying) csvRows(r io.Reader) func() ([]storage.SQLValue, error) {
	in := csv.NewReader(r)
	in.Comma = rune(c.delimiter)
	in.FieldsPerRecord = -1
	return func() ([]storage.SQLValue, error) {
		fields, err := in.Read()
		if err != nil {
			var wrong *csv.ParseError
			if errors.As(err, &wrong) {
				err = &storage.SQLError{State: "22P04", Message: "COPY: " + wrong.Error()}
			}
			return nil, err
		}
		row := make([]storage.SQLValue, len(fields))
		for i, f := range fields {
			if f != c.null {
				row[i] = blobOf(f)
			}
		}
		return row, nil
	}
}
