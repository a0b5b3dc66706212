package imap

import (
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

// TestViews lets three clients do random things to one mailbox. Each believes only what it is told; at
// the end, and whenever it looks, what it believes must be so: numbers, UIDs and flags.
func TestViews(t *testing.T) {
	f := newFixture(t, nil)
	round := 0
	rapid.Check(t, func(rt *rapid.T) {
		round++
		box := fmt.Sprintf("box%d", round)
		var believers [3]*believer
		for i := range believers {
			believers[i] = &believer{rt: rt, c: f.login(), silent: rapid.Bool().Draw(rt, "silent")}
			defer believers[i].c.Close()
			if i == 0 {
				believers[i].c.ok("CREATE " + box)
				for range 3 {
					believers[i].c.append(box, "", "x")
				}
			}
			believers[i].do("SELECT "+box, false)
			believers[i].do("UID FETCH 1:* (UID FLAGS)", false)
		}
		for range rapid.IntRange(10, 60).Draw(rt, "steps") {
			believers[rapid.IntRange(0, 2).Draw(rt, "who")].step(box)
		}
		truth := &believer{rt: rt, c: f.login()}
		defer truth.c.Close()
		truth.do("SELECT "+box, false)
		truth.do("UID FETCH 1:* (UID FLAGS)", false)
		for _, b := range believers {
			b.do("NOOP", false)
			b.compare(truth.messages)
		}
	})
}

// believer is a client with the picture it has of the mailbox.
type believer struct {
	rt       *rapid.T
	c        *client
	silent   bool // its STOREs are
	messages []*believed
}

type believed struct {
	uid   int    // 0: not told yet
	flags string // as last told, sorted; "?" not told yet
}

// compare holds what is believed against what is so. What was never told may be unknown, not wrong.
func (b *believer) compare(truth []*believed) {
	if len(b.messages) != len(truth) {
		b.rt.Fatalf("%d messages are believed in, there are %d", len(b.messages), len(truth))
	}
	for i, m := range b.messages {
		if m.uid != 0 && m.uid != truth[i].uid || m.flags != "?" && m.flags != truth[i].flags {
			b.rt.Fatalf("message %d is believed to be %+v, and is %+v", i+1, *m, *truth[i])
		}
	}
}

func (b *believer) step(box string) {
	n := len(b.messages)
	action := rapid.SampledFrom([]string{"store", "uidstore", "expunge", "append", "fetch", "uidexpunge", "copy",
		"move", "noop", "uidfetch", "search", "seen"}).Draw(b.rt, "action")
	switch action {
	case "append":
		b.do("APPEND "+box+" (\\Flagged) {1+}\r\nx", false)
		return
	case "noop", "expunge":
		b.do(strings.ToUpper(action), false)
		return
	case "uidfetch":
		b.do("UID FETCH 1:* (FLAGS)", false)
		return
	case "uidexpunge":
		b.do("UID EXPUNGE 1:*", false)
		return
	}
	if n == 0 {
		return
	}
	lo := rapid.IntRange(1, n).Draw(b.rt, "lo")
	hi := rapid.IntRange(lo, min(n, lo+3)).Draw(b.rt, "hi")
	switch action {
	case "store":
		b.store(lo, hi, "STORE")
	case "uidstore":
		b.store(lo, hi, "UID STORE")
	case "copy":
		b.do(fmt.Sprintf("COPY %d:%d %s", lo, hi, box), false)
	case "move":
		b.do(fmt.Sprintf("MOVE %d:%d %s", lo, hi, box), false)
	case "fetch":
		b.do(fmt.Sprintf("FETCH %d:%d (UID FLAGS)", lo, hi), true)
	case "search":
		b.do("SEARCH ALL", true)
	case "seen":
		b.do(fmt.Sprintf("FETCH %d:%d (BODY[])", lo, hi), true)
	}
}

// store changes a flag, and believes the change when it asked not to be told.
func (b *believer) store(lo, hi int, command string) {
	flag := rapid.SampledFrom([]string{`\Deleted`, `\Seen`, "k1", "k2"}).Draw(b.rt, "flag")
	sign := rapid.SampledFrom([]string{"+", "-", ""}).Draw(b.rt, "sign")
	from, to := lo, hi
	if command == "UID STORE" {
		if from, to = b.messages[lo-1].uid, b.messages[hi-1].uid; from == 0 || to == 0 {
			return
		}
	}
	item := sign + "FLAGS"
	if b.silent {
		item += ".SILENT"
	}
	changed := slices.Clone(b.messages[lo-1 : hi]) // the answer may be that some of them are gone
	b.do(fmt.Sprintf("%s %d:%d %s (%s)", command, from, to, item, flag), command == "STORE")
	if b.silent {
		for _, m := range changed {
			m.change(sign, flag)
		}
	}
}

func (m *believed) change(sign, flag string) {
	if sign == "" {
		m.flags = flag
		return
	}
	if m.flags == "?" {
		return
	}
	flags := slices.DeleteFunc(strings.Fields(m.flags), func(f string) bool { return f == flag })
	if sign == "+" {
		flags = append(flags, flag)
	}
	m.flags = sortedFlags(strings.Join(flags, " "))
}

func sortedFlags(text string) string {
	flags := strings.Fields(text)
	slices.Sort(flags)
	return strings.Join(flags, " ")
}

var (
	fetchUID   = regexp.MustCompile(`UID (\d+)`)
	fetchFlags = regexp.MustCompile(`FLAGS \(([^)]*)\)`)
)

// do gives a command and believes its answers; quiet ones may not announce EXPUNGE.
func (b *believer) do(command string, quiet bool) {
	untagged, tagged := b.c.do(command)
	if !strings.HasPrefix(tagged, "OK") {
		b.rt.Fatalf("%s: %s", command, tagged)
	}
	if strings.HasPrefix(command, "SELECT") {
		b.messages = nil
	}
	for i := 0; i < len(untagged); i++ {
		line := untagged[i]
		for strings.HasSuffix(line, "}") { // goes on behind the literal, which here has no line end
			i++
			line += untagged[i]
		}
		b.believe(command, line, quiet)
	}
}

func (b *believer) believe(command, line string, quiet bool) {
	fields := strings.Fields(line)
	if len(fields) < 3 || fields[0] != "*" {
		return
	}
	n, err := strconv.Atoi(fields[1])
	if err != nil {
		return
	}
	switch fields[2] {
	case "EXISTS":
		if n < len(b.messages) {
			b.rt.Fatalf("%s: %s, but %d are known", command, line, len(b.messages))
		}
		for len(b.messages) < n {
			b.messages = append(b.messages, &believed{flags: "?"})
		}
	case "EXPUNGE":
		if quiet || n > len(b.messages) {
			b.rt.Fatalf("%s: %s", command, line)
		}
		b.messages = slices.Delete(b.messages, n-1, n)
	case "FETCH":
		if n > len(b.messages) {
			b.rt.Fatalf("%s: %s, but %d are known", command, line, len(b.messages))
		}
		b.fetched(command, line, b.messages[n-1])
	}
}

func (b *believer) fetched(command, line string, m *believed) {
	if match := fetchUID.FindStringSubmatch(line); match != nil {
		uid, _ := strconv.Atoi(match[1])
		if m.uid != 0 && m.uid != uid {
			b.rt.Fatalf("%s: %s, but the message has UID %d", command, line, m.uid)
		}
		m.uid = uid
	}
	if match := fetchFlags.FindStringSubmatch(line); match != nil {
		m.flags = sortedFlags(strings.ReplaceAll(match[1], `\Recent`, "")) // which another session does not see
	}
}
