package raft

import (
	"context"
	"encoding/binary"
	"errors"
	"io"
	"net/http"

	hraft "github.com/hashicorp/raft"
	wal "github.com/hashicorp/raft-wal"
)

// propose puts data into the order on this node, which must lead.
func (n *Node) propose(op string, data []byte) (Result, error) {
	future := n.raft.Apply(data, enqueueTimeout)
	if err := future.Error(); err != nil {
		return Result{}, n.proposalError(op, err)
	}
	if err, ok := future.Response().(error); ok {
		return Result{}, &Error{Op: op, Kind: ErrUnknown, Cause: err}
	}
	value, _ := future.Response().([]byte)
	return Result{Index: future.Index(), Value: value}, nil
}

// elsewhere returns the leader if it is another node that can be asked; lasting is done once it leads no more.
func (n *Node) elsewhere() (leader string, lasting context.Context) {
	if n.rpc == nil || n.raft.State() == hraft.Leader {
		return "", nil
	}
	leader, lasting = n.leader.current()
	if leader == n.cfg.NodeID {
		return "", nil
	}
	return leader, lasting
}

// ask calls an RPC of the leader, until ctx ends or the leader changes. If unsent, nothing reached it.
func (n *Node) ask(ctx context.Context, leader string, lasting context.Context, path string, body []byte, most int64) ([]byte, error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	defer context.AfterFunc(lasting, func() { cancel(errLeaderLost) })()
	answer, err := n.rpc.call(ctx, nodeURL(leader, path), body, most)
	if err != nil && context.Cause(ctx) == errLeaderLost {
		err = errors.Join(errLeaderLost, err)
	}
	return answer, err
}

// AskLeader calls one of Config.Handlers on the node that leads, and returns the octets of its answer, at most so many. asked is
// false if nothing was asked: this node leads, nobody is known to, or who does cannot be reached. An error of kind ErrUnknown
// says that the other may have done what it was asked for.
func (n *Node) AskLeader(ctx context.Context, path string, body []byte, most int64) (answer []byte, asked bool, err error) {
	leader, lasting := n.elsewhere()
	if leader == "" {
		return nil, false, nil
	}
	answer, err = n.ask(ctx, leader, lasting, path, body, most)
	var unsent *dialError
	if errors.As(err, &unsent) {
		return nil, false, nil
	}
	if err != nil {
		err = forwardError("ask the leader", err, ErrUnknown)
	}
	return answer, true, err
}

var errLeaderLost = errors.New("the leader was lost")

// forward has the leader put data into the order, and waits until this node has applied it, too.
func (n *Node) forward(ctx context.Context, op, leader string, lasting context.Context, data []byte) (Result, error) {
	answer, err := n.ask(ctx, leader, lasting, pathPropose, data, maxAnswer)
	if err != nil {
		return Result{}, forwardError(op, err, ErrUnknown)
	}
	place, value, ok := decodePlace(answer)
	if !ok {
		return Result{}, &Error{Op: op, Kind: ErrUnknown, Cause: io.ErrUnexpectedEOF}
	}
	n.learn(ctx, leader, place)
	result := Result{Index: place.Index, Value: value}
	if err := n.WaitApplied(ctx, result.Index); err != nil {
		return Result{}, &Error{Op: op, Kind: ErrUnknown, Cause: err, Hint: "it was applied, but not here yet"}
	}
	return result, nil
}

// forwardError gives the error of an RPC to the leader its kind: what the leader said, or that it could not be reached, or
// otherwise.
func forwardError(op string, err, otherwise error) error {
	var typed *Error
	var unsent *dialError
	switch {
	case errors.As(err, &typed):
		return &Error{Op: op, Kind: typed.Kind, Cause: typed.Cause, Hint: typed.Hint}
	case errors.As(err, &unsent):
		return &Error{Op: op, Kind: ErrNoQuorum, Cause: err}
	}
	return &Error{Op: op, Kind: otherwise, Cause: err}
}

