package storage

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"

	"github.com/klauspost/compress/zstd"
	"zombiezen.com/go/sqlite"
)

// Sites names the points of this package where a fault can be injected: each is
// reached with the named step about to happen (before) or done (after).
func Sites() []string {
	return []string{
		"storage.pack.commit.before", "storage.pack.commit.after",
		"storage.database.commit.before", "storage.database.commit.after",
		"storage.mail.commit.before", "storage.mail.commit.after",
		"storage.persist.before", "storage.persist.after",
		"storage.checkpoint.before", "storage.checkpoint.after",
		"storage.seal.before", "storage.seal.after",
	}
}

// Machine applies committed commands to the files. It is deterministic: the
// commands alone, in order, decide the logical state.
//
// Apply, Persist and the checkpointer take mu in turn, so there is one writer.
// Readers share swap, which Restore takes alone while it replaces the files.
type Machine struct {
	mu        sync.Mutex
	swap      sync.RWMutex
	dir       string // DATA/state
	files     *files
	readers   int
	shut      bool // files are closed: a replacement of the state failed half way; guarded by mu
	feed      *feed
	log       *slog.Logger
	failpoint func(site string) error
	replaced  func() // tells the sessions on the users' databases that a restore brought other files

	mailApplied uint64        // last command in mail.db; guarded by mu
	applied     atomic.Uint64 // last command in all files
	level       atomic.Int64  // of the state, see Level
	directory   atomic.Uint64 // grows with every change of domains, accounts and aliases
	bans        atomic.Uint64 // grows with every change of bans
	spam        atomic.Uint64 // grows with every change of what is to be done about unwanted mail
	choices     atomic.Uint64 // grows with every change of settings, domains and what accounts chose
	catalogue   atomic.Uint64 // grows with every change of those, of databases and of grants
	written     atomic.Int64  // octets since the last checkpoint, roughly
	checkpoint  chan struct{} // wakes the checkpointer
	queued      chan struct{} // wakes whoever sends: see Store.QueueChanged
	retried     atomic.Uint64 // grows whenever an operator has recipients tried: see Store.QueueRetries
	audits      audits

	rosters  *rosters
	contents *contents

	damage    damage
	decoder   *zstd.Decoder
	preparing sync.Mutex // held while packs are got, or a state arrives
	prepared  map[int64]prepared
}

const (
	// checkpointBytes is how much the WAL files may grow, roughly, before they
	// are copied into the databases in the background.
	checkpointBytes = 32 << 20
	// pagesWritten is what one command adds to the WAL files besides its own
	// octets, roughly: a page of each B-tree it touches.
	pagesWritten = 24 << 10
)

// use makes f the files of the machine.
func (m *Machine) use(f *files) error {
	m.files = f
	m.rosters.clear()
	m.contents.clear()
	var err error
	m.mailApplied, err = readApplied(f.mail)
	m.applied.Store(min(m.mailApplied, f.packs.applied, f.databases.applied(m.mailApplied)))
	if err != nil {
		return err
	}
	level, err := readLevel(f.mail)
	m.level.Store(int64(level))
	return err
}

// Applied returns the index of the last command that the files contain.
func (m *Machine) Applied() uint64 { return m.applied.Load() }

// Apply applies entries in log order, in one transaction, and returns one
// answer for each; an entry that the files contain already gets nil. An error
// is this machine's (a full or failing disk, a damaged file, a command of a
// newer release): nothing of the batch was applied, or only what Applied says,
// and the caller hands over the same entries again once that may have passed. It is called from one
// goroutine at a time.
func (m *Machine) Apply(entries []Entry) ([][]byte, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if err := m.reopen(); err != nil {
		return nil, err
	}
	answers := make([][]byte, 0, len(entries))
	for rest := entries; len(rest) > 0; {
		n, audit := untilAudit(rest)
		some, err := m.applyBatch(rest[:n])
		if err != nil {
			return nil, err
		}
		if audit {
			m.startAudit(rest[n-1].Index)
		}
		answers, rest = append(answers, some...), rest[n:]
	}
	return answers, nil
}

