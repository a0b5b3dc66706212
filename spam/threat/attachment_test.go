package threat

import (
	"archive/zip"
	"bytes"
	"compress/flate"
	"compress/gzip"
	"encoding/base64"
	"encoding/binary"
	"fmt"
	"math"
	"slices"
	"strings"
	"testing"
	"unicode/utf16"

	"trivet/spam"
	"trivet/storage/message"
)

// windowsProgram is as much of one as tells what it is.
func windowsProgram() []byte {
	b := make([]byte, 0x100)
	copy(b, "MZ")
	binary.LittleEndian.PutUint32(b[0x3c:], 0x80)
	copy(b[0x80:], "PE\x00\x00")
	return b
}

// zipped is an archive with these files.
func zipped(files map[string][]byte) []byte {
	var b bytes.Buffer
	w := zip.NewWriter(&b)
	names := make([]string, 0, len(files))
	for name := range files {
		names = append(names, name)
	}
	slices.Sort(names)
	for _, name := range names {
		f, _ := w.Create(name)
		f.Write(files[name])
	}
	w.Close()
	return b.Bytes()
}

// withPassword marks the files of an archive as encrypted.
func withPassword(archive []byte) []byte {
	b := bytes.Clone(archive)
	for mark, at := range map[string]int{"PK\x03\x04": 6, "PK\x01\x02": 8} {
		for rest := b; ; {
			i := bytes.Index(rest, []byte(mark))
			if i < 0 {
				break
			}
			rest[i+at] |= 1
			rest = rest[i+4:]
		}
	}
	return b
}

func gzipped(name string, data []byte) []byte {
	var b bytes.Buffer
	w := gzip.NewWriter(&b)
	w.Name = name
	w.Write(data)
	w.Close()
	return b.Bytes()
}

// compoundFile is one of OLE with a directory of these names; class is that of its root.
func compoundFile(class []byte, names ...string) []byte {
	b := make([]byte, 512*3)
	copy(b, "\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1")
	binary.LittleEndian.PutUint16(b[30:], 9)
	binary.LittleEndian.PutUint32(b[48:], 1) // the directory is in sector 1
	binary.LittleEndian.PutUint32(b[76:], 0) // the table is in sector 0
	for i := range 127 {
		binary.LittleEndian.PutUint32(b[512+4*i:], 0xfffffffe)
	}
	for i, name := range append([]string{"Root Entry"}, names...) {
		e := b[1024+128*i:][:128]
		for j, u := range utf16.Encode([]rune(name)) {
			binary.LittleEndian.PutUint16(e[2*j:], u)
		}
		binary.LittleEndian.PutUint16(e[64:], uint16(2*len(name)+2))
		e[66] = 1
		if i == 0 {
			e[66] = 5
			copy(e[80:], class)
		}
	}
	return b
}

// mailWith is a message with one file.
func mailWith(name string, data []byte) []byte {
	return fmt.Appendf(nil, "From: a@example.net\r\nMIME-Version: 1.0\r\nContent-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\nContent-Type: text/plain\r\n\r\nMZ is how it begins.\r\n"+
		"--b\r\nContent-Type: application/octet-stream; name=\"%s\"\r\nContent-Transfer-Encoding: base64\r\nContent-Disposition: attachment\r\n\r\n%s\r\n--b--\r\n", name, base64.StdEncoding.EncodeToString(data))
}

func reasonsOf(t testing.TB, raw []byte) []spam.Reason {
	t.Helper()
	m, err := message.Scan(bytes.NewReader(raw))
	if err != nil {
		t.Fatal(err)
	}
	return Attachments(m.Root, bytes.NewReader(raw))
}

func names(reasons []spam.Reason) string {
	var list []string
	for _, r := range reasons {
		list = append(list, strings.TrimPrefix(r.Name, "attachment."))
	}
	slices.Sort(list)
	return strings.Join(list, " ")
}

