package sql

import (
	"context"
	"strings"

	"trivet/storage"
)

// step is a line of EXPLAIN QUERY PLAN (https://www.sqlite.org/eqp.html), with those below it.
type step struct {
	Detail string
	Below  []*step
}

// Kind is what the step costs at a glance: scan, search or other.
func (s *step) Kind() string {
	for _, kind := range []string{"scan", "search"} {
		if strings.HasPrefix(strings.ToLower(s.Detail), kind) {
			return kind
		}
	}
	if strings.Contains(s.Detail, "TEMP B-TREE") {
		return "sort"
	}
	return "other"
}

// plan is how SQLite would run the statement.
func (a *asked) plan(ctx context.Context) ([]*step, error) {
	steps := map[int64]*step{0: {}}
	st := a.statement(a.one, 0, 0)
	st.SQL = "EXPLAIN QUERY PLAN " + st.SQL
	_, _, err := a.session.Run(ctx, st, rowFunc(func(row []storage.SQLValue) {
		s := &step{Detail: text(row[3])}
		steps[number(row[0])] = s
		above := steps[number(row[1])]
		if above == nil {
			above = steps[0]
		}
		above.Below = append(above.Below, s)
	}))
	return steps[0].Below, err
}
