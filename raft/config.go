package raft

import (
	"context"
	"crypto/tls"
	"errors"
	"log/slog"
	"math"
	"net"
	"net/http"
	"os"
	"time"

	hraft "github.com/hashicorp/raft"
)

// Limits that are not settings, because every node of a cluster must agree on them or because they protect this package.
const (
	// MaxProposalBytes is the largest proposal accepted. Larger things are sent in parts, ahead of the command that uses them.
	MaxProposalBytes = 4 << 20
	// maxApplyBytes and maxApplyEntries bound what one call of StateMachine.Apply is handed, unless one entry is larger.
	maxApplyBytes   = 8 << 20
	maxApplyEntries = 512
	// maxAppendEntries bounds an append RPC, whose entries are read before their bytes are counted (see transport).
	maxAppendEntries = 64
	// commitTimeout is how long a follower may not hear what is committed while nothing new is proposed.
	commitTimeout = 20 * time.Millisecond
)

// Defaults of Config.
const (
	DefaultLogBytes      = 64 << 20
	DefaultSnapshotBytes = 64 << 20
	DefaultSegmentBytes  = 32 << 20
	DefaultInflightBytes = 16 << 20
	DefaultHeartbeat     = 250 * time.Millisecond
	DefaultLease         = 200 * time.Millisecond
	DefaultDiskTimeout   = 10 * time.Second
)

// Config says where a node lives and how it behaves. Zero values mean the defaults.
type Config struct {
	// Dir holds the log, the vote and the snapshot marker. It is created with mode 0700.
	Dir string
	// NodeID names this node in the cluster. It is stable and never used again for another.
	NodeID string
	// Logger receives this node's messages; nil discards them. What the Raft library calls info is debug here.
	Logger *slog.Logger
	// Version is the release of this node, told to the other nodes.
	Version string
	// Level is the feature level of this release, told to the other nodes. A state is only sent to nodes of this level or a
	// later one. 0 is that of releases that do not tell.
	Level int

	// Listener accepts the other nodes' connections, Raft's and the RPC's; the node closes it. nil: this node is alone.
	// With a Listener, Address, ServerTLS and ClientTLS are required.
	Listener net.Listener
	// Address is the host:port at which the other nodes reach Listener. It may change between two runs: the node tells
	// the others.
	Address string
	// ServerTLS and ClientTLS return this node's half of the mutual TLS, each time a connection is made, so that a renewed
	// certificate is picked up. Needed of ServerTLS: Certificates and ClientCAs; of ClientTLS: Certificates and RootCAs.
	// Everything else that matters is set here. A node's certificate names it by a URI trivet://node/ID or its CommonName.
	ServerTLS, ClientTLS func() *tls.Config
	// Joining allows a folder without a log: the node asks those at Peers (host:port) to be added as a learner, again
	// and again until it is. Ignored once there is a log.
	Joining bool
	Peers   []string
	// Replica keeps this node a learner: it is never promoted to voter.
	Replica bool
	// Barred says whether a node that is no member was one, as far as this node knows; nil: only what it has seen itself counts.
	// Such a node is refused everything. It is called for each connection and each request of a stranger with a certificate.
	Barred func(id string) bool
	// Handlers are further RPCs on the same port, by path; the caller is a member, see PeerID. The path
	// /raft/ is this package's.
	Handlers map[string]http.Handler
	// Public are RPCs, by path, that may be called without a certificate: everything about the request is hostile. The
	// body is bounded to 64 KiB and the request to 10 s.
	Public map[string]http.Handler

	// LogBytes of the newest entries are kept after a snapshot so that a follower can catch up from the log.
	// Only whole segments are given back to the disk.
	LogBytes int64
	// SnapshotBytes of new entries make the node persist its state and truncate the log.
	SnapshotBytes int64
	// SegmentBytes is the size of one log file, preallocated. A file can exceed it by one batch.
	SegmentBytes int
	// InflightBytes bounds the proposals that are under way; further callers of Propose wait.
	InflightBytes int64
	// MinFreeBytes of the disk are left alone: below it proposals get ErrDiskFull. 0 switches the check off.
	MinFreeBytes uint64
	// HeartbeatTimeout is how long a follower waits for its leader before it stands for election (1 to 2 times, random).
	HeartbeatTimeout time.Duration
	// ElectionTimeout is how long a candidate waits for votes; at least HeartbeatTimeout.
	ElectionTimeout time.Duration
	// LeaseTimeout is how long a leader goes on without a majority; at most HeartbeatTimeout.
	LeaseTimeout time.Duration
	// DiskTimeout is how long a write of the log, of the vote or of the state may take before it counts as a fault: the disk
	// hangs without an error. A leader is silent then, so that another one is elected.
	DiskTimeout time.Duration
	// Failpoint is for tests: it is called at each of Sites, and an error it returns becomes that operation's error.
	Failpoint func(site string) error

	// dial is for tests: it makes every connection to another node.
	dial func(ctx context.Context, network, address string) (net.Conn, error)
}

