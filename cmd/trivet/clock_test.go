package main

import (
	"os"
	"path/filepath"
	"testing"
	"time"
)

func TestWrongClock(t *testing.T) {
	path := filepath.Join(t.TempDir(), "offset")
	t.Setenv(clockVariable, path)
	now := newClock()
	wrongBy := func() time.Duration { return now().Sub(time.Now().Round(0)) }
	if off := wrongBy(); off.Abs() > time.Minute {
		t.Errorf("without a file it is wrong by %v", off)
	}
	for _, want := range []time.Duration{-3 * time.Hour, 5 * time.Hour} {
		if err := os.WriteFile(path, []byte(want.String()+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		for deadline := time.Now().Add(10 * time.Second); (wrongBy() - want).Abs() > time.Minute; time.Sleep(clockPoll) {
			if time.Now().After(deadline) {
				t.Fatalf("it is wrong by %v, not by %v", wrongBy(), want)
			}
		}
	}
}
