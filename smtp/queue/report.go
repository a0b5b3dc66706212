package queue

import (
	"bytes"
	"cmp"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"time"

	"trivet/storage"
)

// Bounds of reports.
const (
	// maxReported bounds the recipients in one report.
	maxReported = 200
	// maxReturned is how large a message may be that is returned whole, in octets;
	// of a larger one the header is.
	maxReturned = 1 << 20
	// maxReturnedHeader bounds that, in octets.
	maxReturnedHeader = 64 << 10
	// noticePage is how many recipients are looked at at a time.
	noticePage = 1000
)

// errNobody: the sender is an address here that has no mailbox.
var errNobody = errors.New("the sender has no mailbox")

// sendReports sends what reports there are to send, while this node leads.
func (q *Queue) sendReports(ctx context.Context) {
	tick := time.NewTicker(pollEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		case <-q.notices:
		}
		for q.cfg.Leader() && q.cfg.Healthy() && ctx.Err() == nil && q.sendSomeReports(ctx) {
		}
	}
}

// sendSomeReports reports whether there may be more to send.
func (q *Queue) sendSomeReports(ctx context.Context) bool {
	pending, err := q.cfg.Store.QueueNotices(ctx, noticePage)
	if err != nil {
		return false
	}
	sent, failed := false, false
	for id, recipients := range pending {
		for _, kind := range []storage.Notice{storage.NoticeFailed, storage.NoticeDelayed, storage.NoticeRelayed, storage.NoticeDelivered} {
			of := slices.DeleteFunc(slices.Clone(recipients), func(r storage.QueueRecipient) bool { return r.Notice&kind == 0 })
			for some := range slices.Chunk(of, maxReported) {
				err := q.report(ctx, id, kind, some)
				if err != nil && ctx.Err() == nil {
					q.log.Warn("a report cannot be sent yet", "queue", id, "error", err)
				}
				failed = failed || err != nil
				sent = true
			}
		}
	}
	return sent && !failed
}

// report tells the sender of one message about some of its recipients.
func (q *Queue) report(ctx context.Context, id int64, kind storage.Notice, recipients []storage.QueueRecipient) error {
	m, err := q.cfg.Store.QueueMessage(ctx, id)
	if err != nil {
		return err
	}
	message, err := q.compose(ctx, m, kind, recipients)
	if err != nil {
		return err
	}
	ids := make([]int64, len(recipients))
	reports := make([]storage.QueueReport, len(recipients))
	h := sha256.New()
	fmt.Fprintf(h, "report %d %d", id, kind)
	for i, r := range recipients {
		ids[i], reports[i] = r.ID, storage.QueueReport{Recipient: r.ID, Notice: kind}
		fmt.Fprintf(h, " %d", r.ID)
	}
	err = q.deliver(ctx, message, m.Sender, actionOf(kind)+" "+m.TraceID, [32]byte(h.Sum(nil)), reports)
	switch storage.KindOf(err) {
	case storage.KindExists: // another node, which led before, was faster
		return nil
	case storage.KindOverQuota, storage.KindInvalid, storage.KindTooLarge, storage.KindNotFound:
		if err == nil {
			break
		}
		q.log.Warn("a sender cannot take a report", "sender", m.Sender, "error", err)
		_, err = q.cfg.Store.ChangeQueue(ctx, storage.QueueMute, ids)
	default:
		if errors.Is(err, errNobody) {
			_, err = q.cfg.Store.ChangeQueue(ctx, storage.QueueMute, ids)
		}
	}
	return err
}

// actionOf is the Action of a report (RFC 3464 section 2.3.3).
func actionOf(n storage.Notice) string {
	switch n {
	case storage.NoticeDelayed:
		return "delayed"
	case storage.NoticeRelayed:
		return "relayed"
	case storage.NoticeDelivered:
		return "delivered"
	}
	return "failed"
}

// introduction is the text for people.
var introduction = map[storage.Notice]struct{ subject, text string }{
	storage.NoticeFailed: {"Undelivered mail returned to sender",
		"Your message could not be delivered to the recipients below. It will not be tried again.\n"},
	storage.NoticeDelayed: {"Delayed mail (still being tried)",
		"Your message has not been delivered to the recipients below yet.\nYou need not send it again: it is tried until %s.\n"},
	storage.NoticeRelayed: {"Mail passed on",
		"Your message was passed on to the mail system of the recipients below. That system does not tell what becomes of it.\n"},
	storage.NoticeDelivered: {"Mail delivered", "Your message was delivered to the recipients below.\n"},
}

// compose makes the report (RFC 3464, and RFC 6533 where addresses need UTF-8).
func (q *Queue) compose(ctx context.Context, m storage.QueueMessage, kind storage.Notice, recipients []storage.QueueRecipient) (*mimeMessage, error) {
	utf8 := !isASCII(m.Sender) || slices.ContainsFunc(recipients, func(r storage.QueueRecipient) bool { return !isASCII(r.Address) })
	intro := introduction[kind]
	out := &mimeMessage{from: "postmaster@" + q.cfg.Hostname, to: m.Sender, subject: intro.subject, hostname: q.cfg.Hostname, now: q.cfg.Now(),
		kind: "multipart/report; report-type=delivery-status", auto: "auto-replied", utf8: utf8}
	until := m.Created.Add(q.cfg.Limits.Expire)
	text := intro.text
	if kind == storage.NoticeDelayed {
		text = fmt.Sprintf(text, until.UTC().Format(time.RFC1123Z))
	}
	var b strings.Builder
	fmt.Fprintf(&b, "This is the mail system at %s.\n\n%s\n", q.cfg.Hostname, text)
	for _, r := range recipients {
		fmt.Fprintf(&b, "<%s>: %s\n", r.Address, cmp.Or(hostSaid(r), "no reply"))
	}
	out.text(b.String())
	status := "message/delivery-status"
	if utf8 {
		status = "message/global-delivery-status"
	}
	out.part("Content-Type: "+status+"\r\n"+eightBitEncoding(utf8), q.deliveryStatus(m, kind, recipients, until, utf8))
	header, returned, err := q.returned(ctx, m, kind)
	if err != nil {
		return nil, err
	}
	out.part(header, returned)
	return out, nil
}

