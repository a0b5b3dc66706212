package raft

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"sync"
	"time"

	hraft "github.com/hashicorp/raft"
)

// Limits of the port. They hold for whoever reaches it, with or without a certificate.
const (
	// handshakeTimeout bounds a TLS handshake, either way.
	handshakeTimeout = 5 * time.Second
	// maxHandshakes and maxHandshakesEach, of one address, bound the handshakes under way; further connections are closed.
	maxHandshakes     = 512
	maxHandshakesEach = 64
	// maxStrangers bounds the connections without a certificate.
	maxStrangers = 64
	// raftDialTimeout bounds connecting for Raft's stream: while packets are dropped, one attempt must not outlive that for long.
	raftDialTimeout = time.Second
	acceptPause     = 50 * time.Millisecond // after a failed accept, such as too many open files
)

// keepAlive finds out within some 12 s that the machine at the other end is gone.
var keepAlive = net.KeepAliveConfig{Enable: true, Idle: 4 * time.Second, Interval: 2 * time.Second, Count: 4}

// port is this node's end of the network: it accepts, does the handshake, and hands each connection to Raft's stream or to
// the RPC; and it makes the connections to others. It is the Raft library's StreamLayer.
type port struct {
	cfg    Config
	stop   context.Context
	cancel context.CancelFunc
	raft   chan net.Conn // for the Raft library
	rpc    chan net.Conn // for the RPC server
	refuse func(id string) bool
	lost   func(id string) // called when a Raft stream from a node has ended
	active sync.WaitGroup

	mu         sync.Mutex
	handshakes map[string]int // under way, by the other end's host
	pending    int            // the sum of handshakes
	strangers  int
	conns      map[*trackedConn]struct{}
}

var _ hraft.StreamLayer = (*port)(nil)

func newPort(cfg Config, refuse func(id string) bool, lost func(id string)) *port {
	p := &port{cfg: cfg, raft: make(chan net.Conn), rpc: make(chan net.Conn), refuse: refuse, lost: lost,
		handshakes: map[string]int{}, conns: map[*trackedConn]struct{}{}}
	p.stop, p.cancel = context.WithCancel(context.Background())
	p.active.Go(p.accept)
	return p
}

// close closes everything, and waits for the port's own goroutines.
func (p *port) close() error {
	p.cancel()
	err := p.cfg.Listener.Close()
	p.drop(func(*trackedConn) bool { return true })
	p.active.Wait()
	if errors.Is(err, net.ErrClosed) {
		return nil
	}
	return err
}

func (p *port) accept() {
	for {
		conn, err := p.cfg.Listener.Accept()
		if p.stop.Err() != nil {
			if err == nil {
				_ = conn.Close()
			}
			return
		}
		if err != nil {
			p.cfg.Logger.Warn("cluster port", "error", err)
			select {
			case <-time.After(acceptPause):
			case <-p.stop.Done():
			}
			continue
		}
		host, _, _ := net.SplitHostPort(conn.RemoteAddr().String())
		if !p.enter(host) {
			_ = conn.Close()
			continue
		}
		p.active.Go(func() { p.receive(conn, host) })
	}
}

// enter counts a handshake, or says that there are too many.
func (p *port) enter(host string) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.pending >= maxHandshakes || p.handshakes[host] >= maxHandshakesEach {
		return false
	}
	p.pending++
	p.handshakes[host]++
	return true
}

func (p *port) leave(host string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.pending--
	if p.handshakes[host]--; p.handshakes[host] == 0 {
		delete(p.handshakes, host)
	}
}

// receive does the handshake of an accepted connection and passes it on.
func (p *port) receive(conn net.Conn, host string) {
	if tcp, ok := conn.(*net.TCPConn); ok {
		_ = tcp.SetKeepAliveConfig(keepAlive)
	}
	tracked, err := p.handshake(conn)
	p.leave(host)
	if err == nil && !p.admit(tracked) {
		err = errNoCertificate
	}
	if err != nil {
		p.cfg.Logger.Debug("cluster port: connection refused", "from", conn.RemoteAddr().String(), "error", err)
		_ = conn.Close()
		return
	}
	to := p.rpc
	if tracked.protocol == protocolRaft {
		to = p.raft
	}
	select {
	case to <- tracked.secure:
	case <-p.stop.Done():
		_ = tracked.Close()
	}
}

func (p *port) handshake(conn net.Conn) (*trackedConn, error) {
	config, err := p.cfg.serverTLS()
	if err != nil {
		return nil, err
	}
	tracked := p.track(conn)
	secure := tls.Server(tracked, config)
	ctx, cancel := context.WithTimeout(p.stop, handshakeTimeout)
	defer cancel()
	if err := secure.HandshakeContext(ctx); err != nil {
		_ = tracked.Close()
		return nil, err
	}
	state := secure.ConnectionState()
	p.mu.Lock()
	defer p.mu.Unlock()
	tracked.secure, tracked.inbound = secure, true
	tracked.peer, tracked.protocol = peerOf(&state), state.NegotiatedProtocol
	return tracked, nil
}

