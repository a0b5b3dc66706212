package sql

import (
	"encoding/json"
	"net/http"
	"strings"

	"trivet/storage"
)

// What rqlite's clients send and expect (https://rqlite.io/docs/api/).

// rqliteResult is the answer to one statement.
type rqliteResult struct {
	Columns      []string `json:"columns,omitempty"`
	Types        []string `json:"types,omitempty"`
	Values       [][]any  `json:"values,omitempty"`
	LastInsertID int64    `json:"last_insert_id,omitempty"`
	RowsAffected int64    `json:"rows_affected,omitempty"`
	Error        string   `json:"error,omitempty"`
}

func rqliteOf(r result) rqliteResult {
	return rqliteResult{Columns: r.Columns, Types: r.Types, Values: r.Rows, LastInsertID: r.LastInsertID, RowsAffected: r.RowsAffected}
}

// rqliteStatements reads ["SQL", ["SQL", 1, 2], ["SQL", {"name": 1}]].
func rqliteStatements(r *http.Request) ([]storage.SQLStatement, error) {
	var list []json.RawMessage
	if err := read(r, &list); err != nil {
		return nil, err
	}
	if len(list) > MaxStatements {
		return nil, &storage.SQLError{State: "54000", Message: "there are too many statements"}
	}
	statements := make([]storage.SQLStatement, 0, len(list))
	for _, raw := range list {
		var text string
		if json.Unmarshal(raw, &text) == nil {
			statements = append(statements, storage.SQLStatement{SQL: text})
			continue
		}
		var parts []json.RawMessage
		if json.Unmarshal(raw, &parts) != nil || len(parts) == 0 || json.Unmarshal(parts[0], &text) != nil {
			return nil, &storage.SQLError{State: "22023", Message: "a statement is a text, or an array of a text and its parameters"}
		}
		args := json.RawMessage("[]")
		if len(parts) == 2 && strings.HasPrefix(strings.TrimSpace(string(parts[1])), "{") {
			args = parts[1]
		} else if len(parts) > 1 {
			joined, err := json.Marshal(parts[1:])
			if err != nil {
				return nil, err
			}
			args = joined
		}
		st, err := withArgs(text, args)
		if err != nil {
			return nil, err
		}
		statements = append(statements, st)
	}
	return statements, nil
}

func (s *Server) rqliteExecute(w http.ResponseWriter, r *http.Request, user storage.SQLUser) error {
	statements, err := rqliteStatements(r)
	if err != nil {
		return err
	}
	if r.URL.Query().Has("transaction") {
		return s.rqlite(w, r, user, statements, storage.ConsistencySession)
	}
	session, err := s.open(r, user, r.URL.Query().Get("db"), storage.ConsistencySession)
	if err != nil {
		return err
	}
	defer session.Close()
	done, errs := session.Each(r.Context(), statements)
	results := make([]rqliteResult, len(statements))
	for i := range statements {
		switch {
		case errs[i] != nil:
			results[i].Error = errs[i].Error()
		case len(done[i].Outcomes) > 0:
			results[i] = rqliteOf(resultOf(done[i].Outcomes[0], &done[i].Rows[0]))
		}
	}
	answer(w, http.StatusOK, map[string]any{"results": results})
	return nil
}

// rqliteLevels are its levels of consistency.
var rqliteLevels = map[string]storage.Consistency{"strong": storage.ConsistencyLinearizable, "linearizable": storage.ConsistencyLinearizable}

func (s *Server) rqliteQuery(w http.ResponseWriter, r *http.Request, user storage.SQLUser) error {
	var statements []storage.SQLStatement
	if q := r.URL.Query().Get("q"); q != "" {
		statements = []storage.SQLStatement{{SQL: q}}
	} else {
		var err error
		if statements, err = rqliteStatements(r); err != nil {
			return err
		}
	}
	return s.rqlite(w, r, user, statements, rqliteLevels[r.URL.Query().Get("level")])
}

func (s *Server) rqlite(w http.ResponseWriter, r *http.Request, user storage.SQLUser, statements []storage.SQLStatement, consistency storage.Consistency) error {
	session, err := s.open(r, user, r.URL.Query().Get("db"), consistency)
	if err != nil {
		return err
	}
	defer session.Close()
	results := make([]rqliteResult, 0, len(statements))
	if r.URL.Query().Has("transaction") {
		done, err := session.Transaction(r.Context(), statements)
		if err != nil {
			results = append(results, rqliteResult{Error: err.Error()})
		}
		for i, out := range done.Outcomes {
			results = append(results, rqliteOf(resultOf(out, &done.Rows[i])))
		}
	} else {
		for _, st := range statements {
			one, err := run(r.Context(), session, st)
			rq := rqliteOf(one)
			if err != nil {
				rq.Error = err.Error()
			}
			results = append(results, rq)
		}
	}
	answer(w, http.StatusOK, map[string]any{"results": results})
	return nil
}
