package main

import (
	"testing"

	"pgregory.net/rapid"
)

func TestSize(t *testing.T) {
	tests := map[string]int64{"0": 0, "1000": 1000, "1B": 1, "500kB": 500_000, "1 KiB": 1024, "1k": 1024, "25MiB": 25 << 20, "1.5G": 3 << 29,
		"2TB": 2e12, " 7 ": 7}
	for text, want := range tests {
		var s size
		if err := s.Set(text); err != nil || int64(s) != want {
			t.Errorf("%q: %d, %v, want %d", text, int64(s), err, want)
		}
	}
	for _, text := range []string{"", "-1", "x", "1X", "MiB", "1e40", "inf", "nan", "1 2", "8388608TiB"} {
		s := size(5)
		if err := s.Set(text); err == nil || s != 5 {
			t.Errorf("%q: %d, %v", text, int64(s), err)
		}
	}
}

func TestSizeIsReadBack(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		want := size(rapid.Int64Range(0, 1<<52).Draw(t, "size") << rapid.IntRange(0, 9).Draw(t, "shift"))
		var got size
		if err := got.Set(want.String()); err != nil || got != want {
			t.Fatalf("%s is read as %d, %v", want, int64(got), err)
		}
	})
}

func TestSizeAbout(t *testing.T) {
	for s, want := range map[size]string{0: "0 B", 1023: "1023 B", 1024: "1.0 KiB", 1536 << 20: "1.5 GiB"} {
		if got := s.about(); got != want {
			t.Errorf("%d: %q, want %q", int64(s), got, want)
		}
	}
}
