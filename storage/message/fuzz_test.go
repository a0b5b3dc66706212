package message

import (
	"bytes"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"unicode/utf8"
)

// addTestdata seeds a fuzzer with the messages of testdata.
func addTestdata(f *testing.F, add func(raw []byte)) {
	files, err := filepath.Glob("testdata/*.eml")
	if err != nil || len(files) == 0 {
		f.Fatal("no testdata: ", err)
	}
	for _, file := range files {
		raw, err := os.ReadFile(file)
		if err != nil {
			f.Fatal(err)
		}
		add(raw)
	}
}

// FuzzScan checks the invariants of any message, and that pieces give the same result as the whole.
func FuzzScan(f *testing.F) {
	addTestdata(f, func(raw []byte) { f.Add(raw, uint16(7)) })
	f.Add([]byte("Content-Type: message/rfc822\n\nContent-Type: multipart/mixed; boundary=b\n\n--b\n--b--"), uint16(1))
	f.Fuzz(func(t *testing.T, raw []byte, piece uint16) {
		m := scanBytes(t, raw)
		checkSound(t, m, raw)
		s := NewScanner()
		for rest := raw; len(rest) > 0; {
			n := min(len(rest), 1+int(piece)%1000)
			s.Write(rest[:n])
			rest = rest[n:]
			piece = piece*31 + 17
		}
		if pieces := s.Finish(); !reflect.DeepEqual(pieces, m) {
			t.Fatalf("in pieces %+v, as a whole %+v", pieces, m)
		}
		decodeAll(t, m, raw)
	})
}

// decodeAll reads every part in every way.
func decodeAll(t *testing.T, m *Message, raw []byte) {
	header := raw[:m.HeaderSize]
	if all := HeaderFields(header, nil, true); !bytes.Equal(all, header) {
		t.Fatalf("HEADER.FIELDS.NOT () is %q of %q", all, header)
	}
	m.Root.Walk(func(p *Part) bool {
		if name := p.Filename(); !utf8.ValidString(name) {
			t.Fatalf("filename %q", name)
		}
		text := new(strings.Builder)
		if _, err := bytes.NewBuffer(nil).ReadFrom(DecodeText(p, bytes.NewReader(raw[p.BodyOffset:p.End()]))); err != nil {
			t.Fatalf("decode text: %v", err)
		}
		if html := TextFromHTML(DecodeText(p, bytes.NewReader(raw[p.BodyOffset:p.End()])), 100); len(html) > 100 || !utf8.ValidString(html) {
			t.Fatalf("text of HTML %q", html)
		}
		return text.Len() == 0
	})
}

// FuzzParseStructure checks that hostile bytes give an error or a sound tree, which comes back the same.
func FuzzParseStructure(f *testing.F) {
	addTestdata(f, func(raw []byte) {
		m, _ := Scan(bytes.NewReader(raw))
		f.Add(m.AppendStructure(nil))
	})
	f.Fuzz(func(t *testing.T, b []byte) {
		root, err := ParseStructure(b)
		if err != nil {
			return
		}
		if err := checkBody(root.AppendBodyStructure(nil, true), true); err != nil {
			t.Fatal(err)
		}
		again, err := ParseStructure(root.AppendStructure(nil))
		if err != nil {
			t.Fatal(err)
		}
		if !reflect.DeepEqual(normalized(again), normalized(root)) {
			t.Fatalf("came back as %+v, was %+v", again, root)
		}
	})
}

// normalized makes empty lists nil: hostile bytes can announce a list of nothing.
func normalized(p *Part) *Part {
	p.Walk(func(p *Part) bool {
		if len(p.Params) == 0 {
			p.Params = nil
		}
		if len(p.DispositionParams) == 0 {
			p.DispositionParams = nil
		}
		if len(p.Language) == 0 {
			p.Language = nil
		}
		if p.Envelope != nil {
			p.Envelope, _ = ParseEnvelope(p.Envelope.AppendIMAP(nil))
		}
		return true
	})
	return p
}

// FuzzParseEnvelope checks that hostile bytes give an error or an envelope that is IMAP and comes back the same.
func FuzzParseEnvelope(f *testing.F) {
	addTestdata(f, func(raw []byte) {
		m, _ := Scan(bytes.NewReader(raw))
		f.Add(m.Envelope.AppendIMAP(nil))
	})
	f.Add([]byte("(NIL {3}\r\na\x00b NIL NIL NIL NIL NIL NIL NIL \"\\\\\")"))
	f.Fuzz(func(t *testing.T, b []byte) {
		e, err := ParseEnvelope(b)
		if err != nil {
			return
		}
		stored := e.AppendIMAP(nil)
		again, err := ParseEnvelope(stored)
		if err != nil {
			t.Fatal(err)
		}
		if second := again.AppendIMAP(nil); !bytes.Equal(second, stored) {
			t.Fatalf("%q, then %q", stored, second)
		}
	})
}

// FuzzAddressList checks that any field gives a list that is IMAP, within its limit.
func FuzzAddressList(f *testing.F) {
	for _, c := range addressCases(f) {
		f.Add(c.input)
	}
	f.Fuzz(func(t *testing.T, s string) {
		list := ParseAddressList(s)
		if len(list) > MaxAddresses || len(list) > len(s)+1 {
			t.Fatalf("%d addresses from %d bytes", len(list), len(s))
		}
		e := Envelope{From: list, To: list}
		if err := checkEnvelope(e.AppendIMAP(nil)); err != nil {
			t.Fatalf("%v in %q", err, e.AppendIMAP(nil))
		}
	})
}

// FuzzDecodeHeader checks that the result is clean UTF-8 of a bounded size.
func FuzzDecodeHeader(f *testing.F) {
	for _, c := range decodeHeaderCases {
		f.Add(c.in)
	}
	f.Fuzz(func(t *testing.T, s string) {
		got := DecodeHeader(s)
		if !utf8.ValidString(got) || strings.ContainsFunc(got, func(r rune) bool { return r < ' ' || r == 0x7f }) {
			t.Fatalf("%q", got)
		}
		if len(got) > 3*len(s)+3 {
			t.Fatalf("%d bytes from %d", len(got), len(s))
		}
	})
}

// FuzzParseDate checks that what is read is a date that can be written.
func FuzzParseDate(f *testing.F) {
	for _, c := range dateCases {
		f.Add(c.in)
	}
	f.Fuzz(func(t *testing.T, s string) {
		if d, ok := ParseDate(s); ok && (d.Year() < 0 || d.Year() > 10_000) {
			t.Fatalf("%q is %v", s, d)
		}
	})
}
