package main

import (
	"context"
	"crypto/sha256"
	"fmt"
	"mime"
	"mime/quotedprintable"
	"strings"
	"time"

	"trivet/storage"
	"trivet/storage/message"
	pages "trivet/web/release"
)

// Limits of digests.
const (
	// digestHour is the hour of the day, by UTC, from which on the digests of a day are sent.
	digestHour = 5
	// maxDigest is how many messages a digest lists, the newest; digestScan how many of Junk are looked at for them.
	maxDigest  = 100
	digestScan = 2000
	// digestReach is how far back the first digest looks, and one after a longer pause.
	digestReach = 7 * 24 * time.Hour
	// digestLinks is how long the links of a digest are good for.
	digestLinks   = 14 * 24 * time.Hour
	maxDigestText = 120 // characters of a sender or a subject
)

func canonicalSender(address string) string { return strings.ToLower(address) }

// sendDigests sends those that are due. Whoever leads does; when two do, or one again after it failed half-way,
// the digest of a day is one and the same transaction.
func (n *node) sendDigests(ctx context.Context, now time.Time) {
	if now.UTC().Hour() < digestHour {
		return
	}
	day := now.Unix() / secondsOfDay
	choices, err := n.store.SpamChoices(ctx)
	if err != nil {
		n.log.Warn("digests cannot be sent", "error", err)
		return
	}
	for _, c := range choices {
		if !c.Digest || c.Digested >= day {
			continue
		}
		if _, err := n.sendDigest(ctx, c, now, fmt.Sprint(day)); err != nil && ctx.Err() == nil {
			n.log.Warn("digest is not sent", "account", c.Address, "error", err)
			continue
		}
		c.Digested = day
		if err := n.store.SetSpamChoice(ctx, c); err != nil && ctx.Err() == nil {
			n.log.Warn("digest is not noted", "account", c.Address, "error", err)
		}
	}
}

// sendDigest puts a digest of what came to Junk since the last one into an account's INBOX; of nothing there is none. It
// returns how many messages it lists. key tells digests apart: of one key there is one.
func (n *node) sendDigest(ctx context.Context, c storage.SpamChoice, now time.Time, key string) (int, error) {
	since := time.Unix(c.Digested*secondsOfDay, 0).Add(digestHour * time.Hour)
	if oldest := now.Add(-digestReach); since.Before(oldest) {
		since = oldest
	}
	boxes, err := n.store.Mailboxes(ctx, c.Account)
	if err != nil {
		return 0, err
	}
	listed := 0
	for _, box := range boxes {
		if box.SpecialUse != storage.UseJunk || box.Messages == 0 {
			continue
		}
		text, count, err := n.digestText(ctx, c, box, since, now)
		if err != nil || count == 0 {
			return 0, err
		}
		if err := n.deliverDigest(ctx, c, now, key, text, count); err != nil {
			return 0, err
		}
		listed += count
	}
	return listed, nil
}

// digestText lists what came to a mailbox since a time.
func (n *node) digestText(ctx context.Context, c storage.SpamChoice, box storage.Mailbox, since, now time.Time) (string, int, error) {
	links, err := n.spamSenders.links(ctx)
	if err != nil {
		return "", 0, err
	}
	first := uint32(1)
	if box.UIDNext > digestScan {
		first = box.UIDNext - digestScan
	}
	items, err := n.store.Items(ctx, box.ID, []storage.Range{{First: first, Last: box.UIDNext}}, storage.FieldEnvelope, 0)
	if err != nil {
		return "", 0, err
	}
	var b strings.Builder
	count := 0
	for i := len(items) - 1; i >= 0 && count < maxDigest; i-- {
		if items[i].SaveDate.Before(since) {
			continue
		}
		envelope, err := message.ParseEnvelope(items[i].Envelope)
		if err != nil {
			continue
		}
		token := links.Junk(pages.Junk{Account: c.Account, Mailbox: box.ID, UID: items[i].UID, Expires: now.Add(digestLinks)})
		url, err := n.pageURL("/release/" + token)
		if err != nil {
			return "", 0, err
		}
		from, _ := authorText(envelope)
		fmt.Fprintf(&b, "%s  %s\n  %s\n  Not unwanted: %s\n\n", items[i].SaveDate.UTC().Format("2006-01-02 15:04"), digestLine(from), digestLine(message.DecodeHeader(envelope.Subject)), url)
		count++
	}
	return b.String(), count, nil
}

// digestLine is text from outside on one line, without what could be taken for a link.
func digestLine(text string) string {
	text = strings.NewReplacer("://", ": //", "www.", "www ").Replace(strings.Join(strings.Fields(text), " "))
	if runes := []rune(text); len(runes) > maxDigestText {
		text = string(runes[:maxDigestText]) + "…"
	}
	if text == "" {
		return "-"
	}
	return text
}

// deliverDigest puts a digest into the account's INBOX.
func (n *node) deliverDigest(ctx context.Context, c storage.SpamChoice, now time.Time, key, list string, count int) error {
	id := sha256.Sum256(fmt.Appendf(nil, "spam digest %d %s", c.Account, key))
	domain := c.Address[strings.LastIndexByte(c.Address, '@')+1:]
	var m strings.Builder
	for _, field := range [][2]string{{"From", "Mail server <postmaster@" + domain + ">"}, {"To", "<" + c.Address + ">"}, {"Subject", fmt.Sprintf("Junk: %d new", count)},
		{"Date", now.Format(time.RFC1123Z)}, {"Message-ID", fmt.Sprintf("<%x@%s>", id[:10], n.hostname())}, {"Auto-Submitted", "auto-generated"}, {"MIME-Version", "1.0"},
		{"Content-Type", mime.FormatMediaType("text/plain", map[string]string{"charset": "utf-8"})}, {"Content-Transfer-Encoding", "quoted-printable"}} {
		m.WriteString(field[0] + ": " + field[1] + "\r\n")
	}
	m.WriteString("\r\n")
	body := quotedprintable.NewWriter(&m)
	fmt.Fprintf(body, "This came to Junk since the last digest. Open the link below a message that is wanted, and press the button:\n"+
		"it goes to your inbox, and the filter learns from it. The links are good for %d days.\n\n%s", int(digestLinks.Hours()/24), list)
	if err := body.Close(); err != nil {
		return err
	}
	content, err := n.store.Prepare(ctx, strings.NewReader(m.String()+"\r\n"))
	if err != nil {
		return err
	}
	defer content.Close()
	_, err = n.store.Deliver(ctx, storage.Delivery{Transaction: id, Content: content, Received: now, Recipients: []int64{c.Account}})
	return err
}
