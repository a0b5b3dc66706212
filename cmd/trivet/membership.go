package main

import (
	"bytes"
	"context"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"strings"
	"time"

	"trivet/auth"
	"trivet/raft"
	"trivet/storage"
)

// Names of what all nodes share.
const (
	settingAuthority    = "cluster.ca.cert"
	settingAuthorityKey = "cluster.ca.key"
	settingNode         = "cluster.node." // with the node's name behind it
	settingLoginKey     = "login.key"
)

// How often a node looks after its place in the cluster.
const (
	membershipUnsettled = 200 * time.Millisecond // while something is left to do
	membershipSettled   = 10 * time.Second
	membershipTimeout   = 5 * time.Second // for one look, or one question to another node
)

// nodeRecord is what the state knows of a node beside its place in the
// configuration of Raft. It stays when the node is removed: names are not used again.
type nodeRecord struct {
	Key     []byte `json:"key,omitempty"` // SHA-256 of its public key
	Replica bool   `json:"replica,omitempty"`
	Removed bool   `json:"removed,omitempty"`
}

func (n *node) nodeRecord(ctx context.Context, id string) (nodeRecord, error) {
	var record nodeRecord
	value, err := n.store.Setting(ctx, settingNode+id)
	if err == nil {
		err = json.Unmarshal(value, &record)
	}
	return record, err
}

func (n *node) setNodeRecord(ctx context.Context, id string, record nodeRecord) error {
	value, err := json.Marshal(record)
	if err != nil {
		return err
	}
	return n.store.SetSetting(ctx, settingNode+id, value)
}

// barred reports whether a node was removed, as far as this node knows.
func (n *node) barred(id string) bool {
	ctx, cancel := context.WithTimeout(context.Background(), membershipTimeout)
	defer cancel()
	record, err := n.nodeRecord(ctx, id)
	return err == nil && record.Removed
}

// authority returns the cluster's certificate authority; KindNotFound before it was made.
func (n *node) authority(ctx context.Context) (authority, error) {
	certificate, err := n.store.Setting(ctx, settingAuthority)
	if err != nil {
		return authority{}, err
	}
	key, err := n.store.Setting(ctx, settingAuthorityKey)
	if err != nil {
		return authority{}, err
	}
	return parseAuthority(certificate, key)
}

// setAuthority replaces the authority. The certificate is written last: whoever
// sees it sees its key.
func (n *node) setAuthority(ctx context.Context, a authority) error {
	key, err := x509.MarshalECPrivateKey(a.key)
	if err != nil {
		return err
	}
	if err := n.store.SetSetting(ctx, settingAuthorityKey, key); err != nil {
		return err
	}
	return n.store.SetSetting(ctx, settingAuthority, a.certificate.Raw)
}

// ensureShared makes what all nodes share and only a first node can decide.
func (n *node) ensureShared(ctx context.Context) error {
	if _, err := n.store.Setting(ctx, settingLoginKey); storage.KindOf(err) == storage.KindNotFound {
		if err := n.store.SetSetting(ctx, settingLoginKey, n.loginKey); err != nil {
			return err
		}
	}
	if err := os.Remove(n.dir.secretFile()); err != nil && !errors.Is(err, fs.ErrNotExist) { // of a release that kept it there
		return err
	}
	if _, err := n.nodeRecord(ctx, string(n.settings.Node)); storage.KindOf(err) == storage.KindNotFound {
		if err := n.setNodeRecord(ctx, string(n.settings.Node), nodeRecord{}); err != nil {
			return err
		}
	}
	if _, err := n.authority(ctx); storage.KindOf(err) != storage.KindNotFound {
		return err
	}
	a, err := newAuthority(n.now())
	if err != nil {
		return err
	}
	return n.setAuthority(ctx, a)
}

// readLoginKey returns the key behind the salts of users that do not exist: the
// one all nodes share, or one that is to become that.
func (n *node) readLoginKey(ctx context.Context) ([]byte, error) {
	key, err := n.store.Setting(ctx, settingLoginKey)
	if err == nil || storage.KindOf(err) != storage.KindNotFound {
		return key, err
	}
	key, err = os.ReadFile(n.dir.secretFile()) // of a release that kept it there
	if errors.Is(err, fs.ErrNotExist) {
		return auth.NewSecret(), nil
	}
	if err != nil {
		return nil, fmt.Errorf("login key: %w", err)
	}
	return key, nil
}

// readSharedLoginKey is readLoginKey once the state may have come from another node.
func (n *node) readSharedLoginKey(ctx context.Context) ([]byte, error) {
	key, err := n.store.Setting(ctx, settingLoginKey)
	if storage.KindOf(err) == storage.KindNotFound {
		return n.loginKey, nil
	}
	return key, err
}

