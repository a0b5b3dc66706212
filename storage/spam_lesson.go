package storage

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"zombiezen.com/go/sqlite"
)

// Limits of lessons.
const (
	MaxWaitingLessons = 5000 // of one account; what comes above that is not learned
	maxChangeLessons  = 500  // that one move, copy or change of flags gives
	MaxLessonBatch    = 64   // of one command
	MaxLessonFeatures = 64 << 10
	// MaxLearned is how many learned messages are remembered of each account; the oldest are forgotten, and would
	// be learned again.
	MaxLearned   = 20_000
	SpamHashSize = 16 // octets of a message's SHA-256 that it is remembered by
	opTrain      = "learn"
)

// What an account may teach the host's model.
const (
	// SpamShare is how many lessons an account has at first and at most.
	SpamShare = 200
	// SpamShareDay is how many more it has after a day.
	SpamShareDay  = 5
	spamShareUnit = 1000
)

// LessonSource says how a lesson came about.
type LessonSource string

// The sources of lessons.
const (
	LessonMoved    LessonSource = "moved"    // into the mailbox for junk, or out of it
	LessonKeyword  LessonSource = "keyword"  // $Junk, $NotJunk
	LessonAnswered LessonSource = "answered" // \Answered was set
	LessonButton   LessonSource = "button"   // in the web
	LessonCommand  LessonSource = "command"  // trivet spam learn
	LessonKept     LessonSource = "kept"     // read, and left in INBOX
)

// SpamLesson is a message to be learned.
type SpamLesson struct {
	ID       int64        `cbor:"-"`
	Account  int64        `cbor:"1,keyasint"` // 0: the host alone
	Message  int64        `cbor:"2,keyasint,omitempty"`
	Hash     []byte       `cbor:"3,keyasint,omitempty"` // of the message, when Message is 0
	Unwanted bool         `cbor:"4,keyasint,omitempty"`
	Source   LessonSource `cbor:"5,keyasint"`
	Features []byte       `cbor:"6,keyasint,omitempty"` // when Message is 0
	// Before tells under which label it was learned already.
	Before LearnedAs `cbor:"-"`
	// Shared: the host's model learned it then.
	Shared bool `cbor:"-"`
}

// LearnedAs is a label, or none.
type LearnedAs uint8

// What a message was learned as.
const (
	LearnedNot LearnedAs = iota
	LearnedHam
	LearnedSpam
)

// lesson queues a message, unless too many wait. hash nil: that of the message.
func (t *tx) lesson(l SpamLesson) error {
	_, err := t.mail.exec(`INSERT INTO spam_lesson (id, account_id, message_id, hash, unwanted, source, features, at)
		SELECT ?1, ?2, ?3, coalesce(substr(m.hash, 1, ?9), ?4), ?5, ?6, ?7, ?8 FROM (SELECT 1) LEFT JOIN message m ON m.id = ?3
		WHERE (SELECT count(*) FROM spam_lesson WHERE account_id = ?2) < ?10 AND (?3 = 0 OR m.id IS NOT NULL)`,
		t.newID(), l.Account, l.Message, l.Hash, l.Unwanted, string(l.Source), l.Features, t.at, SpamHashSize, MaxWaitingLessons)
	return err
}

// lessons queues messages of one account.
func (t *tx) lessons(account int64, messages []int64, unwanted bool, source LessonSource) error {
	if t.level < 3 {
		return nil
	}
	for _, id := range messages[:min(len(messages), maxChangeLessons)] {
		if err := t.lesson(SpamLesson{Account: account, Message: id, Unwanted: unwanted, Source: source, Hash: []byte{}, Features: []byte{}}); err != nil {
			return err
		}
	}
	return nil
}

// learnMove makes lessons of messages that go into the mailbox for junk, or leave it for elsewhere than the trash.
func (t *tx) learnMove(source, dest Mailbox, moved []transferred) error {
	into, out := dest.SpecialUse == UseJunk, source.SpecialUse == UseJunk
	if into == out || source.AccountID != dest.AccountID || out && dest.SpecialUse == UseTrash {
		return nil
	}
	messages := make([]int64, 0, min(len(moved), maxChangeLessons))
	for _, m := range moved[:min(len(moved), maxChangeLessons)] {
		messages = append(messages, m.message)
	}
	return t.lessons(dest.AccountID, messages, into, LessonMoved)
}

// junkKeywords and wantedKeywords are what clients mark messages by (RFC 9051 section 2.3.2 and older ways).
var (
	junkKeywords   = [...]string{"$Junk", "Junk"}
	wantedKeywords = [...]string{"$NotJunk", "NotJunk", "$NonJunk", "NonJunk"}
)

