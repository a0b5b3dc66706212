package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	gosmtp "github.com/emersion/go-smtp"

	"trivet/storage"
)

// process is one node of a cluster, as a process of its own.
type process struct {
	t      *testing.T
	dir    dataDir
	cmd    *exec.Cmd
	stderr bytes.Buffer
}

const (
	clusterPassword = "correct horse battery staple"
	clusterListen   = "smtp=127.0.0.1:0,imap=127.0.0.1:0,http=127.0.0.1:0,cluster=127.0.0.1:0"
)

// trivet runs a command on the node's folder and returns what it printed.
func (p *process) trivet(args ...string) (string, error) {
	cmd := exec.Command("trivet", append(args, "--data", string(p.dir))...)
	cmd.Stdin = strings.NewReader(clusterPassword)
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	err := cmd.Run()
	if err != nil {
		err = fmt.Errorf("trivet %s: %w: %s", strings.Join(args, " "), err, errs.String())
	}
	return out.String(), err
}

func (p *process) must(args ...string) string {
	p.t.Helper()
	out, err := p.trivet(args...)
	if err != nil {
		p.t.Fatal(err)
	}
	return out
}

func (p *process) start() {
	p.t.Helper()
	p.cmd = exec.Command("trivet", "serve", "--data", string(p.dir), "--log-level", "debug")
	p.cmd.Stderr = &p.stderr
	if err := p.cmd.Start(); err != nil {
		p.t.Fatal(err)
	}
}

func (p *process) kill() {
	if p.cmd != nil {
		_ = p.cmd.Process.Kill()
		_ = p.cmd.Wait()
		p.cmd = nil
	}
}

// until waits for something about this node.
func (p *process) until(what string, holds func(clusterStatus) bool) clusterStatus {
	p.t.Helper()
	deadline := time.Now().Add(scriptPatience)
	for {
		status, err := statusOf(string(p.dir))
		if err == nil && holds(status) {
			return status
		}
		if time.Now().After(deadline) {
			p.kill()
			p.t.Fatalf("waited %v until %s: %v, %+v\n%s", scriptPatience, what, err, status, p.stderr.String())
		}
		time.Sleep(20 * time.Millisecond)
	}
}

func (p *process) listens(name string) string {
	p.t.Helper()
	return p.until("it says where it listens", func(clusterStatus) bool { return true }).Listen[name]
}

// deliver sends a message to bob and returns what the server says.
func (p *process) deliver(subject string) error {
	p.t.Helper()
	client, err := gosmtp.Dial(p.listens(listenSMTP))
	if err != nil {
		return err
	}
	defer client.Close()
	return client.SendMail("you@example.net", []string{"bob@example.org"}, strings.NewReader("Subject: "+subject+"\r\n\r\nHello\r\n"))
}

var existsAndValidity = regexp.MustCompile(`(?s)\* (\d+) EXISTS.*UIDVALIDITY (\d+)`)

// inbox returns how many messages bob has, and the UIDVALIDITY of his INBOX.
func (p *process) inbox() (messages, validity string) {
	p.t.Helper()
	messages, validity, answer := p.look()
	if messages == "" {
		p.t.Fatalf("no INBOX: %s", answer)
	}
	return messages, validity
}

// look is inbox of a node that may not know bob yet; messages is empty then.
func (p *process) look() (messages, validity, answer string) {
	p.t.Helper()
	answer = imapTalk(p.t, p.listens(listenIMAP), fmt.Sprintf("a LOGIN bob@example.org %q\r\nb SELECT INBOX\r\nc LOGOUT\r\n", clusterPassword))
	match := existsAndValidity.FindStringSubmatch(answer)
	if match == nil {
		return "", "", answer
	}
	return match[1], match[2], answer
}

// untilInbox waits until bob has so many messages on this node.
func (p *process) untilInbox(want string) (validity string) {
	p.t.Helper()
	p.until("bob has "+want+" messages", func(clusterStatus) bool {
		var got string
		got, validity, _ = p.look()
		return got == want
	})
	return validity
}

func (p *process) token(args ...string) token {
	p.t.Helper()
	var made invitation
	if err := json.Unmarshal([]byte(p.must(append([]string{"cluster", "invite", "--json"}, args...)...)), &made); err != nil {
		p.t.Fatal(err)
	}
	parsed, err := parseToken(made.Token)
	if err != nil {
		p.t.Fatal(err)
	}
	return parsed
}

// startCluster makes a cluster of three with the account bob, and waits until all vote.
func startCluster(t *testing.T) []*process {
	t.Helper()
	nodes := make([]*process, 3)
	for i := range nodes {
		p := &process{t: t, dir: dataDir(filepath.Join(t.TempDir(), "data"))}
		t.Cleanup(p.kill)
		nodes[i] = p
		name := fmt.Sprintf("n%d", i+1)
		if i == 0 {
			p.must("setup", "admin@example.org", "--password-stdin", "--node", name, "--listen", clusterListen)
		} else {
			p.must("cluster", "join", nodes[0].token().String(), "--node", name, "--listen", clusterListen)
		}
		p.start()
		p.until("it is ready", func(s clusterStatus) bool { return s.Ready && s.voters() == i+1 })
	}
	nodes[1].must("account", "add", "bob@example.org", "--password-stdin")
	return nodes
}

// leaderAndFollowers waits until the nodes that run agree on who leads.
func leaderAndFollowers(nodes []*process) (leader *process, followers []*process) {
	for _, p := range nodes {
		if p.cmd == nil {
			continue
		}
		status := p.until("somebody leads", func(s clusterStatus) bool { return s.Ready && s.Leader != "" })
		if status.Node == status.Leader {
			leader = p
		} else {
			followers = append(followers, p)
		}
	}
	return leader, followers
}

