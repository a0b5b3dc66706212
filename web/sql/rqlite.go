package sql

import (
	"encoding/json"
	"net/http"
	"net/url"
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
	body, err := readAll(r)
	if err != nil {
		return nil, err
	}
	if statements, ok := plainStatements(body); ok && len(statements) <= MaxStatements {
		return statements, nil
	}
	var list []json.RawMessage
	if err := decode(body, &list); err != nil {
		return nil, err
	}
	if len(list) > MaxStatements {
		return nil, &storage.SQLError{State: "54000", Message: "there are too many statements"}
	}
	statements := make([]storage.SQLStatement, 0, len(list))
	for _, raw := range list {
		st, err := rqliteStatement(raw)
		if err != nil {
			return nil, err
		}
		statements = append(statements, st)
	}
	return statements, nil
}

func rqliteStatement(raw json.RawMessage) (storage.SQLStatement, error) {
	var text string
	if json.Unmarshal(raw, &text) == nil {
		return storage.SQLStatement{SQL: text}, nil
	}
	var parts []json.RawMessage
	if json.Unmarshal(raw, &parts) != nil || len(parts) == 0 || json.Unmarshal(parts[0], &text) != nil {
		return storage.SQLStatement{}, &storage.SQLError{State: "22023", Message: "a statement is a text, or an array of a text and its parameters"}
	}
	args := json.RawMessage("[]")
	if len(parts) == 2 && strings.HasPrefix(strings.TrimSpace(string(parts[1])), "{") {
		args = parts[1]
	} else if len(parts) > 1 {
		joined, err := json.Marshal(parts[1:])
		if err != nil {
			return storage.SQLStatement{}, err
		}
		args = joined
	}
	return withArgs(text, args)
}

func (s *Server) rqliteExecute(w http.ResponseWriter, r *http.Request, user storage.SQLUser) error {
	statements, err := rqliteStatements(r)
	if err != nil {
		return err
	}
	options := r.URL.Query()
	if options.Has("transaction") {
		return s.rqlite(w, r, user, options, statements, storage.ConsistencySession)
	}
	session, err := s.open(r, user, options.Get("db"), storage.ConsistencySession)
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
	rqliteAnswer(w, results)
	return nil
}

// rqliteLevels are its levels of consistency.
var rqliteLevels = map[string]storage.Consistency{"strong": storage.ConsistencyLinearizable, "linearizable": storage.ConsistencyLinearizable}

func (s *Server) rqliteQuery(w http.ResponseWriter, r *http.Request, user storage.SQLUser) error {
	var statements []storage.SQLStatement
	options := r.URL.Query()
	if q := options.Get("q"); q != "" {
		statements = []storage.SQLStatement{{SQL: q}}
	} else {
		var err error
		if statements, err = rqliteStatements(r); err != nil {
			return err
		}
	}
	return s.rqlite(w, r, user, options, statements, rqliteLevels[options.Get("level")])
}

func (s *Server) rqlite(w http.ResponseWriter, r *http.Request, user storage.SQLUser, options url.Values, statements []storage.SQLStatement, consistency storage.Consistency) error {
	session, err := s.open(r, user, options.Get("db"), consistency)
	if err != nil {
		return err
	}
	defer session.Close()
	results := make([]rqliteResult, 0, len(statements))
	if options.Has("transaction") {
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
	rqliteAnswer(w, results)
	return nil
}

// rqliteRequest takes statements that read and others, one after the other.
func (s *Server) rqliteRequest(w http.ResponseWriter, r *http.Request, user storage.SQLUser) error {
	statements, err := rqliteStatements(r)
	if err != nil {
		return err
	}
	options := r.URL.Query()
	return s.rqlite(w, r, user, options, statements, rqliteLevels[options.Get("level")])
}

// rqliteStatus and rqliteNodes tell clients that look for the leader that it is
// whom they ask: any node takes all statements.
func rqliteStatus(w http.ResponseWriter, r *http.Request, _ storage.SQLUser) error {
	answer(w, http.StatusOK, map[string]any{"store": map[string]any{"leader": map[string]string{"node_id": "1", "addr": r.Host}}})
	return nil
}

func rqliteNodes(w http.ResponseWriter, r *http.Request, _ storage.SQLUser) error {
	scheme := "http://"
	if r.TLS != nil {
		scheme = "https://"
	}
	answer(w, http.StatusOK, map[string]any{"1": map[string]any{"api_addr": scheme + r.Host, "addr": r.Host, "reachable": true, "leader": true}})
	return nil
}
