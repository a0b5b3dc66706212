package smtp

import "time"

// Limits are the bounds of one listener. A zero switches the limit it stands in
// off, other than MaxCommandLine, which is never less than [minCommandLine].
// Start from [DefaultLimits].
type Limits struct {
	// MaxMessageBytes bounds a message in octets, as the client sends it and
	// without the dots that transparency adds (RFC 1870 section 3). Over it:
	// 552 5.3.4. It is what EHLO answers after SIZE.
	MaxMessageBytes int64
	// MaxHeaderBytes bounds the header of a message in octets. Over it: 552 5.3.4.
	MaxHeaderBytes int64
	// MaxTextLine bounds a line of a message in octets, CRLF included. Over it:
	// 550 5.6.0. RFC 5321 section 4.5.3.1.6 asks servers to take 1,000; real
	// mail has far longer ones, and Postfix takes any by folding it.
	MaxTextLine int
	// MaxReceived bounds the Received fields a message may have when it comes:
	// more mean a loop (RFC 5321 section 6.3). Over it: 554 5.4.6.
	MaxReceived int
	// MaxRecipients bounds the recipients of a message. Over it: 452 4.5.3, and
	// the client sends the rest in another transaction (RFC 5321 section
	// 4.5.3.1.8 asks for at least 100).
	MaxRecipients int

	// MaxCommandLine bounds a command line in octets, CRLF included. RFC 5321
	// section 4.5.3.1.4 says 512, to which SMTPUTF8 and SIZE add. Over it: 500 5.5.2.
	MaxCommandLine int
	// MaxErrors bounds the commands of a session that are refused for their
	// syntax or their place. The next one: 421 4.7.0.
	MaxErrors int
	// MaxRefusedRecipients bounds the recipients of a session that are refused
	// for good, so that nobody can try a dictionary. The next one: 421 4.7.0.
	MaxRefusedRecipients int

	// MaxFailedLogins bounds the failed logins of a session. The last one: 421 4.7.0.
	MaxFailedLogins int
	// AuthDelay is how long the answer to a failed login takes.
	AuthDelay time.Duration

	// MaxConnections bounds the sessions at a time. Over it: 421 4.7.0 instead
	// of the greeting.
	MaxConnections int
	// MaxConnectionsPerAddress bounds the sessions at a time from one IPv4
	// address or one IPv6 /64. Over it: 421 4.7.0 instead of the greeting.
	MaxConnectionsPerAddress int

	// CommandTimeout is how long a whole command line, or the next octets of a
	// message, may take to come. After it: 421 4.4.2. RFC 5321 section
	// 4.5.3.2.7 asks for at least 5 minutes.
	CommandTimeout time.Duration
	// WriteTimeout is how long a client may take to read replies.
	WriteTimeout time.Duration
	// HandshakeTimeout is how long the TLS handshake may take.
	HandshakeTimeout time.Duration
	// SessionTime is how long after connecting the last command may come.
	// After it: 421 4.4.2.
	SessionTime time.Duration
	// DataTime is how long one message may take to come. After it: 421 4.4.2.
	DataTime time.Duration
	// MinDataRate is how many octets a second a message must bring, its first
	// minute aside. Below it: 421 4.4.2.
	MinDataRate int64
	// DeliverTime is how long the storage may take to accept a message. After
	// it: 451 4.3.0. RFC 5321 section 4.5.3.2.6 makes clients wait 10 minutes.
	DeliverTime time.Duration
}

// minCommandLine is the least MaxCommandLine: what every client may use (RFC
// 5321 section 4.5.3.1.4).
const minCommandLine = 512

// DefaultLimits are meant for a host on the internet.
func DefaultLimits() Limits {
	return Limits{
		MaxMessageBytes: 50 << 20,
		MaxHeaderBytes:  1 << 20,
		MaxTextLine:     64 << 10,
		MaxReceived:     100,
		MaxRecipients:   1000,

		MaxCommandLine:       2048,
		MaxErrors:            10,
		MaxRefusedRecipients: 30,
		MaxFailedLogins:      3,
		AuthDelay:            time.Second,

		MaxConnections:           1000,
		MaxConnectionsPerAddress: 100,

		CommandTimeout:   5 * time.Minute,
		WriteTimeout:     time.Minute,
		HandshakeTimeout: 30 * time.Second,
		SessionTime:      2 * time.Hour,
		DataTime:         time.Hour,
		MinDataRate:      256,
		DeliverTime:      2 * time.Minute,
	}
}

// authTime bounds one attempt to log in, with what the client takes to answer.
func (l *Limits) authTime() time.Duration {
	if l.CommandTimeout <= 0 {
		return time.Hour
	}
	return 2 * l.CommandTimeout
}

// deadline is d from now, or never.
func deadline(d time.Duration) time.Time {
	if d <= 0 {
		return time.Time{}
	}
	return time.Now().Add(d)
}

// earliest is the first of two deadlines; the zero one is never.
func earliest(a, b time.Time) time.Time {
	if a.IsZero() || !b.IsZero() && b.Before(a) {
		return b
	}
	return a
}
