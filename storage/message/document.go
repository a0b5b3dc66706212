package message

import (
	"archive/zip"
	"bytes"
	"io"
	"path"
	"slices"
	"strings"

	"golang.org/x/net/html"
)

// Documents takes the text out of the office documents of one message, for searches: Office Open XML (docx, xlsx, pptx)
// and OpenDocument (odt, ods, odp). The zero value is ready. What a message may make it inflate is bounded over all its
// documents ([MaxDocumentXML]), so whoever asks for its parts in the order of [Part.Walk] gets the same text each time.
type Documents struct {
	inflated int64 // octets
}

// Text returns the readable text of p, whose body is read undecoded from r: white space is collapsed, paragraphs and
// cells start new lines. It is empty for what is no such document, is encrypted or damaged, or exceeds a limit of a
// document; of one that is damaged in the middle it is what stands before. The only errors are those of r.
func (d *Documents) Text(p *Part, r io.Reader) (string, error) {
	if !p.IsDocument() || d.inflated >= MaxDocumentXML {
		return "", nil
	}
	decoded, err := DecodeBody(p, r)
	if err != nil {
		return "", nil // an encoding that nobody knows
	}
	var raw bytes.Buffer
	raw.Grow(int(min(p.BodySize, MaxDocument)) + bytes.MinRead)
	if n, err := raw.ReadFrom(io.LimitReader(decoded, MaxDocument+1)); err != nil || n > MaxDocument {
		return "", err
	}
	return d.unzip(raw.Bytes()), nil
}

// IsDocument reports whether [Documents] looks into a part: by its type, or by its name where the type says little.
func (p *Part) IsDocument() bool {
	switch {
	case p.Type != "application":
		return false
	case strings.HasPrefix(p.Subtype, "vnd.openxmlformats-officedocument."), strings.HasPrefix(p.Subtype, "vnd.oasis.opendocument."):
		return true
	}
	switch strings.ToLower(path.Ext(p.Filename())) {
	case ".docx", ".docm", ".xlsx", ".xlsm", ".pptx", ".pptm", ".odt", ".ods", ".odp":
		return true
	}
	return false
}

// documentTexts are the files inside a document that hold its text, under the names that office programs give them; the
// main ones first, in case there is too much.
var documentTexts = [...]string{
	"word/document.xml", "word/footnotes.xml", "word/endnotes.xml", "word/comments.xml", "word/header*.xml", "word/footer*.xml",
	"xl/sharedStrings.xml", "xl/worksheets/*.xml", "xl/comments*.xml",
	"ppt/slides/*.xml", "ppt/notesSlides/*.xml",
	"content.xml", "styles.xml", // OpenDocument; the latter has headers and footers
}

// zipEntrySignature begins each entry of a zip's directory.
var zipEntrySignature = []byte("PK\x01\x02")

// unzip takes the text out of a document. The directory is read into memory, so its entries are counted first; the number
// that the file itself gives for them is only looked at modulo 2^16.
func (d *Documents) unzip(raw []byte) string {
	if bytes.Count(raw, zipEntrySignature) > MaxDocumentEntries {
		return ""
	}
	z, err := zip.NewReader(bytes.NewReader(raw), int64(len(raw)))
	if err != nil {
		return ""
	}
	w := documentWriter{textWriter: textWriter{limit: MaxDocumentText}}
	packed := uint64(len(raw)) // octets that entries may have together: more if they overlap, to be inflated again and again
	for _, pattern := range documentTexts {
		for _, f := range z.File {
			if ok, _ := path.Match(pattern, f.Name); !ok {
				continue
			}
			if f.CompressedSize64 > packed {
				return w.String()
			}
			packed -= f.CompressedSize64
			d.entry(f, &w)
		}
	}
	return w.String()
}

// entry adds the text of one file of a document, as far as it can be read.
func (d *Documents) entry(f *zip.File, w *documentWriter) {
	const encrypted = 1
	if f.Flags&encrypted != 0 || d.inflated >= MaxDocumentXML {
		return
	}
	r, err := f.Open()
	if err != nil {
		return // a compression that we do not know
	}
	defer r.Close()
	bounded := &io.LimitedReader{R: r, N: MaxDocumentXML - d.inflated}
	w.xml(bounded, !strings.Contains(f.Name, "/"))
	d.inflated = MaxDocumentXML - bounded.N
}

// documentWriter collects the text of XML. The tokenizer is that of HTML: for well-formed XML it gives the same tokens, its
// memory is bounded, also for a million attributes, and it allocates nothing for each.
type documentWriter struct {
	textWriter
	open      bool // OpenDocument: all in paragraphs is text; otherwise what t and v hold
	within    int  // such elements that are open
	reference bool // the cell's value is the number of a shared string
}

func (w *documentWriter) xml(r io.Reader, open bool) {
	z := html.NewTokenizer(r)
	z.SetMaxBuf(MaxHTMLToken)
	z.AllowCDATA(true)
	w.open, w.within, w.newline = open, 0, true
	for w.out.Len() < w.limit {
		switch z.Next() {
		case html.ErrorToken:
			return
		case html.TextToken:
			if w.within > 0 {
				w.text(z.Text())
			}
		case html.StartTagToken:
			w.start(z)
		case html.SelfClosingTagToken:
			name, _ := z.TagName()
			w.empty(localName(name))
		case html.EndTagToken:
			name, _ := z.TagName()
			w.end(localName(name))
		}
	}
}

// localName is the name without its prefix, which may be any. The tokenizer made it lower case.
func localName(name []byte) string {
	return string(name[bytes.LastIndexByte(name, ':')+1:])
}

func (w *documentWriter) start(z *html.Tokenizer) {
	tag, more := z.TagName()
	name := localName(tag)
	if name == "c" && !w.open {
		w.reference = false
		for more {
			var key, value []byte
			key, value, more = z.TagAttr()
			w.reference = w.reference || string(key) == "t" && string(value) == "s"
		}
	}
	if w.holds(name) {
		w.within++
	}
	w.empty(name)
}

func (w *documentWriter) end(name string) {
	if w.holds(name) {
		w.within = max(w.within-1, 0)
	}
	w.empty(name)
}

// holds reports whether the characters of an element are text of the document.
func (w *documentWriter) holds(name string) bool {
	switch name {
	case "p", "h":
		return w.open
	case "t":
		return !w.open
	case "v":
		return !w.open && !w.reference
	}
	return false
}

// documentBreaks are the elements at whose start and end a line ends; the runs inside a paragraph may cut words.
var documentBreaks = []string{"p", "h", "br", "cr", "line-break", "si", "c", "rph", "comment", "annotation", "note"}

// empty notes the break that an element brings, with or without content.
func (w *documentWriter) empty(name string) {
	switch {
	case slices.Contains(documentBreaks, name):
		w.newline = true
	case name == "tab", name == "s" && w.open:
		w.space = true
	}
}
