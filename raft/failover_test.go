package raft

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"
)

// TestEveryAcknowledgedProposalSurvivesItsLeader kills the leader, again and again, under proposals at every node.
func TestEveryAcknowledgedProposalSurvivesItsLeader(t *testing.T) {
	c := three(t, nil)
	var mu sync.Mutex
	acknowledged := map[string]bool{}
	var lastAnswer time.Time
	var gaps []time.Duration
	for round := range 3 {
		var callers sync.WaitGroup
		ctx, cancel := context.WithCancel(t.Context())
		for id, n := range c.nodes {
			callers.Go(func() {
				for i := 0; ctx.Err() == nil; i++ {
					data := fmt.Sprint(id, " ", round, " ", i)
					short, done := context.WithTimeout(ctx, 3*time.Second)
					_, err := n.Propose(short, []byte(data))
					done()
					if err != nil {
						time.Sleep(time.Millisecond)
						continue
					}
					mu.Lock()
					acknowledged[data] = true
					lastAnswer = time.Now()
					mu.Unlock()
				}
			})
		}
		time.Sleep(300 * time.Millisecond)
		victim := c.leader()
		killed := time.Now()
		c.crash(victim)
		eventually(t, "serving again", func() error {
			mu.Lock()
			defer mu.Unlock()
			if c.nodes["n1"] != nil && c.nodes["n1"].leads() || c.nodes["n2"] != nil && c.nodes["n2"].leads() || c.nodes["n3"] != nil && c.nodes["n3"].leads() {
				if lastAnswer.Sub(killed) > 50*time.Millisecond {
					return nil
				}
			}
			return errors.New("no answer since")
		})
		gaps = append(gaps, time.Since(killed))
		time.Sleep(100 * time.Millisecond)
		cancel()
		callers.Wait()
		c.start(victim.cfg, victim.ledger)
		eventually(t, "back", c.nodes[victim.cfg.NodeID].Ready)
	}
	t.Log("from the kill to the next answer, about:", gaps)
	seen := map[string]int{}
	for _, data := range c.same() {
		if seen[data]++; seen[data] > 1 {
			t.Errorf("%q was applied twice", data)
		}
	}
	for data := range acknowledged {
		if seen[data] != 1 {
			t.Errorf("%q was acknowledged and is gone", data)
		}
	}
	if len(acknowledged) < 20 {
		t.Errorf("only %d proposals were acknowledged", len(acknowledged))
	}
}

func TestACutOffLeaderAcknowledgesNothingAndComesBack(t *testing.T) {
	c := three(t, nil)
	old := c.leader()
	c.wires.isolate(old.cfg.NodeID, true)
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
	defer cancel()
	if r, err := old.Propose(ctx, []byte("lost")); err == nil {
		t.Fatalf("acknowledged by a minority: %+v", r)
	}
	eventually(t, "led by another", func() error {
		for _, n := range c.nodes {
			if n != old && n.leads() && n.Ready() == nil {
				return nil
			}
		}
		return errors.New("no new leader")
	})
	for _, n := range c.nodes {
		if n != old {
			eventually(t, "proposed", func() error { // it may not have heard of the new leader yet
				_, err := n.Propose(testContext(t), []byte("kept by "+n.cfg.NodeID))
				return err
			})
		}
	}
	if err := old.Ready(); err == nil {
		t.Error("a node without a majority is ready")
	}
	c.wires.isolate(old.cfg.NodeID, false)
	mended := time.Now()
	eventually(t, "healed", old.Ready)
	t.Log("ready after", time.Since(mended))
	mustPropose(t, old.Node, "healed")
	if got := c.same(); slices.Contains(got, "lost") && len(got) < 3 {
		t.Fatalf("%q", got)
	}
}

func TestWithoutAMajorityNothingIsAcknowledged(t *testing.T) {
	c := three(t, nil)
	f := c.followers()
	c.crash(f[0])
	c.crash(f[1])
	for _, n := range c.nodes {
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		_, err := n.Propose(ctx, []byte("x"))
		cancel()
		if err == nil {
			t.Fatal("acknowledged by one of three")
		}
		eventually(t, "without quorum", func() error {
			if _, err := n.Propose(testContext(t), []byte("y")); !errors.Is(err, ErrNoQuorum) {
				return err
			}
			return nil
		})
	}
	c.start(f[0].cfg, f[0].ledger)
	mustPropose(t, c.leader().Node, "back")
	c.same()
}

// small makes nodes that keep little log, so that one that comes late needs the state.
func small(cfg *Config) {
	cfg.SegmentBytes, cfg.LogBytes, cfg.SnapshotBytes = 64<<10, 64<<10, 1<<30
}

