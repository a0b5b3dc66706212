package sender

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"trivet/spam"
	"trivet/spam/threat"
	"trivet/storage"
)

// Keeper keeps copies of messages; [storage.Store] is one.
type Keeper interface {
	Prepare(ctx context.Context, r io.Reader) (*storage.Content, error)
	KeepCopy(ctx context.Context, k storage.Keeping) (id int64, released bool, err error)
	CopyReleased(ctx context.Context, transaction [32]byte) (bool, error)
}

// Challenge asks a sender whom nobody knows, in the reply to DATA and never by a message, to open a page and press a
// button. It is a [spam.Reviewer], after all others that decide.
type Challenge struct {
	Settings func(ctx context.Context) (Settings, error)
	Store    Store
	Keeper   Keeper
	// Link is the signed URL of the page for a copy.
	Link    func(ctx context.Context, copy int64) (string, error)
	Monitor bool // nobody is asked
}

// Review implements [spam.Reviewer].
func (c *Challenge) Review(ctx context.Context, m *spam.Message, verdicts []spam.Verdict) error {
	if c.Monitor || m.Trial || !Askable(m) {
		return nil
	}
	modes, err := c.modes(ctx, verdicts)
	if err != nil || !slices.ContainsFunc(modes, func(mode storage.ChallengeMode) bool { return mode != storage.ChallengeOff }) {
		return err
	}
	transaction, err := digest(m, verdicts)
	if err != nil {
		return err
	}
	if slices.Contains(modes, storage.ChallengeDefer) { // the sender's system comes again by itself, after the answer too
		if released, err := c.Keeper.CopyReleased(ctx, transaction); err != nil || released {
			for i := range verdicts {
				verdicts[i].Had = released
			}
			return err
		}
	}
	settings, err := c.Settings(ctx)
	if err != nil {
		return err
	}
	var asking []int
	for i, v := range verdicts {
		if modes[i] == storage.ChallengeOff || v.Action > spam.Junk || v.Probability < settings.Challenge.From {
			continue
		}
		how, err := c.Store.SenderKnownTo(ctx, v.Recipient.Account, m.Sender())
		if err != nil {
			return err
		}
		if how == 0 {
			asking = append(asking, i)
		}
	}
	if len(asking) == 0 {
		return nil
	}
	if len(asking) < len(verdicts) { // who would be asked in the name of some, others have read
		return setAside(verdicts, asking)
	}
	return c.ask(ctx, m, verdicts, modes, transaction, settings)
}

// setAside puts the message into Junk of those recipients who would have its sender asked.
func setAside(verdicts []spam.Verdict, asking []int) error {
	for _, i := range asking {
		verdicts[i].Action = max(verdicts[i].Action, spam.Junk)
	}
	return nil
}

// modes are what the recipients chose, in their order.
func (c *Challenge) modes(ctx context.Context, verdicts []spam.Verdict) ([]storage.ChallengeMode, error) {
	modes := make([]storage.ChallengeMode, len(verdicts))
	for i, v := range verdicts {
		if v.Recipient.Account == 0 {
			continue
		}
		choice, err := c.Store.SpamChoiceOf(ctx, v.Recipient.Account)
		if err != nil {
			return nil, err
		}
		modes[i] = choice.Challenge
	}
	return modes, nil
}

// ask keeps a copy and has the sender told where to answer. Where no copy can be kept, it is put aside.
func (c *Challenge) ask(ctx context.Context, m *spam.Message, verdicts []spam.Verdict, modes []storage.ChallengeMode, transaction [32]byte, s Settings) error {
	var accounts, all = []int64{}, []int{}
	for i, v := range verdicts {
		accounts, all = append(accounts, v.Recipient.Account), append(all, i)
	}
	slices.Sort(accounts)
	content, err := c.Keeper.Prepare(ctx, io.NewSectionReader(m.Raw, 0, m.Structure.Size))
	if err != nil {
		return err
	}
	defer content.Close()
	author := threat.AuthorOf(m.Structure.Envelope, true)
	id, released, err := c.Keeper.KeepCopy(ctx, storage.Keeping{Content: content, Transaction: transaction, Sender: m.Sender(), Name: threat.PlainName(author.Name),
		Accounts: accounts, Expires: m.Received.Add(time.Duration(s.Challenge.Keep))})
	if released {
		for i := range verdicts {
			verdicts[i].Had = true
		}
		return nil
	}
	link := ""
	if err == nil {
		link, err = c.Link(ctx, id)
	}
	if err != nil {
		setAside(verdicts, all)
		return err
	}
	action := spam.Reject
	if slices.Contains(modes, storage.ChallengeDefer) {
		action = spam.Defer
	}
	for i := range verdicts {
		verdicts[i].Action = action
		verdicts[i].Reply = "The recipient does not know you yet. To have this message delivered, open " + link
	}
	return nil
}

