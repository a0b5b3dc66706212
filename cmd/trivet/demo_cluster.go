package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"sync"
	"time"

	"trivet/auth"
	"trivet/raft"
	"trivet/storage"
)

const (
	// maxDemoNodes is more than anybody wants to look at.
	maxDemoNodes = 9
	// demoNodeVariable makes serve one of several nodes of a demo: it takes free
	// ports where its own are taken, and ends when its standard input does, in
	// whatever way the demo ended. Its value is the folder to remove when nobody
	// else is left to do that.
	demoNodeVariable = "TRIVET_DEMO_NODE"
	demoPatience     = 2 * time.Minute
	demoPoll         = 20 * time.Millisecond
)

// demoNode is one process of a demo of several nodes.
type demoNode struct {
	ID     string            `json:"id"`
	PID    int               `json:"pid"`
	Role   string            `json:"role"` // when the demo was ready
	Listen map[string]string `json:"listen"`
	Data   string            `json:"data"`

	process *exec.Cmd
	stop    io.Closer // its standard input
}

// demoCluster runs count nodes below the data folder until ctx ends.
func (c *cli) demoCluster(ctx context.Context, s settings, keep bool, count int) error {
	if err := c.dir.create(); err != nil {
		return err
	}
	remove := string(c.dir)
	if keep {
		remove = "nothing"
	}
	errs := &lockedWriter{to: c.err} // the nodes write to it as well
	accounts := demoAccounts()
	var nodes []*demoNode
	var watch sync.WaitGroup
	defer func() {
		for _, n := range nodes {
			n.stop.Close()
		}
		watch.Wait()
	}()
	for i := range count {
		nodeCLI := &cli{streams: streams{out: io.Discard, err: errs}, dir: dataDir(c.dir.path(fmt.Sprintf("node-%d", i+1)))}
		at := s.demoNode(i)
		var err error
		if i == 0 {
			err = nodeCLI.prepareDemo(ctx, &at, accounts[0])
		} else {
			err = nodeCLI.joinDemo(ctx, &at, dataDir(nodes[0].Data))
		}
		if err != nil {
			return err
		}
		n, err := nodeCLI.startDemoNode(at, remove)
		if err != nil {
			return err
		}
		nodes = append(nodes, n)
		watch.Go(func() { nodeCLI.watchDemoNode(ctx, n) })
		if err := n.waitReady(ctx, i+1); err != nil {
			return err
		}
	}
	return c.presentDemo(ctx, nodes, accounts, keep)
}

// demoNode are the settings of one node: each has ports of its own.
func (s settings) demoNode(i int) settings {
	listen := listenMap{listenCluster: "127.0.0.1:0"}
	for name, address := range s.Listen {
		listen[name] = address
		if host, port, err := net.SplitHostPort(address); err == nil && name != listenCluster {
			if number, err := strconv.Atoi(port); err == nil && number > 0 {
				listen[name] = net.JoinHostPort(host, strconv.Itoa(number+i))
			}
		}
	}
	s.Listen = listen
	return s
}

// joinDemo makes the data folder one of the cluster of the first node.
func (c *cli) joinDemo(ctx context.Context, s *settings, first dataDir) error {
	s.Node = newNodeID()
	var made invitation
	if err := (&cli{dir: first}).ask(ctx, "cluster.invite", invitationRequest{Valid: demoPatience}, &made); err != nil {
		return err
	}
	t, err := parseToken(made.Token)
	if err != nil {
		return err
	}
	_, err = c.join(ctx, t, *s)
	return err
}

// startDemoNode runs this binary on the data folder.
func (c *cli) startDemoNode(s settings, remove string) (*demoNode, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, fmt.Errorf("find this program: %w", err)
	}
	cmd := exec.Command(self, "serve", "--data", string(c.dir))
	cmd.Env = append(os.Environ(), demoNodeVariable+"="+remove)
	log, err := os.OpenFile(string(c.dir)+".log", os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600)
	if err != nil {
		return nil, err
	}
	defer log.Close() // the node has it
	cmd.Stderr = log
	cmd.SysProcAttr = ownGroup() // Ctrl-C is for the demo, which ends its nodes
	stop, err := cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("start node %s: %w", s.Node, err)
	}
	return &demoNode{ID: string(s.Node), PID: cmd.Process.Pid, Data: string(c.dir), process: cmd, stop: stop}, nil
}

// watchDemoNode says how a node ended, unless the demo ends.
func (c *cli) watchDemoNode(ctx context.Context, n *demoNode) {
	err := n.process.Wait()
	if ctx.Err() == nil {
		fmt.Fprintf(c.err, "node %s ended (%v); start it again with: %s serve --data %s\n", n.ID, n.process.ProcessState, os.Args[0], n.Data)
	} else if err != nil {
		fmt.Fprintf(c.err, "node %s: %v\n", n.ID, err)
	}
}

