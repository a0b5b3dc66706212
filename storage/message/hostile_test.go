package message

import (
	"bytes"
	"fmt"
	"runtime"
	"strings"
	"testing"
)

// hostile is a message made to be slow or large to read.
type hostile struct {
	name    string
	defects Defects // that it must show
	make    func() []byte
}

func hostileMessages() []hostile {
	const mixed = "Content-Type: multipart/mixed; boundary=x\r\n\r\n"
	return []hostile{
		{"30000-parts", DefectTooManyParts, func() []byte {
			return []byte(mixed + strings.Repeat("--x\r\n\r\nhi\r\n", 30_000) + "--x--\r\n")
		}},
		{"30000-headed-parts", DefectTooManyParts, func() []byte {
			return []byte(mixed + strings.Repeat("--x\r\nContent-Type: text/plain; a=b; c=d; e=f\r\nContent-ID: <abc>\r\n\r\nhi\r\n", 30_000))
		}},
		{"30000-digest-messages", DefectTooManyParts, func() []byte {
			return []byte("Content-Type: multipart/digest; boundary=x\r\n\r\n" +
				strings.Repeat("--x\r\n\r\nFrom: a@b\r\nTo: c@d\r\nSubject: s\r\n\r\nhi\r\n", 30_000))
		}},
		{"1MB-header", DefectTruncated, func() []byte {
			return []byte(strings.Repeat("X-Filler: some text to fill the header with\r\n", 25_000) + "\r\nbody\r\n")
		}},
		{"1MB-line", DefectTruncated, func() []byte {
			return []byte("Subject: " + strings.Repeat("a", 1<<20) + "\r\n\r\nbody\r\n")
		}},
		{"1MB-folds", DefectTruncated, func() []byte {
			return []byte("Subject: a\r\n" + strings.Repeat(" \r\n", 350_000) + "\r\nbody\r\n")
		}},
		{"1MB-encoded-words", DefectTruncated, func() []byte {
			return []byte("Subject: " + strings.Repeat("=?a?q?", 200_000) + "\r\n\r\nbody\r\n")
		}},
		{"100000-addresses", DefectTruncated, func() []byte {
			return []byte("To: " + strings.Repeat("someone@example.org,\r\n ", 100_000) + "z@z\r\n\r\nbody\r\n")
		}},
		{"tiny-addresses", DefectTruncated, func() []byte {
			return []byte(strings.Repeat("To: "+strings.Repeat("a,", 5000)+"\r\n", 100) + "\r\nbody\r\n")
		}},
		{"open-everything", DefectTruncated, func() []byte {
			return []byte("To: " + strings.Repeat("<(\"[<", 200_000) + "\r\n\r\nbody\r\n")
		}},
		{"angles", DefectTruncated, func() []byte {
			return []byte("To: " + strings.Repeat("<@a,", 100_000) + "\r\nCc: " + strings.Repeat("=?a,", 100_000) + "\r\n\r\nbody\r\n")
		}},
		{"parameters", DefectTruncated, func() []byte {
			return []byte("Content-Type: a/b" + strings.Repeat("; a*1*=b", 100_000) + "\r\n\r\nbody\r\n")
		}},
		{"1000-nested", DefectTooDeep, func() []byte { return nested(1000, "b%d", "") }},
		{"1000-prefixes", DefectTooDeep, func() []byte {
			var b bytes.Buffer
			b.WriteString("Content-Type: multipart/mixed; boundary=a\r\n\r\n")
			for i := 1; i < 1000; i++ {
				fmt.Fprintf(&b, "--%s\r\nContent-Type: multipart/mixed; boundary=%s\r\n\r\n", strings.Repeat("a", i), strings.Repeat("a", i+1))
			}
			b.WriteString(strings.Repeat("--"+strings.Repeat("b", 100)+"\r\n", 10_000))
			b.WriteString(strings.Repeat(strings.Repeat("-", 300)+"\r\n", 10_000))
			return b.Bytes()
		}},
		{"lookalikes", DefectTooDeep, func() []byte {
			return nested(200, "boundary%03d", strings.Repeat("--boundary\r\n", 100_000))
		}},
		{"short-lookalikes", DefectTooDeep, func() []byte { return nested(200, "%04d", strings.Repeat("--\n", 400_000)) }},
		{"nested-messages", DefectTooDeep, func() []byte {
			return []byte(strings.Repeat("Content-Type: message/rfc822\r\n\r\n", 30_000))
		}},
		{"same-boundary", DefectTooDeep, func() []byte {
			return []byte(mixed + strings.Repeat("--x\r\n"+mixed, 20_000) + strings.Repeat("--x--\r\n", 20_000))
		}},
		{"long-boundaries", DefectTooDeep, func() []byte { return nested(120, strings.Repeat("b", 400)+"%d", "") }},
		{"newlines", DefectBareLF, func() []byte { return []byte(mixed + strings.Repeat("\n", 1<<20)) }},
		{"dashes", DefectBareLF, func() []byte { return []byte(mixed + strings.Repeat("-\n", 1<<20)) }},
		{"carriage-returns", DefectBareCR, func() []byte { return []byte(mixed + strings.Repeat("\r", 1<<20)) }},
		{"nuls", DefectNUL, func() []byte { return append([]byte("Subject: "), make([]byte, 1<<20)...) }},
		{"html-preview", 0, func() []byte {
			return []byte("Content-Type: text/html\r\n\r\n" + strings.Repeat("<a <b &x;", 200_000))
		}},
		{"quotes-preview", 0, func() []byte { return []byte("\r\n" + strings.Repeat(">\n:\n", 200_000)) }},
	}
}

