package main

import (
	"reflect"
	"strings"
	"testing"
	"time"
)

func testToken(t testing.TB) token {
	t.Helper()
	a, err := newAuthority(time.Now())
	if err != nil {
		t.Fatal(err)
	}
	secret, err := a.newSecret()
	if err != nil {
		t.Fatal(err)
	}
	return token{addresses: []string{"192.0.2.1:7000", "[2001:db8::1]:7000", "mx.example.org:7000"}, authority: a.hash(), secret: secret,
		expires: time.Unix(1_800_000_000, 0)}
}

func TestTokenIsReadBack(t *testing.T) {
	want := testToken(t)
	text := want.String()
	if strings.ContainsAny(text, " \t\n'\"\\$&|;<>*?()[]{}~#!%=`") || text[0] == '-' {
		t.Errorf("not for a shell: %s", text)
	}
	got, err := parseToken(" " + text + "\n")
	if err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("%+v, %v", got, err)
	}
}

func TestTokenMistakes(t *testing.T) {
	text := testToken(t).String()
	tests := map[string]string{
		"":                          "this is no token",
		"nonsense":                  "this is no token",
		text[:len(text)-1]:          "damaged",
		text[:len(text)/2]:          "damaged",
		text + "A":                  "damaged",
		tokenPrefix:                 "damaged",
		tokenPrefix + "!" + text:    "damaged",
		strings.ToUpper(text[20:]):  "this is no token",
		token{}.String():            "damaged", // it leads nowhere
		text[:40] + "x" + text[41:]: "damaged",
		token{addresses: []string{"nowhere"}}.String():                                    "damaged",
		tokenPrefix + strings.Repeat("A", maxToken+1):                                     "damaged",
		token{addresses: strings.Fields(strings.Repeat("h:1 ", maxAddresses+1))}.String(): "damaged",
	}
	for text, want := range tests {
		if _, err := parseToken(text); err == nil || !strings.Contains(err.Error(), want) || exitStatus(err) != exitUsage {
			t.Errorf("%q: %v, want %q", text, err, want)
		}
	}
}

func TestSecretsAreOfTheirAuthority(t *testing.T) {
	ours, theirs := testAuthority(t), testAuthority(t)
	secret, err := ours.newSecret()
	if err != nil || !ours.made(secret[:]) {
		t.Fatalf("our own: %v", err)
	}
	another, _ := ours.newSecret()
	if another == secret {
		t.Error("two secrets are the same")
	}
	if theirs.made(secret[:]) || ours.made(secret[:secretBytes-1]) || ours.made(nil) {
		t.Error("a secret of somebody else")
	}
	secret[0]++
	if ours.made(secret[:]) {
		t.Error("a secret that was changed")
	}
}

func FuzzToken(f *testing.F) {
	f.Add(testToken(f).String())
	f.Add(tokenPrefix)
	f.Fuzz(func(t *testing.T, text string) {
		parsed, err := parseToken(text)
		if err != nil {
			return
		}
		if again, err := parseToken(parsed.String()); err != nil || !reflect.DeepEqual(again, parsed) {
			t.Errorf("%q: read back as %+v, %v", text, again, err)
		}
	})
}