func TestALateNodeGetsTheState(t *testing.T) {
	c := newCluster(t, small)
	first := c.first("n1")
	body := bytes.Repeat([]byte("x"), 4<<10)
	for i := range 300 {
		mustPropose(t, first.Node, fmt.Sprint(i)+string(body))
	}
	if err := first.Snapshot(t.Context()); err != nil {
		t.Fatal(err)
	}
	if s := first.Status(); s.FirstIndex < 10 {
		t.Fatalf("nothing was truncated: %+v", s)
	}
	ctx, cancel := context.WithCancel(t.Context())
	var mail sync.WaitGroup
	mail.Go(func() {
		for i := 0; ctx.Err() == nil; i++ {
			_, _ = first.Propose(ctx, fmt.Append(nil, "meanwhile ", i))
			time.Sleep(time.Millisecond) // on one core, all of it would leave nothing for the learner
		}
	})
	late := c.join("n2", nil)
	waitReady(t, late.Node)
	c.waitVoters(2)
	cancel()
	mail.Wait()
	if first.ledger.streams == 0 {
		t.Fatal("no state was sent")
	}
	c.same()
	// What it has received survives it, and so does its place in the log.
	c.crash(late)
	late = c.start(late.cfg, late.ledger)
	waitReady(t, late.Node)
	mustPropose(t, late.Node, "after the restart")
	c.same()
}

func TestAReplicaIsNeverPromoted(t *testing.T) {
	c := newCluster(t, nil)
	c.first("n1")
	replica := c.join("n2", func(cfg *Config) { cfg.Replica = true })
	waitReady(t, replica.Node)
	mustPropose(t, replica.Node, "through the replica")
	time.Sleep(4 * tendEvery)
	members, err := replica.Members(t.Context())
	if err != nil || len(members) != 2 || members[1].Role != RoleLearner || !members[1].Replica {
		t.Fatalf("%+v, %v", members, err)
	}
}

func TestALeaderWithAFaultHandsOver(t *testing.T) {
	c := three(t, nil)
	old := c.leader()
	old.ledger.setFail(errors.New("bad disk"))
	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	if _, err := old.Propose(ctx, []byte("x")); !errors.Is(err, ErrUnknown) {
		t.Fatal(err)
	}
	eventually(t, "handed over", func() error {
		if old.leads() {
			return errors.New("still leads")
		}
		return nil
	})
	if old.Ready() == nil {
		t.Fatal("ready with a fault")
	}
	mustPropose(t, c.leader().Node, "goes on")
	old.ledger.setFail(nil)
	eventually(t, "well", old.Ready)
	c.same()
}

func TestANodeThatMovesTellsTheOthers(t *testing.T) {
	c := three(t, nil)
	moved := c.followers()[0]
	c.crash(moved)
	moved.cfg.Address = ""
	again := c.start(moved.cfg, moved.ledger)
	waitReady(t, again.Node)
	eventually(t, "known", func() error {
		s, _ := c.leader().member(again.cfg.NodeID)
		if string(s.Address) != again.cfg.Address {
			return fmt.Errorf("%s, want %s", s.Address, again.cfg.Address)
		}
		return nil
	})
	mustPropose(t, again.Node, "from the new place")
}

func TestRecoverFromOneSurvivor(t *testing.T) {
	c := three(t, nil)
	mustPropose(t, c.leader().Node, "before")
	c.same()
	survivor, lost := c.followers()[0], c.leader()
	for _, n := range c.nodes {
		c.crash(n)
	}
	if err := Recover(survivor.cfg); err != nil {
		t.Fatal(err)
	}
	n := c.start(survivor.cfg, survivor.ledger)
	waitReady(t, n.Node)
	mustPropose(t, n.Node, "after")
	if err := n.AddLearner(testContext(t), lost.cfg.NodeID, lost.cfg.Address); err == nil {
		t.Fatal("a node that was given up was added")
	}
	delete(c.nodes, n.cfg.NodeID)
	c.start(lost.cfg, lost.ledger)
	time.Sleep(time.Second)
	if got := n.ledger.data(); !slices.Equal(got, []string{"before", "after"}) || !n.leads() {
		t.Fatalf("%q, leads %t", got, n.leads())
	}
}