// withDefaults returns c with its zero values filled in, or says what is wrong with it.
func (c Config) withDefaults() (Config, error) {
	if c.Dir == "" || c.NodeID == "" {
		return c, errors.New("settings Dir and NodeID are required")
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	if c.Listener != nil && (c.Address == "" || c.ServerTLS == nil || c.ClientTLS == nil) {
		return c, errors.New("setting Listener needs Address, ServerTLS and ClientTLS")
	}
	setDefault(&c.LogBytes, DefaultLogBytes)
	setDefault(&c.SnapshotBytes, DefaultSnapshotBytes)
	setDefault(&c.SegmentBytes, DefaultSegmentBytes)
	setDefault(&c.InflightBytes, DefaultInflightBytes)
	setDefault(&c.HeartbeatTimeout, DefaultHeartbeat)
	setDefault(&c.ElectionTimeout, c.HeartbeatTimeout)
	setDefault(&c.LeaseTimeout, min(DefaultLease, c.HeartbeatTimeout))
	setDefault(&c.DiskTimeout, DefaultDiskTimeout)
	if c.dial == nil {
		c.dial = (&net.Dialer{KeepAliveConfig: keepAlive}).DialContext
	}
	// One proposal of the largest size must fit, or it would wait for ever.
	c.InflightBytes = max(c.InflightBytes, MaxProposalBytes)
	if c.Failpoint == nil {
		c.Failpoint = func(string) error { return nil }
	}
	return c, os.MkdirAll(c.Dir, 0o700)
}

func setDefault[T int | int64 | time.Duration](field *T, value T) {
	if *field <= 0 {
		*field = value
	}
}

// library returns the Raft library's configuration.
func (c Config) library() *hraft.Config {
	lib := hraft.DefaultConfig()
	lib.LocalID = hraft.ServerID(c.NodeID)
	lib.Logger = newLibraryLogger(c.Logger)
	lib.HeartbeatTimeout = c.HeartbeatTimeout
	lib.ElectionTimeout = c.ElectionTimeout
	lib.LeaderLeaseTimeout = c.LeaseTimeout
	// Group commit: whatever has queued while the last batch was being fsynced becomes the next one.
	lib.BatchApplyCh = true
	lib.MaxAppendEntries = maxApplyEntries
	if c.Listener != nil {
		lib.MaxAppendEntries = maxAppendEntries
		lib.CommitTimeout = commitTimeout
	}
	lib.NoLegacyTelemetry = true
	lib.ShutdownOnRemove = false
	// The state is its own snapshot: nothing to restore at the start, and we decide when to take one.
	lib.NoSnapshotRestoreOnStart = true
	lib.SnapshotInterval = 365 * 24 * time.Hour
	lib.SnapshotThreshold = math.MaxUint64
	return lib
}