// renewCertificate gets this node another certificate when it is time.
func (n *node) renewCertificate(ctx context.Context) error {
	now := n.now()
	if !n.identity.due(now) {
		return nil
	}
	a, err := n.authority(ctx)
	if storage.KindOf(err) == storage.KindNotFound {
		return nil // a node that has not caught up yet, or the first one before it has decided
	}
	if err != nil {
		return err
	}
	if err := n.identity.renew(a, n.dir, now); err != nil {
		return err
	}
	n.log.Info("this node has a new certificate", "until", n.identity.current.Load().certificate.NotAfter)
	return nil
}

// keepMembership keeps this node known to the others, where it is now, and its
// certificate fresh, until ctx ends.
func (n *node) keepMembership(ctx context.Context) {
	tick := time.NewTimer(0)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		wait := membershipSettled
		if !n.settleOnce(ctx) {
			wait = membershipUnsettled
		}
		tick.Reset(wait)
	}
}

// settleOnce does one round of keepMembership, and says whether everything is as it should be.
func (n *node) settleOnce(ctx context.Context) bool {
	look, cancel := context.WithTimeout(ctx, membershipTimeout)
	defer cancel()
	if err := n.settle(look); err != nil {
		n.log.Debug("not settled in the cluster yet", "error", err)
		return false
	}
	return true
}

// settle does one round of keepMembership; nil: everything is as it should be.
func (n *node) settle(ctx context.Context) error {
	if n.open[listenCluster] != nil {
		if err := n.renewCertificate(ctx); err != nil {
			n.log.Warn("this node's certificate is not renewed; it is tried again", "error", err)
		}
	}
	if err := n.raft.Ready(); err != nil {
		return err
	}
	if n.raft.Status().Role == raft.RoleLeader {
		// What a state has not applied yet looks like what nobody has decided.
		if _, err := n.raft.ReadIndex(ctx); err != nil {
			return err
		}
		if err := errors.Join(n.ensureShared(ctx), n.ensureSelfSigned(ctx)); err != nil {
			return err
		}
	}
	if err := n.lookAtHosts(ctx); err != nil {
		return err
	}
	if n.open[listenCluster] == nil {
		return n.raiseLevel(ctx)
	}
	members, err := n.raft.Members(ctx)
	if err != nil {
		return err
	}
	n.store.SetRebuilds(len(members) > 1)
	id := string(n.settings.Node)
	if !slices.ContainsFunc(members, func(m raft.Member) bool { return m.ID == id }) {
		n.log.Warn("this node is no member of its cluster: it was removed; stop it, and join again with an empty data folder")
		return nil
	}
	if err := n.dir.writePeers(members, id); err != nil {
		return err
	}
	if n.dir.joining() {
		if err := n.dir.endJoining(); err != nil {
			return err
		}
	}
	return n.raiseLevel(ctx)
}

// The files that say where the others are, in DATA/cluster.
const (
	peersFile   = "peers"   // HOST:PORT in each line
	joiningFile = "joining" // there until this node was ready once
	replicaFile = "replica" // there on a node that never votes
	portFile    = "port"    // that the listener got when it was free to choose
)

// joining reports whether this node has yet to catch up for the first time.
func (d dataDir) joining() bool { return d.cluster().has(joiningFile) }

// replica reports whether this node was invited as one that never votes.
func (d dataDir) replica() bool { return d.cluster().has(replicaFile) }

func (d dataDir) has(name string) bool {
	_, err := os.Stat(d.path(name))
	return err == nil
}

func (d dataDir) endJoining() error {
	return errors.Join(os.Remove(d.cluster().path(joiningFile)), syncDir(string(d.cluster())))
}

// peers returns where the other nodes were when this one last heard of them.
func (d dataDir) peers() ([]string, error) {
	data, err := os.ReadFile(d.cluster().path(peersFile))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	return strings.Fields(string(data)), err
}

// writePeers keeps where the others are. A node that is alone has no such file.
func (d dataDir) writePeers(members []raft.Member, self string) error {
	var lines bytes.Buffer
	for _, m := range members {
		if m.ID != self {
			fmt.Fprintln(&lines, m.Address)
		}
	}
	path := d.cluster().path(peersFile)
	before, err := os.ReadFile(path)
	switch {
	case err != nil && !errors.Is(err, fs.ErrNotExist):
		return err
	case bytes.Equal(before, lines.Bytes()):
		return nil
	case lines.Len() == 0:
		return os.Remove(path)
	}
	return errors.Join(d.cluster().create(), writeFile(path, lines.Bytes()))
}

// checkListens says what is wrong with a member of a cluster that nobody could reach.
func (d dataDir) checkListens(listen listenMap) error {
	peers, err := d.peers()
	if _, ok := listen[listenCluster]; ok || err != nil || len(peers) == 0 {
		return err
	}
	return fmt.Errorf("this node belongs to a cluster and needs a listener for it: give --listen a cluster=ADDR, or add it to [listen] in %s", d.settingsFile())
}
