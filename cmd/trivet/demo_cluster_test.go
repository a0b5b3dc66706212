package main

import (
	"context"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"trivet/raft"
)

// startDemoProcess runs a demo of three nodes as a process of its own.
func startDemoProcess(t *testing.T) (d demonstration, demo *exec.Cmd) {
	t.Helper()
	t.Setenv("TMPDIR", t.TempDir())
	demo = exec.Command("trivet", "demo", "--nodes", "3", "--json", freePorts)
	var stderr strings.Builder
	demo.Stderr = &stderr
	out, err := demo.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := demo.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { demo.Process.Kill() })
	if err := json.NewDecoder(out).Decode(&d); err != nil {
		demo.Wait()
		t.Fatalf("%v: %s", err, stderr.String())
	}
	return d, demo
}

// untilGone waits until no process is left and nothing lies around.
func untilGone(t *testing.T, d demonstration) {
	t.Helper()
	deadline := time.Now().Add(scriptPatience)
	for {
		alive := 0
		for _, n := range d.Nodes {
			if syscall.Kill(n.PID, 0) == nil {
				alive++
			}
		}
		left, err := filepath.Glob(os.Getenv("TMPDIR") + "/*")
		if alive == 0 && len(left) == 0 && err == nil {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("%d nodes are alive, left behind: %v, %v", alive, left, err)
		}
		time.Sleep(10 * time.Millisecond)
	}
}

func TestDemoOfThreeNodes(t *testing.T) {
	if testing.Short() {
		t.Skip("starts processes")
	}
	d, demo := startDemoProcess(t)
	var leader *demoNode
	for _, n := range d.Nodes {
		if n.Role == raft.RoleLeader {
			leader = n
		}
	}
	if len(d.Nodes) != 3 || leader == nil || d.Messages != 7 || d.PID != demo.Process.Pid {
		t.Fatalf("demonstration %+v", d)
	}
	if err := syscall.Kill(leader.PID, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	for _, n := range d.Nodes {
		if n == leader {
			continue
		}
		ctx, cancel := context.WithTimeout(t.Context(), scriptPatience)
		if sent, err := deliverSamples(ctx, n.Listen[listenSMTP], d.Accounts[0], d.Accounts[1]); sent != 7 || err != nil {
			t.Errorf("to %s: %d messages, %v", n.ID, sent, err)
		}
		cancel()
	}
	if err := demo.Process.Signal(os.Interrupt); err != nil {
		t.Fatal(err)
	}
	if err := demo.Wait(); err != nil {
		t.Errorf("the demo ended with %v", err)
	}
	untilGone(t, d)
}

// The nodes end with the demo also when that has no time to end them.
func TestDemoOfThreeNodesIsKilled(t *testing.T) {
	if testing.Short() {
		t.Skip("starts processes")
	}
	d, demo := startDemoProcess(t)
	if err := demo.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	demo.Wait()
	untilGone(t, d)
}

func TestDemoOfNodesText(t *testing.T) {
	d := demonstration{Domain: demoDomain, Data: "/tmp/x", Accounts: demoAccounts(), Nodes: []*demoNode{
		{ID: "n-1", PID: 11, Role: raft.RoleVoter, Data: "/tmp/x/node-1", Listen: map[string]string{listenSMTP: "127.0.0.1:2525"}},
		{ID: "n-2", PID: 12, Role: raft.RoleLeader, Data: "/tmp/x/node-2", Listen: map[string]string{listenSMTP: "127.0.0.1:2526"}},
	}}
	var text strings.Builder
	d.text(&text)
	for _, want := range []string{"n-1\tfollower\tsmtp 127.0.0.1:2525", "n-2\tleader\tsmtp 127.0.0.1:2526", "kill -9 12", "cluster status --data /tmp/x/node-1"} {
		if !strings.Contains(text.String(), want) {
			t.Errorf("no %q in %s", want, text.String())
		}
	}
}
