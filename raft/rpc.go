package raft

import (
	"bytes"
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"
)

// Limits of the RPC.
const (
	maxPublicBody    = 64 << 10
	publicTimeout    = 10 * time.Second
	maxControlBody   = 64 << 10 // a request or answer about membership
	maxAnswer        = 64 << 20 // what applying a proposal answered
	maxErrorAnswer   = 64 << 10 // an error, with its cause and hint
	maxHeaderBytes   = 16 << 10
	headerTimeout    = 5 * time.Second
	idleTimeout      = 5 * time.Minute
	pingAfter        = time.Second // of silence on a connection
	pingTimeout      = 2 * time.Second
	maxRPCs          = 4096 // under way on one connection
	receiveBytes     = 16 << 20
	receiveEachBytes = 1 << 20
)

// Where this package's own RPCs are.
const (
	pathPropose   = "/raft/propose"
	pathReadIndex = "/raft/readindex"
	pathReport    = "/raft/report"
	pathMembers   = "/raft/members"
	pathLearner   = "/raft/learner"
	pathRemove    = "/raft/remove"
	pathTransfer  = "/raft/transfer"
	pathPrepare   = "/raft/prepare"
	pathProvide   = "/raft/provide"
	pathState     = "/raft/state"
)

// rpc is both halves of the RPC between nodes: HTTP/2 on the cluster's port.
type rpc struct {
	port    *port
	server  *http.Server
	client  *http.Client
	address func(id string) (string, bool)
}

// dialError is why a node could not be reached: nothing was sent to it.
type dialError struct{ cause error }

func (e *dialError) Error() string { return "connect: " + e.cause.Error() }
func (e *dialError) Unwrap() error { return e.cause }

func newRPC(p *port, handler http.Handler, address func(id string) (string, bool)) *rpc {
	r := &rpc{port: p, address: address}
	http2 := &http.HTTP2Config{MaxConcurrentStreams: maxRPCs, MaxReceiveBufferPerConnection: receiveBytes,
		MaxReceiveBufferPerStream: receiveEachBytes, SendPingTimeout: pingAfter, PingTimeout: pingTimeout}
	protocols := new(http.Protocols)
	protocols.SetHTTP2(true)
	r.server = &http.Server{Handler: handler, ReadHeaderTimeout: headerTimeout, IdleTimeout: idleTimeout, HTTP2: http2,
		Protocols: protocols, MaxHeaderBytes: maxHeaderBytes, ErrorLog: slog.NewLogLogger(p.cfg.Logger.Handler(), slog.LevelDebug)}
	r.client = &http.Client{
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		Transport: &http.Transport{DialTLSContext: r.dial, Protocols: protocols, HTTP2: http2,
			IdleConnTimeout: idleTimeout, DisableCompression: true}}
	return r
}

func (r *rpc) serve() {
	_ = r.server.Serve(rpcListener{port: r.port, closed: make(chan struct{}), once: new(sync.Once)})
}

func (r *rpc) close() {
	_ = r.server.Close()
	r.client.CloseIdleConnections()
}

// The host of an RPC's URL is a node's ID, or an address, in hexadecimal.
const (
	hostNode    = ".node"
	hostAddress = ".address"
)

func nodeURL(id, path string) string {
	return "https://" + hex.EncodeToString([]byte(id)) + hostNode + path
}

func addressURL(address, path string) string {
	return "https://" + hex.EncodeToString([]byte(address)) + hostAddress + path
}

func (r *rpc) dial(ctx context.Context, _, hostPort string) (net.Conn, error) {
	host, _, err := net.SplitHostPort(hostPort)
	if err != nil {
		return nil, &dialError{err}
	}
	encoded, kind, _ := strings.Cut(host, ".")
	raw, err := hex.DecodeString(encoded)
	if err != nil {
		return nil, &dialError{err}
	}
	id, address := "", string(raw)
	if "."+kind == hostNode {
		var known bool
		id = string(raw)
		if address, known = r.address(id); !known {
			return nil, &dialError{fmt.Errorf("%w: %q", ErrNotMember, id)}
		}
	}
	conn, err := r.port.dial(ctx, id, address, protocolRPC)
	if err != nil {
		return nil, &dialError{err}
	}
	return conn.secure, nil
}

