package storage

import "time"

// Limits of what is queued.
const (
	// MaxOutbound bounds the remote recipients of one [Delivery]: they are
	// queued by one command, which holds up the others.
	MaxOutbound = 10_000
	// MaxEnvelopeID and MaxOriginal are the longest ENVID and ORCPT, in octets
	// (RFC 3461 sections 4.4 and 4.2).
	MaxEnvelopeID = 100
	MaxOriginal   = 500
	// MaxQueueReply is how much is kept of what the other system said, in octets.
	MaxQueueReply = 1000
)

// ReturnKind is how much of a message a report of its failure returns (RFC 3461 section 4.3).
type ReturnKind uint8

// The values of RET. Unsaid is for us to choose: the header.
const (
	ReturnUnsaid ReturnKind = iota
	ReturnFull
	ReturnHeaders
)

// Notify says of what the sender wants reports (RFC 3461 section 4.1), as bits.
// None: of failures and delays.
type Notify uint8

// The values of NOTIFY. Never stands alone.
const (
	NotifyNever Notify = 1 << iota
	NotifySuccess
	NotifyFailure
	NotifyDelay
)

// Wants reports whether the sender wants reports of kind k.
func (n Notify) Wants(k Notify) bool {
	if n == 0 {
		n = NotifyFailure | NotifyDelay
	}
	return n&k != 0 && n&NotifyNever == 0
}

// Outbound is the part of a [Delivery] that goes to other systems.
type Outbound struct {
	Sender     string // reverse path; empty: null, which never gets a report
	EnvelopeID string // ENVID as received (xtext); empty: none
	Return     ReturnKind
	UTF8       bool      // needs SMTPUTF8 (RFC 6531)
	EightBit   bool      // BODY=8BITMIME: the content has octets above 127
	RequireTLS bool      // REQUIRETLS (RFC 8689)
	TLSNo      bool      // "TLS-Required: No" (RFC 8689 section 5): rather in clear than not at all
	Account    int64     // who submitted it; 0: forwarded, or by ourselves
	NotBefore  time.Time // when the first attempt may be; zero: now
	Recipients []OutboundRecipient
}

// OutboundRecipient is one recipient elsewhere.
type OutboundRecipient struct {
	Address  string // as it goes into RCPT TO, without the angle brackets
	Original string // ORCPT as received, with its type: "rfc822;bob@example.org"; empty: none
	Notify   Notify
	// Delivered: the recipient is local and has the message by this very
	// delivery; it is listed only for its report of success (RFC 3461 section
	// 5.2.3), and left out unless Notify wants one.
	Delivered bool
}

// Trail is how a message came to us: the beginning of what `trivet trace` shows.
type Trail struct {
	ID      string // as the SMTP reply and the Received field name the message
	Node    string // which node took it
	Sender  string // reverse path
	Remote  string // address of the client; empty: made here
	Via     string // protocol, TLS, who logged in: "ESMTPSA TLS_AES_128_GCM_SHA256 alice@example.org"
	Verdict string // what the checks said: "spf=pass dkim=pass dmarc=pass"
}

// QueueState is what is to be done about a recipient.
type QueueState uint8

// The states of a recipient. The last two are seen only while a report of it is
// to be sent, or when it is listed as perhaps a duplicate.
const (
	StateDue    QueueState = iota // to be tried at its time
	StateLeased                   // being tried by a node
	StateHeld                     // not to be tried until an operator says so
	StateSent                     // the other system has it
	StateFailed                   // given up
)

var queueStateNames = [...]string{"due", "leased", "held", "sent", "failed"}

func (s QueueState) String() string {
	if int(s) < len(queueStateNames) {
		return queueStateNames[s]
	}
	return "unknown"
}

// MarshalText implements encoding.TextMarshaler.
func (s QueueState) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// UnmarshalText implements encoding.TextUnmarshaler.
func (s *QueueState) UnmarshalText(text []byte) error {
	for i, name := range queueStateNames {
		if name == string(text) {
			*s = QueueState(i)
			return nil
		}
	}
	return fail("read state "+quote(string(text)), KindInvalid, "the states are due, leased, held, sent and failed")
}

// Notice is a report that the sender is to get of a recipient, as bits.
type Notice uint8

// The reports (the actions of RFC 3464 section 2.3.3).
const (
	NoticeFailed    Notice = 1 << iota // given up
	NoticeDelayed                      // still being tried
	NoticeRelayed                      // sent to a system that sends no reports itself
	NoticeDelivered                    // in a mailbox here
)

// QueueMessage is a message with recipients elsewhere.
type QueueMessage struct {
	ID         int64     `json:"id"`
	TraceID    string    `json:"trace_id"`
	MessageID  int64     `json:"-"` // of the content, for [Store.OpenBody]; 0: nothing is left to do
	Sender     string    `json:"sender"`
	EnvelopeID string    `json:"envelope_id,omitempty"`
	Size       int64     `json:"size"`
	Created    time.Time `json:"created"`
	Pending    int       `json:"pending"` // recipients that are not done
	Account    int64     `json:"-"`

	Return     ReturnKind `json:"-"`
	UTF8       bool       `json:"smtputf8,omitempty"`
	EightBit   bool       `json:"eightbit,omitempty"`
	RequireTLS bool       `json:"requiretls,omitempty"`
	TLSNo      bool       `json:"tls_required_no,omitempty"`
}

// QueueRecipient is one recipient of such a message.
type QueueRecipient struct {
	ID             int64      `json:"id"`
	QueueID        int64      `json:"queue_id"`
	Address        string     `json:"address"`
	Domain         string     `json:"domain"` // the destination: a domain, or a literal in brackets
	Original       string     `json:"original,omitempty"`
	Notify         Notify     `json:"-"`
	State          QueueState `json:"state"`
	Attempts       int        `json:"attempts"`
	Next           time.Time  `json:"next"`
	Lease          uint64     `json:"lease,omitempty"` // token
	Notice         Notice     `json:"-"`
	Told           Notice     `json:"-"`
	MaybeDuplicate bool       `json:"maybe_duplicate"` // the other system may have the message twice
	Attempted      time.Time  `json:"attempted,omitzero"`
	Node           string     `json:"node,omitempty"`   // which tried it last
	Remote         string     `json:"remote,omitempty"` // the host it was tried with last
	Reply          string     `json:"reply,omitempty"`  // what was said last
}

// QueueOutcome is what became of one attempt.
type QueueOutcome uint8

// The outcomes. Released gives a recipient back untried.
const (
	OutcomeReleased QueueOutcome = iota
	OutcomeSent
	OutcomeDeferred
	OutcomeFailed
)

// QueueResult is the outcome for one recipient.
type QueueResult struct {
	Recipient int64        `cbor:"1,keyasint"`
	Token     uint64       `cbor:"2,keyasint"` // of the lease it was tried under
	Outcome   QueueOutcome `cbor:"3,keyasint"`
	At        int64        `cbor:"4,keyasint"`           // when, Unix milliseconds
	Next      int64        `cbor:"5,keyasint,omitempty"` // deferred: when to try again, Unix milliseconds
	Notice    Notice       `cbor:"6,keyasint,omitempty"` // the report to send of it
	Remote    string       `cbor:"7,keyasint,omitempty"`
	Reply     string       `cbor:"8,keyasint,omitempty"`
	// Doubtful: the message was sent whole and the connection broke before the
	// reply, so that the other system may have it.
	Doubtful bool `cbor:"9,keyasint,omitempty"`
}
