package storage

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"zombiezen.com/go/sqlite"
)

// Kinds of command of the queue. They are of feature level 2.
const (
	kindDispatch    kind = 80
	kindLease       kind = 81
	kindRecord      kind = 82
	kindRenewLease  kind = 83
	kindRevokeLease kind = 84
	kindChangeQueue kind = 85
	kindForgetQueue kind = 86
	kindSetRoute    kind = 87
	kindKeepPolicy  kind = 88
	kindCountTLS    kind = 89
	kindForgetTLS   kind = 90
)

const (
	opDispatch = "deliver"
	// maxRecipient is the longest address that is queued, in octets: a quoted
	// local part may have a backslash before each of its own.
	maxRecipient = 2 + 2*MaxLocalPart + 1 + MaxDomain
)

type (
	dispatch struct {
		Content  content    `cbor:"1,keyasint"`
		Accounts []int64    `cbor:"2,keyasint,omitempty"` // sorted, no duplicates
		Date     int64      `cbor:"3,keyasint"`           // INTERNALDATE, Unix seconds
		Zone     int        `cbor:"4,keyasint,omitempty"`
		Trail    trailStart `cbor:"5,keyasint"`
		Outbound *outbound  `cbor:"6,keyasint,omitempty"`
		Reports  []reported `cbor:"7,keyasint,omitempty"`

		Submission *Submission     `cbor:"8,keyasint,omitempty"`
		Answer     *VacationAnswer `cbor:"9,keyasint,omitempty"`
		Junk       bool            `cbor:"10,keyasint,omitempty"`
		Verdicts   []SpamVerdict   `cbor:"11,keyasint,omitempty"`
		Filings    []filing        `cbor:"12,keyasint,omitempty"`
	}
	trailStart struct {
		ID      string `cbor:"1,keyasint"`
		Node    string `cbor:"2,keyasint,omitempty"`
		Sender  string `cbor:"3,keyasint,omitempty"`
		Remote  string `cbor:"4,keyasint,omitempty"`
		Via     string `cbor:"5,keyasint,omitempty"`
		Verdict string `cbor:"6,keyasint,omitempty"`
	}
	outbound struct {
		Sender     string              `cbor:"1,keyasint,omitempty"`
		EnvelopeID string              `cbor:"2,keyasint,omitempty"`
		Options    int64               `cbor:"3,keyasint,omitempty"`
		Account    int64               `cbor:"4,keyasint,omitempty"`
		NotBefore  int64               `cbor:"5,keyasint"` // Unix milliseconds
		Recipients []outboundRecipient `cbor:"6,keyasint"`
	}
	outboundRecipient struct {
		Address   string `cbor:"1,keyasint"`
		Domain    string `cbor:"2,keyasint"`
		Original  string `cbor:"3,keyasint,omitempty"`
		Notify    Notify `cbor:"4,keyasint,omitempty"`
		Delivered bool   `cbor:"5,keyasint,omitempty"`
	}
	// reported is a recipient that a delivery, which is a report, tells about.
	reported struct {
		Recipient int64  `cbor:"1,keyasint"`
		Notice    Notice `cbor:"2,keyasint"`
	}
	dispatched struct {
		MessageID int64 `cbor:"1,keyasint"`
		QueueID   int64 `cbor:"2,keyasint,omitempty"`
	}
)

// layout implements [layered]: the second one has verdicts and filings.
func (b dispatch) layout() uint8 {
	if len(b.Verdicts) > 0 || len(b.Filings) > 0 {
		return 2
	}
	return 1
}

// The bits of queue_message.options: the lowest two are the [ReturnKind].
const (
	optionUTF8 = 4 << iota
	optionEightBit
	optionRequireTLS
	optionTLSNo
	optionReturn = 3
)

func (o *Outbound) options() int64 {
	n := int64(o.Return) & optionReturn
	for _, option := range []struct {
		on  bool
		bit int64
	}{{o.UTF8, optionUTF8}, {o.EightBit, optionEightBit}, {o.RequireTLS, optionRequireTLS}, {o.TLSNo, optionTLSNo}} {
		if option.on {
			n |= option.bit
		}
	}
	return n
}