func hostSaid(r storage.QueueRecipient) string {
	if r.Remote == "" {
		return r.Reply
	}
	return r.Remote + " said: " + r.Reply
}

func eightBitEncoding(on bool) string {
	if on {
		return "Content-Transfer-Encoding: 8bit\r\n"
	}
	return ""
}

// deliveryStatus is the part for machines (RFC 3464 section 2).
func (q *Queue) deliveryStatus(m storage.QueueMessage, kind storage.Notice, recipients []storage.QueueRecipient, until time.Time, utf8 bool) []byte {
	var b bytes.Buffer
	field := func(name, value string) { fmt.Fprintf(&b, "%s: %s\r\n", name, printable(value)) }
	if m.EnvelopeID != "" {
		field("Original-Envelope-Id", decodeXtext(m.EnvelopeID))
	}
	field("Reporting-MTA", "dns; "+q.cfg.Hostname)
	field("Arrival-Date", m.Created.UTC().Format(time.RFC1123Z))
	for _, r := range recipients {
		b.WriteString("\r\n")
		if kindOf, original, ok := strings.Cut(r.Original, ";"); ok {
			field("Original-Recipient", kindOf+";"+decodeXtext(original))
		}
		field("Final-Recipient", addressType(r.Address)+r.Address)
		field("Action", actionOf(kind))
		field("Status", statusOf(kind, r.Reply))
		if host, _, _ := strings.Cut(r.Remote, " "); host != "" {
			field("Remote-MTA", "dns; "+host)
		}
		if r.Reply != "" {
			said := strings.TrimPrefix(r.Reply, expired)
			if !utf8 {
				said = toASCII(said)
			}
			field("Diagnostic-Code", "smtp; "+said)
		}
		if !r.Attempted.IsZero() {
			field("Last-Attempt-Date", r.Attempted.UTC().Format(time.RFC1123Z))
		}
		if kind == storage.NoticeDelayed {
			field("Will-Retry-Until", until.UTC().Format(time.RFC1123Z))
		}
	}
	return b.Bytes()
}

// addressType is the type of RFC 3464 section 2.3.2, or RFC 6533 section 3.
func addressType(address string) string {
	if isASCII(address) {
		return "rfc822; "
	}
	return "utf-8; "
}

func toASCII(s string) string {
	return strings.Map(func(c rune) rune {
		if c >= 0x80 {
			return '?'
		}
		return c
	}, s)
}

// statusOf is the Status field (RFC 3463).
func statusOf(kind storage.Notice, said string) string {
	class := "5"
	switch kind {
	case storage.NoticeRelayed, storage.NoticeDelivered:
		return "2.0.0"
	case storage.NoticeDelayed:
		class = "4"
	}
	if strings.HasPrefix(said, expired) {
		return "4.4.7" // delivery time expired
	}
	fields := strings.Fields(said)
	if len(fields) > 1 && isEnhanced(fields[1]) && fields[1][:1] == class {
		return fields[1]
	}
	return class + ".0.0"
}

// decodeXtext undoes the encoding of RFC 3461 section 4; what is malformed stays as it is.
func decodeXtext(s string) string {
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] == '+' && i+2 < len(s) {
			if n, err := strconv.ParseUint(s[i+1:i+3], 16, 8); err == nil {
				b.WriteByte(byte(n))
				i += 2
				continue
			}
		}
		b.WriteByte(s[i])
	}
	return b.String()
}

// returned is the part with the message, or with its header.
func (q *Queue) returned(ctx context.Context, m storage.QueueMessage, kind storage.Notice) (header string, body []byte, err error) {
	opened, err := q.cfg.Store.OpenBody(ctx, m.MessageID)
	if err != nil {
		return "", nil, err
	}
	defer opened.Close()
	original, err := newOutgoing(opened)
	if err != nil {
		return "", nil, err
	}
	whole := kind == storage.NoticeFailed && m.Return == storage.ReturnFull && original.size() <= maxReturned
	limit := int64(maxReturnedHeader)
	if whole {
		limit = original.size()
	}
	var b bytes.Buffer
	if err := original.writeRange(&b, 0, min(limit, original.size())); err != nil && !errors.Is(err, io.EOF) {
		return "", nil, err
	}
	data := b.Bytes()
	name := "message/rfc822"
	if !whole {
		name = "text/rfc822-headers"
		data = headerOf(data)
	}
	if !isASCII(string(headerOf(data))) { // RFC 6533 section 4
		name = map[bool]string{true: "message/global", false: "message/global-headers"}[whole]
	}
	if !bytes.HasSuffix(data, []byte("\r\n")) {
		data = append(data, "\r\n"...)
	}
	return "Content-Type: " + name + "\r\n" + eightBitEncoding(!isASCII(string(data))), data, nil
}

// headerOf is the header of a message, as far as it is there, to its last whole line.
func headerOf(data []byte) []byte {
	if end := bytes.Index(data, []byte("\r\n\r\n")); end >= 0 {
		return data[:end+2]
	}
	return data[:bytes.LastIndexByte(data, '\n')+1]
}
