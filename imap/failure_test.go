package imap

import (
	"context"
	"errors"
	"io"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"trivet/storage"
)

// failingStore is a store whose writes fail as long as kind is set.
type failingStore struct {
	*storage.Store
	kind atomic.Int32 // a storage.Kind; 0: none, which is KindInternal and not needed here
}

func (s *failingStore) err() error {
	if k := storage.Kind(s.kind.Load()); k != 0 {
		return &storage.Error{Op: "test", Kind: k}
	}
	return nil
}

func (s *failingStore) CreateMailbox(ctx context.Context, account int64, name string, use storage.SpecialUse) (storage.Mailbox, error) {
	if err := s.err(); err != nil {
		return storage.Mailbox{}, err
	}
	return s.Store.CreateMailbox(ctx, account, name, use)
}

func (s *failingStore) Append(ctx context.Context, mailbox int64, c *storage.Content, flags storage.Flags, keywords []string, date time.Time) (storage.Appended, error) {
	if err := s.err(); err != nil {
		return storage.Appended{}, err
	}
	return s.Store.Append(ctx, mailbox, c, flags, keywords, date)
}

func (s *failingStore) StoreFlags(ctx context.Context, mailbox int64, ch storage.FlagChange) (storage.Stored, error) {
	if err := s.err(); err != nil {
		return storage.Stored{}, err
	}
	return s.Store.StoreFlags(ctx, mailbox, ch)
}

func (s *failingStore) Copy(ctx context.Context, src int64, uids []storage.Range, dst int64) (storage.Copied, error) {
	if err := s.err(); err != nil {
		return storage.Copied{}, err
	}
	return s.Store.Copy(ctx, src, uids, dst)
}

func (s *failingStore) Move(ctx context.Context, src int64, uids []storage.Range, dst int64) (storage.Copied, error) {
	if err := s.err(); err != nil {
		return storage.Copied{}, err
	}
	return s.Store.Move(ctx, src, uids, dst)
}

func (s *failingStore) Expunge(ctx context.Context, mailbox int64, uids []storage.Range) ([]uint32, error) {
	if err := s.err(); err != nil {
		return nil, err
	}
	return s.Store.Expunge(ctx, mailbox, uids)
}

// newFailing returns a fixture with one message in INBOX, and the switch of its store.
func newFailing(t *testing.T) (*fixture, *failingStore) {
	failing := &failingStore{}
	f := newFixture(t, func(c *Config) {
		failing.Store = c.Store.(*storage.Store)
		c.Store = failing
	})
	f.fill(1)
	return f, failing
}

// TestStorageFailures: each write command answers each kind of failure as designed, the session goes
// on, and what failed has changed nothing.
func TestStorageFailures(t *testing.T) {
	f, failing := newFailing(t)
	c := f.login()
	c.ok("SELECT INBOX")
	commands := []string{"CREATE x", "APPEND INBOX {3+}\r\nabc", "STORE 1 +FLAGS (\\Deleted)", "COPY 1 Sent",
		"UID MOVE 1 Sent", "EXPUNGE"}
	for kind, want := range map[storage.Kind]string{
		storage.KindUnavailable: "NO [UNAVAILABLE] …", storage.KindUnknown: "NO [UNAVAILABLE] The outcome is not known…",
		storage.KindDiskFull: "NO [UNAVAILABLE] …disk is full…", storage.KindNoQuorum: "NO [UNAVAILABLE] …no quorum…",
		storage.KindOverQuota: "NO [OVERQUOTA] …", storage.KindTooLarge: "NO [LIMIT] …", storage.KindDenied: "NO [NOPERM] …",
	} {
		failing.kind.Store(int32(kind))
		for _, command := range commands {
			c.no(command, want)
		}
	}
	failing.kind.Store(0)
	if got := c.ok("FETCH 1:* FLAGS"); len(got) != 1 || got[0] != "* 1 FETCH (FLAGS (\\Recent))" {
		t.Errorf("left behind: %q", got)
	}
	if got := c.ok("STATUS Sent (MESSAGES)"); got[0] != "* STATUS Sent (MESSAGES 0)" {
		t.Errorf("left behind: %q", got)
	}
	c.no("STATUS x (MESSAGES)", "NO [NONEXISTENT] …")
}

