package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"path"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"trivet/storage"
)

// importing is an import that runs.
type importing struct {
	options  *importOptions
	source   importSource
	dialog   *dialog
	journal  *journal
	progress *progressBar
	result   imported
	uses     map[storage.SpecialUse]string // mailboxes here by their special use
	names    map[string]bool               // mailboxes here
}

// How much is appended at a time: one command of the log.
const (
	appendMessages = 100
	appendOctets   = 4 << 20
)

func (im *importing) run(ctx context.Context) error {
	if err := im.listHere(); err != nil {
		return err
	}
	boxes, err := im.source.mailboxes(ctx)
	if err != nil {
		return err
	}
	slices.SortFunc(boxes, func(a, b sourceMailbox) int { return strings.Compare(a.name, b.name) })
	for i := range boxes {
		box := &boxes[i]
		if slices.ContainsFunc(im.options.exclude, func(p string) bool { ok, _ := path.Match(p, box.name); return ok || p == box.name }) {
			continue
		}
		if err := im.mailbox(ctx, box); err != nil {
			return fmt.Errorf("mailbox %q: %w", box.name, err)
		}
		box.messages = nil
	}
	return nil
}

var listLine = regexp.MustCompile(`^\* LIST \(([^)]*)\) "/" (?:"((?:[^"\\]|\\.)*)"|(\S+))`)