// nested is a chain of multiparts whose boundaries follow format, with text in the innermost.
func nested(depth int, format, text string) []byte {
	var b bytes.Buffer
	for i := range depth {
		boundary := fmt.Sprintf(format, i)
		fmt.Fprintf(&b, "Content-Type: multipart/mixed; boundary=%s\r\n\r\n--%s\r\n", boundary, boundary)
	}
	b.WriteString("\r\n" + text)
	return b.Bytes()
}

// scanAllocLimit bounds what a scan of any message may allocate in all, in bytes, and with it what it may hold: parts
// at MaxParts, texts at MaxRetained, and the doubling of the buffers on the way there.
const scanAllocLimit = 16 << 20

// TestHostile checks that no message makes a scan allocate without bound, that what it returns is sound, and that the
// limit it was made for is what stopped it.
func TestHostile(t *testing.T) {
	for _, h := range hostileMessages() {
		t.Run(h.name, func(t *testing.T) {
			raw := h.make()
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			m := scanBytes(t, raw)
			runtime.ReadMemStats(&after)
			if used := after.TotalAlloc - before.TotalAlloc; used > scanAllocLimit {
				t.Errorf("allocated %d bytes for %d", used, len(raw))
			}
			if !m.Defects.Has(h.defects) {
				t.Errorf("defects %v, want %v", m.Defects, h.defects)
			}
			if m.Parts > 2*MaxParts {
				t.Errorf("%d parts", m.Parts)
			}
			checkSound(t, m, raw)
		})
	}
}

// TestPartLimit counts parts at the edge of MaxParts: the last one permitted is opaque and takes the rest.
func TestPartLimit(t *testing.T) {
	const head, part = "Content-Type: multipart/mixed; boundary=x\r\n\r\n", "--x\r\n\r\nhi\r\n"
	m := scanBytes(t, []byte(head+strings.Repeat(part, MaxParts-2)+"--x--\r\n"))
	if m.Parts != MaxParts-1 || m.Defects != 0 {
		t.Errorf("below the limit: %d parts, defects %v", m.Parts, m.Defects)
	}
	raw := []byte(head + strings.Repeat(part, MaxParts+5) + "--x--\r\n")
	m = scanBytes(t, raw)
	last := m.Root.Children[len(m.Root.Children)-1]
	if m.Parts != MaxParts || last.Type != "application" || last.End() != int64(len(raw)) || last.HeaderOffset != last.BodyOffset {
		t.Errorf("at the limit: %d parts, the last %+v of %d", m.Parts, last, len(raw))
	}
	if want := int64(len("\r\nhi\r\n") + 6*len(part) + len("--x--\r\n")); last.BodySize != want {
		t.Errorf("the opaque part has %d bytes, want %d", last.BodySize, want)
	}
}