// applyBatch applies entries in one transaction. The caller holds mu.
func (m *Machine) applyBatch(entries []Entry) ([][]byte, error) {
	b := &batch{m: m, touched: map[int64]int64{}, level: int(m.level.Load())}
	answers, err := b.run(entries)
	if errors.Is(err, errRefusedLate) {
		// Savepoints copy every page that a command changes; so they are taken
		// only for the batches that need them.
		b.rollback()
		b = &batch{m: m, touched: map[int64]int64{}, level: int(m.level.Load()), savepoints: true}
		answers, err = b.run(entries)
	}
	if err != nil {
		b.rollback()
		return nil, m.noted(fmt.Errorf("apply %d..%d: %w", entries[0].Index, entries[len(entries)-1].Index, err))
	}
	m.level.Store(int64(b.level))
	if b.directory {
		m.directory.Add(1)
	}
	if b.bans {
		m.bans.Add(1)
	}
	if b.spam {
		m.spam.Add(1)
	}
	if b.choices {
		m.choices.Add(1)
	}
	if b.catalogue {
		m.catalogue.Add(1)
	}
	m.feed.publish(b.touched)
	if b.queue {
		select {
		case m.queued <- struct{}{}:
		default:
		}
	}
	if b.retry {
		m.retried.Add(1)
	}
	if m.written.Add(b.written) > checkpointBytes {
		select {
		case m.checkpoint <- struct{}{}:
		default:
		}
	}
	return answers, nil
}

// batch is one transaction of the machine.
type batch struct {
	m       *Machine
	began   bool            // mail.db is in a transaction
	touched map[int64]int64 // mailbox id to account id: who must be woken
	written int64
	level   int    // of the state, as of the command that comes next
	kept    uint64 // the last command that was not refused
	rosters []rosterChange

	directory  bool // domains, accounts or aliases changed
	bans       bool // bans changed
	spam       bool // what is to be done about unwanted mail changed
	choices    bool // settings, domains or what accounts chose changed
	queue      bool // there may be something to send
	retry      bool // an operator changed the queue
	catalogue  bool // or databases or grants
	savepoints bool // each command gets one, so that a refused one can be undone by itself
}

// errRefusedLate: a command was refused after it had changed something.
var errRefusedLate = errors.New("refused after a change")

func (b *batch) run(entries []Entry) ([][]byte, error) {
	answers, err := b.apply(entries)
	if err == nil {
		err = b.commit(entries[len(entries)-1])
	}
	return answers, err
}

func (b *batch) apply(entries []Entry) ([][]byte, error) {
	if _, err := b.m.files.mail.exec("BEGIN IMMEDIATE"); err != nil {
		return nil, err
	}
	b.began = true
	answers := make([][]byte, len(entries))
	for i, e := range entries {
		switch {
		case e.Index <= b.m.applied.Load():
		case e.Index <= b.m.mailApplied:
			if err := b.m.files.packs.replay(b.m.files.mail, e); err != nil {
				return nil, err
			}
			if err := b.replayDatabase(e); err != nil {
				return nil, err
			}
		default:
			answer, err := b.applyOne(e)
			if err != nil {
				return nil, err
			}
			answers[i] = answer
			b.written += int64(len(e.Data)) + pagesWritten
		}
	}
	return answers, nil
}