// dispatch is Deliver where the message goes elsewhere too, or its way is to be remembered.
func (s *Store) dispatch(ctx context.Context, d Delivery, accounts []int64, filings []filing) (Delivered, error) {
	body, err := s.dispatchOf(d, accounts, filings)
	if err != nil {
		return Delivered{}, err
	}
	var out dispatched
	repeated, err := s.writeContent(ctx, d.Content, kindDispatch, d.Transaction[:], func(c content) any {
		body.Content = c
		return body
	}, &out)
	return Delivered{Duplicate: repeated, MessageID: out.MessageID, QueueID: out.QueueID}, err
}

// dispatchOf is the command, but for the content.
func (s *Store) dispatchOf(d Delivery, accounts []int64, filings []filing) (dispatch, error) {
	body := dispatch{Accounts: accounts, Trail: startOfTrail(d), Submission: d.Submission, Answer: d.Answer, Junk: d.Junk, Verdicts: d.Verdicts, Filings: filings}
	body.Date, body.Zone = dateAndZone(d.Received)
	for _, r := range d.Reports {
		body.Reports = append(body.Reports, reported(r))
	}
	var err error
	body.Outbound, err = s.encodeOutbound(d.Outbound)
	return body, err
}

// startOfTrail is d's trail; one without an id gets its transaction's.
func startOfTrail(d Delivery) trailStart {
	var t Trail
	if d.Trail != nil {
		t = *d.Trail
	}
	if t.ID == "" {
		t.ID = fmt.Sprintf("%x", d.Transaction[:10])
	}
	if t.Sender == "" && d.Outbound != nil {
		t.Sender = d.Outbound.Sender
	}
	return trailStart{clip(t.ID), clip(t.Node), clip(t.Sender), clip(t.Remote), clip(t.Via), clip(t.Verdict)}
}

// clip bounds text that is kept for people to read.
func clip(s string) string {
	if len(s) > MaxQueueReply {
		s = s[:MaxQueueReply]
	}
	return strings.ToValidUTF8(s, "?")
}

func (s *Store) encodeOutbound(o *Outbound) (*outbound, error) {
	if o == nil || len(o.Recipients) == 0 {
		return nil, nil
	}
	if len(o.Recipients) > MaxOutbound {
		return nil, fail("queue message", KindTooLarge, fmt.Sprintf("a message goes to at most %d recipients elsewhere", MaxOutbound))
	}
	if len(o.Sender) > maxRecipient || len(o.EnvelopeID) > MaxEnvelopeID {
		return nil, fail("queue message", KindInvalid, "the sender or the envelope id is too long")
	}
	out := &outbound{Sender: o.Sender, EnvelopeID: o.EnvelopeID, Options: o.options(), Account: o.Account, NotBefore: o.NotBefore.UnixMilli()}
	if now := s.cfg.Now(); o.NotBefore.Before(now) {
		out.NotBefore = now.UnixMilli()
	}
	seen := make(map[string]bool, len(o.Recipients))
	for _, r := range o.Recipients {
		domain, err := destinationOf(r.Address)
		if err != nil {
			return nil, err
		}
		if len(r.Original) > MaxOriginal {
			return nil, fail("queue message", KindInvalid, fmt.Sprintf("an ORCPT has at most %d characters", MaxOriginal))
		}
		if r.Delivered && (!r.Notify.Wants(NotifySuccess) || o.Sender == "") || seen[r.Address] {
			continue
		}
		seen[r.Address] = true
		out.Recipients = append(out.Recipients, outboundRecipient{r.Address, domain, r.Original, r.Notify, r.Delivered})
	}
	if len(out.Recipients) == 0 {
		return nil, nil
	}
	return out, nil
}

// destinationOf is the domain of an address that is not ours, or its literal.
func destinationOf(address string) (string, error) {
	at := strings.LastIndexByte(address, '@')
	if at < 1 || len(address) > maxRecipient || hasControl(address) || strings.ContainsAny(address[at+1:], " <>") {
		return "", fail("queue recipient "+quote(address), KindInvalid, "use the form user@domain")
	}
	domain := address[at+1:]
	if strings.HasPrefix(domain, "[") && strings.HasSuffix(domain, "]") {
		return strings.ToLower(domain), nil // RFC 5321 section 4.1.3
	}
	return CanonicalDomain(domain)
}

