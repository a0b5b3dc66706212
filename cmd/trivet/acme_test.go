package main

import (
	"context"
	"errors"
	"io/fs"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"trivet/storage"
)

// memoryFiles is acmeFiles in memory; a lock can be taken away from its holder.
type memoryFiles struct {
	acmeFiles
	files map[string]string
	locks map[string]uint64
	token uint64
}

func (m *memoryFiles) CertificateFile(_ context.Context, name string) ([]byte, error) {
	if value, ok := m.files[name]; ok {
		return []byte(value), nil
	}
	return nil, &storage.Error{Op: "read", Kind: storage.KindNotFound}
}

func (m *memoryFiles) CertificateFiles(_ context.Context, prefix string) ([]storage.CertificateFile, error) {
	var files []storage.CertificateFile
	for name, value := range m.files {
		if prefix == "" || name == prefix || strings.HasPrefix(name, prefix+"/") {
			files = append(files, storage.CertificateFile{Name: name, Size: int64(len(value))})
		}
	}
	slices.SortFunc(files, func(a, b storage.CertificateFile) int { return strings.Compare(a.Name, b.Name) })
	return files, nil
}

func (m *memoryFiles) PutCertificateFile(_ context.Context, name string, value []byte, locks []storage.CertificateLock) error {
	for _, l := range locks {
		if m.locks[l.Name] != l.Token {
			return &storage.Error{Op: "put", Kind: storage.KindDenied}
		}
	}
	m.files[name] = string(value)
	return nil
}

func (m *memoryFiles) LockCertificates(_ context.Context, name, _ string, _ time.Duration) (storage.CertificateLock, error) {
	if m.locks[name] != 0 {
		return storage.CertificateLock{}, &storage.Error{Op: "lock", Kind: storage.KindExists}
	}
	m.token++
	m.locks[name] = m.token
	return storage.CertificateLock{Name: name, Token: m.token}, nil
}

func (m *memoryFiles) UnlockCertificates(_ context.Context, lock storage.CertificateLock) error {
	if m.locks[lock.Name] == lock.Token {
		delete(m.locks, lock.Name)
	}
	return nil
}

func TestACMEStorageListsAsFolders(t *testing.T) {
	a := &acmeStorage{files: &memoryFiles{files: map[string]string{"a/b/one": "1", "a/b/two": "22", "a/c": "3", "d": ""}}, log: quiet()}
	ctx := t.Context()
	for _, test := range []struct {
		prefix    string
		recursive bool
		want      string
	}{
		{"", false, "a d"}, {"", true, "a a/b a/b/one a/b/two a/c d"},
		{"a", false, "a/b a/c"}, {"a/", true, "a/b a/b/one a/b/two a/c"}, {"a/b", false, "a/b/one a/b/two"},
	} {
		if got, err := a.List(ctx, test.prefix, test.recursive); err != nil || strings.Join(got, " ") != test.want {
			t.Errorf("%q, %v: %v, %v", test.prefix, test.recursive, got, err)
		}
	}
	if _, err := a.List(ctx, "x", true); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("nothing there: %v", err)
	}
	if _, err := a.Load(ctx, "x"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("nothing there: %v", err)
	}
	if info, err := a.Stat(ctx, "a/b/two"); err != nil || !info.IsTerminal || info.Size != 2 {
		t.Errorf("a file: %+v, %v", info, err)
	}
	if info, err := a.Stat(ctx, "a/b"); err != nil || info.IsTerminal {
		t.Errorf("a folder: %+v, %v", info, err)
	}
	if _, err := a.Stat(ctx, "x"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("nothing there: %v", err)
	}
	if !a.Exists(ctx, "a/b") || !a.Exists(ctx, "d") || a.Exists(ctx, "a/x") {
		t.Error("Exists")
	}
}

func TestACMEStorageWritesUnderItsLocks(t *testing.T) {
	m := &memoryFiles{files: map[string]string{}, locks: map[string]uint64{}}
	a := &acmeStorage{files: m, log: quiet()}
	ctx := t.Context()
	if err := errors.Join(a.Store(ctx, "free", nil), a.Lock(ctx, "order"), a.Store(ctx, "mine", nil)); err != nil {
		t.Fatal(err)
	}
	short, cancel := context.WithTimeout(ctx, time.Millisecond)
	defer cancel()
	if err := a.Lock(short, "order"); err == nil {
		t.Error("the same process got the lock twice")
	}
	m.locks["order"] = 99 // another node has it
	if err := a.Store(ctx, "late", nil); storage.KindOf(err) != storage.KindDenied || err == nil {
		t.Errorf("under a lost lock: %v", err)
	}
	if err := a.Unlock(ctx, "order"); err != nil || m.locks["order"] != 99 {
		t.Errorf("giving back what another has: %v", err)
	}
	if err := a.Store(ctx, "later", nil); err != nil {
		t.Errorf("after the lock: %v", err)
	}
	if err := a.Unlock(ctx, "order"); err == nil {
		t.Error("unlocked twice")
	}
}