// applyOne applies one command. Its error stops the machine; what the command
// is refused for is in the answer.
func (b *batch) applyOne(e Entry) ([]byte, error) {
	c, err := decodeCommand(e.Data)
	if err != nil {
		return encodeRefusal(fail("apply command", KindInvalid, "the command is malformed"))
	}
	if !known(c.kind, c.version) {
		return nil, fmt.Errorf("command kind %d version %d is newer than this release; upgrade this node", c.kind, c.version)
	}
	if answer, err := b.repeated(c); answer != nil || err != nil {
		return answer, err
	}
	if err := b.savepoint("SAVEPOINT command"); err != nil {
		return nil, err
	}
	before := b.m.files.mail.writes
	t := &tx{mail: b.m.files.mail, packs: b.m.files.packs, index: e.Index, at: c.at, touched: b.touched, level: b.level, watched: b.m.rosters}
	value, err := appliers[c.kind](t, c.body)
	if err == nil {
		return b.keep(e, c, t, value)
	}
	refused := asRefusal(err)
	if refused == nil {
		return nil, fmt.Errorf("command %d of kind %d: %w", e.Index, c.kind, err)
	}
	if !b.savepoints && b.m.files.mail.writes != before {
		return nil, errRefusedLate
	}
	if err := b.savepoint("ROLLBACK TO command"); err != nil {
		return nil, err
	}
	if err := b.savepoint("RELEASE command"); err != nil {
		return nil, err
	}
	return encodeRefusal(refused)
}

func (b *batch) savepoint(sql string) error {
	if !b.savepoints {
		return nil
	}
	_, err := b.m.files.mail.exec(sql)
	return err
}

// keep ends a command that was applied: its answer is remembered under the
// request id, its chunks go to the pack.
func (b *batch) keep(e Entry, c command, t *tx, value any) ([]byte, error) {
	b.directory = b.directory || c.kind.ofDirectory()
	b.bans = b.bans || c.kind >= kindAddBan && c.kind <= kindPruneBans
	b.spam = b.spam || c.kind >= kindSetSpamPolicy && c.kind <= lastSpamKind || c.kind.ofDirectory()
	b.choices = b.choices || c.kind == kindSetSpamChoice || c.kind == kindSetSetting || c.kind.ofDirectory()
	b.catalogue = b.catalogue || c.kind.ofCatalogue()
	b.kept, b.level = e.Index, t.level
	b.rosters = append(b.rosters, t.rosters...)
	b.queue = b.queue || c.kind == kindDispatch || c.kind == kindDispatchAll || c.kind == kindChangeQueue || c.kind == kindRecord
	b.retry = b.retry || c.kind == kindChangeQueue
	answer, err := encodeAnswer(value)
	if err != nil {
		return nil, err
	}
	if _, err := b.m.files.mail.exec(`INSERT INTO request ("index", id, at, result) VALUES (?, ?, ?, ?)`,
		e.Index, c.request, c.at, answer); err != nil {
		return nil, err
	}
	for _, ch := range t.chunks {
		if err := b.m.files.packs.put(e.Index, ch.id, ch.data); err != nil {
			return nil, err
		}
	}
	if err := b.m.files.packs.drop(e.Index, t.dropped); err != nil {
		return nil, err
	}
	if t.rollTo != 0 {
		if err := b.m.files.packs.roll(e.Index, t.rollTo); err != nil {
			return nil, err
		}
	}
	for _, change := range t.databases {
		if err := b.m.files.databases.change(e.Index, change); err != nil {
			return nil, err
		}
	}
	return answer, b.savepoint("RELEASE command")
}

// repeated returns the answer of the same request applied before, or nil.
func (b *batch) repeated(c command) ([]byte, error) {
	var answer []byte
	_, err := b.m.files.mail.row("SELECT result FROM request WHERE id = ?", func(st *sqlite.Stmt) {
		answer = columnBytes(st, 0)
		if answer[0] == answerOK {
			answer[0] = answerRepeated
		}
	}, c.request)
	return answer, err
}

