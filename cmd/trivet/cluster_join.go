package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"strings"

	"github.com/spf13/cobra"
)

// defaultClusterListen is where a node listens for the others, unless told otherwise.
const defaultClusterListen = ":7000"

// joinSettings are the default settings of a node of a cluster.
func joinSettings() settings {
	s := defaultSettings()
	s.Listen[listenCluster] = defaultClusterListen
	return s
}

// joined is what `trivet cluster join --json` prints.
type joined struct {
	Data    string `json:"data"`
	Node    string `json:"node"`
	Replica bool   `json:"replica"`
}

func (c *cli) joinCommand() *cobra.Command {
	cmd := command("join TOKEN", "Prepare an empty data folder: a node of the cluster that the token is from", 1, 1, nil)
	load := addFlags(cmd.Flags(), joinSettings())
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		t, err := parseToken(args[0])
		if err != nil {
			return err
		}
		s, err := load("")
		if err != nil {
			return err
		}
		if s.Listen[listenCluster] == "" {
			return usageOf(cmd, errors.New("a node of a cluster needs a listener cluster=ADDR in --listen"))
		}
		j, err := c.join(cmd.Context(), t, s)
		if err != nil {
			return err
		}
		return c.print(j, func(w io.Writer) { j.text(w, c.dir.flag()) })
	}
	return cmd
}

func (j joined) text(w io.Writer, dataFlag string) {
	fmt.Fprintf(w, "%s is set up as node %s of the cluster\n\nThen run: trivet serve%s\n\n", j.Data, j.Node, dataFlag)
	fmt.Fprintf(w, "It catches up with the others by itself; 'trivet cluster status%s' tells how far it is.\n", dataFlag)
}

// join prepares the folder. The token is used up only by one that can be used.
func (c *cli) join(ctx context.Context, t token, s settings) (joined, error) {
	if err := c.dir.create(); err != nil {
		return joined{}, err
	}
	unlock, err := c.dir.lock()
	if err != nil {
		return joined{}, err
	}
	defer unlock()
	if err := c.dir.claim(); err != nil {
		return joined{}, err
	}
	if s.Node == "" {
		s.Node = newNodeID()
	}
	if !nodeName.MatchString(string(s.Node)) {
		return joined{}, usagef("--node: %q is no name of a node: letters, digits, dots, dashes and underscores, at most 63", s.Node)
	}
	credentials, answer, err := askToJoin(ctx, t, string(s.Node))
	if err != nil {
		return joined{}, err
	}
	if s.ClusterAddress == "" && listensEverywhere(s.Listen[listenCluster]) {
		s.ClusterAddress = text(answer.From)
	}
	err = c.dir.install(s, func(partial dataDir) error { return prepareJoined(partial, t, credentials, answer.Replica) })
	return joined{Data: string(c.dir), Node: string(s.Node), Replica: answer.Replica}, err
}

func prepareJoined(dir dataDir, t token, c *credentials, replica bool) error {
	if err := c.save(dir); err != nil {
		return err
	}
	files := map[string]string{joiningFile: "", peersFile: strings.Join(t.addresses, "\n") + "\n"}
	if replica {
		files[replicaFile] = ""
	}
	for name, content := range files {
		if err := writeFile(dir.cluster().path(name), []byte(content)); err != nil {
			return err
		}
	}
	return nil
}

// listensEverywhere reports whether an address to listen on says nothing of where that is.
func listensEverywhere(address string) bool {
	host, _, err := net.SplitHostPort(address)
	if err != nil || host == "" {
		return err == nil
	}
	ip, err := netip.ParseAddr(host)
	return err == nil && ip.IsUnspecified()
}
