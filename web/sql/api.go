package sql

import (
	"context"
	"encoding/base64"
	"encoding/csv"
	"encoding/json"
	"fmt"
	"math"
	"net/http"
	"strconv"
	"strings"

	"trivet/storage"
)

// request is the body of POST /api/v1/sql.
type request struct {
	Database    string              `json:"database"`
	SQL         string              `json:"sql"`  // one statement
	Args        json.RawMessage     `json:"args"` // of it: an array, or an object by names
	Statements  []statement         `json:"statements"`
	Consistency storage.Consistency `json:"consistency"`
	Transaction bool                `json:"transaction"` // all statements or none
}

type statement struct {
	SQL  string          `json:"sql"`
	Args json.RawMessage `json:"args"`
}

// result is the answer to one statement.
type result struct {
	Columns      []string `json:"columns,omitempty"`
	Types        []string `json:"types,omitempty"` // as declared
	Rows         [][]any  `json:"rows,omitempty"`
	RowsAffected int64    `json:"rows_affected"`
	LastInsertID int64    `json:"last_insert_id,omitempty"`
	Error        *problem `json:"error,omitempty"`
}

func (s *Server) api(w http.ResponseWriter, r *http.Request, user storage.SQLUser) error {
	var in request
	if err := read(r, &in); err != nil {
		return err
	}
	if in.SQL != "" {
		in.Statements = append([]statement{{in.SQL, in.Args}}, in.Statements...)
	}
	if len(in.Statements) == 0 || len(in.Statements) > MaxStatements {
		return &storage.SQLError{State: "22023", Message: fmt.Sprintf("give 1 to %d statements", MaxStatements)}
	}
	statements := make([]storage.SQLStatement, len(in.Statements))
	for i, st := range in.Statements {
		var err error
		if statements[i], err = withArgs(st.SQL, st.Args); err != nil {
			return err
		}
	}
	session, err := s.open(r, user, in.Database, in.Consistency)
	if err != nil {
		return err
	}
	defer session.Close()
	accept := r.Header.Get("Accept")
	switch {
	case len(statements) == 1 && strings.Contains(accept, "text/csv"):
		return stream(r.Context(), w, session, statements[0], "text/csv; charset=utf-8", &csvSink{out: csv.NewWriter(w)})
	case len(statements) == 1 && strings.Contains(accept, "ndjson"):
		return stream(r.Context(), w, session, statements[0], "application/x-ndjson", &ndjsonSink{out: json.NewEncoder(w)})
	case in.Transaction:
		return transaction(r.Context(), w, session, statements)
	}
	results := make([]result, 0, len(statements))
	for _, st := range statements {
		one, err := run(r.Context(), session, st)
		if err != nil {
			if len(statements) == 1 {
				return err
			}
			p, _ := problemOf(err)
			one = result{Error: &p}
		}
		results = append(results, one)
	}
	answer(w, http.StatusOK, map[string]any{"results": results})
	return nil
}

// maxAnswer bounds a result that is not streamed, in octets.
const maxAnswer = 64 << 20

// run runs one statement and keeps its rows.
func run(ctx context.Context, session storage.SQLSession, st storage.SQLStatement) (result, error) {
	rows := &limited{}
	out, rest, err := session.Run(ctx, st, rows)
	if err == nil && strings.Trim(rest, " \t\r\n;") != "" {
		err = &storage.SQLError{State: "42601", Message: "there is more than one statement", Hint: `give each as an element of "statements"`}
	}
	if err != nil {
		return result{}, err
	}
	return resultOf(out, &rows.SQLRows), nil
}

// limited keeps rows up to a bound.
type limited struct {
	storage.SQLRows
	size int
}

// Row implements [storage.SQLSink].
func (l *limited) Row(row []storage.SQLValue) error {
	for _, v := range row {
		l.size += 16
		switch v := v.(type) {
		case string:
			l.size += len(v)
		case []byte:
			l.size += len(v)
		}
	}
	if l.size > maxAnswer {
		return &storage.SQLError{State: "54000", Message: "the result is more than 64 MiB", Hint: "ask for it with Accept: application/x-ndjson or text/csv, or add a LIMIT"}
	}
	return l.SQLRows.Row(row)
}

func resultOf(out storage.SQLOutcome, rows *storage.SQLRows) result {
	r := result{RowsAffected: out.Changed, LastInsertID: out.LastInsertID}
	if out.Kind.ReadOnly {
		r.LastInsertID = 0
	}
	for _, c := range rows.Names {
		r.Columns, r.Types = append(r.Columns, c.Name), append(r.Types, strings.ToLower(c.Declared))
	}
	for _, row := range rows.Data {
		for i, v := range row {
			row[i] = jsonValue(v)
		}
		r.Rows = append(r.Rows, row)
	}
	return r
}

// jsonValue is a value as JSON has it: a BLOB in base64.
func jsonValue(v storage.SQLValue) any {
	switch v := v.(type) {
	case []byte:
		return base64.StdEncoding.EncodeToString(v)
	case float64:
		if math.IsInf(v, 0) || math.IsNaN(v) {
			return strconv.FormatFloat(v, 'g', -1, 64)
		}
	case string:
		return strings.ToValidUTF8(v, "\ufffd")
	}
	return v
}

func transaction(ctx context.Context, w http.ResponseWriter, session storage.SQLSession, statements []storage.SQLStatement) error {
	done, err := session.Transaction(ctx, statements)
	if err != nil {
		return err
	}
	results := make([]result, len(done.Outcomes))
	for i, out := range done.Outcomes {
		results[i] = resultOf(out, &done.Rows[i])
	}
	answer(w, http.StatusOK, map[string]any{"results": results})
	return nil
}

// withArgs reads the parameters of a statement.
func withArgs(sql string, raw json.RawMessage) (storage.SQLStatement, error) {
	st := storage.SQLStatement{SQL: sql}
	if len(raw) == 0 || string(raw) == "null" {
		return st, nil
	}
	d := json.NewDecoder(strings.NewReader(string(raw)))
	d.UseNumber()
	var v any
	if err := d.Decode(&v); err != nil {
		return st, &storage.SQLError{State: "22023", Message: "the parameters are no JSON"}
	}
	switch v := v.(type) {
	case []any:
		for _, a := range v {
			value, err := argument(a)
			if err != nil {
				return st, err
			}
			st.Args = append(st.Args, value)
		}
	case map[string]any:
		st.Named = map[string]storage.SQLValue{}
		for name, a := range v {
			value, err := argument(a)
			if err != nil {
				return st, err
			}
			st.Named[strings.TrimLeft(name, ":@$")] = value
		}
	default:
		return st, &storage.SQLError{State: "22023", Message: "parameters are an array, or an object"}
	}
	return st, nil
}

// argument is a parameter of JSON. {"base64": "…"} is a BLOB.
func argument(a any) (storage.SQLValue, error) {
	switch v := a.(type) {
	case json.Number:
		if i, err := v.Int64(); err == nil {
			return i, nil
		}
		f, err := v.Float64()
		if err != nil {
			return nil, &storage.SQLError{State: "22003", Message: "the number " + v.String() + " is out of range"}
		}
		return f, nil
	case map[string]any:
		if text, ok := v["base64"].(string); ok && len(v) == 1 {
			data, err := base64.StdEncoding.DecodeString(text)
			if err != nil {
				return nil, &storage.SQLError{State: "22P02", Message: "a parameter is no base64"}
			}
			return data, nil
		}
	case nil, string, bool:
		return v, nil
	}
	return nil, &storage.SQLError{State: "22023", Message: `a parameter is null, a boolean, a number, a text or {"base64": "…"}`}
}