// applyDispatch delivers to mailboxes and queues for others, all or nothing.
func applyDispatch(t *tx, b dispatch) (any, error) {
	if len(b.Accounts) == 0 && b.Outbound == nil {
		return nil, fail(opDispatch, KindInvalid, "no recipient")
	}
	if err := t.mayDispatch(b); err != nil {
		return nil, err
	}
	refs := len(b.Accounts)
	if b.Outbound != nil {
		refs++
	}
	id, err := t.addContent(b.Content, refs)
	if err != nil {
		return nil, err
	}
	trail := t.newID()
	delivered := make([]string, len(b.Accounts))
	for i, account := range b.Accounts {
		if err := t.charge(opDispatch, account, b.Content.Size, 1); err != nil {
			return nil, err
		}
		to, flags, err := t.landing(account, b.Junk || junkFor(b.Verdicts, account), b.Filings)
		if err != nil {
			return nil, err
		}
		if _, err := t.addItem(to, item{message: id, size: b.Content.Size, flags: flags, date: b.Date, zone: b.Zone}); err != nil {
			return nil, err
		}
		if _, err := t.mail.row("SELECT address FROM account WHERE id = ?", func(st *sqlite.Stmt) { delivered[i] = st.ColumnText(0) }, account); err != nil {
			return nil, err
		}
	}
	if err := t.keepVerdicts(id, b.Accounts, b.Verdicts); err != nil {
		return nil, err
	}
	out := dispatched{MessageID: id}
	if b.Outbound != nil {
		if out.QueueID, err = t.enqueue(id, trail, b.Content.Size, b.Outbound); err != nil {
			return nil, err
		}
	}
	if err := t.startTrail(trail, b, delivered); err != nil {
		return nil, err
	}
	return out, t.settleReports(b.Reports)
}

// mayDispatch counts what a message counts against, or refuses it.
func (t *tx) mayDispatch(b dispatch) error {
	if b.Submission != nil {
		if err := t.countSubmission(*b.Submission); err != nil {
			return err
		}
	}
	if b.Answer != nil {
		return t.answer(*b.Answer)
	}
	return nil
}

// enqueue gives a message its recipients elsewhere, and returns its id in the queue.
func (t *tx) enqueue(message, trail, size int64, o *outbound) (int64, error) {
	if len(o.Recipients) > MaxOutbound {
		return 0, fail("queue message", KindTooLarge, "")
	}
	id := t.newID()
	_, err := t.mail.exec(`INSERT INTO queue_message (id, message_id, trail, sender, envelope_id, options, account_id, size, created, pending)
		VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)`, id, message, trail, o.Sender, o.EnvelopeID, o.Options, o.Account, size, t.at, len(o.Recipients))
	if err != nil {
		return 0, err
	}
	var domains []string
	for _, r := range o.Recipients {
		state, notice := StateDue, Notice(0)
		if r.Delivered {
			state, notice = StateSent, NoticeDelivered
		}
		_, err := t.mail.exec(`INSERT INTO queue_recipient (id, queue_id, address, domain, original, notify, state, attempts, next, lease,
			notice, told, doubtful, attempted, node, remote, reply) VALUES (?, ?, ?, ?, ?, ?, ?, 0, ?, 0, ?, 0, 0, 0, '', '', '')`,
			t.newID(), id, r.Address, r.Domain, r.Original, int64(r.Notify), int64(state), o.NotBefore, int64(notice))
		if err != nil {
			return 0, err
		}
		if state == StateDue {
			domains = append(domains, r.Domain)
		}
	}
	slices.Sort(domains)
	for _, domain := range slices.Compact(domains) {
		_, err := t.mail.exec(`INSERT INTO queue_destination (domain, next) VALUES (?, ?)
			ON CONFLICT (domain) DO UPDATE SET next = min(next, excluded.next)`, domain, o.NotBefore)
		if err != nil {
			return 0, err
		}
	}
	return id, nil
}