// TestReadWithoutQuorum: mail can be read although \Seen cannot be recorded, and no flag is claimed.
func TestReadWithoutQuorum(t *testing.T) {
	f, failing := newFailing(t)
	c := f.login()
	c.ok("SELECT INBOX")
	failing.kind.Store(int32(storage.KindNoQuorum))
	got := strings.Join(c.ok("FETCH 1 BODY[TEXT]"), "\n")
	if !strings.Contains(got, "This is text 0.") || strings.Contains(got, "Seen") {
		t.Errorf("%q", got)
	}
	failing.kind.Store(0)
	if got := c.ok("FETCH 1 FLAGS"); got[0] != "* 1 FETCH (FLAGS (\\Recent))" {
		t.Errorf("%q", got)
	}
}

func TestQuotaIsRefusedAheadOfTheLiteral(t *testing.T) {
	f := newFixture(t, nil)
	if err := f.store.SetQuota(context.Background(), ann, 100, 0); err != nil {
		t.Fatal(err)
	}
	c := f.login()
	c.no("APPEND INBOX {101}", "NO [OVERQUOTA] Over quota")
	c.append("INBOX", "", strings.Repeat("x", 100))
	c.no("APPEND INBOX {1}", "NO [OVERQUOTA] Over quota")
	c.ok("SELECT INBOX")
	c.no("COPY 1 Sent", "NO [OVERQUOTA] …")
}

// TestHalfAMessageIsNoMessage: a connection that ends inside the literal has appended nothing.
func TestHalfAMessageIsNoMessage(t *testing.T) {
	f := newFixture(t, nil)
	c := f.login()
	c.send("a APPEND INBOX {10+}\r\n01234")
	_ = c.Close()
	for f.srv.Sessions() > 0 {
		time.Sleep(time.Millisecond)
	}
	if got := f.login().ok("STATUS INBOX (MESSAGES)"); got[0] != "* STATUS INBOX (MESSAGES 0)" {
		t.Errorf("%q", got)
	}
}

// TestLargeAppendByteForByte: 50 MB of every octet, with bare CR and LF, go in and come out unchanged.
func TestLargeAppendByteForByte(t *testing.T) {
	if testing.Short() {
		t.Skip("50 MB")
	}
	const size = 50 << 20
	f := newFixture(t, nil)
	c := f.login()
	c.send("a APPEND INBOX {52428800}\r\n")
	c.expect("+ OK")
	body := make([]byte, size)
	for i := range body {
		body[i] = byte(i ^ i>>8 ^ i>>16)
	}
	copy(body, "Subject: big\r\n\r\nbare\rCR and bare\nLF and \x00")
	if _, err := c.Write(body); err != nil {
		t.Fatal(err)
	}
	c.send("\r\n")
	c.expect("a OK [APPENDUID …")
	c.ok("SELECT INBOX")
	c.send("b FETCH 1 BODY.PEEK[]\r\n")
	c.expect("* 1 FETCH (BODY[] {52428800}")
	got := make([]byte, size)
	if _, err := io.ReadFull(c.r, got); err != nil {
		t.Fatal(err)
	}
	if string(got) != string(body) {
		t.Error("the octets differ")
	}
	c.expect(")", "b OK FETCH completed")
	// And from the middle.
	c.send("c FETCH 1 BODY.PEEK[]<40000000.3>\r\n")
	c.expect("* 1 FETCH (BODY[]<40000000> {3}")
	if _, err := io.ReadFull(c.r, got[:3]); err != nil || string(got[:3]) != string(body[40000000:40000003]) {
		t.Errorf("%q %v", got[:3], err)
	}
	c.expect(")", "c OK FETCH completed")
}

// TestSelectOnANodeThatIsBehind: what may be old is marked, and served all the same.
func TestSelectOnANodeThatIsBehind(t *testing.T) {
	var behind atomic.Bool
	f := newFixture(t, func(c *Config) {
		c.Current = func() error {
			if behind.Load() {
				return errors.New("no quorum")
			}
			return nil
		}
	})
	f.fill(1)
	c := f.login()
	for _, old := range []bool{false, true, false} {
		behind.Store(old)
		reply := strings.Join(c.ok("EXAMINE INBOX"), "\n")
		if marked := strings.Contains(reply, "* NO [UNAVAILABLE] What this node shows may be old"); marked != old {
			t.Errorf("behind: %v, EXAMINE is answered %q", old, reply)
		}
	}
}