// commit makes the packs' part of the batch visible before mail.db refers to it.
func (b *batch) commit(last Entry) error {
	m := b.m
	if last.Index > m.mailApplied && last.Index != b.kept {
		// The last command was refused, so no request names it.
		if _, err := m.files.mail.exec(`UPDATE applied SET "index" = ?`, last.Index); err != nil {
			return err
		}
	}
	if err := m.fail("storage.pack.commit.before"); err != nil {
		return err
	}
	if err := m.files.packs.commit(last.Index); err != nil {
		return err
	}
	if err := m.fail("storage.pack.commit.after"); err != nil {
		return err
	}
	if err := m.files.databases.commit(last.Index); err != nil {
		return err
	}
	if err := m.fail("storage.mail.commit.before"); err != nil {
		return err
	}
	if err := b.commitMail(); err != nil {
		return err
	}
	m.mailApplied = max(m.mailApplied, last.Index)
	m.applied.Store(max(m.applied.Load(), last.Index))
	// The batch is in: an error from here on cannot take it back.
	for _, err := range m.files.databases.committed(m.applied.Load()) {
		if err != nil {
			m.log.Warn("remove a dropped database", "error", err)
		}
	}
	if err := m.fail("storage.mail.commit.after"); err != nil {
		m.log.Warn("injected fault after commit", "error", err)
	}
	return nil
}

// commitMail commits, and tells the rosters before anybody can hear of it.
func (b *batch) commitMail() error {
	b.m.rosters.committing.Lock()
	defer b.m.rosters.committing.Unlock()
	if _, err := b.m.files.mail.exec("COMMIT"); err != nil {
		return err
	}
	b.began = false
	b.m.rosters.follow(b.rosters)
	return nil
}

// rollback undoes the batch as far as it got. What is left of a failed disk's
// transaction SQLite rolls back itself; an error here adds nothing to the first.
func (b *batch) rollback() {
	b.m.files.packs.rollback()
	if err := b.m.files.databases.rollback(); err != nil {
		b.m.log.Error("roll back databases", "error", err)
	}
	if b.began && !b.m.files.mail.db.AutocommitEnabled() {
		if _, err := b.m.files.mail.exec("ROLLBACK"); err != nil {
			b.m.log.Error("roll back mail.db", "error", err)
		}
	}
}

func (m *Machine) fail(site string) error {
	if m.failpoint == nil {
		return nil
	}
	return m.failpoint(site)
}

// asRefusal returns the refusal in err, or nil when err is this machine's
// fault. A violated constraint is a refusal: every machine meets it alike.
func asRefusal(err error) *Error {
	var e *Error
	if errors.As(err, &e) {
		return e
	}
	if sqlite.ErrCode(err).ToPrimary() == sqlite.ResultConstraint {
		return &Error{Op: "apply command", Kind: KindInvalid, Hint: err.Error()}
	}
	return nil
}

// Persist makes all commands up to the index it returns durable: after it, a
// power cut takes none of them from the files, and the log may forget them.
//
// Committed transactions are in the WAL files or, after a checkpoint that
// synced, in the databases; so syncing the WAL files is all that is missing.
func (m *Machine) Persist(ctx context.Context) (uint64, error) {
	if err := ctx.Err(); err != nil {
		return 0, err
	}
	if err := m.fail("storage.persist.before"); err != nil {
		return 0, err
	}
	m.mu.Lock()
	if err := m.reopen(); err != nil {
		m.mu.Unlock()
		return 0, fmt.Errorf("persist: %w", err)
	}
	index := m.mailApplied
	if m.applied.Load() < index { // still replaying into the packs
		index = m.applied.Load()
	}
	err := m.files.packs.mark(index)
	changed, synced := m.files.databases.changed()
	paths := append(append(m.files.packs.unsynced(), changed...), mailFile(m.files.dir))
	m.mu.Unlock()
	if err != nil {
		return 0, fmt.Errorf("persist: %w", err)
	}
	for _, p := range paths {
		if err := syncWAL(p); err != nil {
			return 0, fmt.Errorf("persist: %w", err)
		}
	}
	m.mu.Lock()
	synced()
	m.mu.Unlock()
	return index, m.fail("storage.persist.after")
}

// tx is what the apply function of one command works with.
type tx struct {
	mail    *conn
	packs   *packs
	index   uint64
	at      int64 // Unix milliseconds, the proposer's
	ids     int64 // how many ids this command has taken
	level   int   // of the state; what an older release would not do waits for it
	touched map[int64]int64
	rosters []rosterChange // what it did to mailboxes
	watched *rosters

	// Changes to the packs, made once the command can no longer be refused.
	chunks  []chunk
	dropped []int64
	rollTo  int64 // pack to start; 0: none

	databases []databaseChange // to the users' databases, made then, too
}

