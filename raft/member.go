package raft

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"sync"
	"time"

	hraft "github.com/hashicorp/raft"
	wal "github.com/hashicorp/raft-wal"
)

const (
	// reportTimeout bounds how long a member is waited for when it is asked how it does.
	reportTimeout = 500 * time.Millisecond
	// changeTimeout bounds how long a change of the membership may take to be committed.
	changeTimeout = 10 * time.Second
)

// Roles of a Member.
const (
	RoleLeader  = "leader"
	RoleVoter   = "voter"
	RoleLearner = "learner" // receives every entry but has no vote
)

// Member is one node of the cluster, as the node that answered sees it.
type Member struct {
	ID          string
	Address     string
	Role        string
	Replica     bool // a learner that stays one
	Ready       bool // as Node.Ready, there
	Fault       string
	Applied     uint64        // its newest applied proposal
	Commit      uint64        // the newest entry it knows to be committed
	LastContact time.Duration // since it last answered; negative if it never has
	LagEntries  uint64        // entries it has yet to apply, about
	LagTime     time.Duration // the age of the oldest of those, about
	Version     string
	Level       int // Config.Level there
	FreeBytes   uint64
	ClockSkew   time.Duration // its clock minus this one's, to about half of the round trip
}

// report is what a node says of itself.
type report struct {
	Ready     bool
	Fault     string
	Replica   bool
	Applied   uint64
	Commit    uint64
	Version   string
	Level     int
	FreeBytes uint64
	Clock     int64 // Unix time in nanoseconds
}

func (n *Node) report() report {
	free, _ := n.log.reserve.available(time.Now())
	own := report{Ready: n.Ready() == nil, Replica: n.cfg.Replica, Applied: n.applier.applied.Load(), Commit: n.raft.CommitIndex(),
		Version: n.cfg.Version, Level: n.cfg.Level, FreeBytes: free, Clock: time.Now().UnixNano()}
	if fault := n.Fault(); fault != nil {
		own.Fault = fault.Error()
	}
	return own
}

func (n *Node) serveReport(w http.ResponseWriter, _ *http.Request) { answerJSON(w, n.report()) }

func (n *Node) serveMembers(w http.ResponseWriter, r *http.Request) {
	answerJSON(w, n.view(r.Context()))
}

func answerJSON(w http.ResponseWriter, value any) {
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(value) // whoever has gone does not read it
}

// heardReport is the last report of a node.
type heardReport struct {
	report
	at   time.Time
	skew time.Duration
}

// reports keeps what the members last said.
type reports struct {
	mu   sync.Mutex
	last map[string]heardReport
}

func (r *reports) get(id string) (heardReport, bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	heard, ok := r.last[id]
	return heard, ok
}

// poll asks every other member for its report, and returns once all have answered or the time is up.
func (n *Node) poll(ctx context.Context) {
	if n.rpc == nil {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, reportTimeout)
	defer cancel()
	var asked sync.WaitGroup
	for _, s := range n.servers() {
		if string(s.ID) != n.cfg.NodeID {
			asked.Go(func() { n.pollOne(ctx, string(s.ID)) })
		}
	}
	asked.Wait()
}

func (n *Node) pollOne(ctx context.Context, id string) {
	sent := time.Now()
	raw, err := n.rpc.call(ctx, nodeURL(id, pathReport), nil, maxControlBody)
	heard := heardReport{at: time.Now()}
	if err != nil || json.Unmarshal(raw, &heard.report) != nil {
		return
	}
	middle := sent.Add(heard.at.Sub(sent) / 2)
	heard.skew = time.Unix(0, heard.Clock).Sub(middle.Round(0)) // their wall clock against ours
	n.reports.mu.Lock()
	defer n.reports.mu.Unlock()
	n.reports.last[id] = heard
}

// Members returns the members of the cluster: the leader's view if there is a leader that answers, else this node's.
func (n *Node) Members(ctx context.Context) ([]Member, error) {
	if n.stop.Err() != nil {
		return nil, &Error{Op: "members", Kind: ErrClosed}
	}
	if leader, lasting := n.elsewhere(); leader != "" {
		short, cancel := context.WithTimeout(ctx, 2*reportTimeout)
		defer cancel()
		var members []Member
		raw, err := n.ask(short, leader, lasting, pathMembers, nil, maxControlBody<<4)
		if err == nil && json.Unmarshal(raw, &members) == nil {
			return members, nil
		}
	}
	return n.view(ctx), nil
}