// listHere finds out what mailboxes there are.
func (im *importing) listHere() error {
	im.uses, im.names = map[storage.SpecialUse]string{}, map[string]bool{}
	lines, err := im.dialog.do(`LIST "" "*"`)
	if err != nil {
		return err
	}
	for _, line := range lines {
		m := listLine.FindStringSubmatch(line)
		if m == nil || strings.Contains(m[1], `\NonExistent`) {
			continue
		}
		name := m[3] + strings.NewReplacer(`\\`, `\`, `\"`, `"`).Replace(m[2])
		im.names[name] = true
		for _, attribute := range strings.Fields(m[1]) {
			im.uses[storage.SpecialUse(attribute)] = name
		}
	}
	return nil
}

// nameHere is the mailbox that one of the source goes to: for Sent, Drafts and the like the one that has that use here.
func (im *importing) nameHere(box *sourceMailbox) string {
	name := box.name
	if here, ok := im.uses[box.use]; ok && box.use != storage.UseNone {
		name = here
	}
	if im.options.into != "" {
		name = im.options.into + storage.Delimiter + name
	}
	levels := strings.Split(name, storage.Delimiter)
	for i, l := range levels {
		l = strings.Map(func(r rune) rune {
			if r == '%' || r == '*' || r < ' ' || r == 0x7f {
				return '_'
			}
			return r
		}, l)
		if levels[i] = l; l == "" {
			levels[i] = "_"
		}
	}
	return strings.Join(levels, storage.Delimiter)
}

func (im *importing) mailbox(ctx context.Context, box *sourceMailbox) error {
	if err := im.source.load(ctx, box); err != nil {
		return err
	}
	here := im.nameHere(box)
	known := im.journal.of(box)
	var fresh, old []incoming
	for _, m := range box.messages {
		if _, done := known[m.key]; done && m.key != appending {
			old = append(old, m)
		} else {
			fresh = append(fresh, m)
		}
	}
	at := len(im.result.Mailboxes)
	im.result.Mailboxes = append(im.result.Mailboxes, importedCount{Source: box.name, Mailbox: here, Already: len(old)})
	if im.options.dryRun {
		im.result.Mailboxes[at].Messages = len(fresh)
		im.result.Messages += len(fresh)
		for _, m := range fresh {
			im.result.Octets += m.size
		}
		return nil
	}
	if err := im.prepare(here); err != nil {
		return err
	}
	before := im.result.Messages
	cut := known[appending].UID
	if len(fresh) > 0 && cut == 0 {
		if err := im.mark(box, lastUID(known)+1); err != nil {
			return err
		}
	}
	if err := im.appendAll(ctx, box, here, fresh); err != nil {
		return err
	}
	if err := im.sweep(box, here, cut); err != nil {
		return err
	}
	known = im.journal.of(box)
	im.result.Mailboxes[at].Messages = im.result.Messages - before
	return im.update(box, here, old, known)
}

// prepare makes a mailbox if need be.
func (im *importing) prepare(here string) error {
	if im.names[here] || strings.EqualFold(here, storage.Inbox) {
		return nil
	}
	if _, err := im.dialog.do("CREATE " + quoteIMAP(here)); err != nil {
		return err
	}
	im.names[here] = true
	_, err := im.dialog.do("SUBSCRIBE " + quoteIMAP(here))
	return err
}

// appendAll appends messages a batch at a time.
func (im *importing) appendAll(ctx context.Context, box *sourceMailbox, here string, fresh []incoming) error {
	im.progress.begin(here, len(fresh))
	adopt, err := im.orphans(box, here, fresh)
	if err != nil {
		return err
	}
	for len(fresh) > 0 {
		if err := ctx.Err(); err != nil {
			return err
		}
		n, octets := 0, int64(0)
		for n < len(fresh) && n < appendMessages && (n == 0 || octets+fresh[n].size <= appendOctets) {
			octets += fresh[n].size
			n++
		}
		if err := im.source.prefetch(ctx, box, fresh[:n]); err != nil {
			return err
		}
		if err := im.appendBatch(box, here, fresh[:n], adopt); err != nil {
			return err
		}
		fresh = fresh[n:]
	}
	return nil
}

// loaded is a message with its octets.
type loaded struct {
	incoming
	octets []byte
}

// appendBatch appends some messages in one command, and one by one if that is refused.
func (im *importing) appendBatch(box *sourceMailbox, here string, batch []incoming, adopt orphans) error {
	var rest []loaded
	for _, m := range batch {
		octets, err := m.read()
		if err != nil {
			im.skip(box, m, err)
			continue
		}
		uid, err := im.adopt(adopt, octets)
		if err != nil {
			return err
		}
		if uid == 0 {
			rest = append(rest, loaded{m, octets})
			continue
		}
		if err := im.done(box, []incoming{m}, []uint32{uid}); err != nil {
			return err
		}
	}
	if len(rest) == 0 {
		return nil
	}
	err := im.appendCommand(box, here, rest)
	var no *refused
	if !errors.As(err, &no) || strings.Contains(no.answer, "[UNAVAILABLE]") || strings.Contains(no.answer, "[OVERQUOTA]") {
		return err
	}
	for _, m := range rest {
		err := im.appendCommand(box, here, []loaded{m})
		if errors.As(err, &no) && !strings.Contains(no.answer, "[UNAVAILABLE]") {
			im.skip(box, m.incoming, err)
			continue
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func (m incoming) read() ([]byte, error) {
	r, err := m.open()
	if err != nil {
		return nil, err
	}
	defer r.Close()
	octets, err := io.ReadAll(r)
	if err == nil && len(octets) == 0 {
		err = errors.New("it is empty")
	}
	return octets, err
}

func (im *importing) skip(box *sourceMailbox, m incoming, err error) {
	im.result.Skipped = append(im.result.Skipped, fmt.Sprintf("%s of %s: %v", m.key, box.name, err))
	im.progress.step(1)
}

const imapDate = "_2-Jan-2006 15:04:05 -0700"

var appendUIDs = regexp.MustCompile(`\[APPENDUID \d+ ([0-9:,]+)\]`)

// appendCommand appends messages, all or none.
func (im *importing) appendCommand(box *sourceMailbox, here string, messages []loaded) error {
	d := im.dialog
	tag := d.tag()
	fmt.Fprintf(d.w, "%s APPEND %s", tag, quoteIMAP(here))
	var list []incoming
	for _, m := range messages {
		fmt.Fprintf(d.w, " (%s) \"%s\" {%d+}\r\n", m.list(), m.date.Format(imapDate), len(m.octets))
		if _, err := d.w.Write(m.octets); err != nil {
			return err
		}
		list = append(list, m.incoming)
		im.result.Octets += int64(len(m.octets))
	}
	fmt.Fprint(d.w, "\r\n")
	lines, err := d.answer(tag, "APPEND")
	if err != nil {
		for _, m := range messages {
			im.result.Octets -= int64(len(m.octets))
		}
		return err
	}
	match := appendUIDs.FindStringSubmatch(lines[len(lines)-1])
	if match == nil {
		return fmt.Errorf("the server does not say what became of the messages: %s", lines[len(lines)-1])
	}
	return im.done(box, list, expandUIDs(match[1]))
}

// done notes messages that are here.
func (im *importing) done(box *sourceMailbox, messages []incoming, uids []uint32) error {
	if len(uids) != len(messages) {
		return fmt.Errorf("%d messages were appended, the server names %d", len(messages), len(uids))
	}
	var entries []journalEntry
	for i, m := range messages {
		entries = append(entries, journalEntry{Mailbox: box.name, Validity: box.validity, Key: m.key, UID: uids[i], Flags: m.list()})
	}
	im.result.Messages += len(messages)
	im.progress.step(len(messages))
	return im.journal.add(entries...)
}

// expandUIDs reads a set of UIDs.
func expandUIDs(set string) []uint32 {
	var out []uint32
	for part := range strings.SplitSeq(set, ",") {
		lo, hi, ranged := strings.Cut(part, ":")
		first, err := strconv.ParseUint(lo, 10, 32)
		last := first
		if ranged && err == nil {
			last, err = strconv.ParseUint(hi, 10, 32)
		}
		if err != nil || last < first || last-first > storage.MaxAppend {
			return nil
		}
		for ; first <= last; first++ {
			out = append(out, uint32(first))
		}
	}
	return out
}

// orphans are messages here that no journal knows, by size: those of a batch whose answer was lost.
type orphans map[int64][]uint32

var sizeLine = regexp.MustCompile(`^\* \d+ FETCH \(UID (\d+) RFC822\.SIZE (\d+)\)`)

// orphans looks for them behind the last message of the journal, if anything was imported before.
func (im *importing) orphans(box *sourceMailbox, here string, fresh []incoming) (orphans, error) {
	known := im.journal.of(box)
	if len(fresh) == 0 {
		return nil, nil
	}
	if _, err := im.dialog.do("EXAMINE " + quoteIMAP(here)); err != nil {
		return nil, err
	}
	return im.dialog.sizesFrom(lastUID(known) + 1)
}

// sizesFrom lists the messages of the selected mailbox from a UID on, by their sizes.
func (d *dialog) sizesFrom(first uint32) (orphans, error) {
	lines, err := d.do(fmt.Sprintf("UID FETCH %d:* (RFC822.SIZE)", first))
	found := orphans{}
	for _, line := range lines {
		if m := sizeLine.FindStringSubmatch(line); m != nil {
			uid, _ := strconv.ParseUint(m[1], 10, 32)
			octets, _ := strconv.ParseInt(m[2], 10, 64)
			if uint32(uid) >= first { // "*" is the last one even if it is below
				found[octets] = append(found[octets], uint32(uid))
			}
		}
	}
	return found, err
}

func lastUID(known map[string]journalEntry) (last uint32) {
	for key, e := range known {
		if key != appending {
			last = max(last, e.UID)
		}
	}
	return last
}

// adopt returns the UID of a message that is here already, octet for octet, or 0.
func (im *importing) adopt(o orphans, octets []byte) (uint32, error) {
	for i, uid := range o[int64(len(octets))] {
		there, err := im.dialog.body(uid)
		if err != nil {
			return 0, err
		}
		if bytes.Equal(there, octets) {
			o[int64(len(octets))] = slices.Delete(o[int64(len(octets))], i, i+1)
			return uid, nil
		}
	}
	return 0, nil
}

// body reads a message of the selected mailbox.
func (d *dialog) body(uid uint32) ([]byte, error) {
	var out bytes.Buffer
	err := d.fetchBodies(strconv.Itoa(int(uid)), func(_ exportedMessage, r io.Reader) error {
		_, err := out.ReadFrom(r)
		return err
	})
	return out.Bytes(), err
}

// update brings flags up to date of messages that an earlier run imported, and expunges those that are gone.
func (im *importing) update(box *sourceMailbox, here string, old []incoming, known map[string]journalEntry) error {
	changed := map[string][]journalEntry{}
	there := map[string]bool{}
	for _, m := range old {
		there[m.key] = true
		if e := known[m.key]; e.UID != 0 && e.Flags != m.list() {
			e.Flags = m.list()
			changed[m.list()] = append(changed[m.list()], e)
		}
	}
	var gone []journalEntry
	for key, e := range known {
		if im.options.delete && key != appending && !there[key] && e.UID != 0 && !slices.ContainsFunc(box.messages, func(m incoming) bool { return m.key == key }) {
			gone = append(gone, e)
		}
	}
	if len(changed) == 0 && len(gone) == 0 {
		return nil
	}
	if _, err := im.dialog.do("SELECT " + quoteIMAP(here)); err != nil {
		return err
	}
	for flags, entries := range changed {
		if err := im.eachChunk(entries, "UID STORE %s FLAGS.SILENT ("+strings.ReplaceAll(flags, "%", "%%")+")", ""); err != nil {
			return err
		}
		im.result.Flags += len(entries)
	}
	if err := im.eachChunk(gone, `UID STORE %s +FLAGS.SILENT (\Deleted)`, "UID EXPUNGE %s"); err != nil {
		return err
	}
	im.result.Expunged += len(gone)
	for i := range gone {
		gone[i].UID = 0
	}
	return im.journal.add(gone...)
}

// eachChunk gives commands with the UIDs of entries, a thousand at a time.
func (im *importing) eachChunk(entries []journalEntry, commands ...string) error {
	for chunk := range slices.Chunk(entries, 1000) {
		var uids []string
		for _, e := range chunk {
			uids = append(uids, strconv.Itoa(int(e.UID)))
		}
		for _, command := range commands {
			if command == "" {
				continue
			}
			if _, err := im.dialog.do(fmt.Sprintf(command, strings.Join(uids, ","))); err != nil {
				return err
			}
		}
		if err := im.journal.add(chunk...); err != nil {
			return err
		}
	}
	return nil
}