// waitReady waits until the node is ready and has a vote, with so many others.
func (n *demoNode) waitReady(ctx context.Context, voters int) error {
	ctx, cancel := context.WithTimeout(ctx, demoPatience)
	defer cancel()
	for {
		var status clusterStatus
		err := newController(dataDir(n.Data)).do(ctx, "status", nothing{}, &status)
		if err == nil && status.Ready && status.voters() == voters {
			n.Listen = status.Listen
			return nil
		}
		if !sleep(ctx, demoPoll) {
			log, _ := os.ReadFile(n.Data + ".log") // the folder may be removed in a moment
			return errors.Join(fmt.Errorf("node %s is not ready: %s", n.ID, status.Problem), err, context.Cause(ctx), errors.New(string(log)))
		}
	}
}

func (s clusterStatus) voters() (count int) {
	for _, n := range s.Nodes {
		if n.Role != raft.RoleLearner {
			count++
		}
	}
	return count
}

// presentDemo fills the cluster, says what there is, and waits for the end.
func (c *cli) presentDemo(ctx context.Context, nodes []*demoNode, accounts []demoAccount, keep bool) error {
	verifier, err := auth.NewVerifier(accounts[1].Password)
	if err != nil {
		return err
	}
	first := &cli{dir: dataDir(nodes[0].Data)}
	bob := storage.NewAccount{Address: accounts[1].Address, Name: accounts[1].Name, Verifier: verifier}
	if err := first.ask(ctx, "account.add", bob, &storage.Account{}); err != nil {
		return err
	}
	if err := first.makeDemoDatabase(ctx, accounts[0]); err != nil {
		return err
	}
	messages, err := deliverSamples(ctx, nodes[0].Listen[listenSMTP], accounts[0], accounts[1])
	if err != nil {
		return err
	}
	var status clusterStatus
	if err := first.ask(ctx, "status", nothing{}, &status); err != nil {
		return err
	}
	for _, n := range nodes {
		for _, s := range status.Nodes {
			if s.ID == n.ID {
				n.Role = s.Role
			}
		}
	}
	d := demonstration{Listen: nodes[0].Listen, Domain: demoDomain, Accounts: accounts, Messages: messages,
		Data: string(c.dir), Kept: keep, Trust: first.dir.selfSignedFile(), PID: os.Getpid(), Nodes: nodes}
	d.Try = d.commands(first.dir)
	if err := c.print(d, d.text); err != nil {
		return err
	}
	<-ctx.Done()
	return nil
}

// nodesText says where the nodes are and how to lose one.
func (d demonstration) nodesText(w io.Writer) {
	for _, n := range d.Nodes {
		role := n.Role
		if role != raft.RoleLeader {
			role = "follower"
		}
		fmt.Fprintf(w, "  %s\t%s\tsmtp %s\timap %s\thttp %s\tprocess %d\n", n.ID, role, n.Listen[listenSMTP], n.Listen[listenIMAP], n.Listen[listenHTTP], n.PID)
	}
	fmt.Fprint(w, "\nEach node takes and serves all mail. Kill the leader, and look who leads then:\n\n")
	for _, n := range d.Nodes {
		if n.Role == raft.RoleLeader {
			fmt.Fprintf(w, "  kill -9 %d\n", n.PID)
		}
	}
	for _, n := range d.Nodes {
		if n.Role != raft.RoleLeader {
			fmt.Fprintf(w, "  %s cluster status --data %s\n", os.Args[0], n.Data)
			break
		}
	}
	fmt.Fprintf(w, "\nWhat they log: %s\n", filepath.Join(d.Data, "*.log"))
}

// lockedWriter is for several who write.
type lockedWriter struct {
	mu sync.Mutex
	to io.Writer
}

func (w *lockedWriter) Write(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.to.Write(p)
}

// serveDemoNode is serve as one node of a demo.
func (c *cli) serveDemoNode(ctx context.Context, s settings, remove string) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	parent := os.Getppid()
	go func() {
		_, _ = io.Copy(io.Discard, c.in) // that it ends is all that matters
		cancel()
	}()
	err := c.serve(ctx, s, newLogger(c.err, s), true, func(n *node) error {
		_, err := n.saveSelfSigned(ctx)
		return err
	})
	if os.Getppid() != parent && filepath.IsAbs(remove) {
		err = errors.Join(err, os.RemoveAll(remove)) // the demo was killed
	}
	return err
}
