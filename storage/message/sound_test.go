package message

import (
	"bytes"
	"reflect"
	"testing"
	"unicode/utf8"
)

// checkSound checks what must hold for any message: parts inside their parents, in order, with their line counts; the
// stored forms read back as what they were; envelope and structures are IMAP.
func checkSound(t testing.TB, m *Message, raw []byte) {
	t.Helper()
	if m.Size != int64(len(raw)) || m.Root.HeaderOffset != 0 || m.Root.End() != m.Size || m.HeaderSize != m.Root.BodyOffset {
		t.Fatalf("size %d of %d, header %d, root %+v", m.Size, len(raw), m.HeaderSize, m.Root)
	}
	parts := 0
	m.Root.Walk(func(p *Part) bool {
		parts++
		checkPart(t, p, raw)
		return true
	})
	if parts != m.Parts {
		t.Errorf("counted %d parts of %d", m.Parts, parts)
	}
	if !utf8.ValidString(m.Preview) || utf8.RuneCountInString(m.Preview) > PreviewRunes {
		t.Errorf("preview %q", m.Preview)
	}
	checkStoredForms(t, m)
	for _, extended := range []bool{false, true} {
		s := m.Root.AppendBodyStructure(nil, extended)
		if err := checkBody(s, extended); err != nil {
			t.Fatalf("%v in %.2000s", err, s)
		}
	}
}

func checkPart(t testing.TB, p *Part, raw []byte) {
	t.Helper()
	if p.HeaderOffset < 0 || p.BodyOffset < p.HeaderOffset || p.BodySize < 0 || p.End() > int64(len(raw)) {
		t.Fatalf("part out of range: %+v of %d", p, len(raw))
	}
	if lines := bytes.Count(raw[p.BodyOffset:p.End()], []byte{'\n'}); p.Lines != int64(lines) {
		t.Fatalf("%d lines, want %d in %+v", p.Lines, lines, p)
	}
	if !p.sound() {
		t.Fatalf("children do not fit the type: %+v", p)
	}
	base := p.BodyOffset
	for _, c := range p.Children {
		if c.HeaderOffset < base || c.End() > p.End() {
			t.Fatalf("part %+v outside of %+v or before %d", c, p, base)
		}
		base = c.End()
	}
}

func checkStoredForms(t testing.TB, m *Message) {
	t.Helper()
	stored := m.AppendStructure(nil)
	root, err := ParseStructure(stored)
	if err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(root, m.Root) {
		t.Fatalf("structure came back as %+v, was %+v", root, m.Root)
	}
	envelope, err := ParseEnvelope(m.Envelope.AppendIMAP(nil))
	if err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(envelope, m.Envelope) {
		t.Fatalf("envelope came back as %+v, was %+v", envelope, m.Envelope)
	}
}
