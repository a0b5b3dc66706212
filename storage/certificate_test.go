package storage

import (
	"bytes"
	"context"
	"slices"
	"strings"
	"testing"
	"time"
)

func TestCertificateFiles(t *testing.T) {
	f := newFixture(t)
	ctx, begun := context.Background(), f.clock.Now()
	for _, name := range []string{"a/b/one", "a/b/two", "a/b", "a/b0", "a/b-", "c"} {
		f.must(f.PutCertificateFile(ctx, name, []byte("old"), nil))
		f.must(f.PutCertificateFile(ctx, name, []byte(name), nil))
	}
	if v, err := f.CertificateFile(ctx, "a/b/one"); err != nil || string(v) != "a/b/one" {
		t.Fatalf("%q, %v", v, err)
	}
	names := func(prefix string) (names []string) {
		t.Helper()
		files, err := f.CertificateFiles(ctx, prefix)
		f.must(err)
		for _, file := range files {
			if file.Size != int64(len(file.Name)) || !file.Modified.After(begun) || file.Modified.After(f.clock.Now()) {
				t.Errorf("file %+v", file)
			}
			names = append(names, file.Name)
		}
		return names
	}
	for prefix, want := range map[string]string{"": "a/b a/b- a/b/one a/b/two a/b0 c", "a/b": "a/b a/b/one a/b/two", "a/b/": "a/b a/b/one a/b/two",
		"a": "a/b a/b- a/b/one a/b/two a/b0", "b": "", "a/b/one": "a/b/one"} {
		if got := names(prefix); !slices.Equal(got, strings.Fields(want)) {
			t.Errorf("below %q: %v", prefix, got)
		}
	}
	f.must(f.DeleteCertificateFiles(ctx, "a/b", nil))
	f.must(f.DeleteCertificateFiles(ctx, "never", nil))
	if got := names(""); !slices.Equal(got, []string{"a/b-", "a/b0", "c"}) {
		t.Errorf("left: %v", got)
	}
	if _, err := f.CertificateFile(ctx, "a/b"); err == nil || KindOf(err) != KindNotFound {
		t.Errorf("deleted: %v", err)
	}
	f.must(f.PutCertificateFile(ctx, strings.Repeat("n", MaxCertificateName), bytes.Repeat([]byte("v"), MaxCertificateValue), nil))
	for name, size := range map[string]int{"": 1, strings.Repeat("n", MaxCertificateName+1): 1, "big": MaxCertificateValue + 1} {
		if err := f.PutCertificateFile(ctx, name, make([]byte, size), nil); KindOf(err) != KindTooLarge {
			t.Errorf("name of %d, value of %d: %v", len(name), size, err)
		}
	}
	if f.replayed(3).Sum != f.sound().Sum {
		t.Fatal("replays differently")
	}
}

func TestCertificateLocksAreFenced(t *testing.T) {
	f := newFixture(t)
	ctx := context.Background()
	first, err := f.LockCertificates(ctx, "order", "n1", time.Minute)
	f.must(err)
	if _, err := f.LockCertificates(ctx, "order", "n2", time.Minute); KindOf(err) != KindExists || !strings.Contains(err.Error(), "n1") {
		t.Fatalf("a lock that is held: %v", err)
	}
	other, err := f.LockCertificates(ctx, "other", "n2", time.Minute)
	f.must(err)
	f.must(f.PutCertificateFile(ctx, "cert", []byte("1"), []CertificateLock{first, other}))

	// Extending keeps it beyond its first end.
	f.clock.advance(time.Minute - time.Second)
	f.must(f.ExtendCertificateLock(ctx, first, time.Minute))
	f.clock.advance(time.Minute - time.Second)
	if _, err := f.LockCertificates(ctx, "order", "n2", time.Minute); KindOf(err) != KindExists {
		t.Fatalf("before its end: %v", err)
	}
	f.clock.advance(time.Second)
	second, err := f.LockCertificates(ctx, "order", "n2", time.Minute)
	f.must(err)
	if second.Token <= first.Token {
		t.Fatalf("tokens %d, then %d", first.Token, second.Token)
	}

	// Who lost it changes nothing any more, and does not take it from who has it.
	for name, err := range map[string]error{
		"put":    f.PutCertificateFile(ctx, "cert", []byte("late"), []CertificateLock{first}),
		"delete": f.DeleteCertificateFiles(ctx, "cert", []CertificateLock{other, first}),
		"extend": f.ExtendCertificateLock(ctx, first, time.Minute),
	} {
		if KindOf(err) != KindDenied || err == nil {
			t.Errorf("%s under a lost lock: %v", name, err)
		}
	}
	f.must(f.UnlockCertificates(ctx, first))
	f.must(f.PutCertificateFile(ctx, "cert", []byte("2"), []CertificateLock{second}))
	f.must(f.UnlockCertificates(ctx, second))
	if err := f.PutCertificateFile(ctx, "cert", []byte("3"), []CertificateLock{second}); KindOf(err) != KindDenied {
		t.Errorf("put under a lock that was given back: %v", err)
	}
	third, err := f.LockCertificates(ctx, "order", "n1", time.Minute)
	f.must(err)
	f.must(f.UnlockCertificates(ctx, third))
	if v, err := f.CertificateFile(ctx, "cert"); err != nil || string(v) != "2" {
		t.Errorf("%q, %v", v, err)
	}
	if f.replayed(2).Sum != f.sound().Sum {
		t.Fatal("replays differently")
	}
}
