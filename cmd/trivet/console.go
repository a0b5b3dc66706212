package main

import (
	"trivet/raft"
	"trivet/storage"
	"trivet/web/sql"
)

// mountConsole puts the SQL console on the web.
func (n *node) mountConsole() error {
	var ready []sql.NamedQuery
	for _, q := range storage.MailQueries() {
		named := sql.NamedQuery{Name: q.Title, SQL: q.SQL, Params: map[string]string{}}
		for _, p := range q.Parameters {
			named.Params[p.Name] = p.Default
		}
		ready = append(ready, named)
	}
	_, err := sql.NewConsole(n.shell, n.store, n.freshness, map[string][]sql.NamedQuery{storage.MailDatabase: ready})
	return err
}

// freshness is how new what this node answers is.
func (n *node) freshness() sql.Freshness {
	s := n.raft.Status()
	return sql.Freshness{Node: s.ID, Index: s.Applied, Age: s.Heard, Leader: s.Role == raft.RoleLeader}
}