// taughtBy says what a change of flags teaches of messages that had not been marked so.
func taughtBy(b storeFlags) (marks []string, flags Flags, unwanted, teaches bool) {
	if b.Op == FlagsRemove {
		return nil, 0, false, false
	}
	given := strings.Fields(b.Keywords)
	has := func(words []string) bool {
		return slices.ContainsFunc(given, func(k string) bool {
			return slices.ContainsFunc(words, func(w string) bool { return strings.EqualFold(k, w) })
		})
	}
	junk, wanted := has(junkKeywords[:]), has(wantedKeywords[:])
	switch {
	case junk && !wanted:
		return junkKeywords[:], 0, true, true
	case wanted && !junk:
		return wantedKeywords[:], 0, false, true
	case b.Flags&FlagAnswered != 0 && !junk:
		return nil, FlagAnswered, false, true
	}
	return nil, 0, false, false
}

// learnFlags makes lessons of messages that are about to be marked as junk, not junk or answered.
func (t *tx) learnFlags(m Mailbox, b storeFlags, since int64) error {
	marks, flags, unwanted, teaches := taughtBy(b)
	if !teaches || t.level < 3 || flags != 0 && m.SpecialUse == UseJunk {
		return nil
	}
	var messages []int64
	for _, r := range b.UIDs {
		err := t.mail.rows(`SELECT message_id, keywords FROM mailbox_message WHERE mailbox_id = ? AND uid BETWEEN ? AND ? AND modseq <= ? AND (? = 0 OR flags & ? = 0)`,
			func(st *sqlite.Stmt) bool {
				marked := slices.ContainsFunc(strings.Fields(st.ColumnText(1)), func(k string) bool {
					return slices.ContainsFunc(marks, func(w string) bool { return strings.EqualFold(k, w) })
				})
				if !marked {
					messages = append(messages, st.ColumnInt64(0))
				}
				return len(messages) < maxChangeLessons
			}, m.ID, r.First, r.Last, since, flags, flags)
		if err != nil {
			return err
		}
		if len(messages) >= maxChangeLessons {
			break
		}
	}
	source := LessonKeyword
	if flags != 0 {
		source = LessonAnswered
	}
	return t.lessons(m.AccountID, messages, unwanted, source)
}

// AddLessons queues messages to be learned, in as many commands as it takes. Those of accounts that are gone, or that
// have [MaxWaitingLessons] waiting, are left out.
func (s *Store) AddLessons(ctx context.Context, lessons []SpamLesson) error {
	for batch := range slices.Chunk(lessons, MaxLessonBatch) {
		for _, l := range batch {
			if len(l.Features) > MaxLessonFeatures || l.Message == 0 && len(l.Hash) != SpamHashSize {
				return fail("queue lessons", KindTooLarge, "")
			}
		}
		if err := s.decide(ctx, kindAddLessons, batch); err != nil {
			return err
		}
	}
	return nil
}

func applyAddLessons(t *tx, lessons []SpamLesson) (any, error) {
	if len(lessons) > MaxLessonBatch {
		return nil, fail("queue lessons", KindTooLarge, fmt.Sprintf("at most %d at a time", MaxLessonBatch))
	}
	for _, l := range lessons {
		known, err := t.hasAccount(l.Account)
		if err != nil {
			return nil, err
		}
		if !known || len(l.Features) > MaxLessonFeatures {
			continue
		}
		l.Hash, l.Features = append([]byte{}, l.Hash...), append([]byte{}, l.Features...)
		if err := t.lesson(l); err != nil {
			return nil, err
		}
	}
	return nil, nil
}

// hasAccount reports whether there is an account, or it is the host.
func (t *tx) hasAccount(id int64) (bool, error) {
	if id == 0 {
		return true, nil
	}
	return t.mail.row("SELECT 1 FROM account WHERE id = ?", nil, id)
}