// Askable reports whether there is a person who could be asked, and who can be told in the session: the author's domain
// stands behind the message, by the client too, and it is no list, no program and no report that writes.
func Askable(m *spam.Message) bool {
	if m.Domain == "" || !m.SPFAligned || m.SPF != "pass" || m.MailFrom == "" || len(m.Author) != 1 {
		return false
	}
	for _, name := range []string{"List-Id", "List-Unsubscribe", "List-Post", "List-Help", "Feedback-ID", "X-Auto-Response-Suppress", "X-Autoreply", "X-Loop"} {
		if m.Field(name) != "" {
			return false
		}
	}
	if auto := strings.ToLower(m.Field("Auto-Submitted")); auto != "" && auto != "no" { // RFC 3834 section 5
		return false
	}
	switch strings.ToLower(m.Field("Precedence")) {
	case "bulk", "list", "junk", "auto_reply":
		return false
	}
	if root := m.Structure.Root; root.Type == "multipart" && root.Subtype == "report" {
		return false
	}
	for _, address := range []string{m.MailFrom, m.Sender()} {
		local, _, _ := strings.Cut(strings.ToLower(address), "@")
		if automatic(local) {
			return false
		}
	}
	return true
}

// automatic reports whether a local part is that of a program.
func automatic(local string) bool {
	plain := strings.NewReplacer("-", "", "_", "", ".", "").Replace(local)
	for _, word := range []string{"noreply", "donotreply", "mailerdaemon", "postmaster", "bounce", "bounces", "notification", "notifications"} {
		if plain == word || strings.HasPrefix(plain, "noreply") || strings.HasPrefix(plain, "donotreply") {
			return true
		}
	}
	return strings.HasPrefix(local, "owner-") || strings.HasSuffix(local, "-request") || strings.HasSuffix(local, "-bounces") || strings.Contains(local, "bounce+") ||
		strings.HasPrefix(local, "bounces+") || strings.HasPrefix(local, "bounce-")
}

// digest is the same for the same message to the same recipients, whenever and wherever it is offered again: what
// servers put in front of it differs each time.
func digest(m *spam.Message, verdicts []spam.Verdict) (sum [32]byte, err error) {
	h := sha256.New()
	var accounts []int64
	for _, v := range verdicts {
		accounts = append(accounts, v.Recipient.Account)
	}
	slices.Sort(accounts)
	for _, text := range []string{m.MailFrom, m.Sender(), m.Field("Message-ID"), m.Field("Subject"), m.Field("Date"), fmt.Sprint(accounts)} {
		h.Write(binary.AppendUvarint(nil, uint64(len(text))))
		io.WriteString(h, text)
	}
	_, err = io.Copy(h, io.NewSectionReader(m.Raw, m.Structure.HeaderSize, m.Structure.Size-m.Structure.HeaderSize))
	h.Sum(sum[:0])
	return sum, err
}

// ProofBits is how much work the page of a challenge asks of a browser: so many leading zero bits of a digest, which
// takes it about a second.
const ProofBits = 16

// Proven reports whether proof is work done for a token: the SHA-256 of both, with a colon between, begins with
// [ProofBits] zero bits.
func Proven(token, proof string) bool {
	if len(proof) == 0 || len(proof) > 20 || bytes.ContainsAny([]byte(proof), ":\r\n") {
		return false
	}
	sum := sha256.Sum256([]byte(token + ":" + proof))
	return binary.BigEndian.Uint32(sum[:])>>(32-ProofBits) == 0
}
