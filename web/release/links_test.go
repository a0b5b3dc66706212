package release

import (
	"strings"
	"testing"
	"time"
)

var noon = time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)

func TestTokens(t *testing.T) {
	l, other := NewLinks([]byte("key")), NewLinks([]byte("another"))
	token := l.Copy(123456789)
	if id, ok := l.OpenCopy(token); !ok || id != 123456789 {
		t.Error(id, ok)
	}
	j := Junk{Account: 1, Mailbox: 2, UID: 3, Expires: noon.Add(time.Hour)}
	junk := l.Junk(j)
	if got, ok := l.OpenJunk(junk, noon); !ok || got.Account != 1 || got.Mailbox != 2 || got.UID != 3 || !got.Expires.Equal(j.Expires) {
		t.Errorf("%+v %v", got, ok)
	}
	if _, ok := l.OpenJunk(junk, j.Expires); ok {
		t.Error("an expired link is good")
	}
	if _, ok := l.OpenJunk(token, noon); ok {
		t.Error("a link for one thing is good for another")
	}
	for _, bad := range []string{"", ".", token + "x", token[1:], "21i3v9." + token[strings.IndexByte(token, '.')+2:], other.Copy(123456789), strings.Repeat("x", maxToken) + token} {
		if id, ok := l.OpenCopy(bad); ok {
			t.Errorf("%q is good for %d", bad, id)
		}
	}
	if _, ok := NewLinks(nil).OpenCopy(NewLinks(nil).Copy(1)); ok {
		t.Error("without a key everything is good")
	}
}

func TestTickets(t *testing.T) {
	l := NewLinks([]byte("key"))
	ticket := l.wait("token", noon)
	for after, want := range map[time.Duration]bool{0: false, WaitLeast - time.Second: false, WaitLeast: true, waitMost: true, waitMost + time.Second: false, -time.Hour: false} {
		if got := l.waited("token", ticket, noon.Add(after)); got != want {
			t.Errorf("after %v: %v", after, got)
		}
	}
	for _, bad := range []string{"", "x", ".", ticket + "x", "1" + ticket} {
		if l.waited("token", bad, noon.Add(WaitLeast)) || l.waiting("token", bad, noon) {
			t.Errorf("%q is good", bad)
		}
	}
	if l.waited("another", ticket, noon.Add(WaitLeast)) {
		t.Error("the ticket of one page is good for another")
	}
}

func FuzzOpen(f *testing.F) {
	l := NewLinks([]byte("key"))
	f.Add(l.Copy(1), l.Junk(Junk{1, 2, 3, noon}))
	f.Fuzz(func(t *testing.T, a, b string) {
		if id, ok := l.OpenCopy(a); ok && l.Copy(id) != a {
			t.Fatalf("%q opens %d", a, id)
		}
		if j, ok := l.OpenJunk(b, time.Time{}); ok && l.Junk(j) != b {
			t.Fatalf("%q opens %+v", b, j)
		}
		l.waited(a, b, noon)
	})
}