// Lessons returns what is to be learned, the oldest first.
func (s *Store) Lessons(ctx context.Context, limit int) ([]SpamLesson, error) {
	var found []SpamLesson
	err := s.with(ctx, func(c *conn) error {
		return c.rows(`SELECT l.id, l.account_id, l.message_id, l.hash, l.unwanted, l.source, l.features, d.unwanted, d.shared FROM spam_lesson l
			LEFT JOIN spam_learned d ON d.account_id = l.account_id AND d.hash = l.hash ORDER BY l.id LIMIT ?`, func(st *sqlite.Stmt) bool {
			l := SpamLesson{ID: st.ColumnInt64(0), Account: st.ColumnInt64(1), Message: st.ColumnInt64(2), Hash: columnBytes(st, 3),
				Unwanted: st.ColumnBool(4), Source: LessonSource(st.ColumnText(5)), Features: columnBytes(st, 6)}
			if st.ColumnType(7) != sqlite.TypeNull {
				l.Before, l.Shared = LearnedHam, st.ColumnBool(8)
				if st.ColumnBool(7) {
					l.Before = LearnedSpam
				}
			}
			found = append(found, l)
			return true
		}, limit)
	})
	return found, readError("read lessons", err)
}

// SpamShareOf returns how many lessons an account may still teach the host's model.
func (s *Store) SpamShareOf(ctx context.Context, account int64) (lessons int64, err error) {
	now := s.cfg.Now().UnixMilli()
	err = s.with(ctx, func(c *conn) error {
		room, err := shareOf(c, account, now)
		lessons = room / spamShareUnit
		return err
	})
	return lessons, readError("read share", err)
}

// shareOf is what an account has left, in thousandths of lessons.
func shareOf(c *conn, account, now int64) (int64, error) {
	room := int64(SpamShare * spamShareUnit)
	_, err := c.row("SELECT room, at FROM spam_share WHERE account_id = ?", func(st *sqlite.Stmt) {
		passed := max(0, now-st.ColumnInt64(1)) / 1000
		room = min(room, st.ColumnInt64(0)+passed*SpamShareDay*spamShareUnit/int64(24*time.Hour/time.Second))
	}, account)
	return room, err
}

// Training is what was learned from lessons.
type Training struct {
	Done   []int64       `cbor:"1,keyasint"` // lessons that are over
	Labels []LearnedItem `cbor:"2,keyasint,omitempty"`
	Models []modelChange `cbor:"3,keyasint,omitempty"`
}

// LearnedItem is a message that was learned.
type LearnedItem struct {
	Account  int64  `cbor:"1,keyasint"`
	Hash     []byte `cbor:"2,keyasint"`
	Unwanted bool   `cbor:"3,keyasint,omitempty"`
	Shared   bool   `cbor:"4,keyasint,omitempty"` // the host's model learned it, too
	Charged  bool   `cbor:"5,keyasint,omitempty"` // it counts against the account's share
}

// Change adds to a training that a model became another.
func (t *Training) Change(before, after SpamModel) {
	t.Models = append(t.Models, modelChange{after.Account, after.Ham, after.Spam, after.Head, SpamDelta(before.Slots, after.Slots)})
}

// Train makes what was learned part of the state. KindExists: somebody else learned one of the lessons meanwhile;
// KindTooLarge: an account taught the host's model more than its share.
func (s *Store) Train(ctx context.Context, t Training) error { return s.decide(ctx, kindTrain, t) }

func applyTrain(t *tx, b Training) (any, error) {
	if len(b.Done) > MaxLessonBatch || len(b.Labels) > MaxLessonBatch || len(b.Models) > MaxLessonBatch+1 {
		return nil, fail(opTrain, KindTooLarge, "")
	}
	for _, id := range b.Done {
		n, err := t.mail.exec("DELETE FROM spam_lesson WHERE id = ?", id)
		if err == nil && n == 0 {
			err = fail(opTrain, KindExists, "the lesson was learned already")
		}
		if err != nil {
			return nil, err
		}
	}
	for _, l := range b.Labels {
		if err := t.learned(l); err != nil {
			return nil, err
		}
	}
	for _, c := range b.Models {
		known, err := t.hasAccount(c.Account)
		if err == nil && known {
			err = t.changeModel(c)
		}
		if err != nil {
			return nil, err
		}
	}
	return nil, nil
}

// learned remembers a message that was learned, and counts it against its account's share.
func (t *tx) learned(l LearnedItem) error {
	known, err := t.hasAccount(l.Account)
	if err != nil || !known {
		return err
	}
	if l.Charged {
		room, err := shareOf(t.mail, l.Account, t.at)
		if err == nil && room < spamShareUnit {
			err = fail(opTrain, KindTooLarge, "the account has taught its share")
		}
		if err == nil {
			_, err = t.mail.exec("INSERT OR REPLACE INTO spam_share (account_id, room, at) VALUES (?, ?, ?)", l.Account, room-spamShareUnit, t.at)
		}
		if err != nil {
			return err
		}
	}
	if err := t.learnReputation(l); err != nil {
		return err
	}
	_, err = t.mail.exec("INSERT OR REPLACE INTO spam_learned (account_id, hash, unwanted, shared, n) VALUES (?, ?, ?, ?, ?)",
		l.Account, l.Hash, l.Unwanted, l.Shared, t.newID())
	if err != nil {
		return err
	}
	_, err = t.mail.exec(`DELETE FROM spam_learned WHERE account_id = ?1 AND n <= (SELECT n FROM spam_learned WHERE account_id = ?1 ORDER BY n DESC LIMIT 1 OFFSET ?2)`,
		l.Account, MaxLearned)
	return err
}