// Any of three nodes may die: what was acknowledged is there, on all of them.
func TestCluster(t *testing.T) {
	if testing.Short() {
		t.Skip("starts processes")
	}
	nodes := startCluster(t)
	leader, followers := leaderAndFollowers(nodes)
	if leader == nil || len(followers) != 2 {
		t.Fatalf("leader %v, %d followers", leader, len(followers))
	}
	if err := followers[0].deliver("one"); err != nil {
		t.Fatalf("to a follower: %v", err)
	}
	if got, _ := followers[0].inbox(); got != "1" {
		t.Errorf("who took the mail has %s messages of 1", got)
	}
	validity := followers[1].untilInbox("1")

	leader.kill()
	if err := followers[0].deliver("two"); err != nil { // it waits for another leader
		t.Errorf("when the leader has died: %v", err)
	}
	if again := followers[1].untilInbox("2"); again != validity {
		t.Errorf("UIDVALIDITY %s and %s", validity, again)
	}
	leader.start()
	leader.until("it is back", func(s clusterStatus) bool { return s.Ready })
	if again := leader.untilInbox("2"); again != validity {
		t.Errorf("UIDVALIDITY %s and %s", validity, again)
	}

	var checked verification
	if err := json.Unmarshal([]byte(followers[0].must("verify", "--compare", "--json")), &checked); err != nil || !checked.OK || len(checked.Nodes) != 3 {
		t.Errorf("verify: %+v, %v", checked, err)
	}
	for _, n := range checked.Nodes {
		if n.Checksum == "" || n.Checksum != checked.Nodes[0].Checksum || n.Problem != "" {
			t.Errorf("the nodes differ: %+v", checked.Nodes)
		}
	}

	now, others := leaderAndFollowers(nodes)
	now.kill()
	others[0].kill()
	alone := others[1]
	var refused *gosmtp.SMTPError
	if err := alone.deliver("three"); !errors.As(err, &refused) || refused.Code != 451 {
		t.Errorf("without a majority: %v", err)
	}
	if got, _ := alone.inbox(); got != "2" {
		t.Errorf("without a majority bob has %s messages of 2", got)
	}
	if _, err := alone.trivet("domain", "add", "example.net"); err == nil || !strings.Contains(err.Error(), fmt.Sprintf("exit status %d", exitNoQuorum)) {
		t.Errorf("a change without a majority: %v", err)
	}
	others[0].start()
	alone.until("service is back", func(s clusterStatus) bool { return s.Ready })
	if err := alone.deliver("four"); err != nil {
		t.Errorf("with a majority again: %v", err)
	}
	others[0].untilInbox("3")
}

// Whoever is no node gets nothing, and is told why.
func TestClusterRefuses(t *testing.T) {
	if testing.Short() {
		t.Skip("starts processes")
	}
	p := &process{t: t, dir: dataDir(filepath.Join(t.TempDir(), "data"))}
	t.Cleanup(p.kill)
	p.must("setup", "admin@example.org", "--password-stdin", "--node", "one", "--listen", clusterListen)
	p.start()
	p.until("it is ready", func(s clusterStatus) bool { return s.Ready })
	address := p.listens(listenCluster)
	good := p.token()
	join := func(t *testing.T, with token) error {
		c := &cli{dir: dataDir(filepath.Join(t.TempDir(), "data"))}
		_, err := c.join(t.Context(), with, joinSettings())
		if _, set := c.dir.isSetUp(); err != nil && set != nil {
			t.Error("a node was made")
		}
		return err
	}
	t.Run("another authority", func(t *testing.T) {
		wrong := good
		wrong.authority = sha256.Sum256([]byte("another"))
		if err := join(t, wrong); err == nil || !strings.Contains(err.Error(), "not of the cluster that the token is for") {
			t.Errorf("%v", err)
		}
	})
	t.Run("a made-up secret", func(t *testing.T) {
		wrong := good
		wrong.secret[0]++
		if err := join(t, wrong); storage.KindOf(err) != storage.KindDenied {
			t.Errorf("%v", err)
		}
	})
	t.Run("twice", func(t *testing.T) {
		if err := join(t, good); err != nil {
			t.Fatalf("once: %v", err)
		}
		if err := join(t, good); err == nil || !strings.Contains(err.Error(), "the token is unknown, used or expired") {
			t.Errorf("%v", err)
		}
	})
	t.Run("nobody there", func(t *testing.T) {
		wrong := good
		wrong.addresses = []string{freeAddress(t)}
		if err := join(t, wrong); err == nil || !strings.Contains(err.Error(), "no node of the cluster takes this one in") {
			t.Errorf("%v", err)
		}
	})
	t.Run("no certificate", func(t *testing.T) {
		for _, path := range []string{"/raft/propose", "/raft/members", "/", "/join/../raft/propose"} {
			ctx, cancel := context.WithTimeout(t.Context(), scriptPatience)
			err := clusterAsk(ctx, joinTLS(good.authority), address, path, nothing{}, &nothing{})
			cancel()
			if err == nil || !strings.Contains(err.Error(), "403") {
				t.Errorf("%s: %v", path, err)
			}
		}
	})
	t.Run("a certificate of another cluster", func(t *testing.T) {
		stranger := testIdentity(t, testAuthority(t), "one").current.Load()
		config := joinTLS(good.authority)
		config.Certificates = []tls.Certificate{stranger.forTLS()}
		err := clusterAsk(t.Context(), config, address, "/raft/members", nothing{}, &nothing{})
		if answered := regexp.MustCompile(`: [2-5][0-9][0-9] `); err == nil || answered.MatchString(err.Error()) {
			t.Errorf("it got through the handshake: %v", err)
		}
	})
}
