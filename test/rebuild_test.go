package test

import (
	"bytes"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// TestDamagedNodeRebuildsItself damages the files of one node of three in the
// ways that disks and people do. It says so, is not ready, and gets its state
// anew from the others, without anybody's help.
func TestDamagedNodeRebuildsItself(t *testing.T) {
	c := newCluster(t, 3, "ann")
	for _, n := range c.nodes { // the log alone does not bring a state back
		n.stop()
		n.flags = []string{"--log-keep", "100K", "--log-snapshot", "100K", "--pack-size", "300K", "--housekeeping", "200ms"}
		n.start()
	}
	c.settle()
	var mails []mail
	more := func() {
		var some []mail
		for range 20 {
			some = append(some, newMail(nextSeed.Add(1), 30_000, "ann@"+domain))
		}
		sendAll(t, c.nodes[0].at("smtp"), 4, some)
		mails = append(mails, some...)
	}
	more()
	n := c.nodes[2]
	state := func(name string) string { return filepath.Join(n.data, "state", name) }
	overwrite := func(path string, from int64) {
		t.Helper()
		f, err := os.OpenFile(path, os.O_WRONLY, 0)
		if err == nil {
			_, err = f.WriteAt(bytes.Repeat([]byte{0xa5}, 40_000), from)
			f.Close()
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	for _, harm := range []struct {
		name string
		do   func()
	}{
		{"the head of mail.db", func() { overwrite(state("mail.db"), 0) }},
		{"all but the head of mail.db", func() { overwrite(state("mail.db"), 4096) }},
		{"mail.db gone", func() { os.Remove(state("mail.db")); os.Remove(state("mail.db-wal")) }},
		{"a pack gone", func() { os.Remove(state("packs/1.db")) }},
		{"everything gone", func() { os.RemoveAll(filepath.Join(n.data, "state")) }},
	} {
		t.Log(harm.name)
		c.settle()
		n.stop()
		more()
		harm.do()
		n.start()
		c.settle()
		n.checkInbox("ann", mails)
		c.agree()
	}
	if _, err := os.Stat(filepath.Join(n.data, "state.damaged", "mail.db")); err != nil {
		t.Errorf("the damaged files are not kept: %v", err)
	}
}

// TestNodeInTheMinorityRebuildsItself changes a row behind one node's back: the
// others agree that it is wrong, and it takes theirs.
func TestNodeInTheMinorityRebuildsItself(t *testing.T) {
	c := newCluster(t, 3, "ann")
	sendAll(t, c.nodes[0].at("smtp"), 1, []mail{newMail(1, 1000, "ann@"+domain)})
	c.settle()
	n := c.nodes[1]
	n.stop()
	out, err := exec.Command("python3", "-c", `
import sqlite3, sys
c = sqlite3.connect(sys.argv[1])
c.execute("UPDATE mailbox_message SET flags = flags | 4")
c.commit()
`, filepath.Join(n.data, "state", "mail.db")).CombinedOutput()
	if err != nil {
		t.Skipf("needs python3 with sqlite3: %v %s", err, out)
	}
	n.start()
	c.settle()
	if out, err := c.nodes[0].try("", "verify", "--compare"); err == nil {
		t.Fatalf("the difference is not noticed: %s", out)
	}
	n.wait("like the others", func() bool {
		out, err := c.nodes[0].try("", "verify", "--compare")
		var v struct {
			OK    bool `json:"ok"`
			Nodes []struct {
				Problem string `json:"problem"`
			} `json:"nodes"`
		}
		if err != nil || json.Unmarshal(out, &v) != nil || !v.OK {
			return false
		}
		for _, other := range v.Nodes {
			if other.Problem != "" {
				return false
			}
		}
		return n.ready()
	})
	c.agree()
}

// TestDamagedNodeAloneSaysWhatToDo has nowhere to get its state from.
func TestDamagedNodeAloneSaysWhatToDo(t *testing.T) {
	n := newNode(t, "ann")
	n.stop()
	if err := os.WriteFile(filepath.Join(n.data, "state", "mail.db"), bytes.Repeat([]byte("no database "), 9000), 0o600); err != nil {
		t.Fatal(err)
	}
	n.launch()
	<-n.exited
	if log := n.log.String(); !strings.Contains(log, "restore the data folder from a backup") {
		t.Errorf("it says only: %s", log)
	}
	if n.process.ProcessState.ExitCode() != 1 {
		t.Errorf("exit status %d", n.process.ProcessState.ExitCode())
	}
}
