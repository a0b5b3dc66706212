package threat

import (
	"bytes"
	"fmt"
	"io"
	"strings"

	"trivet/spam"
	"trivet/storage/message"
)

// Limits of looking at attachments.
const (
	// MaxAttachments is how many parts of a message are looked at.
	MaxAttachments = 100
	// MaxDecoded is how much of all parts together is decoded, in octets.
	MaxDecoded = 32 << 20
	// headBytes is how much of a file tells its type: the mark of a disk image is the farthest, at 32 KiB.
	headBytes = 36 << 10
	// maxName is how much of a file's name is shown in a reason, in octets.
	maxName = 80
)

// Names of reasons, and what they add in log-odds. Wanted mail has such files seldom, unwanted mail often.
var (
	executable = finding{"attachment.executable", 5, "is a program"}
	script     = finding{"attachment.script", 4, "is a script"}
	shortcut   = finding{"attachment.shortcut", 5, "is a Windows shortcut"}
	diskImage  = finding{"attachment.disk-image", 4, "is a disk image"}
	macro      = finding{"attachment.macro", 2, "has macros"}
	encrypted  = finding{"attachment.encrypted", 1.5, "is an archive with a password"}
	nested     = finding{"attachment.nested", 2, "is an archive within archives, deeper than anybody looks"}
	bomb       = finding{"attachment.bomb", 3, "is an archive that would grow beyond all bounds"}
	disguised  = finding{"attachment.disguised", 3, "is not what its name says"}
	doubleName = finding{"attachment.double-extension", 3, "has a name that hides what it is"}
	smuggling  = finding{"attachment.html-script", 1.5, "is a web page with script"}
)

// finding is a kind of reason.
type finding struct {
	name   string
	points float64
	text   string
}

// Attachments looks at the files of a message: root is its structure, raw its octets. Each kind of finding
// is there once, with the first file it was found in.
func Attachments(root *message.Part, raw io.ReaderAt) []spam.Reason {
	x := examination{budget: MaxDecoded, entries: MaxEntries, inflate: MaxInflated}
	parts := 0
	root.Walk(func(p *message.Part) bool {
		if p.Multipart() || p.Enclosed() {
			return true
		}
		if parts++; parts > MaxAttachments {
			return false
		}
		x.part(p, raw)
		return x.budget > 0
	})
	return x.reasons
}

// examination is one message being looked at.
type examination struct {
	reasons []spam.Reason
	budget  int64 // octets that may still be decoded
	entries int   // of archives that may still be looked at
	inflate int64 // octets that may still come out of archives
}

// add notes a finding, once of each kind.
func (x *examination) add(f finding, name string) {
	for _, r := range x.reasons {
		if r.Name == f.name {
			return
		}
	}
	if name == "" {
		name = "a part without a name"
	}
	x.reasons = append(x.reasons, spam.Reason{Name: f.name, Points: f.points, Text: fmt.Sprintf("%s %s", shown(name), f.text)})
}

// shown is a name from outside, fit to be put before people: without control characters and marks that
// turn the direction of writing.
func shown(name string) string {
	name = strings.ToValidUTF8(strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f || r == '"' || isDirection(r) {
			return '?'
		}
		return r
	}, name), "?")
	if len(name) > maxName {
		name = strings.ToValidUTF8(name[:maxName], "") + "…"
	}
	return `"` + name + `"`
}

// isDirection reports whether r turns the direction of writing (Unicode's bidirectional controls).
func isDirection(r rune) bool {
	return r >= 0x202a && r <= 0x202e || r >= 0x2066 && r <= 0x2069 || r == 0x200e || r == 0x200f
}