func TestAttachments(t *testing.T) {
	program := windowsProgram()
	iso := make([]byte, 34<<10)
	copy(iso[volumeOffset+1:], "CD001")
	deep := zipped(map[string][]byte{"a.exe": program})
	for range MaxNesting {
		deep = zipped(map[string][]byte{"inner.zip": deep})
	}
	tests := []struct {
		name, file string
		data       []byte
		want       string
	}{
		{"text", "notes.txt", []byte("MZ is no program"), ""},
		{"picture", "a.jpg", []byte("\xff\xd8\xff\xe0 JFIF"), ""},
		{"plain archive", "a.zip", zipped(map[string][]byte{"a.txt": []byte("hello"), "b/": nil}), ""},
		{"program", "setup.exe", program, "executable"},
		{"program by another name", "a.dat", program, "executable"},
		{"program called a picture", "a.jpg", program, "disguised executable"},
		{"ELF", "a", []byte("\x7fELF\x02"), "executable"},
		{"Mach-O", "a", []byte("\xcf\xfa\xed\xfe"), "executable"},
		{"Java", "a", []byte("\xca\xfe\xba\xbe"), "executable"},
		{"shell", "a.dat", []byte("#!/bin/sh\n"), "script"},
		{"script by its name", "invoice.js", []byte("var a"), "script"},
		{"HTA", "a.dat", []byte("<html><HTA:APPLICATION id=x>"), "script"},
		{"two extensions", "invoice.pdf.exe", []byte("x"), "double-extension executable"},
		{"spaces", "invoice.pdf      .scr", []byte("x"), "double-extension executable"},
		{"dots at the end", "a.exe. .", []byte("x"), "executable"},
		{"shortcut", "a.dat", []byte("\x4c\x00\x00\x00\x01\x14\x02\x00\x00"), "shortcut"},
		{"disk", "a.dat", iso, "disk-image"},
		{"disk by its name", "a.img", []byte("x"), "disk-image"},
		{"program in an archive", "a.zip", zipped(map[string][]byte{"x/a.dat": program}), "executable"},
		{"in two", "a.zip", zipped(map[string][]byte{"b.zip": zipped(map[string][]byte{"a.js": []byte("x")})}), "script"},
		{"too deep", "a.zip", deep, "nested"},
		{"in gzip", "a.gz", gzipped("a.exe", program), "executable"},
		{"in gzip without a name", "a.exe.gz", gzipped("", []byte("x")), "executable"},
		{"password", "a.zip", withPassword(zipped(map[string][]byte{"a.txt": []byte("x")})), "encrypted"},
		{"password and program", "a.zip", withPassword(zipped(map[string][]byte{"a.exe": program})), "encrypted executable"},
		{"Word with macros", "a.docm", zipped(map[string][]byte{"[Content_Types].xml": []byte("<x/>"), "word/vbaProject.bin": []byte("x")}), "macro"},
		{"Excel 4", "a.xlsx", zipped(map[string][]byte{"xl/macrosheets/sheet1.xml": []byte("x")}), "macro"},
		{"old Word", "a.doc", compoundFile(nil, "WordDocument"), ""},
		{"old Word with macros", "a.doc", compoundFile(nil, "WordDocument", "Macros", "VBA"), "macro"},
		{"encrypted Word", "a.docx", compoundFile(nil, "EncryptedPackage"), "encrypted"},
		{"installer", "a.doc", compoundFile(installerClass[:]), "disguised executable"},
		{"cut archive", "a.zip", zipped(map[string][]byte{"a.exe": program})[:60], "executable"},
		{"page", "a.html", []byte("<!DOCTYPE html><SCRIPT>"), "html-script"},
		{"page without script", "a.html", []byte("<!DOCTYPE html><p>"), ""},
	}
	for _, test := range tests {
		if got := names(reasonsOf(t, mailWith(test.file, test.data))); got != test.want {
			t.Errorf("%s: %q, want %q", test.name, got, test.want)
		}
	}
	turned := mailWith("=?utf-8?Q?a=E2=80=AEfdp.exe?=", []byte("x"))
	if got := reasonsOf(t, turned); names(got) != "double-extension executable" || strings.ContainsFunc(got[0].Text, isDirection) {
		t.Errorf("a name that turns: %v", got)
	}
}

// A bomb costs no more than the budget, and is told as one.
func TestBomb(t *testing.T) {
	var b, packed bytes.Buffer
	const size = 48 << 20
	deflate, _ := flate.NewWriter(&packed, flate.BestCompression)
	deflate.Write(make([]byte, size))
	deflate.Close()
	w := zip.NewWriter(&b)
	for i := range 3 {
		f, _ := w.CreateRaw(&zip.FileHeader{Name: fmt.Sprint(i, ".txt"), Method: zip.Deflate, CompressedSize64: uint64(packed.Len()), UncompressedSize64: size})
		f.Write(packed.Bytes())
	}
	w.Close()
	x := examination{budget: MaxDecoded, entries: MaxEntries, inflate: MaxInflated}
	x.file("a.zip", bytes.NewReader(b.Bytes()), 0)
	if names(x.reasons) != "bomb" || x.inflate < MaxInflated-3*headBytes-10 {
		t.Errorf("%v, %d octets came out", x.reasons, MaxInflated-x.inflate)
	}
}

func TestLimitsOfArchives(t *testing.T) {
	for _, n := range []int{MaxEntries, MaxEntries + 1} {
		files := map[string][]byte{}
		for i := range n - 1 {
			files[fmt.Sprintf("%06d.txt", i)] = nil
		}
		files["zz.exe"] = windowsProgram() // the last
		want := "executable"
		if n > MaxEntries {
			want = ""
		}
		if got := names(reasonsOf(t, mailWith("a.zip", zipped(files)))); got != want {
			t.Errorf("%d files: %q, want %q", n, got, want)
		}
	}
	var raw strings.Builder
	raw.WriteString("MIME-Version: 1.0\r\nContent-Type: multipart/mixed; boundary=b\r\n\r\n")
	for range MaxAttachments {
		raw.WriteString("--b\r\nContent-Type: text/plain\r\n\r\nx\r\n")
	}
	raw.WriteString("--b\r\nContent-Type: application/x; name=a.exe\r\n\r\nx\r\n--b--\r\n")
	if got := names(reasonsOf(t, []byte(raw.String()))); got != "" {
		t.Errorf("part %d is looked at: %s", MaxAttachments+1, got)
	}
}

func FuzzAttachments(f *testing.F) {
	f.Add("a.zip", zipped(map[string][]byte{"a.exe": windowsProgram()}))
	f.Add("a.doc", compoundFile(nil, "VBA"))
	f.Add("a.gz", gzipped("a", []byte("x")))
	f.Add("a", windowsProgram())
	f.Fuzz(func(t *testing.T, name string, data []byte) {
		x := examination{budget: MaxDecoded, entries: MaxEntries, inflate: MaxInflated}
		x.file(name, bytes.NewReader(data), 0)
		for _, r := range x.reasons {
			if r.Points <= 0 || math.IsNaN(r.Points) || r.Text == "" || len(r.Text) > spam.MaxText {
				t.Fatalf("%+v", r)
			}
		}
	})
}