// Teach has messages of a mailbox learned for its account: what a button in the web does that moves nothing.
func (s *Store) Teach(ctx context.Context, mailbox int64, uids []Range, unwanted bool) error {
	if err := checkRanges("teach", uids); err != nil {
		return err
	}
	var lessons []SpamLesson
	err := s.with(ctx, func(c *conn) error {
		m, err := readMailbox(c, mailbox)
		for _, r := range uids {
			if err != nil {
				return err
			}
			err = c.rows("SELECT message_id FROM mailbox_message WHERE mailbox_id = ? AND uid BETWEEN ? AND ? ORDER BY uid", func(st *sqlite.Stmt) bool {
				lessons = append(lessons, SpamLesson{Account: m.AccountID, Message: st.ColumnInt64(0), Unwanted: unwanted, Source: LessonButton})
				return len(lessons) < maxChangeLessons
			}, mailbox, r.First, r.Last)
		}
		return err
	})
	if err != nil {
		return readError("teach", err)
	}
	return s.AddLessons(ctx, lessons)
}

// Of mail that is learned as wanted because it was kept.
const (
	// KeptAfter is how long a message that was read stays in INBOX before that says that it was wanted.
	KeptAfter  = 24 * time.Hour
	keptNewest = 200 // messages of an INBOX that are looked at
	keptLimit  = 50  // lessons of one account at a time
)

// LearnKept queues read mail in INBOX of accounts that taught more unwanted than wanted mail, as wanted: nobody marks
// that, and without it nothing is learned. The leader calls it now and then. It returns how many lessons there are.
func (s *Store) LearnKept(ctx context.Context) (int, error) {
	if s.Level() < 3 {
		return 0, nil
	}
	var lessons []SpamLesson
	before := s.cfg.Now().Add(-KeptAfter).UnixMilli()
	err := s.snapshot(ctx, func(c *conn) error {
		type account struct{ id, inbox, next, missing int64 }
		var behind []account
		err := c.rows(`SELECT m.account_id, b.id, b.uidnext, m.spam - m.ham FROM spam_model m JOIN mailbox b ON b.account_id = m.account_id AND b.name = 'INBOX'
			WHERE m.spam > m.ham AND NOT EXISTS (SELECT 1 FROM spam_lesson l WHERE l.account_id = m.account_id)`, func(st *sqlite.Stmt) bool {
			behind = append(behind, account{st.ColumnInt64(0), st.ColumnInt64(1), st.ColumnInt64(2), st.ColumnInt64(3)})
			return true
		})
		for _, a := range behind {
			if err != nil {
				return err
			}
			err = c.rows(`SELECT i.message_id FROM mailbox_message i JOIN message g ON g.id = i.message_id WHERE i.mailbox_id = ?1 AND i.uid >= ?2 AND i.flags & 1 <> 0
				AND i.flags & 8 = 0 AND i.save_date < ?3 AND NOT EXISTS (SELECT 1 FROM spam_learned d WHERE d.account_id = ?4 AND d.hash = substr(g.hash, 1, ?5))
				ORDER BY i.uid DESC LIMIT ?6`, func(st *sqlite.Stmt) bool {
				lessons = append(lessons, SpamLesson{Account: a.id, Message: st.ColumnInt64(0), Source: LessonKept})
				return true
			}, a.inbox, a.next-keptNewest, before, a.id, SpamHashSize, min(a.missing, keptLimit))
		}
		return err
	})
	if err != nil {
		return 0, readError("look for mail that was kept", err)
	}
	return len(lessons), s.AddLessons(ctx, lessons)
}

// WaitingLessons returns how many lessons of an account are not learned yet.
func (s *Store) WaitingLessons(ctx context.Context, account int64) (n int64, err error) {
	err = s.with(ctx, func(c *conn) error {
		_, err := c.row("SELECT count(*) FROM spam_lesson WHERE account_id = ?", func(st *sqlite.Stmt) { n = st.ColumnInt64(0) }, account)
		return err
	})
	return n, readError("count lessons", err)
}
