package threat

import (
	"bytes"
	"encoding/binary"
)

// fileKind is what a file is by its octets.
type fileKind uint8

const (
	kindOther fileKind = iota
	kindExecutable
	kindScript
	kindShortcut
	kindDiskImage
	kindZIP
	kindGZIP
	kindCompound // of OLE: documents of Office before 2007, installers
	kindHTML
)

// runs reports whether opening such a file does something.
func (k fileKind) runs() bool {
	return k == kindExecutable || k == kindScript || k == kindShortcut || k == kindDiskImage
}

// magics are what files begin with.
var magics = []struct {
	mark string
	kind fileKind
}{
	{"\x7fELF", kindExecutable},
	{"\xfe\xed\xfa\xce", kindExecutable}, {"\xfe\xed\xfa\xcf", kindExecutable}, // Mach-O
	{"\xce\xfa\xed\xfe", kindExecutable}, {"\xcf\xfa\xed\xfe", kindExecutable},
	{"\xca\xfe\xba\xbe", kindExecutable}, // Mach-O for several processors, and classes of Java
	{"\x4c\x00\x00\x00\x01\x14\x02\x00", kindShortcut},
	{"#!", kindScript},
	{"#@~^", kindScript},         // encoded by Microsoft's script encoder
	{"ITSF\x03\x00", kindScript}, // compiled help, which has script
	{"vhdxfile", kindDiskImage},  // of Hyper-V
	{"conectix", kindDiskImage},  // its older form
	{"PK\x03\x04", kindZIP},      // also what Office writes since 2007
	{"PK\x05\x06", kindZIP},      // an empty one
	{"\x1f\x8b\x08", kindGZIP},
	{"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", kindCompound},
}

// volumeOffset is where the first volume descriptor of a disk image lies (ECMA-119 section 6.2.1).
const volumeOffset = 32 << 10

// sniff tells what a file is by its first octets.
func sniff(head []byte) fileKind {
	for _, m := range magics {
		if bytes.HasPrefix(head, []byte(m.mark)) {
			return m.kind
		}
	}
	if bytes.HasPrefix(head, []byte("MZ")) && isWindowsProgram(head) {
		return kindExecutable
	}
	if len(head) > volumeOffset+6 {
		switch string(head[volumeOffset+1 : volumeOffset+6]) {
		case "CD001", "BEA01", "NSR02", "NSR03":
			return kindDiskImage
		}
	}
	text := bytes.ToLower(bytes.TrimLeft(head[:min(len(head), 1024)], "\xef\xbb\xbf \t\r\n"))
	switch {
	case bytes.Contains(text, []byte("<hta:application")), bytes.HasPrefix(text, []byte("windows registry editor")):
		return kindScript
	case bytes.HasPrefix(text, []byte("<!doctype html")), bytes.HasPrefix(text, []byte("<html")), bytes.HasPrefix(text, []byte("<script")):
		return kindHTML
	}
	return kindOther
}

// isWindowsProgram looks for the header that follows that of DOS. A program of DOS itself has none, but a
// relocation table where it says; text that begins with MZ has neither.
func isWindowsProgram(head []byte) bool {
	if len(head) < 0x40 {
		return false
	}
	at := int64(binary.LittleEndian.Uint32(head[0x3c:]))
	if at+2 <= int64(len(head)) {
		switch string(head[at : at+2]) {
		case "PE", "NE", "LE", "LX":
			return true
		}
	}
	relocations, paragraphs := binary.LittleEndian.Uint16(head[0x18:]), binary.LittleEndian.Uint16(head[0x08:])
	return relocations >= 0x1c && relocations < 0x200 && paragraphs >= 2 && paragraphs < 0x100
}
