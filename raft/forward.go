package raft

import (
	"context"
	"encoding/binary"
	"errors"
	"io"
	"net/http"

	hraft "github.com/hashicorp/raft"
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

var errLeaderLost = errors.New("the leader was lost")

// forward has the leader put data into the order, and waits until this node has applied it, too.
func (n *Node) forward(ctx context.Context, op, leader string, lasting context.Context, data []byte) (Result, error) {
	answer, err := n.ask(ctx, leader, lasting, pathPropose, data, maxAnswer)
	if err != nil {
		return Result{}, forwardError(op, err, ErrUnknown)
	}
	if len(answer) < 8 {
		return Result{}, &Error{Op: op, Kind: ErrUnknown, Cause: io.ErrUnexpectedEOF}
	}
	result := Result{Index: binary.BigEndian.Uint64(answer), Value: answer[8:]}
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
	result, err := n.proposeWith(r.Context(), data, func(op string) (Result, error) { return n.propose(op, data) })
	if err != nil {
		encodeError(w, err)
		return
	}
	var index [8]byte
	binary.BigEndian.PutUint64(index[:], result.Index)
	_, _ = w.Write(append(index[:], result.Value...))
}

// serveReadIndex answers a follower's read index.
func (n *Node) serveReadIndex(w http.ResponseWriter, r *http.Request) {
	index, err := n.confirmedIndex(r.Context())
	if err != nil {
		encodeError(w, err)
		return
	}
	_, _ = w.Write(binary.BigEndian.AppendUint64(nil, index))
}

// leaderIndex asks the leader for its read index.
func (n *Node) leaderIndex(ctx context.Context) (uint64, error) {
	const op = "read index"
	leader, lasting := n.elsewhere()
	if leader == "" {
		return 0, &Error{Op: op, Kind: ErrNoQuorum}
	}
	answer, err := n.ask(ctx, leader, lasting, pathReadIndex, nil, 8)
	if err != nil {
		return 0, forwardError(op, err, ErrUnavailable)
	}
	if len(answer) != 8 {
		return 0, &Error{Op: op, Kind: ErrUnavailable, Cause: io.ErrUnexpectedEOF}
	}
	return binary.BigEndian.Uint64(answer), nil
}
