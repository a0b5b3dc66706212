package main

import (
	"bytes"
	"context"
	"encoding/json"
	"net/netip"
	"slices"
	"strings"

	"trivet/storage"
)

// settingHost, with the name of a node behind it, is how the outside reaches that node.
const settingHost = "cluster.host."

// host is what a node says of itself to the others, for DNS records and
// certificates.
type host struct {
	Node      string       `json:"node"`
	Name      string       `json:"name"`      // of the host
	Addresses []netip.Addr `json:"addresses"` // public ones, as far as it can tell
	Key       string       `json:"key"`       // SHA-256 of the public key of the certificate it shows for its name, hexadecimal
	Trusted   bool         `json:"trusted"`   // others accept that certificate
}

// self is this node.
func (n *node) self() host {
	h := host{Node: string(n.settings.Node), Name: strings.ToLower(n.hostname()), Addresses: publicAddresses()}
	if n.certs != nil {
		h.Key, h.Trusted = n.certs.standing(h.Name)
	}
	return h
}

// publishHost keeps what the others know of this node up to date.
func (n *node) publishHost(ctx context.Context) error {
	value, err := json.Marshal(n.self())
	if err != nil {
		return err
	}
	name := settingHost + string(n.settings.Node)
	before, err := n.store.Setting(ctx, name)
	if err == nil && bytes.Equal(before, value) {
		return nil
	}
	if err != nil && storage.KindOf(err) != storage.KindNotFound {
		return err
	}
	return n.store.SetSetting(ctx, name, value)
}

// hosts are all nodes of the cluster, this one first, then by name. A node that
// has not said who it is yet is left out.
func (n *node) hosts(ctx context.Context) ([]host, error) {
	members, err := n.raft.Members(ctx)
	if err != nil {
		return nil, storageError(err)
	}
	self := n.self()
	var others []host
	for _, m := range members {
		if m.ID == self.Node {
			continue
		}
		var h host
		value, err := n.store.Setting(ctx, settingHost+m.ID)
		if storage.KindOf(err) == storage.KindNotFound {
			continue
		}
		if err == nil {
			err = json.Unmarshal(value, &h)
		}
		if err != nil {
			return nil, err
		}
		others = append(others, h)
	}
	slices.SortFunc(others, func(a, b host) int { return strings.Compare(a.Name+" "+a.Node, b.Name+" "+b.Node) })
	return append([]host{self}, others...), nil
}

// lookAtHosts says who this node is, and keeps who the others are at hand.
func (n *node) lookAtHosts(ctx context.Context) error {
	if err := n.publishHost(ctx); err != nil {
		return err
	}
	hosts, err := n.hosts(ctx)
	if err == nil {
		n.lastHosts.Store(&hosts)
	}
	return err
}

// hostNames are the names of hosts, each once.
func hostNames(hosts []host) []string {
	var names []string
	for _, h := range hosts {
		if !slices.Contains(names, h.Name) {
			names = append(names, h.Name)
		}
	}
	return names
}
