package message

import (
	"reflect"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

// imapText is any text an Envelope can hold.
func imapText() *rapid.Generator[string] {
	return rapid.Map(rapid.OneOf(
		rapid.String(),
		rapid.StringMatching(`[ -~\t]*`),
		rapid.StringOf(rapid.SampledFrom([]rune(`\"(){}NIL 1é`))),
		rapid.Map(rapid.SliceOf(rapid.Byte()), func(b []byte) string { return string(b) }),
	), func(s string) string { return strings.ReplaceAll(s, "\x00", "") })
}

func addressList() *rapid.Generator[[]Address] {
	return rapid.Custom(func(t *rapid.T) []Address {
		var list []Address
		for range rapid.IntRange(0, 4).Draw(t, "elements") {
			address := Address{Name: imapText().Draw(t, "name"), Route: imapText().Draw(t, "route"),
				Mailbox: imapText().Draw(t, "mailbox"), Host: imapText().Draw(t, "host")}
			if rapid.Bool().Draw(t, "group") {
				list = append(list, Address{Kind: GroupStart, Mailbox: imapText().Draw(t, "group name")}, address, Address{Kind: GroupEnd})
				continue
			}
			list = append(list, address)
		}
		return list
	})
}

func envelopes() *rapid.Generator[*Envelope] {
	return rapid.Custom(func(t *rapid.T) *Envelope {
		e := &Envelope{From: addressList().Draw(t, "from"), Sender: addressList().Draw(t, "sender"),
			ReplyTo: addressList().Draw(t, "reply-to"), To: addressList().Draw(t, "to"), Cc: addressList().Draw(t, "cc"),
			Bcc: addressList().Draw(t, "bcc")}
		for i, text := range []*string{&e.Date, &e.Subject, &e.InReplyTo, &e.MessageID} {
			if rapid.Bool().Draw(t, "has") {
				*text, e.Has = imapText().Draw(t, "text"), e.Has|1<<i
			}
		}
		e.setDefaults()
		return e
	})
}

// TestEnvelopeRoundTrip checks that any envelope is written as IMAP and read back as it was.
func TestEnvelopeRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		e := envelopes().Draw(t, "envelope")
		stored := e.AppendIMAP([]byte("before "))[len("before "):]
		if err := checkEnvelope(stored); err != nil {
			t.Fatalf("%v in %q", err, stored)
		}
		got, err := ParseEnvelope(stored)
		if err != nil {
			t.Fatal(err)
		}
		if !reflect.DeepEqual(got, e) {
			t.Fatalf("got %+v, want %+v", got, e)
		}
		if _, err := ParseEnvelope(stored[:rapid.IntRange(0, len(stored)-1).Draw(t, "cut")]); err == nil {
			t.Fatal("a cut envelope was read")
		}
	})
}

func params(t *rapid.T) Params {
	var list Params
	for range rapid.IntRange(0, 3).Draw(t, "params") {
		list = append(list, Param{imapText().Draw(t, "name"), imapText().Draw(t, "value")})
	}
	return list
}

// drawPart builds a part, with what is below it, that does not start before base.
func drawPart(t *rapid.T, base int64, depth int) *Part {
	small := rapid.Int64Range(0, 1000)
	p := &Part{Type: "text", Subtype: rapid.SampledFrom([]string{"plain", "x-own"}).Draw(t, "subtype"),
		Encoding: rapid.SampledFrom([]string{"7bit", "base64", "x-own"}).Draw(t, "encoding"),
		Params:   params(t), DispositionParams: params(t), Language: rapid.SliceOfN(imapText(), 0, 2).Draw(t, "language"),
		ID: imapText().Draw(t, "id"), Description: imapText().Draw(t, "description"), MD5: imapText().Draw(t, "md5"),
		Disposition: imapText().Draw(t, "disposition"), Location: imapText().Draw(t, "location")}
	if len(p.Language) == 0 {
		p.Language = nil
	}
	p.HeaderOffset = base + small.Draw(t, "gap")
	p.BodyOffset = p.HeaderOffset + small.Draw(t, "header")
	end := p.BodyOffset
	add := func() {
		child := drawPart(t, end, depth-1)
		p.Children, end = append(p.Children, child), child.End()
	}
	switch kind := rapid.IntRange(0, 3).Draw(t, "kind"); {
	case depth > 0 && kind == 1:
		p.Type = "multipart"
		for range rapid.IntRange(1, 3).Draw(t, "children") {
			add()
		}
	case depth > 0 && kind == 2:
		p.Type, p.Subtype, p.Envelope = "message", "rfc822", envelopes().Draw(t, "envelope")
		add()
	}
	p.BodySize = end - p.BodyOffset + small.Draw(t, "rest")
	p.Lines = rapid.Int64Range(0, p.BodySize).Draw(t, "lines")
	return p
}