func TestThePortRefusesStrangers(t *testing.T) {
	c := newCluster(t, func(cfg *Config) {
		cfg.Handlers = map[string]http.Handler{"/who/": http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			_, _ = io.WriteString(w, PeerID(r))
		})}
		cfg.Public = map[string]http.Handler{"/join": http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			raw, err := io.ReadAll(r.Body)
			if err != nil {
				w.WriteHeader(http.StatusRequestEntityTooLarge)
				return
			}
			_, _ = fmt.Fprint(w, len(raw))
		})}
	})
	n := c.first("n1")
	other := newAuthority(t)
	connect := func(config *tls.Config, protocol string) (*tls.Conn, error) {
		config.InsecureSkipVerify, config.NextProtos = true, []string{protocol}
		conn, err := tls.DialWithDialer(&net.Dialer{Timeout: 5 * time.Second}, "tcp", n.cfg.Address, config)
		if err != nil {
			return nil, err
		}
		_ = conn.SetDeadline(time.Now().Add(5 * time.Second))
		_, err = conn.Read(make([]byte, 1)) // TLS 1.3 tells of a refusal with the first read
		return conn, err
	}
	expired := c.ca.certificate("n2", -time.Minute)
	for name, config := range map[string]*tls.Config{
		"no certificate":        {},
		"another authority":     {Certificates: other.client("n2")().Certificates},
		"an old certificate":    {Certificates: []tls.Certificate{expired}},
		"one that names nobody": {Certificates: []tls.Certificate{c.ca.certificate("", time.Hour)}},
	} {
		var timeout net.Error
		if _, err := connect(config, protocolRaft); err == nil || errors.As(err, &timeout) && timeout.Timeout() {
			t.Errorf("%s: let in: %v", name, err)
		}
	}
	public := &http.Client{Timeout: 10 * time.Second, Transport: &http.Transport{ForceAttemptHTTP2: true, TLSClientConfig: &tls.Config{InsecureSkipVerify: true}}}
	defer public.CloseIdleConnections()
	for _, request := range []struct {
		path string
		body int
		want int
	}{
		{"/join", 100, http.StatusOK}, {"/join", maxPublicBody, http.StatusOK}, {"/join", maxPublicBody + 1, http.StatusRequestEntityTooLarge},
		{"/who/x", 0, http.StatusForbidden}, {pathPropose, 10, http.StatusForbidden}, {pathLearner, 10, http.StatusForbidden},
	} {
		r, err := public.Post("https://"+n.cfg.Address+request.path, "", bytes.NewReader(make([]byte, request.body)))
		if err != nil {
			t.Fatal(request.path, err)
		}
		_ = r.Body.Close()
		if r.StatusCode != request.want {
			t.Errorf("%s with %d bytes: %d, want %d", request.path, request.body, r.StatusCode, request.want)
		}
	}
	// A node with a certificate that is no member can ask for itself, and for nothing else.
	stranger := &port{cfg: c.config("n8"), handshakes: map[string]int{}, conns: map[*trackedConn]struct{}{}}
	stranger.cfg.dial = (&net.Dialer{}).DialContext
	stranger.stop, stranger.cancel = context.WithCancel(t.Context())
	calls := newRPC(stranger, nil, nil)
	defer calls.client.CloseIdleConnections()
	if _, err := calls.call(t.Context(), addressURL(n.cfg.Address, "/who/am/i"), nil, 1000); !errors.Is(err, ErrNotMember) {
		t.Errorf("a stranger called a handler: %v", err)
	}
	if _, err := calls.call(t.Context(), addressURL(n.cfg.Address, pathPropose), []byte("x"), 1000); !errors.Is(err, ErrNotMember) {
		t.Errorf("a stranger proposed: %v", err)
	}
	if _, err := calls.call(t.Context(), addressURL(n.cfg.Address, pathLearner), []byte(`{"ID":"n9","Address":"x:1"}`), 1000); !errors.Is(err, ErrNotMember) {
		t.Errorf("a stranger asked for another: %v", err)
	}
	if len(n.ledger.data()) != 0 {
		t.Error("something was applied")
	}
}

func TestThePortSurvivesGarbage(t *testing.T) {
	c := three(t, nil)
	config := c.leader().cfg
	cert := c.ca.certificate("n2", time.Hour)
	for _, garbage := range [][]byte{nil, []byte("GET / HTTP/1.0\r\n\r\n"), bytes.Repeat([]byte{0xff}, 100_000), {22, 3, 1, 255, 255}} {
		conn, err := net.Dial("tcp", config.Address)
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		_, _ = conn.Write(garbage)
		for _, protocol := range []string{protocolRaft, protocolRPC} {
			secure, err := tls.Dial("tcp", config.Address, &tls.Config{InsecureSkipVerify: true,
				Certificates: []tls.Certificate{cert}, NextProtos: []string{protocol}})
			if err != nil {
				t.Fatal(err)
			}
			defer secure.Close()
			_, _ = secure.Write(garbage)
		}
	}
	for range 2 * maxHandshakesEach { // more than are let in
		conn, err := net.Dial("tcp", config.Address)
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
	}
	for _, n := range c.nodes {
		mustPropose(t, n.Node, "still at work")
	}
	c.same()
}

