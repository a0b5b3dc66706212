package main

import (
	"errors"
	"os"
	"os/exec"
	"slices"
	"strings"
	"syscall"
	"testing"

	"trivet/raft"
	"trivet/storage"
)

func TestFailpointsActAtTheirTimes(t *testing.T) {
	site := raft.Sites()[0]
	tests := map[string][]int{ // the times among 1..5 at which it fails
		"enospc":       {1, 2, 3, 4, 5},
		"enospc@2":     {2},
		"enospc@2-4":   {2, 3, 4},
		"enospc@4-":    {4, 5},
		"pause:1us@1-": nil,
	}
	for action, want := range tests {
		hook, err := parseFailpoints(site + "=" + action)
		if err != nil {
			t.Fatalf("%s: %v", action, err)
		}
		var failed []int
		for i := 1; i <= 5; i++ {
			if err := hook(site); err != nil {
				if !errors.Is(err, syscall.ENOSPC) {
					t.Errorf("%s: %v", action, err)
				}
				failed = append(failed, i)
			}
			if err := hook(raft.Sites()[1]); err != nil {
				t.Errorf("another site fails: %v", err)
			}
		}
		if !slices.Equal(failed, want) {
			t.Errorf("%s fails at %v, want %v", action, failed, want)
		}
	}
}

func TestSeveralFailpoints(t *testing.T) {
	one, two := raft.Sites()[0], storage.Sites()[0]
	hook, err := parseFailpoints(one + "=enospc," + two + "=eio")
	if err != nil {
		t.Fatal(err)
	}
	if !errors.Is(hook(one), syscall.ENOSPC) || !errors.Is(hook(two), syscall.EIO) {
		t.Error("wrong errors")
	}
}

func TestNoFailpoints(t *testing.T) {
	if hook, err := parseFailpoints(""); hook != nil || err != nil {
		t.Errorf("%v", err)
	}
}

func TestFailpointMistakes(t *testing.T) {
	site := raft.Sites()[0]
	for _, text := range []string{"x", "nowhere=kill", site, site + "=explode", site + "=kill@x", site + "=kill@1-x", site + "=pause:long", site + "=kill,"} {
		if _, err := parseFailpoints(text); exitStatus(err) != exitUsage {
			t.Errorf("%q: %v", text, err)
		}
	}
}

// A node that is killed at a commit has what it acknowledged when it starts again.
func TestKilledAtACommit(t *testing.T) {
	dir := t.TempDir() + "/data"
	run := func(failpoint string, args ...string) (string, error) {
		cmd := exec.Command("trivet", append(args, "--data="+dir)...) // TestMain put it on the PATH
		cmd.Env = append(os.Environ(), failpointVariable+"="+failpoint)
		out, err := cmd.CombinedOutput()
		return string(out), err
	}
	if out, err := run("", "setup", "admin@example.org"); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	out, err := run("raft.append.after=kill@1", "serve", "--listen=imap=127.0.0.1:0")
	var killed *exec.ExitError
	if !errors.As(err, &killed) || killed.Sys().(syscall.WaitStatus).Signal() != syscall.SIGKILL {
		t.Fatalf("not killed: %v: %s", err, out)
	}
	if out, err := run("", "verify"); err != nil || !strings.Contains(out, "problems  none") {
		t.Errorf("%v: %s", err, out)
	}
}