// TestStructureRoundTrip checks that any tree is read back as it was, and that a cut one is an error.
func TestStructureRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		root := drawPart(t, 0, 4)
		stored := root.AppendStructure(nil)
		got, err := ParseStructure(stored)
		if err != nil {
			t.Fatal(err)
		}
		if !reflect.DeepEqual(got, root) {
			t.Fatalf("got %+v, want %+v", got, root)
		}
		for _, extended := range []bool{false, true} {
			if err := checkBody(root.AppendBodyStructure(nil, extended), extended); err != nil {
				t.Fatal(err)
			}
		}
		if _, err := ParseStructure(stored[:rapid.IntRange(0, len(stored)-1).Draw(t, "cut")]); err == nil {
			t.Fatal("a cut structure was read")
		}
	})
}

// TestStructureRejects lists what a stored structure must not be.
func TestStructureRejects(t *testing.T) {
	deep := func(n int) *Part {
		p := emptyText(0)
		for range n - 1 {
			p = &Part{Type: "multipart", Subtype: "mixed", Encoding: "7bit", Children: []*Part{p}}
		}
		return p
	}
	wide := func(n int) *Part {
		p := &Part{Type: "multipart", Subtype: "mixed", Encoding: "7bit"}
		for range n - 1 {
			p.Children = append(p.Children, emptyText(0))
		}
		return p
	}
	if _, err := ParseStructure(deep(MaxDepth + 1).AppendStructure(nil)); err != nil {
		t.Errorf("the deepest tree a scan makes: %v", err)
	}
	if _, err := ParseStructure(wide(2 * MaxParts).AppendStructure(nil)); err != nil {
		t.Errorf("the widest tree a scan makes: %v", err)
	}
	text := emptyText(0)
	cases := map[string][]byte{
		"nothing":                    {},
		"a later version":            append([]byte{structureVersion + 1}, text.AppendStructure(nil)[1:]...),
		"bytes after the end":        append(text.AppendStructure(nil), 0),
		"too deep":                   deep(MaxDepth + 2).AppendStructure(nil),
		"too wide":                   wide(2*MaxParts + 1).AppendStructure(nil),
		"multipart without parts":    (&Part{Type: "multipart", Subtype: "mixed"}).AppendStructure(nil),
		"message without a message":  (&Part{Type: "message", Subtype: "rfc822"}).AppendStructure(nil),
		"text with parts":            (&Part{Type: "text", Subtype: "plain", Children: []*Part{text}}).AppendStructure(nil),
		"no type":                    (&Part{Subtype: "plain"}).AppendStructure(nil),
		"upper case":                 (&Part{Type: "MULTIPART", Subtype: "mixed"}).AppendStructure(nil),
		"beyond the largest message": (&Part{Type: "text", Subtype: "plain", BodySize: maxOffset + 1}).AppendStructure(nil),
		"child beyond its parent": (&Part{Type: "multipart", Subtype: "mixed", BodySize: 3,
			Children: []*Part{{Type: "text", Subtype: "plain", BodySize: 4}}}).AppendStructure(nil),
	}
	for name, stored := range cases {
		if p, err := ParseStructure(stored); err == nil {
			t.Errorf("%s: read as %+v", name, p)
		}
	}
}
