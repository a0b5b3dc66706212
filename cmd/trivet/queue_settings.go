package main

import (
	"fmt"
	"strconv"
	"time"

	"trivet/smtp/queue"
)

// queueSettings are those of sending.
type queueSettings struct {
	Connections      number
	PerDestination   number
	Delay            duration
	Expire           duration
	Lease            duration
	DeliveryPort     port
	DeliverToPrivate toggle
}

func defaultQueueSettings() queueSettings {
	l := queue.DefaultLimits()
	return queueSettings{Connections: number(l.Workers), PerDestination: number(l.PerDestination), Delay: duration(l.Delay),
		Expire: duration(l.Expire), Lease: duration(l.Lease), DeliveryPort: 25}
}

func (q *queueSettings) keys() []key {
	return []key{
		{"queue-connections", "most connections to other mail servers at once; 0: this node sends nothing", &q.Connections},
		{"queue-connections-per-destination", "most connections to one of them, or for one domain, at once", &q.PerDestination},
		{"queue-delay", "time after which a sender hears that a message is delayed", &q.Delay},
		{"queue-expire", "time after which a message that cannot be sent is returned", &q.Expire},
		{"queue-lease", "time after which another node takes over what a node was sending that is gone", &q.Lease},
		{"delivery-port", "port of other mail servers; another than 25 is for tests and for networks that translate it", &q.DeliveryPort},
		{"deliver-to-private", "send to hosts with private and loopback addresses, which a domain of others could misuse: on or off", &q.DeliverToPrivate},
	}
}

// leastLease is what a lease must last: shorter ones would expire under load.
const leastLease = 5 * time.Second

func (q *queueSettings) check() error {
	if q.PerDestination == 0 {
		return usagef("queue-connections-per-destination is more than 0")
	}
	if time.Duration(q.Lease) < leastLease {
		return usagef("queue-lease is at least %v", leastLease)
	}
	return nil
}

// limits are those of the queue.
func (q *queueSettings) limits() queue.Limits {
	l := queue.DefaultLimits()
	l.Workers, l.PerDestination = int(q.Connections), int(q.PerDestination)
	l.Delay, l.Expire, l.Lease = time.Duration(q.Delay), time.Duration(q.Expire), time.Duration(q.Lease)
	return l
}

// port is a TCP port.
type port uint16

func (v *port) Set(s string) error {
	n, err := strconv.ParseUint(s, 10, 16)
	if err != nil || n == 0 {
		return fmt.Errorf("%q is no port", s)
	}
	*v = port(n)
	return nil
}
func (v *port) String() string { return strconv.Itoa(int(*v)) }
func (*port) Type() string     { return "PORT" }
