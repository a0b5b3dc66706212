package threat

import (
	"archive/zip"
	"bytes"
	"compress/gzip"
	"encoding/binary"
	"io"
	"strings"
	"unicode/utf16"
)

// Limits of looking into archives. They hold for one message, whatever it has.
const (
	// MaxContainer is how large an archive or compound file may be to be looked into, in octets; of a larger one the
	// beginning is.
	MaxContainer = 16 << 20
	// MaxEntries is how many files of archives are looked at.
	MaxEntries = 1000
	// MaxNesting is how deep archives lie in others that are looked into.
	MaxNesting = 3
	// MaxInflated is how much may come out of archives, in octets.
	MaxInflated = 32 << 20
	// maxListed is how many files an archive may list for the list to be read: it takes memory.
	maxListed = 10 * MaxEntries
	// bombRatio is how many times its size an archive may say that it becomes.
	bombRatio = 1000
	bombSize  = 100 << 20 // below this nobody minds
	// maxSectors bounds the sectors of a compound file's directory that are read.
	maxSectors = 1024
)

// zip looks into a ZIP archive, which what Office writes is too.
func (x *examination) zip(name string, data []byte, depth int) {
	if depth >= MaxNesting {
		x.add(nested, name)
		return
	}
	var r *zip.Reader
	err := zip.ErrFormat
	if bytes.Count(data, []byte("PK\x01\x02")) <= maxListed {
		r, err = zip.NewReader(bytes.NewReader(data), int64(len(data)))
	}
	if err != nil { // damaged, cut or with too long a list: local headers still tell names
		x.localNames(data)
		return
	}
	unpacked := uint64(0)
	for _, f := range r.File {
		if x.entries--; x.entries < 0 {
			return
		}
		unpacked += min(f.UncompressedSize64, 1<<40)
		if f.Flags&1 != 0 { // encrypted (APPNOTE.TXT section 4.4.4)
			x.add(encrypted, name)
			x.name(f.Name)
			continue
		}
		if isMacro(f.Name) {
			x.add(macro, name)
			continue
		}
		x.entry(f, depth)
	}
	if unpacked > bombSize && unpacked > bombRatio*uint64(len(data)) {
		x.add(bomb, name)
	}
}

// entry looks at one file of an archive.
func (x *examination) entry(f *zip.File, depth int) {
	if strings.HasSuffix(f.Name, "/") || x.inflate <= 0 {
		x.name(f.Name)
		return
	}
	r, err := f.Open()
	if err != nil { // a method of compression that is not known here
		x.name(f.Name)
		return
	}
	defer r.Close()
	x.inflated(baseName(f.Name), r, depth)
}

// inflated looks at what comes out of an archive, within the budget.
func (x *examination) inflated(name string, r io.Reader, depth int) {
	limited := &io.LimitedReader{R: r, N: x.inflate}
	x.file(name, limited, depth+1)
	x.inflate = limited.N
}

// gzip looks at the one file in a gzip file.
func (x *examination) gzip(name string, r io.Reader, depth int) {
	if depth >= MaxNesting {
		x.add(nested, name)
		return
	}
	if x.entries--; x.entries < 0 || x.inflate <= 0 {
		return
	}
	z, err := gzip.NewReader(r)
	if err != nil {
		return
	}
	inner := z.Name
	if inner == "" {
		inner = strings.TrimSuffix(strings.TrimSuffix(name, ".gz"), ".GZ")
	}
	x.inflated(baseName(inner), z, depth)
}