// call posts body to a URL of nodeURL or addressURL and returns the answer. An error of the other node keeps its kind; any
// other is a *dialError if nothing was sent.
func (r *rpc) call(ctx context.Context, to string, body []byte, most int64) ([]byte, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, to, bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	response, err := r.client.Do(request)
	if err != nil {
		var wrapped *url.Error
		if errors.As(err, &wrapped) {
			err = wrapped.Err // it would show the encoded host
		}
		return nil, err
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		most = maxErrorAnswer // whatever the size of a good answer is
	}
	answer, err := readBody(response.Body, response.ContentLength, most)
	if err != nil {
		return nil, err
	}
	if response.StatusCode != http.StatusOK {
		return nil, decodeError(response.StatusCode, answer)
	}
	return answer, nil
}

func readBody(body io.Reader, length, most int64) ([]byte, error) {
	if length > most {
		return nil, fmt.Errorf("%w: %d bytes, at most %d", ErrTooLarge, length, most)
	}
	if length >= 0 {
		raw := make([]byte, length)
		_, err := io.ReadFull(body, raw)
		return raw, err
	}
	raw, err := io.ReadAll(io.LimitReader(body, most+1))
	if err == nil && int64(len(raw)) > most {
		err = fmt.Errorf("%w: more than %d bytes", ErrTooLarge, most)
	}
	return raw, err
}

// kinds are the kinds of error as they travel. The first that an error is of is its kind here, too: whether the outcome is
// known matters most.
var kinds = [...]struct {
	name string
	kind error
}{
	{"unknown", ErrUnknown}, {"too-large", ErrTooLarge}, {"not-member", ErrNotMember}, {"not-leader", ErrNotLeader},
	{"no-quorum", ErrNoQuorum}, {"unavailable", ErrUnavailable}, {"closed", ErrClosed}, {"corrupt", ErrCorrupt}, {"disk-full", ErrDiskFull},
}

// wireError is an error of another node.
type wireError struct {
	Op      string
	Kinds   []string // at least one
	Message string
	Hint    string
}

func encodeError(w http.ResponseWriter, err error) {
	wire := wireError{Message: err.Error()}
	for _, k := range kinds {
		if errors.Is(err, k.kind) {
			wire.Kinds = append(wire.Kinds, k.name)
		}
	}
	var typed *Error
	if errors.As(err, &typed) {
		wire.Op, wire.Hint = typed.Op, typed.Hint
	}
	if len(wire.Kinds) == 0 {
		wire.Kinds = []string{"unknown"}
	}
	raw, _ := json.Marshal(wire) // strings always encode
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(http.StatusConflict)
	_, _ = w.Write(raw)
}

func decodeError(status int, raw []byte) error {
	var wire wireError
	if status == http.StatusConflict && json.Unmarshal(raw, &wire) == nil {
		var all []error
		for _, k := range kinds {
			for _, name := range wire.Kinds {
				if name == k.name {
					all = append(all, k.kind)
				}
			}
		}
		if len(all) > 0 {
			return &Error{Op: wire.Op, Kind: all[0], Hint: wire.Hint, Cause: &remoteError{kinds: all[1:], message: wire.Message}}
		}
	}
	return fmt.Errorf("the node answered with status %d", status)
}

// remoteError is what lies beneath an error of another node.
type remoteError struct {
	kinds   []error
	message string
}

func (e *remoteError) Error() string   { return "at the other node: " + e.message }
func (e *remoteError) Unwrap() []error { return e.kinds }
