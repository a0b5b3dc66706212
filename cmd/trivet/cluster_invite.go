package main

import (
	"context"
	"crypto/sha256"
	"fmt"
	"io"
	"time"

	"github.com/spf13/cobra"

	"trivet/storage"
)

// How long an invitation is good for.
const (
	defaultInvitation = time.Hour
	maxInvitation     = 7 * 24 * time.Hour
)

// invitationRequest is what the command asks the node.
type invitationRequest struct {
	Valid   time.Duration `json:"valid"`
	Replica bool          `json:"replica"`
}

// invitation is what `trivet cluster invite --json` prints.
type invitation struct {
	Token   string    `json:"token"`
	Expires time.Time `json:"expires"`
	Replica bool      `json:"replica"`
	Command string    `json:"command"`
}

func (c *cli) inviteCommand() *cobra.Command {
	cmd := command("invite", "Print the one command that makes another machine a node of this cluster", 0, 0, nil)
	valid := duration(defaultInvitation)
	cmd.Flags().Var(&valid, "valid", "how long the token is good for, at most 168h")
	replica := cmd.Flags().Bool("replica", false, "for a node that serves but never votes")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		if valid == 0 || time.Duration(valid) > maxInvitation {
			return usageOf(cmd, fmt.Errorf("--valid is more than 0 and at most %v", maxInvitation))
		}
		var made invitation
		if err := c.ask(cmd.Context(), "cluster.invite", invitationRequest{time.Duration(valid), *replica}, &made); err != nil {
			return err
		}
		return c.print(made, made.text)
	}
	return cmd
}

func (i invitation) text(w io.Writer) {
	fmt.Fprintf(w, "On the other machine, once, before %s:\n\n  %s\n", i.Expires.Local().Format(time.DateTime), i.Command)
}

// invite makes a token. Only the hash of its secret is kept.
func (n *node) invite(ctx context.Context, in invitationRequest) (invitation, error) {
	const op = "invite a node"
	if n.open[listenCluster] == nil {
		return invitation{}, &storage.Error{Op: op, Kind: storage.KindUnavailable, Err: fmt.Errorf("this node has no listener for other nodes"),
			Hint: fmt.Sprintf("add cluster = %q to [listen] in %s, or cluster=%s to --listen, and restart it", defaultClusterListen, n.dir.settingsFile(), defaultClusterListen)}
	}
	a, err := n.authority(ctx)
	if err != nil {
		return invitation{}, &storage.Error{Op: op, Kind: storage.KindUnavailable, Err: err, Hint: "try again in a moment"}
	}
	t := token{authority: a.hash(), expires: n.now().Add(in.Valid)}
	if t.addresses, err = n.memberAddresses(ctx); err != nil {
		return invitation{}, storageError(err)
	}
	if t.secret, err = a.newSecret(); err != nil {
		return invitation{}, err
	}
	if err := n.store.CreateInvitation(ctx, sha256.Sum256(t.secret[:]), t.expires, in.Replica); err != nil {
		return invitation{}, err
	}
	return invitation{Token: t.String(), Expires: t.expires.UTC().Truncate(time.Second), Replica: in.Replica, Command: "trivet cluster join " + t.String()}, nil
}

// memberAddresses returns where nodes are, this one first.
func (n *node) memberAddresses(ctx context.Context) ([]string, error) {
	members, err := n.raft.Members(ctx)
	if err != nil {
		return nil, err
	}
	addresses := []string{n.address()}
	for _, m := range members {
		if m.ID != string(n.settings.Node) && len(addresses) < maxAddresses && len(m.Address) <= maxAddress {
			addresses = append(addresses, m.Address)
		}
	}
	return addresses, nil
}

// address is where the other nodes reach this one, which has a listener for them.
func (n *node) address() string {
	return clusterAddress(string(n.settings.ClusterAddress), n.open[listenCluster].Addr())
}