func baseName(path string) string {
	return path[strings.LastIndexAny(path, `/\`)+1:]
}

// isMacro reports whether a file within a document of Office has macros.
func isMacro(name string) bool {
	name = strings.ToLower(name)
	return baseName(name) == "vbaproject.bin" || strings.HasPrefix(name, "xl/macrosheets/") || strings.HasPrefix(name, "basic/script") // LibreOffice: Basic/
}

// localNames looks at the names in local file headers (APPNOTE.TXT section 4.3.7).
func (x *examination) localNames(data []byte) {
	for {
		at := bytes.Index(data, []byte("PK\x03\x04"))
		if at < 0 || len(data)-at < 30 {
			return
		}
		if x.entries--; x.entries < 0 {
			return
		}
		h := data[at:]
		length := int(binary.LittleEndian.Uint16(h[26:]))
		if 30+length > len(h) {
			return
		}
		name := string(h[30 : 30+length])
		if binary.LittleEndian.Uint16(h[6:])&1 != 0 {
			x.add(encrypted, name)
		}
		if isMacro(name) {
			x.add(macro, name)
		}
		x.name(baseName(name))
		data = h[30+length:]
	}
}

// compound looks into a compound file of OLE ([MS-CFB]): macros, and installers.
func (x *examination) compound(name string, data []byte) {
	for entry := range directory(data) {
		switch strings.ToUpper(entry.name) {
		case "_VBA_PROJECT", "_VBA_PROJECT_CUR", "VBA":
			x.add(macro, name)
		case "ENCRYPTEDPACKAGE":
			x.add(encrypted, name)
		case "ROOT ENTRY":
			if entry.class == installerClass {
				x.add(executable, name)
				if harmlessExtensions[extension(name)] {
					x.add(disguised, name)
				}
			}
		}
	}
}

// installerClass is the CLSID of Windows Installer, {000C1084-0000-0000-C000-000000000046}, as it is stored.
var installerClass = [16]byte{0x84, 0x10, 0x0c, 0, 0, 0, 0, 0, 0xc0, 0, 0, 0, 0, 0, 0, 0x46}

// compoundEntry is one of a compound file's directory.
type compoundEntry struct {
	name  string
	class [16]byte
}

// directory iterates over the directory of a compound file, as far as it is whole.
func directory(data []byte) func(yield func(compoundEntry) bool) {
	return func(yield func(compoundEntry) bool) {
		if len(data) < 512 {
			return
		}
		shift := binary.LittleEndian.Uint16(data[30:]) // [MS-CFB] section 2.2
		if shift != 9 && shift != 12 {
			return
		}
		size := 1 << shift
		sector := func(n uint32) []byte {
			at := (int64(n) + 1) << shift
			if at+int64(size) > int64(len(data)) {
				return nil
			}
			return data[at : at+int64(size)]
		}
		next := binary.LittleEndian.Uint32(data[48:])
		for range maxSectors {
			s := sector(next)
			if s == nil {
				return
			}
			for ; len(s) >= 128; s = s[128:] {
				if e, ok := readEntry(s[:128]); ok && !yield(e) {
					return
				}
			}
			next = following(data, sector, next, size)
		}
	}
}

// endOfChain is what follows the last sector of a chain; greater ones mean other things that end it too.
const endOfChain = 0xfffffffa

// following is the sector after one, by the allocation table. Of that, the part is used that the header lists,
// which is enough for 6.8 MiB of sectors of 512 octets.
func following(data []byte, sector func(uint32) []byte, n uint32, size int) uint32 {
	perSector := uint32(size / 4)
	index := n / perSector
	if index >= 109 {
		return endOfChain
	}
	table := sector(binary.LittleEndian.Uint32(data[76+4*index:]))
	if table == nil {
		return endOfChain
	}
	return binary.LittleEndian.Uint32(table[4*(n%perSector):])
}

// readEntry reads an entry ([MS-CFB] section 2.6.1).
func readEntry(b []byte) (e compoundEntry, ok bool) {
	length := int(binary.LittleEndian.Uint16(b[64:]))
	if b[66] == 0 || length < 2 || length > 64 {
		return e, false
	}
	units := make([]uint16, 0, 32)
	for i := 0; i+1 < length-1; i += 2 {
		units = append(units, binary.LittleEndian.Uint16(b[i:]))
	}
	e.name = string(utf16.Decode(units))
	copy(e.class[:], b[80:96])
	return e, true
}
