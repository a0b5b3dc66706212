package main

import (
	"trivet/raft"
	"trivet/web/sql"
)

// mountConsole puts the SQL console on the web.
func (n *node) mountConsole() error {
	_, err := sql.NewConsole(n.shell, n.store, n.freshness, nil)
	return err
}

// freshness is how new what this node answers is.
func (n *node) freshness() sql.Freshness {
	s := n.raft.Status()
	return sql.Freshness{Node: s.ID, Index: s.Applied, Age: s.Heard, Leader: s.Role == raft.RoleLeader}
}
