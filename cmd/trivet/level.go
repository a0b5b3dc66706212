package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"trivet/raft"
	"trivet/storage"
)

// levelFresh is how lately each node must have said which level its release
// has: one that was put back to an older release says so when it comes back.
const levelFresh = 5 * time.Second

var errLevelWaits = errors.New("the feature level is raised once all nodes run this release")

// raiseLevel raises the feature level of the state as far as every node of the
// cluster can follow, while this node leads.
func (n *node) raiseLevel(ctx context.Context) error {
	before := n.store.Level()
	if before >= storage.Level || n.raft.Status().Role != raft.RoleLeader {
		return nil
	}
	members, err := n.raft.Members(ctx)
	if err != nil {
		return err
	}
	level := storage.Level
	for _, m := range members {
		level = min(level, announced(m, string(n.settings.Node)))
	}
	if level > before {
		if err := n.store.RaiseLevel(ctx, level); err != nil {
			return err
		}
		n.log.Info("all nodes have been upgraded: the feature level is raised", "from", before, "to", level)
	}
	if level < storage.Level {
		return errLevelWaits
	}
	return nil
}

// announced is the feature level of a member's release; 0: it has not been heard of lately.
func announced(m raft.Member, self string) int {
	switch {
	case m.ID == self:
		return storage.Level
	case m.LastContact < 0 || m.LastContact > levelFresh:
		return 0
	}
	return max(m.Level, 1) // releases before the second level do not tell
}

// laggards names the nodes that keep the level from being raised.
func (n *node) laggards(ctx context.Context) string {
	ctx, cancel := context.WithTimeout(ctx, statusPatience)
	defer cancel()
	members, err := n.raft.Members(ctx)
	if err != nil {
		return ""
	}
	var behind []string
	for _, m := range members {
		switch level := announced(m, string(n.settings.Node)); {
		case level == 0:
			behind = append(behind, m.ID+" does not answer")
		case level < storage.Level:
			behind = append(behind, fmt.Sprintf("%s runs %s of level %d", m.ID, m.Version, level))
		}
	}
	return strings.Join(behind, ", ")
}
