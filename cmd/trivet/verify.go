package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"trivet/storage"
)

func (c *cli) verifyCommand() *cobra.Command {
	cmd := command("verify", "Check every file and body of this node, running or not, and print the checksum of its state", 0, 0, nil)
	compare := cmd.Flags().Bool("compare", false, "have all nodes of the cluster compare their states as well; this one must run")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		return c.verify(cmd.Context(), verificationRequest{Compare: *compare})
	}
	return cmd
}

// verification is what `trivet verify --json` prints.
type verification struct {
	OK           bool              `json:"ok"`
	Checksum     string            `json:"checksum"` // of the logical state: equal on all nodes at one index
	AppliedIndex uint64            `json:"applied_index"`
	Tables       map[string]string `json:"tables"`
	Messages     int64             `json:"messages"`
	Octets       int64             `json:"octets"`
	Repaired     int64             `json:"repaired"` // bodies that were damaged and came from another node
	Problems     []string          `json:"problems"`
	Nodes        []comparison      `json:"nodes,omitempty"` // with --compare
}

// errDamaged makes the exit status tell of problems that were printed.
var errDamaged = errors.New("the state is damaged; see the problems above")

func (c *cli) verify(ctx context.Context, in verificationRequest) error {
	var found verified
	err := newController(c.dir).do(ctx, "verify", in, &found)
	if errors.Is(err, errNotRunning) && !in.Compare {
		found.Verification, err = c.verifyStopped(ctx)
	}
	if err != nil {
		return err
	}
	v := verification{OK: len(found.Problems) == 0, Checksum: found.Checksum.Sum, AppliedIndex: found.Checksum.Index,
		Tables: found.Checksum.Tables, Messages: found.Messages, Octets: found.Octets, Repaired: found.Repaired, Problems: found.Problems, Nodes: found.Nodes}
	for _, n := range v.Nodes {
		if len(n.Differs) > 0 {
			v.OK, v.Problems = false, append(v.Problems, fmt.Sprintf("the state of node %s differs in %s", n.Node, strings.Join(n.Differs, ", ")))
		}
	}
	if err := c.print(v, v.text); err != nil {
		return err
	}
	if !v.OK {
		return errDamaged
	}
	return nil
}

func (v verification) text(w io.Writer) {
	fmt.Fprintf(w, "checksum\t%s\napplied\t%d\nbodies\t%d, %s\n", v.Checksum, v.AppliedIndex, v.Messages, size(v.Octets).about())
	if v.Repaired > 0 {
		fmt.Fprintf(w, "repaired\t%d bodies, from other nodes\n", v.Repaired)
	}
	for _, n := range v.Nodes {
		fmt.Fprintf(w, "node %s\t%s%s\n", n.Node, n.Checksum, n.Problem)
	}
	for _, p := range v.Problems {
		fmt.Fprintf(w, "problem\t%s\n", p)
	}
	if v.OK {
		fmt.Fprintln(w, "problems\tnone")
	}
}

// verifyPatience is how long a node that was stopped may take to apply what its log still has.
const verifyPatience = 10 * time.Minute

// verifyStopped opens the node for as long as the check takes.
func (c *cli) verifyStopped(ctx context.Context) (storage.Verification, error) {
	unlock, err := c.dir.lock()
	if err != nil {
		return storage.Verification{}, err
	}
	defer unlock()
	s := defaultSettings()
	if err := s.readFile(c.dir.settingsFile()); err != nil {
		return storage.Verification{}, err
	}
	s.DiskReserve = 0 // nothing is accepted
	peers, err := c.dir.peers()
	if err != nil {
		return storage.Verification{}, err
	}
	if len(peers) > 0 {
		return verifyState(ctx, c.dir)
	}
	n, err := openNode(c.dir, s, slog.New(slog.DiscardHandler), nil)
	if err != nil {
		return storage.Verification{}, err
	}
	patience, cancel := context.WithTimeout(ctx, verifyPatience)
	defer cancel()
	var found storage.Verification
	if err = n.waitReady(patience); err == nil {
		found, err = n.store.Verify(ctx, nil)
	}
	return found, errors.Join(err, n.close())
}

// verifyState looks at the files alone: without the other nodes there is nobody
// to say what of the log is committed.
func verifyState(ctx context.Context, dir dataDir) (storage.Verification, error) {
	store, err := storage.Open(storage.Config{Dir: string(dir), Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		return storage.Verification{}, err
	}
	found, err := store.Verify(ctx, nil)
	return found, errors.Join(err, store.Close())
}
