package dns

import (
	"context"
	"errors"
	"net"
	"strings"
	"sync"
	"time"

	"github.com/miekg/dns"
)

// How a server that does not answer is treated: after unwellAfter questions in a
// row it is asked once a rest only, which grows to maxRest.
const (
	unwellAfter = 3
	minRest     = time.Second
	maxRest     = 30 * time.Second
	// maxStray is how many datagrams that answer something else are passed over.
	maxStray = 16
	// udpBytes is what an answer over UDP may have without being cut into
	// fragments on the way (DNS flag day 2020).
	udpBytes = 1232
)

// server is a recursive server and how it does.
type server struct {
	address string
	trusted bool
	clock   func() time.Time

	mu       sync.Mutex
	failures int // in a row
	rest     time.Duration
	next     time.Time // when it may be asked again
}

// ready reports whether s may be asked now.
func (s *server) ready() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.failures < unwellAfter {
		return true
	}
	now := s.clock()
	if now.Before(s.next) {
		return false
	}
	s.next = now.Add(s.rest) // this one tries; the others wait for what it finds
	return true
}

// note records whether s answered.
func (s *server) note(answered bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if answered {
		s.failures, s.rest = 0, 0
		return
	}
	s.failures++
	if s.failures >= unwellAfter {
		s.rest = min(max(2*s.rest, minRest), maxRest)
		s.next = s.clock().Add(s.rest)
	}
}

// ask puts one question to the servers in turn until one answers.
func (r *Resolver) ask(ctx context.Context, q question) *answer {
	if len(r.servers) == 0 {
		return &answer{failure: failure(q.name, "", errNoServer)}
	}
	last := &answer{failure: failure(q.name, "", errUnwell)}
	for i := range r.cfg.Attempts {
		s := r.servers[i%len(r.servers)]
		if !s.ready() {
			continue
		}
		a := s.ask(ctx, r.cfg.Timeout, q)
		if a.failure == nil {
			return a
		}
		last = a
		if ctx.Err() != nil {
			break
		}
	}
	return last
}

// ask puts one question to s: over UDP, and over TCP when the answer does not
// fit (RFC 1035 section 4.2, RFC 7766).
func (s *server) ask(ctx context.Context, timeout time.Duration, q question) *answer {
	message := q.message()
	reply, err := s.exchange(ctx, "udp", timeout, message)
	if err == nil && reply.Truncated {
		reply, err = s.exchange(ctx, "tcp", timeout, message)
	}
	if err != nil {
		if !errors.Is(ctx.Err(), context.Canceled) {
			s.note(false)
		}
		return &answer{failure: failure(q.name, s.address, err)}
	}
	s.note(true)
	return read(q, reply, s)
}

// message is the question on the wire. The AD bit asks for whether the answer was
// validated (RFC 6840 section 5.7), which costs the answer nothing; the records
// that prove it (DO) are nothing to us.
func (q question) message() *dns.Msg {
	m := new(dns.Msg).SetQuestion(q.name, q.qtype)
	m.SetEdns0(udpBytes, false) // RFC 6891
	m.AuthenticatedData = true
	return m
}

// exchange sends message and waits for its answer.
func (s *server) exchange(ctx context.Context, network string, timeout time.Duration, message *dns.Msg) (*dns.Msg, error) {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	var dialer net.Dialer
	// A socket for each question: its port is as random as the id (RFC 5452).
	conn, err := dialer.DialContext(ctx, network, s.address)
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	deadline, _ := ctx.Deadline()
	if err := conn.SetDeadline(deadline); err != nil {
		return nil, err
	}
	wire := &dns.Conn{Conn: conn, UDPSize: udpBytes}
	if err := wire.WriteMsg(message); err != nil {
		return nil, err
	}
	for range maxStray {
		reply, err := wire.ReadMsg()
		var netErr net.Error
		if errors.As(err, &netErr) {
			return nil, err
		}
		if err == nil && answers(reply, message) {
			return reply, nil
		}
		if network == "tcp" {
			break // nobody else can have sent that
		}
	}
	return nil, errMalformed
}

// answers reports whether reply is one to this question, and not to another, as
// whoever forges answers would send (RFC 5452 section 9.1).
func answers(reply, message *dns.Msg) bool {
	if !reply.Response || reply.Id != message.Id || reply.Opcode != dns.OpcodeQuery || len(reply.Question) != 1 {
		return false
	}
	asked, echoed := message.Question[0], reply.Question[0]
	return echoed.Qtype == asked.Qtype && echoed.Qclass == asked.Qclass && strings.EqualFold(echoed.Name, asked.Name)
}
