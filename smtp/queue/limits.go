package queue

import "time"

// Limits bound what sending may cost. Make them with [DefaultLimits].
type Limits struct {
	// Workers is how many connections are open at a time; 0: nothing is sent. Destinations that
	// failed lately get no more than half of them.
	Workers int
	// PerDestination is how many of them one domain, or one host that many
	// domains share, may have.
	PerDestination int
	// MessagesPerConnection is how many messages go over one connection.
	MessagesPerConnection int
	// RecipientsPerMessage is how many recipients one transaction has at the
	// most; every server takes 100 (RFC 5321 section 4.5.3.1.8).
	RecipientsPerMessage int

	// Connect bounds connecting to one address; Greeting the wait for its
	// greeting; Command that for the reply to a command; Data the writing of
	// 64 KiB; End the wait for the reply to a message. (RFC 5321 section 4.5.3.2
	// gives minutes to all of them.)
	Connect, Greeting, Command, Data, End time.Duration
	// Transaction bounds one message from MAIL to its last reply, and the whole
	// of making a connection, however busy the other side looks.
	Transaction time.Duration
	// Idle is how long a connection waits for more mail to the same host.
	Idle time.Duration

	// Lease is how long a lease lasts that is not renewed.
	Lease time.Duration
	// Delay is after what time the sender hears that a message is delayed,
	// Expire after what time it is given up (RFC 5321 section 4.5.4.1).
	Delay, Expire time.Duration
	// DestinationPause is how long nobody connects to a destination of which no
	// host could be reached; what becomes due meanwhile is deferred.
	DestinationPause time.Duration
}

// DefaultLimits are for a node of two cores.
func DefaultLimits() Limits {
	return Limits{
		Workers: 200, PerDestination: 10, MessagesPerConnection: 100, RecipientsPerMessage: 100,
		Connect: 30 * time.Second, Greeting: 2 * time.Minute, Command: 2 * time.Minute, Data: 2 * time.Minute, End: 10 * time.Minute,
		Transaction: 15 * time.Minute, Idle: 2 * time.Second,
		Lease: 2 * time.Minute, Delay: 4 * time.Hour, Expire: 5 * 24 * time.Hour, DestinationPause: 30 * time.Second,
	}
}

// Limits of what another system may say.
const (
	maxReplyLine  = 2048 // octets of one line of a reply; RFC 5321 section 4.5.3.1.5 has 512
	maxReplyLines = 100  // lines of one reply
	maxReplyText  = 800  // octets of a reply that are kept
)