// TestDepthLimit counts nesting at the edge of MaxDepth.
func TestDepthLimit(t *testing.T) {
	depth := func(p *Part) int {
		n := 1
		for ; len(p.Children) > 0; n++ {
			p = p.Children[0]
		}
		return n
	}
	m := scanBytes(t, nested(MaxDepth-1, "b%03d", "text"))
	if depth(m.Root) != MaxDepth || m.Defects.Has(DefectTooDeep) || m.Preview != "text" {
		t.Errorf("at the limit: depth %d, defects %v", depth(m.Root), m.Defects)
	}
	m = scanBytes(t, nested(MaxDepth, "b%03d", "text"))
	if depth(m.Root) != MaxDepth || !m.Defects.Has(DefectTooDeep) || m.Preview != "" {
		t.Errorf("beyond it: depth %d, defects %v", depth(m.Root), m.Defects)
	}
}

// TestHeaderLimits checks the edges of MaxHeader, MaxField and MaxAddresses.
func TestHeaderLimits(t *testing.T) {
	fill := func(n int) string { return "X: " + strings.Repeat("x", n-len("X: \r\n")) + "\r\n" }
	m := scanBytes(t, []byte(fill(MaxHeader-len("To: a@b\r\n\r\n"))+"To: a@b\r\n\r\n"))
	if len(m.Envelope.To) != 1 || m.Defects != 0 {
		t.Errorf("header of MaxHeader: %v, defects %v", m.Envelope.To, m.Defects)
	}
	m = scanBytes(t, []byte(fill(MaxHeader)+"To: a@b\r\n\r\nbody"))
	if len(m.Envelope.To) != 0 || m.Defects != DefectTruncated || m.Preview != "body" {
		t.Errorf("beyond MaxHeader: %v, defects %v", m.Envelope.To, m.Defects)
	}
	m = scanBytes(t, []byte("Subject:"+strings.Repeat("s", MaxField-2)+"\r\n\r\n"))
	if len(m.Envelope.Subject) != MaxField-2 || m.Defects != 0 {
		t.Errorf("field of MaxField: %d bytes, defects %v", len(m.Envelope.Subject), m.Defects)
	}
	m = scanBytes(t, []byte("Subject:"+strings.Repeat("s", MaxField)+"\r\n\r\n"))
	if len(m.Envelope.Subject) != MaxField || m.Defects != DefectTruncated {
		t.Errorf("beyond MaxField: %d bytes, defects %v", len(m.Envelope.Subject), m.Defects)
	}
	if list := ParseAddressList(strings.Repeat("a@b,", MaxAddresses+10)); len(list) > MaxAddresses || len(list) < MaxAddresses-1 {
		t.Errorf("%d addresses", len(list))
	}
	if list := ParseAddressList("g:" + strings.Repeat("a@b,", MaxAddresses+10)); len(list) > MaxAddresses || list[len(list)-1].Kind != GroupEnd {
		t.Errorf("%d addresses in a group, the last %+v", len(list), list[len(list)-1])
	}
	m = scanBytes(t, []byte("To: "+strings.Repeat("someone@example.org,", MaxField/20+10)+"\r\n\r\n"))
	if last := m.Envelope.To[len(m.Envelope.To)-1]; last.Addr() != "someone@example.org" {
		t.Errorf("a cut list ends with %+v", last)
	}
}

// TestRetainedLimit checks that all headers together keep no more than MaxRetained.
func TestRetainedLimit(t *testing.T) {
	part := "--x\r\nContent-Description: " + strings.Repeat("d", 100_000) + "\r\n\r\n"
	m := scanBytes(t, []byte("Content-Type: multipart/mixed; boundary=x\r\n\r\n"+strings.Repeat(part, 100)))
	kept := 0
	for _, p := range m.Root.Children {
		kept += len(p.Description)
	}
	if kept > MaxRetained || kept < MaxRetained-200_000 || !m.Defects.Has(DefectTruncated) {
		t.Errorf("kept %d bytes, defects %v", kept, m.Defects)
	}
	if len(m.Root.Children) != 100 {
		t.Errorf("%d parts", len(m.Root.Children))
	}
}