// view returns the members as this node sees them.
func (n *Node) view(ctx context.Context) []Member {
	n.poll(ctx)
	_, leader := n.raft.LeaderWithID()
	var members []Member
	newest := uint64(0)
	for _, s := range n.servers() {
		m := Member{ID: string(s.ID), Address: string(s.Address), Role: RoleVoter, LastContact: -1}
		if s.Suffrage != hraft.Voter {
			m.Role = RoleLearner
		} else if s.ID == leader {
			m.Role = RoleLeader
		}
		if m.ID == n.cfg.NodeID {
			m.fill(heardReport{report: n.report(), at: time.Now()})
		} else if heard, ok := n.reports.get(m.ID); ok {
			m.fill(heard)
		}
		newest = max(newest, m.Applied)
		members = append(members, m)
	}
	for i := range members {
		members[i].LagEntries = newest - members[i].Applied
		members[i].LagTime = n.ageBehind(members[i].Applied, newest)
	}
	return members
}

func (m *Member) fill(heard heardReport) {
	m.Replica, m.Ready, m.Fault, m.Applied, m.Commit = heard.Replica, heard.Ready, heard.Fault, heard.Applied, heard.Commit
	m.Version, m.Level, m.FreeBytes, m.ClockSkew, m.LastContact = heard.Version, heard.Level, heard.FreeBytes, heard.skew, time.Since(heard.at)
}

// ageBehind returns how old the entry after applied is, or the oldest one in the log if it is no longer there.
func (n *Node) ageBehind(applied, newest uint64) time.Duration {
	first, err := n.log.FirstIndex()
	if err != nil || first == 0 || applied >= newest {
		return 0
	}
	var entry hraft.Log
	err = n.log.using(func(w *wal.WAL) error { return w.GetLog(max(first, applied+1), &entry) })
	if err != nil || entry.AppendedAt.IsZero() {
		return 0
	}
	return max(time.Since(entry.AppendedAt), 0)
}

// change is a request to change the membership.
type change struct{ ID, Address string }

// control serves a change that only the leader can make.
func (n *Node) control(op string, do func(ctx context.Context, peer string, c change) error) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		raw, err := readBody(r.Body, r.ContentLength, maxControlBody)
		var c change
		if err == nil {
			err = json.Unmarshal(raw, &c)
		}
		if err != nil {
			err = &Error{Op: op, Kind: ErrUnavailable, Cause: err}
		} else {
			defer n.former.spare(PeerID(r))() // a node that has itself removed hears of it
			err = do(r.Context(), PeerID(r), c)
		}
		if err != nil {
			encodeError(w, err)
		}
		_ = http.NewResponseController(w).Flush() // whoever has gone does not read it
	})
}

// onLeader makes a change: here if this node leads, else by asking the leader.
func (n *Node) onLeader(ctx context.Context, op, path string, c change, here func() error) error {
	if n.stop.Err() != nil {
		return &Error{Op: op, Kind: ErrClosed}
	}
	if n.leads() {
		return here()
	}
	leader, lasting := n.elsewhere()
	if leader == "" {
		return &Error{Op: op, Kind: ErrNoQuorum}
	}
	if path == pathTransfer {
		lasting = context.Background() // it is meant to be lost
	}
	raw, err := json.Marshal(c)
	if err != nil {
		return &Error{Op: op, Kind: ErrUnavailable, Cause: err}
	}
	if _, err := n.ask(ctx, leader, lasting, path, raw, maxControlBody); err != nil {
		return forwardError(op, err, ErrUnknown)
	}
	return nil
}

// AddLearner adds a node that replicates the log without a vote, or changes a member's address. Unless it is a replica, the
// leader makes it a voter once it has caught up.
func (n *Node) AddLearner(ctx context.Context, id, address string) error {
	return n.onLeader(ctx, "add learner", pathLearner, change{id, address}, func() error { return n.addLearner(ctx, id, address) })
}

func (n *Node) addLearner(ctx context.Context, id, address string) error {
	const op = "add learner"
	if id == "" || address == "" {
		return &Error{Op: op, Kind: ErrUnavailable, Cause: errors.New("ID and address are required")}
	}
	if n.refuses(id) {
		return &Error{Op: op, Kind: ErrUnavailable, Cause: fmt.Errorf("%q was given up by recover", id), Hint: "join with an empty data folder"}
	}
	if have, known := n.member(id); known && string(have.Address) == address {
		return nil
	}
	return n.change(ctx, op, func() hraft.IndexFuture {
		return n.raft.AddNonvoter(hraft.ServerID(id), hraft.ServerAddress(address), 0, changeTimeout)
	})
}

