package smtp

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"log/slog"
	"math/big"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"trivet/storage"
)

// fakeStore keeps what it is given. It hosts example.org and bücher.example.
type fakeStore struct {
	mu       sync.Mutex
	accounts map[string][]storage.Account
	spooled  map[*storage.Content][]byte
	seen     map[[32]byte]bool
	messages []fakeMessage
	attempts int

	// what fails, and how
	resolveErr, prepareErr, deliverErr, health error
	deliver                                    func(context.Context) // called before a delivery is accepted
}

type fakeMessage struct {
	data       string
	recipients []int64
	received   time.Time
	junk       bool
	verdicts   []storage.SpamVerdict
}

func newFakeStore() *fakeStore {
	return &fakeStore{
		accounts: map[string][]storage.Account{
			"alice@example.org":            {{ID: 1}},
			"bob@example.org":              {{ID: 2}},
			"full@example.org":             {{ID: 3, QuotaBytes: 1000, UsedBytes: 900}},
			"postmaster@example.org":       {{ID: 1}},
			"team@example.org":             {{ID: 1}, {ID: 2}},
			`"two words"@example.org`:      {{ID: 4}},
			`"at@sign"@example.org`:        {{ID: 5}},
			"jürgen@xn--bcher-kva.example": {{ID: 6}},
			"jane@xn--bcher-kva.example":   {{ID: 7}},
		},
		spooled: map[*storage.Content][]byte{},
		seen:    map[[32]byte]bool{},
	}
}

func (f *fakeStore) Resolve(_ context.Context, address string) (storage.Recipient, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.resolveErr != nil {
		return storage.Recipient{}, f.resolveErr
	}
	domain := address[strings.LastIndexByte(address, '@')+1:]
	local := domain == "example.org" || domain == "xn--bcher-kva.example"
	return storage.Recipient{Local: local, Accounts: f.accounts[strings.ToLower(address)]}, nil
}

func (f *fakeStore) Domains(context.Context) ([]storage.Domain, error) {
	return []storage.Domain{{Name: "xn--bcher-kva.example"}, {Name: "example.org"}}, nil
}

func (f *fakeStore) Prepare(_ context.Context, r io.Reader) (*storage.Content, error) {
	f.mu.Lock()
	fails := f.prepareErr
	f.mu.Unlock()
	if fails != nil {
		io.CopyN(io.Discard, r, 10)
		return nil, fails
	}
	data, err := io.ReadAll(r)
	if err != nil {
		return nil, err
	}
	c := new(storage.Content)
	f.mu.Lock()
	defer f.mu.Unlock()
	f.spooled[c] = data
	return c, nil
}

func (f *fakeStore) DeliverAll(ctx context.Context, all []storage.Delivery) ([]storage.Delivered, error) {
	var done []storage.Delivered
	for _, d := range all {
		one, err := f.Deliver(ctx, d)
		if err != nil {
			return nil, err
		}
		done = append(done, one)
	}
	return done, nil
}

func (f *fakeStore) Deliver(ctx context.Context, d storage.Delivery) (storage.Delivered, error) {
	f.mu.Lock()
	hook := f.deliver
	f.mu.Unlock()
	if hook != nil {
		hook(ctx)
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.attempts++
	switch {
	case ctx.Err() != nil:
		return storage.Delivered{}, ctx.Err()
	case f.deliverErr != nil:
		return storage.Delivered{}, f.deliverErr
	case f.seen[d.Transaction]:
		return storage.Delivered{Duplicate: true}, nil
	}
	f.seen[d.Transaction] = true
	f.messages = append(f.messages, fakeMessage{string(f.spooled[d.Content]), slices.Compact(slices.Sorted(slices.Values(d.Recipients))), d.Received, d.Junk, d.Verdicts})
	delete(f.spooled, d.Content)
	return storage.Delivered{MessageID: int64(len(f.messages))}, nil
}

func (f *fakeStore) Submitted(context.Context, int64, storage.SubmissionLimit) (storage.SubmissionState, error) {
	return storage.SubmissionState{}, nil
}

func (f *fakeStore) DKIMKeys(context.Context, string) ([]storage.DKIMKey, error) { return nil, nil }

func (f *fakeStore) Vacation(context.Context, int64) (storage.Vacation, error) {
	return storage.Vacation{}, nil
}

func (f *fakeStore) Answered(context.Context, int64, string, time.Time) (bool, error) {
	return true, nil
}

func (f *fakeStore) delivered() []fakeMessage {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Clone(f.messages)
}

// kinds names the errors that a transcript can ask for.
var kinds = map[string]storage.Kind{"unavailable": storage.KindUnavailable, "disk-full": storage.KindDiskFull,
	"unknown": storage.KindUnknown, "no-quorum": storage.KindNoQuorum, "over-quota": storage.KindOverQuota,
	"internal": storage.KindInternal, "invalid": storage.KindInvalid, "not-found": storage.KindNotFound}

func storageError(kind storage.Kind) error {
	return &storage.Error{Op: "test", Kind: kind, Err: errors.New("as the test wants it")}
}

var testClock = func() time.Time { return time.Date(2026, 11, 22, 14, 30, 0, 0, time.UTC) }

// startServer serves on a loopback port until the test ends.
func startServer(t testing.TB, store *fakeStore, change func(*Config)) (*Server, string) {
	t.Helper()
	cfg := Config{Hostname: "mx.example.org", Store: store, Limits: DefaultLimits(), Clock: testClock,
		Logger:  slog.New(slog.DiscardHandler),
		Healthy: func(context.Context) error { store.mu.Lock(); defer store.mu.Unlock(); return store.health }}
	if change != nil {
		change(&cfg)
	}
	srv := New(cfg)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	served := make(chan error, 1)
	go func() { served <- srv.Serve(l) }()
	t.Cleanup(func() {
		ctx, cancel := context.WithCancel(context.Background())
		cancel() // sessions that a test left open are cut off
		srv.Shutdown(ctx)
		if err := <-served; err != nil {
			t.Errorf("Serve: %v", err)
		}
	})
	return srv, l.Addr().String()
}

// testTLS makes a certificate for mx.example.org.
var testTLS = sync.OnceValues(func() (*tls.Config, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), DNSNames: []string{"mx.example.org"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		return nil, err
	}
	return &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}}}, nil
})

func withTLS(t testing.TB) func(*Config) {
	return func(cfg *Config) {
		c, err := testTLS()
		if err != nil {
			t.Fatal(err)
		}
		cfg.TLS = c
	}
}

func insecure() *tls.Config { return &tls.Config{InsecureSkipVerify: true} }

// lazyStore does not read messages to their end.
type lazyStore struct{ *fakeStore }

func (lazyStore) Prepare(_ context.Context, r io.Reader) (*storage.Content, error) {
	_, err := r.Read(make([]byte, 10))
	return new(storage.Content), err
}

// lockedBuffer is a bytes.Buffer for several goroutines.
type lockedBuffer struct {
	mu sync.Mutex
	b  strings.Builder
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}