// servePropose answers a follower's forward.
func (n *Node) servePropose(w http.ResponseWriter, r *http.Request) {
	data, err := readBody(r.Body, r.ContentLength, MaxProposalBytes)
	if err != nil {
		kind := ErrUnavailable
		if errors.Is(err, ErrTooLarge) {
			kind = ErrTooLarge
		}
		encodeError(w, &Error{Op: "propose", Kind: kind, Cause: err})
		return
	}
	before := n.leading()
	result, err := n.proposeWith(r.Context(), data, func(op string) (Result, error) { return n.propose(op, data) })
	if err != nil {
		encodeError(w, err)
		return
	}
	// Of a term in which this node led before and leads still, it can say that the entry is of it.
	place := committed{Index: result.Index, Term: before, Leader: before}
	if n.leading() != before {
		place.Leader = 0
	}
	_, _ = w.Write(append(place.encode(), result.Value...))
}

// serveReadIndex answers a follower's read index.
func (n *Node) serveReadIndex(w http.ResponseWriter, r *http.Request) {
	index, err := n.confirmedIndex(r.Context())
	if err != nil {
		encodeError(w, err)
		return
	}
	_, _ = w.Write(n.placeOf(r.Context(), index).encode())
}

// leading returns the term in which this node leads, or 0.
func (n *Node) leading() uint64 {
	term := n.raft.CurrentTerm()
	if n.raft.State() != hraft.Leader || n.raft.CurrentTerm() != term {
		return 0
	}
	return term
}

// placeOf waits until the entry at index is committed, if this node leads, and says what it can of it.
func (n *Node) placeOf(ctx context.Context, index uint64) committed {
	place, leading := committed{Index: index}, n.leading()
	var entry hraft.Log
	if leading == 0 || n.WaitApplied(ctx, index) != nil || n.leading() != leading {
		return place
	}
	if n.log.using(func(w *wal.WAL) error { return w.GetLog(index, &entry) }) == nil {
		place.Term, place.Leader = entry.Term, leading
	}
	return place
}

const placeBytes = 24

func (c committed) encode() []byte {
	raw := binary.BigEndian.AppendUint64(make([]byte, 0, placeBytes), c.Index)
	return binary.BigEndian.AppendUint64(binary.BigEndian.AppendUint64(raw, c.Term), c.Leader)
}

func decodePlace(raw []byte) (c committed, rest []byte, ok bool) {
	if len(raw) < placeBytes {
		return c, nil, false
	}
	c = committed{binary.BigEndian.Uint64(raw), binary.BigEndian.Uint64(raw[8:]), binary.BigEndian.Uint64(raw[16:])}
	return c, raw[placeBytes:], true
}

// learn passes on what the leader said of a place, if it said all of it, once this node has the entry; unless by then it knows
// that the entry is committed.
func (n *Node) learn(ctx context.Context, leader string, place committed) {
	address, known := n.addressOf(leader)
	if !known || place.Leader == 0 || place.Leader != n.raft.CurrentTerm() || !n.log.arrived(ctx, place.Index, commitTimeout) {
		return
	}
	if n.raft.CommitIndex() < place.Index {
		n.transport.learn(leader, address, place)
	}
}

// leaderIndex asks the leader for its read index.
func (n *Node) leaderIndex(ctx context.Context) (uint64, error) {
	const op = "read index"
	leader, lasting := n.elsewhere()
	if leader == "" {
		return 0, &Error{Op: op, Kind: ErrNoQuorum}
	}
	answer, err := n.ask(ctx, leader, lasting, pathReadIndex, nil, placeBytes)
	if err != nil {
		return 0, forwardError(op, err, ErrUnavailable)
	}
	place, _, ok := decodePlace(answer)
	if !ok {
		return 0, &Error{Op: op, Kind: ErrUnavailable, Cause: io.ErrUnexpectedEOF}
	}
	n.learn(ctx, leader, place)
	return place.Index, nil
}