func TestJoiningNeedsAnEmptyFolder(t *testing.T) {
	c := newCluster(t, nil)
	cfg := c.config("n1")
	var err error
	if cfg.Listener, err = net.Listen("tcp", "127.0.0.1:0"); err != nil {
		t.Fatal(err)
	}
	cfg.Address = cfg.Listener.Addr().String()
	if _, err := Open(cfg, newLedger(t, filepath.Join(t.TempDir(), "s"))); !errors.Is(err, ErrNotBootstrapped) {
		t.Fatal(err)
	}
	_ = cfg.Listener.Close()
}

func TestALoneNodeGetsAListenerAndIsJoined(t *testing.T) {
	c := newCluster(t, nil)
	alone := testConfig(t)
	mustBootstrap(t, alone)
	sm := newLedger(t, filepath.Join(t.TempDir(), "s"))
	n := mustOpen(t, alone, sm)
	waitReady(t, n)
	mustPropose(t, n, "alone")
	mustClose(t, n)
	cfg := c.config("n1")
	cfg.Dir = alone.Dir
	first := c.start(cfg, sm)
	waitReady(t, first.Node)
	eventually(t, "at its address", func() error {
		if s, _ := first.member("n1"); string(s.Address) != first.cfg.Address {
			return fmt.Errorf("known at %s", s.Address)
		}
		return nil
	})
	waitReady(t, c.join("n2", nil).Node)
	c.waitVoters(2)
	mustPropose(t, c.nodes["n2"].Node, "together")
	if got := c.same(); !slices.Equal(got, []string{"alone", "together"}) {
		t.Fatalf("%q", got)
	}
}

func TestACutTransferLeavesTheOldState(t *testing.T) {
	c := newCluster(t, small)
	first := c.first("n1")
	for i := range 100 {
		mustPropose(t, first.Node, fmt.Sprint(i))
	}
	if err := first.Snapshot(t.Context()); err != nil {
		t.Fatal(err)
	}
	list, err := first.log.markers.List()
	if err != nil {
		t.Fatal(err)
	}
	_, body, err := first.log.markers.Open(list[0].ID)
	if err != nil {
		t.Fatal(err)
	}
	whole, err := io.ReadAll(body)
	if err != nil {
		t.Fatal(err)
	}
	_ = body.Close()
	cfg := c.config("n2")
	if cfg, err = cfg.withDefaults(); err != nil {
		t.Fatal(err)
	}
	for cut := 0; cut < len(whole); cut += 97 {
		sm := newLedger(t, filepath.Join(t.TempDir(), "s"))
		to, err := openMarkers(cfg, sm, t.Context())
		if err != nil {
			t.Fatal(err)
		}
		sink, err := to.Create(1, list[0].Index, list[0].Term, list[0].Configuration, list[0].ConfigurationIndex, nil)
		if err != nil {
			t.Fatal(err)
		}
		_, _ = sink.Write(whole[:cut])
		if err := sink.Cancel(); err != nil {
			t.Fatal(err)
		}
		if err := to.resolve(t.Context()); err != nil || to.last().Index != 0 || sm.Applied() != 0 {
			t.Fatalf("cut at %d: %v, marker %+v, state at %d", cut, err, to.last(), sm.Applied())
		}
	}
	// The process ends when the state has replaced the old one and the marker has not moved.
	sm := newLedger(t, filepath.Join(t.TempDir(), "s"))
	cfg.Failpoint = func(site string) error {
		if site == siteMarkerBefore {
			return errors.New("killed")
		}
		return nil
	}
	to, err := openMarkers(cfg, sm, t.Context())
	if err != nil {
		t.Fatal(err)
	}
	sink, err := to.Create(1, list[0].Index, list[0].Term, list[0].Configuration, list[0].ConfigurationIndex, nil)
	if err != nil {
		t.Fatal(err)
	}
	_, _ = sink.Write(whole)
	if err := sink.Close(); err == nil || to.last().Index != 0 {
		t.Fatalf("%v, marker %+v", err, to.last())
	}
	to.failpoint = func(string) error { return nil }
	if err := to.resolve(t.Context()); err != nil || to.last().Index != list[0].Index || sm.Applied() != first.ledger.Applied() {
		t.Fatalf("%v, marker %+v, state at %d", err, to.last(), sm.Applied())
	}
}