type chunk struct {
	id   int64
	data []byte
}

// idsPerCommand bounds the ids that one command may take.
const idsPerCommand = 1 << 16

// newID returns an id that no other row has or will have: ids grow with the log.
func (t *tx) newID() int64 {
	t.ids++
	return firstID(t.index) + t.ids - 1
}

func firstID(index uint64) int64 { return int64(index) * idsPerCommand }

// touch has the watchers of a mailbox woken once the batch is committed.
func (t *tx) touch(mailbox, account int64) { t.touched[mailbox] = account }

// applier is the apply function of one kind of command. It returns the answer,
// or an [Error] that refuses the command, or any other error, which stops the
// machine.
type applier func(t *tx, body []byte) (any, error)

// apply adapts a function of a typed body.
func apply[T any](f func(t *tx, body T) (any, error)) applier {
	return func(t *tx, encoded []byte) (any, error) {
		var body T
		if err := commandDecoding.Unmarshal(encoded, &body); err != nil {
			return nil, fail("apply command", KindInvalid, "the body is malformed")
		}
		return f(t, body)
	}
}

// appliers is the state machine's instruction set.
var appliers = map[kind]applier{
	kindCreateDomain:  apply(applyCreateDomain),
	kindRemoveDomain:  apply(applyRemoveDomain),
	kindCreateAccount: apply(applyCreateAccount),
	kindRemoveAccount: apply(applyRemoveAccount),
	kindSetPassword:   apply(applySetPassword),
	kindSetDisabled:   apply(applySetDisabled),
	kindSetQuota:      apply(applySetQuota),
	kindCreateAlias:   apply(applyCreateAlias),
	kindRemoveAlias:   apply(applyRemoveAlias),
	kindCreateMailbox: apply(applyCreateMailbox),
	kindDeleteMailbox: apply(applyDeleteMailbox),
	kindRenameMailbox: apply(applyRenameMailbox),
	kindSubscribe:     apply(applySubscribe),
	kindClaimRecent:   apply(applyClaimRecent),
	kindSetRights:     apply(applySetRights),
	kindAnnotate:      apply(applyAnnotate),

	kindForgetExpunged: apply(applyForgetExpunged),
	kindPutPart:        apply(applyPutPart),
	kindDeliver:        apply(applyDeliver),
	kindAppend:         apply(applyAppend),
	kindStoreFlags:     apply(applyStoreFlags),
	kindCopy:           apply(applyCopy),
	kindMove:           apply(applyMove),
	kindExpunge:        apply(applyExpunge),
	kindAppendAll:      apply(applyAppendAll),
	kindForget:         apply(applyForget),
	kindForgetOld:      apply(applyForgetOld),
	kindCollect:        apply(applyCollect),
	kindRollPack:       apply(applyRollPack),

	kindSetSetting:       apply(applySetSetting),
	kindCreateInvitation: apply(applyCreateInvitation),
	kindUseInvitation:    apply(applyUseInvitation),
	kindAudit:            apply(applyAudit),
	kindRaiseLevel:       apply(applyRaiseLevel),

	kindCreateWebSession:       apply(applyCreateWebSession),
	kindTouchWebSession:        apply(applyTouchWebSession),
	kindEndWebSessions:         apply(applyEndWebSessions),
	kindSetDomainAdministrator: apply(applySetDomainAdministrator),
	kindSetFactor:              apply(applySetFactor),
	kindUseFactor:              apply(applyUseFactor),
	kindPending:                apply(applyPending),
	kindSaveQuery:              apply(applySaveQuery),
	kindRemoveSavedQuery:       apply(applyRemoveSavedQuery),

	kindPutCertificateFile:     apply(applyPutCertificateFile),
	kindDeleteCertificateFiles: apply(applyDeleteCertificateFiles),
	kindLockCertificates:       apply(applyLockCertificates),
	kindUnlockCertificates:     apply(applyUnlockCertificates),

	kindAddAppPassword:    apply(applyAddAppPassword),
	kindRemoveAppPassword: apply(applyRemoveAppPassword),
	kindAddDKIMKey:        apply(applyAddDKIMKey),
	kindActivateDKIMKey:   apply(applyActivateDKIMKey),
	kindRemoveDKIMKey:     apply(applyRemoveDKIMKey),
	kindSetGroup:          apply(applySetGroup),
	kindRemoveGroup:       apply(applyRemoveGroup),
	kindSetDomainPolicy:   apply(applySetDomainPolicy),
	kindSetForward:        apply(applySetForward),
	kindSetVacation:       apply(applySetVacation),

	kindSetSubmissionLimit: apply(applySetSubmissionLimit),
	kindAddBan:             apply(applyAddBan),
	kindLiftBan:            apply(applyLiftBan),
	kindPruneBans:          apply(applyPruneBans),
	kindRememberLogins:     apply(applyRememberLogins),

	kindCreateDatabase:   apply(applyCreateDatabase),
	kindDropDatabase:     apply(applyDropDatabase),
	kindRestoreDatabase:  apply(applyRestoreDatabase),
	kindGrantDatabase:    apply(applyGrantDatabase),
	kindSetDatabaseQuota: apply(applySetDatabaseQuota),
	kindPurgeDatabases:   apply(applyPurgeDatabases),
	kindAddToken:         apply(applyAddToken),
	kindRemoveToken:      apply(applyRemoveToken),
	kindChangeDatabase:   apply(applyChangeDatabase),
	kindPutEffectPart:    apply(applyPutEffectPart),
	kindDropParts:        apply(applyDropParts),

	kindDispatch:    apply(applyDispatch),
	kindLease:       apply(applyLease),
	kindRecord:      apply(applyRecord),
	kindRenewLease:  apply(applyRenewLease),
	kindRevokeLease: apply(applyRevokeLease),
	kindChangeQueue: apply(applyChangeQueue),
	kindForgetQueue: apply(applyForgetQueue),
	kindSetRoute:    apply(applySetRoute),
	kindKeepPolicy:  apply(applyKeepPolicy),
	kindCountTLS:    apply(applyCountTLS),

	kindSetSenderRoute: apply(applySetSenderRoute),
	kindDispatchAll:    apply(applyDispatchAll),
	kindRevokeTokens:   apply(applyRevokeTokens),
	kindAddTLSReport:   apply(applyAddTLSReport),

	kindCountSenders:    apply(applyCountSenders),
	kindForgetSenders:   apply(applyForgetSenders),
	kindAddDMARCReport:  apply(applyAddDMARCReport),
	kindSetSenderPolicy: apply(applySetSenderPolicy),

	kindSetSpamPolicy:   apply(applySetSpamPolicy),
	kindAddLessons:      apply(applyAddLessons),
	kindTrain:           apply(applyTrain),
	kindForgetSpamModel: apply(applyForgetSpamModel),
	kindForgetTLS:       apply(applyForgetTLS),

	kindGreylist:        apply(applyGreylist),
	kindCountReputation: apply(applyCountReputation),
	kindRememberSenders: apply(applyRememberSenders),
	kindKeepCopy:        apply(applyKeepCopy),
	kindReleaseCopy:     apply(applyReleaseCopy),
	kindDropCopies:      apply(applyDropCopies),
	kindSetSpamChoice:   apply(applySetSpamChoice),
	kindForgetEdge:      apply(applyForgetEdge),

	kindPutOutbox:     apply(applyPutOutbox),
	kindClaimOutbox:   apply(applyClaimOutbox),
	kindEndOutbox:     apply(applyEndOutbox),
	kindSetFilters:    apply(applySetFilters),
	kindSetPreference: apply(applySetPreference),

	kindSetDatabaseFeed: apply(applySetDatabaseFeed),

	kindWriteJournal:  apply(applyWriteJournal),
	kindForgetJournal: apply(applyForgetJournal),
}
