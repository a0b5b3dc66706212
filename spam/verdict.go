package spam

import (
	"fmt"
	"math"
	"strings"
)

// Reason is one thing that speaks for or against a message.
type Reason struct {
	// Name is stable, lower-case words joined by dots: "dnsbl.ip", "classifier". It is part of the
	// header, of SQL and of what people build on it.
	Name   string  `json:"name"`
	Points float64 `json:"points"` // log-odds; above 0: unwanted
	Text   string  `json:"text"`   // a sentence for a person, with the detail; at most [MaxText] octets are kept
}

// Limits of what is kept of a verdict.
const (
	MaxReasons   = 32  // for one message and account; those with the fewest points go
	MaxText      = 300 // octets
	MaxPoints    = 20  // of one reason: nothing is certain
	maxNameBytes = 60
)

// Action is what becomes of a message for one recipient.
type Action uint8

// The actions, the mildest first.
const (
	Accept Action = iota // to INBOX
	Junk                 // to the mailbox for junk
	Defer                // 4xx: come again
	Reject               // 5xx at the end of DATA
)

var actionNames = [...]string{"accept", "junk", "defer", "reject"}

func (a Action) String() string {
	if int(a) < len(actionNames) {
		return actionNames[a]
	}
	return "unknown"
}

// MarshalText implements encoding.TextMarshaler.
func (a Action) MarshalText() ([]byte, error) { return []byte(a.String()), nil }

// UnmarshalText implements encoding.TextUnmarshaler.
func (a *Action) UnmarshalText(text []byte) error {
	for i, name := range actionNames {
		if name == string(text) {
			*a = Action(i)
			return nil
		}
	}
	return fmt.Errorf("%q is no action", text)
}

// Verdict is what is to become of a message for one recipient, and why.
type Verdict struct {
	Recipient   Recipient `json:"-"`
	Points      float64   `json:"points"`      // of all reasons, and the prior
	Probability float64   `json:"probability"` // that the message is unwanted
	Threshold   float64   `json:"threshold"`   // the probability from which it goes to Junk
	Action      Action    `json:"action"`
	Reasons     []Reason  `json:"reasons"` // those with the most points, either way, first
	// Reply is what a sender is told who is refused or put off; empty: something fitting.
	Reply string `json:"reply,omitempty"`
	// Had: the recipient has this very message since it was offered before. Where all have it, it is accepted and not
	// delivered again.
	Had bool `json:"-"`
	// Monitored: this server only watches, and would have done this.
	Monitored Action `json:"monitored,omitempty"`

	shared []Reason // those that are the same for all recipients
	common float64  // their points
}

// Probability is what points mean.
func Probability(points float64) float64 { return 1 / (1 + math.Exp(-points)) }

// Points is the inverse of [Probability], within ±[MaxPoints].
func Points(probability float64) float64 {
	p := math.Log(probability / (1 - probability))
	return max(-MaxPoints, min(MaxPoints, p))
}

// Policy is what becomes of mail by the probability that it is unwanted. Each is the lowest
// probability for that action; 1 and above: never.
type Policy struct {
	Off    bool    // mail is not looked at
	Junk   float64 // the account's own wanted mail may raise it, see [Verdict.Threshold]
	Defer  float64
	Reject float64
}

// DefaultPolicy is that of a host that says nothing else.
func DefaultPolicy() Policy { return Policy{Junk: 0.9, Defer: 1, Reject: 0.999} }

// action maps a probability; judged without content is whether it comes from content that too little
// is known of to refuse mail for it.
func (p Policy) action(probability, withoutContent, threshold float64) Action {
	switch {
	case withoutContent >= p.Reject && p.Reject < 1:
		return Reject
	case withoutContent >= p.Defer && p.Defer < 1:
		return Defer
	case probability >= threshold && p.Junk < 1:
		return Junk
	}
	return Accept
}

// FieldStatus is the header field that shows a verdict, in the form of SpamAssassin, which mail
// clients and Sieve scripts know.
const FieldStatus = "X-Spam-Status"

// Status writes the field for a message that is stored once for all who have these verdicts. What
// one account taught, or is told by a [Personal] check, the others do not see.
func Status(verdicts []Verdict) string {
	if len(verdicts) == 0 {
		return ""
	}
	v := verdicts[0]
	if len(verdicts) > 1 {
		v = Verdict{Points: v.common, Reasons: v.shared, Probability: Probability(v.common), Threshold: DefaultPolicy().Junk}
		if v.Probability >= v.Threshold {
			v.Action = Junk
		}
	}
	b := strings.Builder{}
	b.WriteString(FieldStatus + ": ")
	if v.Action == Accept && v.Monitored == Accept {
		b.WriteString("No")
	} else {
		b.WriteString("Yes")
	}
	fmt.Fprintf(&b, ", score=%.1f required=%.1f\r\n\tprobability=%.3f", v.Points, Points(v.Threshold), v.Probability)
	if len(v.Reasons) > 0 {
		b.WriteString(" tests=")
	}
	for i, r := range v.Reasons {
		if i > 0 {
			b.WriteString(",\r\n\t")
		}
		fmt.Fprintf(&b, "%s=%.1f", r.Name, r.Points)
	}
	b.WriteString("\r\n")
	return b.String()
}

// clean makes a reason fit to be kept.
func (r Reason) clean() Reason {
	r.Name = strings.Map(func(c rune) rune {
		if c >= 'a' && c <= 'z' || c >= '0' && c <= '9' || c == '.' || c == '_' || c == '-' {
			return c
		}
		return '_'
	}, r.Name[:min(len(r.Name), maxNameBytes)])
	r.Text = strings.Map(func(c rune) rune {
		if c < ' ' || c == 0x7f {
			return ' '
		}
		return c
	}, strings.ToValidUTF8(r.Text[:min(len(r.Text), MaxText)], "?"))
	if math.IsNaN(r.Points) {
		r.Points = 0
	}
	r.Points = max(-MaxPoints, min(MaxPoints, r.Points))
	return r
}
