package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"time"

	"github.com/spf13/cobra"

	"trivet/raft"
)

// recoveryFlag is long on purpose.
const recoveryFlag = "yes-the-other-nodes-are-lost"

// recovered is what `trivet cluster recover --json` prints.
type recovered struct {
	Node         string `json:"node"`
	AppliedIndex uint64 `json:"applied_index"`
}

func (c *cli) recoverCommand() *cobra.Command {
	cmd := command("recover", "Make this stopped node a cluster of its own, when a majority is lost for good", 0, 0, nil)
	sure := cmd.Flags().Bool(recoveryFlag, false, "confirm that no other node will ever run again with the data it has")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		if !*sure {
			return usageOf(cmd, fmt.Errorf("this makes the node a cluster of its own: what only the others had is lost, and mail is lost or doubled "+
				"if any of them runs again with the data it has; if that is what you want, add --%s", recoveryFlag))
		}
		r, err := c.recover(cmd.Context())
		if err != nil {
			return err
		}
		return c.print(r, line("%s is a cluster of its own, with everything up to change %d\nThen run: trivet serve%s", r.Node, r.AppliedIndex, c.dir.flag()))
	}
	return cmd
}

// recover makes the node the only one, and gives the cluster another
// certificate authority: nothing that the other nodes have is good for it.
func (c *cli) recover(ctx context.Context) (r recovered, err error) {
	if err := c.dir.checkSetUp(); err != nil {
		return r, err
	}
	unlock, err := c.dir.lock()
	if err != nil {
		return r, err
	}
	defer unlock()
	s := defaultSettings()
	if err := s.readFile(c.dir.settingsFile()); err != nil {
		return r, err
	}
	log := slog.New(slog.DiscardHandler)
	if err := raft.Recover(raftConfig(c.dir, s, log, nil)); err != nil {
		return r, err
	}
	n, err := openNode(c.dir, s, log, nil)
	if err != nil {
		return r, err
	}
	patience, cancel := context.WithTimeout(ctx, verifyPatience)
	defer cancel()
	if err = n.waitReady(patience); err == nil {
		err = n.startAnew(patience)
	}
	r = recovered{Node: string(s.Node), AppliedIndex: n.raft.Status().Applied}
	return r, errors.Join(err, n.close())
}

// startAnew makes what was known of other nodes worthless.
func (n *node) startAnew(ctx context.Context) error {
	if err := n.raiseLevel(ctx); err != nil {
		return err
	}
	a, err := newAuthority(time.Now())
	if err != nil {
		return err
	}
	if err := n.setAuthority(ctx, a); err != nil {
		return err
	}
	return errors.Join(os.RemoveAll(string(n.dir.cluster())), syncDir(string(n.dir)))
}
