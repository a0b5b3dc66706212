package test

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"
	"time"
)

// upgradeFrom is the commit whose nodes are upgraded: the last one of feature
// level 2. Where history does not reach back to it, it is the commit before
// this one.
const upgradeFrom = "658cc43"

// newestLevel is storage.Level.
const newestLevel = 3

// TestRollingUpgrade replaces the binary of three nodes, one after the other,
// while mail comes in at all of them. Nothing is lost, and what only the new
// release knows can be used once all three run it, and not before.
func TestRollingUpgrade(t *testing.T) {
	if testing.Short() {
		t.Skip("builds another binary")
	}
	old := buildEarlier(t)
	c := startCluster(t, 3, clusterOptions{binary: old}, "ann", "bob")
	before := 0
	c.nodes[0].wait("at the level of the old release", func() bool {
		s, err := c.nodes[0].status()
		before = s.Level
		return err == nil && before >= 2
	})
	stop := make(chan struct{})
	var wg sync.WaitGroup
	sent := &outbox{}
	for worker := range 3 {
		wg.Go(func() { c.keepSending(worker, []string{"ann", "bob"}, sent, 0, stop) })
	}
	for i := range c.nodes {
		n := c.nodes[len(c.nodes)-1-i]
		n.stop()
		n.binary = ""
		n.start()
		time.Sleep(time.Second) // mail on the mixture
		s, err := n.status()
		if err != nil {
			t.Fatal(err)
		}
		if i < 2 && s.Level != before {
			t.Errorf("with %d of 3 nodes upgraded the level went from %d to %d", i+1, before, s.Level)
		}
	}
	close(stop)
	wg.Wait()
	for _, n := range c.nodes {
		n.wait("at the newest level", func() bool {
			s, err := n.status()
			return err == nil && s.Level == newestLevel
		})
	}
	c.settle()
	mails := sent.all()
	for _, n := range c.nodes {
		n.checkInbox("ann", mails)
		n.checkInbox("bob", mails)
	}
	c.agree()
	t.Logf("%d messages", len(mails))
	if len(mails) == 0 {
		t.Error("no mail came in")
	}
}

// buildEarlier builds the binary of an earlier commit, or skips the test.
func buildEarlier(t *testing.T) string {
	t.Helper()
	from := ""
	for _, commit := range []string{os.Getenv("TRIVET_UPGRADE_FROM"), upgradeFrom, "HEAD~1"} {
		if commit != "" && exec.Command("git", "cat-file", "-e", commit+"^{commit}").Run() == nil {
			from = commit
			break
		}
	}
	if from == "" {
		t.Skip("there is no earlier commit here: no git, no repository, or a shallow clone")
	}
	dir := t.TempDir()
	archive := exec.Command("sh", "-c", `git -C "$(git rev-parse --show-toplevel)" archive --format=tar "$0" | tar -x -C "$1"`, from, dir)
	if out, err := archive.CombinedOutput(); err != nil {
		t.Fatalf("git archive %s: %v %s", from, err, out)
	}
	binary := filepath.Join(dir, "earlier-trivet")
	build := exec.Command("go", "build", "-o", binary, "./cmd/trivet")
	build.Dir = dir
	build.Env = append(os.Environ(), "CGO_ENABLED=0", "GOFLAGS=-buildvcs=false -trimpath", "PWD="+dir)
	out, err := build.CombinedOutput()
	if errors.Is(err, exec.ErrNotFound) {
		t.Skip("there is no go here")
	}
	if err != nil {
		t.Fatalf("build %s: %v %s", from, err, out)
	}
	t.Logf("from %s", from)
	return binary
}
