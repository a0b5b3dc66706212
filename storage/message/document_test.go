package message

import (
	"archive/zip"
	"bytes"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/iotest"
)

const docxType = "vnd.openxmlformats-officedocument.wordprocessingml.document"

// zipped makes a zip of names and contents in turn; those that begin with a minus sign are not compressed.
func zipped(t testing.TB, files ...string) []byte {
	t.Helper()
	var b bytes.Buffer
	z := zip.NewWriter(&b)
	for i := 0; i < len(files); i += 2 {
		h := &zip.FileHeader{Name: strings.TrimPrefix(files[i], "-"), Method: zip.Deflate}
		if files[i][0] == '-' {
			h.Method = zip.Store
		}
		w, err := z.CreateHeader(h)
		if err == nil {
			_, err = w.Write([]byte(files[i+1]))
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// documentText is the text of a document that stands in a message as it is.
func documentText(t testing.TB, d *Documents, raw []byte) string {
	t.Helper()
	text, err := d.Text(&Part{Type: "application", Subtype: docxType, BodySize: int64(len(raw))}, bytes.NewReader(raw))
	if err != nil {
		t.Fatal(err)
	}
	return text
}

func TestDocumentText(t *testing.T) {
	const word = `<?xml version="1.0" encoding="UTF-8" standalone="yes"?><w:document xmlns:w="http://x"><w:body>`
	for _, test := range []struct {
		name  string
		files []string
		want  string
	}{
		{"docx", []string{"[Content_Types].xml", "<t>no</t>", "word/document.xml", word + `<w:p><w:pPr><w:tabs><w:tab/></w:tabs></w:pPr><w:r><w:t xml:space="preserve">Ann  said </w:t></w:r>` +
			`<w:r><w:t>hel</w:t></w:r><w:r><w:t>lo &amp; &#x47;r&#252;&#xdf;e</w:t><w:tab/><w:t>x</w:t></w:r></w:p><w:p><w:r><w:t>next</w:t><w:br/><w:t>line</w:t>` +
			`<w:delText>gone</w:delText><w:instrText>PAGE</w:instrText></w:r></w:p></w:body></w:document>`}, "Ann said hello & Gr\u00fc\u00dfe x\nnext\nline"},
		{"parts of a docx, the main one first", []string{"word/header2.xml", "<w:t>head</w:t>", "word/styles.xml", "<w:t>style</w:t>", "word/comments.xml", "<w:t>note</w:t>",
			"word/document.xml", "<w:t>main</w:t>"}, "main\nnote\nhead"},
		{"a prefix of its own", []string{"word/document.xml", "<document><p><r><t>one</t></r></p></document>"}, "one"},
		{"cdata and comments", []string{"word/document.xml", "<w:t><![CDATA[a<b]]><!-- no --> c</w:t>"}, "a<b c"},
		{"xlsx", []string{"xl/worksheets/sheet1.xml", `<worksheet><sheetData><row r="1"><c r="A1" t="s"><v>7</v></c><c r="B1"><f>SUM(1)</f><v>1234.5</v></c>` +
			`<c t="inlineStr"><is><t>in line</t></is></c><c t="str"><v>result</v></c></row></sheetData></worksheet>`,
			"xl/sharedStrings.xml", `<sst><si><t>Budget</t></si><si><r><t>for</t></r><r><t>ty</t></r><rPh sb="0"><t>kana</t></rPh></si></sst>`},
			"Budget\nforty\nkana\n1234.5\nin line\nresult"},
		{"pptx", []string{"ppt/slides/slide1.xml", "<p:sld><a:p><a:r><a:t>Title</a:t></a:r></a:p></p:sld>", "ppt/notesSlides/notesSlide1.xml", "<a:t>say this</a:t>",
			"ppt/slideMasters/slideMaster1.xml", "<a:t>Click to edit</a:t>"}, "Title\nsay this"},
		{"odt", []string{"-mimetype", "application/vnd.oasis.opendocument.text", "content.xml", `<office:document-content><office:body>` +
			`<text:h>Head</text:h>skipped<text:p>one<text:s/>two<text:span>three</text:span><text:tab/>four<text:line-break/>five</text:p></office:body></office:document-content>`,
			"styles.xml", "<text:p>foot</text:p>"}, "Head\none twothree four\nfive\nfoot"},
		{"ods", []string{"content.xml", `<table:table-cell office:value="3"><text:p>3</text:p></table:table-cell><table:table-cell><text:p>cell</text:p></table:table-cell>`}, "3\ncell"},
		{"XML that is not well-formed", []string{"word/document.xml", "</w:t></w:t><w:t>a<b></w:p>&nosuch;</w:t></w:t>z<w:t>c"}, "a\n&nosuch;c"},
		{"another zip", []string{"document.xml", "<w:t>no</w:t>", "a/word/document.xml", "<w:t>no</w:t>"}, ""},
		{"nothing", nil, ""},
	} {
		if got := documentText(t, &Documents{}, zipped(t, test.files...)); got != test.want {
			t.Errorf("%s: %q, want %q", test.name, got, test.want)
		}
	}
}

func TestDocumentParts(t *testing.T) {
	raw := zipped(t, "word/document.xml", "<w:t>found</w:t>")
	armoured := base64.StdEncoding.EncodeToString(raw)
	named := func(name string) Params { return Params{{"filename", name}} }
	for _, test := range []struct {
		part Part
		body string
		want string
	}{
		{Part{Type: "application", Subtype: docxType, Encoding: "base64"}, armoured, "found"},
		{Part{Type: "application", Subtype: "vnd.oasis.opendocument.text", Encoding: "binary"}, string(raw), "found"},
		{Part{Type: "application", Subtype: "octet-stream", Encoding: "base64", DispositionParams: named("A.DOCX")}, armoured, "found"},
		{Part{Type: "application", Subtype: "octet-stream", Encoding: "base64", Params: Params{{"name", "a.docx"}}}, armoured, "found"},
		{Part{Type: "application", Subtype: "zip", Encoding: "base64", DispositionParams: named("a.zip")}, armoured, ""},
		{Part{Type: "image", Subtype: "png", Encoding: "base64", DispositionParams: named("a.docx")}, armoured, ""},
		{Part{Type: "application", Subtype: docxType, Encoding: "x-unknown"}, armoured, ""},
		{Part{Type: "application", Subtype: docxType}, "\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1 encrypted by Office", ""},
	} {
		got, err := new(Documents).Text(&test.part, strings.NewReader(test.body))
		if err != nil || got != test.want {
			t.Errorf("%+v: %q (%v)", test.part, got, err)
		}
	}
	failure := errors.New("disk")
	if _, err := new(Documents).Text(&Part{Type: "application", Subtype: docxType, Encoding: "base64"}, iotest.ErrReader(failure)); !errors.Is(err, failure) {
		t.Errorf("a failure to read is %v", err)
	}
}

// TestDocumentDamage cuts and changes a document everywhere: there is less text then, never other text, and no error.
func TestDocumentDamage(t *testing.T) {
	raw := zipped(t, "word/document.xml", "<w:t>one two three</w:t>", "-word/comments.xml", "<w:t>four</w:t>")
	const want = "one two three\nfour"
	for n := range raw {
		if got := documentText(t, &Documents{}, raw[:n]); !strings.HasPrefix(want, got) {
			t.Fatalf("of %d octets: %q", n, got)
		}
		changed := bytes.Clone(raw)
		changed[n] ^= 0xff
		_ = documentText(t, &Documents{}, changed)
	}
	locked := bytes.Clone(raw)
	for at := 0; ; {
		i := bytes.Index(locked[at:], zipEntrySignature)
		if i < 0 {
			break
		}
		locked[at+i+8] |= 1 // general purpose flag: encrypted
		at += i + 4
	}
	if got := documentText(t, &Documents{}, locked); got != "" {
		t.Errorf("encrypted: %q", got)
	}
}

func TestDocumentSize(t *testing.T) {
	sized := func(n int) []byte {
		empty := len(zipped(t, "word/document.xml", "<w:t>found</w:t>", "-filler", ""))
		return zipped(t, "word/document.xml", "<w:t>found</w:t>", "-filler", strings.Repeat("x", n-empty))
	}
	for extra, want := range []string{"found", ""} {
		raw := sized(MaxDocument + extra)
		if len(raw) != MaxDocument+extra {
			t.Fatal("made", len(raw))
		}
		if got := documentText(t, &Documents{}, raw); got != want {
			t.Errorf("%d octets above: %q", extra, got)
		}
	}
}

func TestDocumentXMLBound(t *testing.T) {
	const head, foot, after = "<w:t>first</w:t>", "<w:t>last", "</w:t>"
	for extra, want := range []string{"first\nlast", "first\nlas"} {
		n := MaxDocumentXML + extra - len(head+foot)
		xml := head + strings.Repeat("<w:p></w:p>", n/11) + strings.Repeat(" ", n%11) + foot + after
		var d Documents
		if got := documentText(t, &d, zipped(t, "word/document.xml", xml, "word/footer1.xml", "<w:t>behind</w:t>")); got != want {
			t.Errorf("%d octets above: %q", extra, got)
		}
		if got := documentText(t, &d, zipped(t, "word/document.xml", head)); got != "" {
			t.Errorf("then another document: %q", got)
		}
	}
	var d Documents
	for range 2 { // well below, all are read
		if got := documentText(t, &d, zipped(t, "word/document.xml", head)); got != "first" {
			t.Errorf("each: %q", got)
		}
	}
}

func TestDocumentTextBound(t *testing.T) {
	for extra, want := range []string{"z", ""} {
		n := MaxDocumentText + extra - len("\nz")
		half := strings.Repeat("x", n/2)
		xml := "<w:t>" + half + "</w:t><w:t>" + half + strings.Repeat("y", n%2) + "</w:t><w:p/><w:t>z</w:t>"
		got := documentText(t, &Documents{}, zipped(t, "word/document.xml", xml))
		if len(got) != MaxDocumentText || strings.TrimLeft(got, "xy\n") != want {
			t.Errorf("%d octets above: %d octets, at the end %q", extra, len(got), got[len(got)-3:])
		}
	}
}

func TestDocumentEntries(t *testing.T) {
	for extra, want := range []string{"found", ""} {
		var files []string
		for i := range MaxDocumentEntries + extra - 1 {
			files = append(files, fmt.Sprint("-media/", i), "")
		}
		files = append(files, "word/document.xml", "<w:t>found</w:t>")
		if got := documentText(t, &Documents{}, zipped(t, files...)); got != want {
			t.Errorf("%d entries above: %q", extra, got)
		}
	}
}

// TestDocumentOverlap has many entries for the same octets, which inflate to nothing: no bound of the text would stop it.
func TestDocumentOverlap(t *testing.T) {
	const entries = 50
	files := []string{"-word/header0.xml", strings.Repeat("\x00\x00\x00\xff\xff", 1000)} // empty blocks, were it deflated
	for i := 1; i < entries; i++ {
		files = append(files, fmt.Sprintf("-word/header%d.xml", i), "")
	}
	files = append(files, "word/footer1.xml", "<w:t>behind</w:t>")
	raw := zipped(t, files...)
	if got := documentText(t, &Documents{}, raw); got != "behind" {
		t.Fatalf("apart: %q", got)
	}
	at := 0
	for i := range entries {
		at += bytes.Index(raw[at:], zipEntrySignature)
		binary.LittleEndian.PutUint32(raw[at+20:], 5000) // compressed size
		binary.LittleEndian.PutUint32(raw[at+24:], 5000)
		if i > 0 {
			binary.LittleEndian.PutUint32(raw[at+42:], 0) // where it is: with the first
		}
		at += 4
	}
	if got := documentText(t, &Documents{}, raw); got != "" {
		t.Errorf("over one another: %q", got)
	}
}

// FuzzDocument gives any octets as a document, and as the XML of one.
func FuzzDocument(f *testing.F) {
	f.Add(zipped(f, "word/document.xml", "<w:p><w:t>one</w:t></w:p>", "-word/comments.xml", "<w:t>two</w:t>"))
	f.Add(zipped(f, "xl/sharedStrings.xml", "<si><t>a</t></si>", "xl/worksheets/sheet1.xml", `<c t="s"><v>1</v></c><c><v>2</v></c>`))
	f.Add(zipped(f, "-mimetype", "x", "content.xml", "<text:p>a<text:s/>b</text:p>"))
	f.Add([]byte(`<c t="s"><v>1</v></c><t>x<![CDATA[y]]></t><title><t>`))
	f.Fuzz(func(t *testing.T, raw []byte) {
		for _, name := range []string{"", "word/document.xml", "content.xml"} {
			document := raw
			if name != "" {
				document = zipped(t, name, string(raw))
			}
			var d Documents
			text := documentText(t, &d, document)
			if len(text) > MaxDocumentText || d.inflated > MaxDocumentXML {
				t.Fatalf("%d octets of text from %d of XML", len(text), d.inflated)
			}
			if again := documentText(t, &Documents{}, document); again != text {
				t.Fatalf("%q, and then %q", text, again)
			}
		}
	})
}