// admit decides who may go on after the handshake.
func (p *port) admit(c *trackedConn) bool {
	if c.peer != "" {
		return !p.refuse(c.peer)
	}
	if c.protocol == protocolRaft {
		return false
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.strangers >= maxStrangers {
		return false
	}
	p.strangers++
	c.stranger = true
	return true
}

// dropRaft closes the Raft streams that which picks by direction and the node at the other end.
func (p *port) dropRaft(which func(inbound bool, peer string) bool) {
	p.drop(func(c *trackedConn) bool { return c.protocol == protocolRaft && which(c.inbound, c.peer) })
}

// dial connects to the node named id; an empty id is any node.
func (p *port) dial(ctx context.Context, id, address, protocol string) (*trackedConn, error) {
	config, err := p.cfg.clientTLS(id, protocol)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, handshakeTimeout)
	defer cancel()
	conn, err := p.cfg.dial(ctx, "tcp", address)
	if err != nil {
		return nil, err
	}
	tracked := p.track(conn)
	p.mu.Lock()
	tracked.secure, tracked.peer, tracked.protocol = tls.Client(tracked, config), id, protocol
	p.mu.Unlock()
	if err := tracked.secure.HandshakeContext(ctx); err != nil {
		_ = tracked.Close()
		return nil, err
	}
	if p.stop.Err() != nil {
		_ = tracked.Close()
		return nil, ErrClosed
	}
	return tracked, nil
}

func (p *port) track(conn net.Conn) *trackedConn {
	p.mu.Lock()
	defer p.mu.Unlock()
	tracked := &trackedConn{Conn: conn, port: p}
	p.conns[tracked] = struct{}{}
	return tracked
}

// peers returns the nodes at the other ends.
func (p *port) peers() map[string]bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	ids := map[string]bool{}
	for c := range p.conns {
		if c.peer != "" {
			ids[c.peer] = true
		}
	}
	return ids
}

// drop closes the connections that which picks.
func (p *port) drop(which func(*trackedConn) bool) {
	var picked []*trackedConn
	p.mu.Lock()
	for c := range p.conns {
		if which(c) {
			picked = append(picked, c)
		}
	}
	p.mu.Unlock()
	for _, c := range picked {
		_ = c.Close()
	}
}

// Accept implements raft.StreamLayer.
func (p *port) Accept() (net.Conn, error) {
	select {
	case conn := <-p.raft:
		return conn, nil
	case <-p.stop.Done():
		return nil, net.ErrClosed
	}
}

// Dial implements raft.StreamLayer; target is one of joinTarget's.
func (p *port) Dial(target hraft.ServerAddress, timeout time.Duration) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(p.stop, min(timeout, raftDialTimeout))
	defer cancel()
	id, address := splitTarget(string(target))
	conn, err := p.dial(ctx, id, address, protocolRaft)
	if err != nil {
		return nil, err
	}
	return conn.secure, nil
}

// Close implements net.Listener for the Raft library; the node closes the port itself.
func (p *port) Close() error { return nil }

// Addr implements net.Listener: it is what the other nodes call this one.
func (p *port) Addr() net.Addr { return advertised(p.cfg.Address) }

// advertised is the address other nodes use.
type advertised string

func (a advertised) Network() string { return "tcp" }
func (a advertised) String() string  { return string(a) }

// trackedConn is a connection that the port can close. secure is the TLS connection on top of it.
type trackedConn struct {
	net.Conn
	port     *port
	secure   *tls.Conn
	peer     string
	protocol string
	inbound  bool
	stranger bool
	once     sync.Once
}

// Read implements net.Conn.
func (c *trackedConn) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	if err != nil && c.port.lost != nil {
		c.port.mu.Lock()
		inbound, peer := c.inbound && c.protocol == protocolRaft, c.peer
		c.port.mu.Unlock()
		if inbound {
			c.port.lost(peer)
		}
	}
	return n, err
}

// Close implements net.Conn.
func (c *trackedConn) Close() error {
	c.once.Do(func() {
		c.port.mu.Lock()
		defer c.port.mu.Unlock()
		delete(c.port.conns, c)
		if c.stranger {
			c.port.strangers--
		}
	})
	return c.Conn.Close()
}

// rpcListener hands the RPC's connections to an HTTP server.
type rpcListener struct {
	*port
	closed chan struct{}
	once   *sync.Once
}

// Accept implements net.Listener.
func (l rpcListener) Accept() (net.Conn, error) {
	select {
	case <-l.closed:
		return nil, net.ErrClosed
	default:
	}
	select {
	case conn := <-l.rpc:
		return conn, nil
	case <-l.closed:
	case <-l.stop.Done():
	}
	return nil, net.ErrClosed
}

// Close implements net.Listener; the HTTP server waits for Accept to return.
func (l rpcListener) Close() error {
	l.once.Do(func() { close(l.closed) })
	return nil
}