// An answer to a challenge that another node wrote is waited for.
func TestACMEStorageCatchesUpForChallenges(t *testing.T) {
	m := &memoryFiles{files: map[string]string{}}
	name := "acme/ca/challenge_tokens/mail.example.org.json"
	caught := 0
	a := &acmeStorage{files: m, log: quiet(), catchUp: func(context.Context) error { caught++; m.files[name] = "answer"; return nil }}
	if _, err := a.Load(t.Context(), "other"); !errors.Is(err, fs.ErrNotExist) || caught != 0 {
		t.Errorf("another file: %v, %d", err, caught)
	}
	for range 2 {
		if value, err := a.Load(t.Context(), name); string(value) != "answer" || err != nil || caught != 1 {
			t.Errorf("%q, %v, caught up %d times", value, err, caught)
		}
	}
}

func TestACMEBackOff(t *testing.T) {
	at := time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)
	for failures, want := range map[int]time.Duration{1: 5 * time.Minute, 2: 10 * time.Minute, 3: 20 * time.Minute, 8: 640 * time.Minute, 9: 12 * time.Hour, 1000: 12 * time.Hour} {
		if got := (acmeProblem{At: at, Failures: failures}).next().Sub(at); got != want {
			t.Errorf("%d failures: %v, want %v", failures, got, want)
		}
	}
	if (acmeProblem{}).next().After(at) {
		t.Error("no failure keeps from ordering")
	}
}

// state is a fake with a certificate for a name, valid from a time on.
func (s fixedSettings) add(t *testing.T, authority, name string, from time.Time) {
	t.Helper()
	both, err := newSelfSigned([]string{name}, nil, from)
	if err != nil {
		t.Fatal(err)
	}
	base := filepath.Join(certificateFolder, authority, name, name)
	s[base+".crt"], s[base+".key"] = publicPEM(both), both[len(publicPEM(both)):]
}

func TestCertificateByName(t *testing.T) {
	state := fixedSettings{}
	now := time.Now()
	state.add(t, "ca", "mail.example.org", now)
	state.add(t, "ca", "mta-sts.example.org", now)
	state.add(t, "old", "mail.example.org", now.Add(-time.Hour))
	self, err := newSelfSigned([]string{"mail.example.org"}, nil, now)
	if err != nil {
		t.Fatal(err)
	}
	state[settingSelfSigned] = self
	c, err := newCertificates(state, settings{}, quiet())
	if err != nil {
		t.Fatal(err)
	}
	c.refresh(t.Context())
	shows := func(asked, host, want string) {
		t.Helper()
		c.host = host
		pair, err := c.named(t.Context(), asked)
		if err != nil {
			t.Fatal(err)
		}
		if got := pair.Leaf.Subject.CommonName; got != want || pair == c.self.Load() {
			t.Errorf("asked for %q on %q: %q", asked, host, got)
		}
	}
	shows("mta-sts.example.org", "mail.example.org", "mta-sts.example.org")
	shows("MTA-STS.example.org.", "mail.example.org", "mta-sts.example.org")
	shows("", "mail.example.org", "mail.example.org")
	shows("unknown.example.net", "mail.example.org", "mail.example.org")
	if pair, err := c.named(t.Context(), "unknown"); err != nil || pair.Leaf.NotBefore.Before(now.Add(-clockAllowance-time.Minute)) {
		t.Errorf("the older of two is shown: %v, %v", pair.Leaf.NotBefore, err)
	}
	c.host = "other.example.org"
	if pair, err := c.named(t.Context(), "unknown"); err != nil || pair != c.self.Load() {
		t.Errorf("a host without one: %v", err)
	}
	// A renewal that is half written leaves what was there.
	state.add(t, "ca", "mta-sts.example.org", now.Add(time.Hour))
	state["certificates/ca/mta-sts.example.org/mta-sts.example.org.key"] = state["certificates/ca/mail.example.org/mail.example.org.key"]
	state["certificates/ca/mta-sts.example.org/mta-sts.example.org.json"] = []byte("{}")
	c.refresh(t.Context())
	shows("mta-sts.example.org", "mail.example.org", "mta-sts.example.org")
	if c.problem == "" {
		t.Error("nothing is said of it")
	}
}

func TestACMEChangesAreChecked(t *testing.T) {
	for _, args := range []string{"--challenge=x", "--directory=http://ca.example.org/", "--directory=x", "--email=nobody", "--name=-", "--agree --off"} {
		var out, errs strings.Builder
		status := run(t.Context(), func() {}, append([]string{"certificate", "acme", "--data", t.TempDir()}, strings.Fields(args)...),
			streams{in: strings.NewReader(""), out: &out, err: &errs})
		if status != exitUsage {
			t.Errorf("%s: exit status %d, %s", args, status, errs.String())
		}
	}
}
