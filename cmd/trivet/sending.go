package main

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"slices"
	"sync/atomic"
	"time"

	"trivet/dns"
	"trivet/raft"
	"trivet/smtp/queue"
)

// sender is the queue as this node runs it.
type sender struct {
	n     *node
	nodes atomic.Pointer[[]string] // in contact
}

// inContact is how lately a node must have answered to count.
const inContact = 5 * time.Second

// send sends what is queued until ctx ends.
func (n *node) send(ctx context.Context) {
	s := &sender{n: n}
	s.look(ctx)
	q := queue.New(queue.Config{
		Node: string(n.settings.Node), Hostname: n.hostname(), Store: n.store, Resolver: queueResolver{n.resolver}, Logger: n.log,
		Limits: n.settings.Queue.limits(), Observer: n.metrics, Port: uint16(n.settings.Queue.DeliveryPort), AllowPrivate: bool(n.settings.Queue.DeliverToPrivate),
		Self: s.self, Healthy: func() bool { return n.raft.Ready() == nil }, Leader: func() bool { return n.raft.Status().Role == raft.RoleLeader },
		Nodes: func() []string { return *s.nodes.Load() }, Now: n.now, Sign: n.signOrNot, Grace: time.Duration(n.settings.ShutdownTimeout),
	})
	watching, stop := context.WithCancel(ctx)
	defer stop()
	go s.watch(watching)
	q.Run(ctx)
}

// signOrNot is sign, but that nothing is signed where no domain has a key: a report that is not believed is
// better than none.
func (n *node) signOrNot(ctx context.Context, domain string, message []byte) (string, error) {
	fields, err := n.sign(ctx, domain, message)
	if errors.Is(err, errNoSigner) {
		return "", nil
	}
	return fields, err
}

// watch keeps the list of the nodes in contact.
func (s *sender) watch(ctx context.Context) {
	for sleep(ctx, inContact/2) {
		s.look(ctx)
	}
}

func (s *sender) look(ctx context.Context) {
	self := string(s.n.settings.Node)
	nodes := []string{self}
	ctx, cancel := context.WithTimeout(ctx, statusPatience)
	defer cancel()
	members, err := s.n.raft.Members(ctx)
	if err != nil && s.nodes.Load() != nil {
		return // the last list is better than none
	}
	for _, m := range members {
		if m.ID != self && m.Ready && m.LastContact >= 0 && m.LastContact < inContact {
			nodes = append(nodes, m.ID)
		}
	}
	slices.Sort(nodes)
	s.nodes.Store(&nodes)
}

// self reports whether an address is where this node takes mail.
func (s *sender) self(a netip.AddrPort) bool {
	l := s.n.open[listenSMTP]
	if l == nil {
		return false
	}
	own, err := netip.ParseAddrPort(l.Addr().String())
	if err != nil || own.Port() != a.Port() {
		return false
	}
	if !own.Addr().IsUnspecified() {
		return own.Addr().Unmap() == a.Addr().Unmap()
	}
	if a.Addr().IsLoopback() {
		return true
	}
	interfaces, _ := net.InterfaceAddrs() // none: it is found out by the loop of Received fields
	return slices.ContainsFunc(interfaces, func(i net.Addr) bool {
		prefix, err := netip.ParsePrefix(i.String())
		return err == nil && prefix.Addr().Unmap() == a.Addr().Unmap()
	})
}

// queueResolver is the resolver with TLSA records as the queue has them.
type queueResolver struct{ *dns.Resolver }

func (r queueResolver) LookupTLSA(ctx context.Context, name string) ([]queue.TLSA, error) {
	records, err := r.Resolver.LookupTLSA(ctx, name)
	out := make([]queue.TLSA, len(records))
	for i, t := range records {
		out[i] = queue.TLSA(t)
	}
	return out, err
}