// part looks at one part of a message.
func (x *examination) part(p *message.Part, raw io.ReaderAt) {
	name := p.Filename()
	if p.Type == "text" && name == "" && p.Disposition != "attachment" {
		return // what is read, not opened
	}
	body, err := message.DecodeBody(p, io.NewSectionReader(raw, p.BodyOffset, p.BodySize))
	if err != nil {
		return // a transfer encoding that no reader decodes either
	}
	limited := &io.LimitedReader{R: body, N: x.budget}
	before := limited.N
	x.file(name, limited, 0)
	x.budget -= before - limited.N
}

// file looks at a file by its name and what it begins with.
func (x *examination) file(name string, r io.Reader, depth int) {
	x.name(name)
	head := make([]byte, headBytes)
	n, _ := io.ReadFull(r, head) // a file that ends before is looked at as far as it goes
	head = head[:n]
	kind := sniff(head)
	switch kind {
	case kindExecutable:
		x.add(executable, name)
	case kindScript:
		x.add(script, name)
	case kindShortcut:
		x.add(shortcut, name)
	case kindDiskImage:
		x.add(diskImage, name)
	case kindZIP, kindCompound, kindGZIP:
		x.container(kind, name, head, r, depth)
	case kindHTML:
		if depth > 0 || !strings.HasSuffix(strings.ToLower(name), "html") && !strings.HasSuffix(strings.ToLower(name), "htm") {
			break
		}
		if bytes.Contains(bytes.ToLower(head), []byte("<script")) {
			x.add(smuggling, name)
		}
	}
	if kind.runs() && harmlessExtensions[extension(name)] {
		x.add(disguised, name)
	}
}

// container looks into what holds other files.
func (x *examination) container(kind fileKind, name string, head []byte, r io.Reader, depth int) {
	if kind == kindGZIP {
		x.gzip(name, io.MultiReader(bytes.NewReader(head), r), depth)
		return
	}
	whole, err := io.ReadAll(io.LimitReader(io.MultiReader(bytes.NewReader(head), r), MaxContainer+1))
	if err != nil {
		return
	}
	if len(whole) > MaxContainer {
		whole = whole[:MaxContainer]
	}
	if kind == kindCompound {
		x.compound(name, whole)
		return
	}
	x.zip(name, whole, depth)
}

// name looks at a file's name alone.
func (x *examination) name(name string) {
	if strings.ContainsFunc(name, isDirection) {
		x.add(doubleName, name)
	}
	ext := extension(name)
	if !runningExtensions[ext] {
		return
	}
	switch ext {
	case "lnk":
		x.add(shortcut, name)
	case "iso", "img", "vhd", "vhdx":
		x.add(diskImage, name)
	case "exe", "scr", "com", "pif", "cpl", "msi", "dll", "jar", "appx", "msix", "xll":
		x.add(executable, name)
	default:
		x.add(script, name)
	}
	before := extension(strings.TrimRight(name[:len(name)-len(ext)-1], " _-"))
	if harmlessExtensions[before] || strings.Contains(name, "    ") {
		x.add(doubleName, name)
	}
}

// extension is what follows the last dot of a name, in lower case. Windows does not see dots and spaces at the end.
func extension(name string) string {
	name = strings.TrimRight(name, ". \t")
	i := strings.LastIndexByte(name, '.')
	if i < 0 {
		return ""
	}
	return strings.ToLower(name[i+1:])
}

func setOf(words string) map[string]bool {
	set := map[string]bool{}
	for w := range strings.FieldsSeq(words) {
		set[w] = true
	}
	return set
}

var (
	// runningExtensions are of files that do something when they are opened.
	runningExtensions = setOf("exe scr com pif cpl msi dll jar appx msix xll lnk iso img vhd vhdx " +
		"js jse vbs vbe wsf wsh hta ps1 bat cmd reg scf chm url settingcontent-ms application gadget inf")
	// harmlessExtensions are of what people expect to read or see.
	harmlessExtensions = setOf("pdf doc docx xls xlsx ppt pptx odt ods odp rtf txt csv jpg jpeg png gif webp tif tiff mp3 mp4 wav zip htm html eml")
)
