package main

import (
	"os"
	"strings"
	"testing"
)

func TestClaim(t *testing.T) {
	dir := dataDir(t.TempDir())
	if err := os.Chmod(string(dir), 0o755); err != nil {
		t.Fatal(err)
	}
	unlock, err := dir.lock()
	if err != nil {
		t.Fatal(err)
	}
	defer unlock()
	if err := dir.claim(); err != nil {
		t.Fatal(err)
	}
	if info, err := os.Stat(string(dir)); err != nil || info.Mode().Perm() != 0o700 {
		t.Errorf("mode %v, %v", info.Mode(), err)
	}
	if _, err := dir.lock(); err == nil || !strings.Contains(err.Error(), "another trivet") {
		t.Errorf("a second lock: %v", err)
	}
}

func TestClaimLeavesOtherFoldersAlone(t *testing.T) {
	dir := dataDir(t.TempDir())
	if err := os.WriteFile(dir.path("mine"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(string(dir), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := dir.claim(); err == nil {
		t.Error("claimed")
	}
	if info, err := os.Stat(string(dir)); err != nil || info.Mode().Perm() != 0o755 {
		t.Errorf("mode %v, %v", info.Mode(), err)
	}
}

func TestDataFlagOfHints(t *testing.T) {
	t.Setenv("TRIVET_DATA", "/srv/mail")
	for dir, want := range map[dataDir]string{defaultDataDir: "", "/srv/mail": "", "/other": " --data /other", "/with space": ` --data "/with space"`} {
		if got := dir.flag(); got != want {
			t.Errorf("%s: %q, want %q", dir, got, want)
		}
	}
}