// serveLearner is AddLearner for another node. A node that is no member yet can only ask for itself, and perhaps asks one
// that is not the leader.
func (n *Node) serveLearner(ctx context.Context, peer string, c change) error {
	if _, known := n.member(peer); !known && peer != c.ID {
		return &Error{Op: "add learner", Kind: ErrNotMember, Hint: "a node that is no member can only ask for itself"}
	}
	if peer != c.ID {
		return n.addLearner(ctx, c.ID, c.Address) // passed on once already
	}
	return n.AddLearner(ctx, c.ID, c.Address)
}

// Remove takes a node out of the cluster, for good: its ID must not be used again. Nothing is removed unless asked, however
// long it has been dead. ErrNotMember if there is no such node.
func (n *Node) Remove(ctx context.Context, id string) error {
	return n.onLeader(ctx, "remove", pathRemove, change{ID: id}, func() error { return n.remove(ctx, id) })
}

func (n *Node) remove(ctx context.Context, id string) error {
	const op = "remove"
	if !n.leads() {
		return &Error{Op: op, Kind: ErrNotLeader}
	}
	if _, known := n.member(id); !known {
		return &Error{Op: op, Kind: ErrNotMember, Cause: fmt.Errorf("no node %q", id)}
	}
	if id == n.cfg.NodeID {
		// Another leads first, so that the one that is removed does not have to find out by itself that it leads no more.
		if err := n.transfer(ctx, ""); err != nil {
			return err
		}
		return n.Remove(ctx, id)
	}
	return n.change(ctx, op, func() hraft.IndexFuture { return n.raft.RemoveServer(hraft.ServerID(id), 0, changeTimeout) })
}

// change waits for a change of the configuration.
func (n *Node) change(ctx context.Context, op string, begin func() hraft.IndexFuture) error {
	return n.await(ctx, op, func() error {
		err := begin().Error()
		switch {
		case err == nil:
			return nil
		case errors.Is(err, hraft.ErrLeadershipLost), errors.Is(err, hraft.ErrNotLeader), errors.Is(err, hraft.ErrRaftShutdown),
			errors.Is(err, hraft.ErrLeadershipTransferInProgress):
			return n.proposalError(op, err)
		}
		return &Error{Op: op, Kind: ErrUnavailable, Cause: err}
	})
}

// Transfer makes the voter named id the leader, or with an empty id the one that is best fit, and returns once it is.
func (n *Node) Transfer(ctx context.Context, id string) error {
	return n.onLeader(ctx, "transfer", pathTransfer, change{ID: id}, func() error { return n.transfer(ctx, id) })
}

func (n *Node) transfer(ctx context.Context, id string) error {
	const op = "transfer"
	if !n.leads() {
		return &Error{Op: op, Kind: ErrNotLeader}
	}
	if id == n.cfg.NodeID {
		return nil
	}
	if id == "" {
		id = n.successor(ctx)
	}
	to, known := n.member(id)
	switch {
	case id == "":
		return &Error{Op: op, Kind: ErrUnavailable, Hint: "no other voter answers"}
	case !known:
		return &Error{Op: op, Kind: ErrNotMember, Cause: fmt.Errorf("no node %q", id)}
	case to.Suffrage != hraft.Voter:
		return &Error{Op: op, Kind: ErrUnavailable, Cause: fmt.Errorf("%q has no vote", id)}
	}
	err := n.await(ctx, op, func() error {
		if err := n.raft.LeadershipTransferToServer(to.ID, to.Address).Error(); err != nil {
			return &Error{Op: op, Kind: ErrUnavailable, Cause: err, Hint: "try again"}
		}
		return nil
	})
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, changeTimeout)
	defer cancel()
	if err := n.leader.wait(ctx, func(leader string) bool { return leader != "" && leader != n.cfg.NodeID }); err != nil {
		return &Error{Op: op, Kind: ErrUnknown, Cause: err}
	}
	if leader, _ := n.leader.current(); leader != id {
		return &Error{Op: op, Kind: ErrUnavailable, Cause: fmt.Errorf("%q leads now", leader), Hint: "try again"}
	}
	return nil
}

// successor returns the voter that is fit to lead and has applied most; empty if none answers.
func (n *Node) successor(ctx context.Context) (best string) {
	began := time.Now()
	n.poll(ctx)
	most := uint64(0)
	for _, s := range n.servers() {
		heard, ok := n.reports.get(string(s.ID))
		if s.Suffrage == hraft.Voter && ok && heard.at.After(began) && heard.Fault == "" && heard.Applied >= most {
			best, most = string(s.ID), heard.Applied
		}
	}
	return best
}
