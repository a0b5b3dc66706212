package database

import (
	"strconv"
	"strings"
	"sync"
	"unsafe"

	"modernc.org/libc"
	lib "modernc.org/sqlite/lib"
)

// overlayFS is the name of the file system whose files are overlays. SQLite
// keeps one list of file systems for the process, so there is one table of open
// overlays beside it, and that is all the state this package shares.
const overlayFS = "trivet-overlay"

// overlays are the overlays that connections can be opened on, by their handle.
var overlays = struct {
	mu       sync.RWMutex
	register sync.Once
	next     uintptr
	open     map[uintptr]*overlay
	standard uintptr // the file system for temporary files
	methods  uintptr // sqlite3_io_methods
}{open: map[uintptr]*overlay{}}

// overlayFile is a sqlite3_file of the overlay file system, at the start of what
// SQLite allocates for one.
type overlayFile struct {
	methods uintptr
	handle  uintptr
}

// openOverlay opens a connection whose main database is o.
func openOverlay(o *overlay) (*conn, error) {
	overlays.register.Do(registerOverlays)
	overlays.mu.Lock()
	overlays.next++
	o.handle = overlays.next
	overlays.open[o.handle] = o
	overlays.mu.Unlock()
	c, err := openConn("/"+strconv.FormatUint(uint64(o.handle), 10), lib.SQLITE_OPEN_READWRITE, overlayFS)
	if err != nil {
		o.gone()
	}
	return c, err
}

// gone takes the overlay from the table, after its connection was closed.
func (o *overlay) gone() {
	overlays.mu.Lock()
	delete(overlays.open, o.handle)
	overlays.mu.Unlock()
	o.budget.give(o.held)
	o.held = 0
}

func overlayOf(handle uintptr) *overlay {
	overlays.mu.RLock()
	defer overlays.mu.RUnlock()
	return overlays.open[handle]
}

// registerOverlays makes the file system known to SQLite: the standard one with
// files of our own.
func registerOverlays() {
	tls := libc.NewTLS()
	defer tls.Close()
	lib.Xsqlite3_initialize(tls)
	overlays.standard = lib.Xsqlite3_vfs_find(tls, 0)
	standard := at[lib.Tsqlite3_vfs](overlays.standard)
	overlays.methods = libc.Xcalloc(tls, 1, libc.Tsize_t(unsafe.Sizeof(lib.Tsqlite3_io_methods{})))
	*at[lib.Tsqlite3_io_methods](overlays.methods) = lib.Tsqlite3_io_methods{
		FiVersion:               1, // no shared memory: no WAL
		FxClose:                 cFunction(fileClose),
		FxRead:                  cFunction(fileRead),
		FxWrite:                 cFunction(fileWrite),
		FxTruncate:              cFunction(fileTruncate),
		FxSync:                  cFunction(fileSync),
		FxFileSize:              cFunction(fileSize),
		FxLock:                  cFunction(fileLock),
		FxUnlock:                cFunction(fileLock),
		FxCheckReservedLock:     cFunction(fileReserved),
		FxFileControl:           cFunction(fileControl),
		FxSectorSize:            cFunction(fileSector),
		FxDeviceCharacteristics: cFunction(fileCharacteristics),
	}
	own := libc.Xcalloc(tls, 1, libc.Tsize_t(unsafe.Sizeof(lib.Tsqlite3_vfs{})))
	vfs := at[lib.Tsqlite3_vfs](own)
	*vfs = *standard
	vfs.FpNext = 0
	vfs.FszOsFile = max(standard.FszOsFile, int32(unsafe.Sizeof(overlayFile{})))
	vfs.FzName, _ = libc.CString(overlayFS) // fails only without memory, and then nothing can be opened
	vfs.FxOpen = cFunction(fsOpen)
	vfs.FxDelete = cFunction(fsDelete)
	vfs.FxAccess = cFunction(fsAccess)
	vfs.FxFullPathname = cFunction(fsFullPathname)
	lib.Xsqlite3_vfs_register(tls, own, 0)
}

func fsOpen(tls *libc.TLS, vfs, name, file uintptr, flags int32, outFlags uintptr) int32 {
	if flags&lib.SQLITE_OPEN_MAIN_DB == 0 { // temporary: what does not fit into memory while sorting
		open := at[lib.Tsqlite3_vfs](overlays.standard).FxOpen
		f := *(*func(*libc.TLS, uintptr, uintptr, uintptr, int32, uintptr) int32)(unsafe.Pointer(&open))
		return f(tls, overlays.standard, name, file, flags, outFlags)
	}
	f := at[overlayFile](file)
	f.methods = 0
	handle, err := strconv.ParseUint(strings.TrimPrefix(libc.GoString(name), "/"), 10, 64)
	if err != nil || overlayOf(uintptr(handle)) == nil {
		return lib.SQLITE_CANTOPEN
	}
	f.methods, f.handle = overlays.methods, uintptr(handle)
	if outFlags != 0 {
		*at[int32](outFlags) = flags
	}
	return lib.SQLITE_OK
}

func fsDelete(*libc.TLS, uintptr, uintptr, int32) int32 { return lib.SQLITE_OK }

// fsAccess: there are no journals to find.
func fsAccess(_ *libc.TLS, _, _ uintptr, _ int32, out uintptr) int32 {
	*at[int32](out) = 0
	return lib.SQLITE_OK
}

func fsFullPathname(_ *libc.TLS, _, name uintptr, size int32, out uintptr) int32 {
	text := libc.GoString(name)
	if len(text)+1 > int(size) {
		return lib.SQLITE_CANTOPEN
	}
	room := libc.GoBytes(out, len(text)+1)
	copy(room, text)
	room[len(text)] = 0
	return lib.SQLITE_OK
}

func fileOverlay(file uintptr) *overlay {
	return overlayOf(at[overlayFile](file).handle)
}

func fileClose(_ *libc.TLS, file uintptr) int32 {
	at[overlayFile](file).methods = 0
	return lib.SQLITE_OK
}

func fileRead(_ *libc.TLS, file, into uintptr, size int32, at int64) int32 {
	return fileOverlay(file).read(libc.GoBytes(into, int(size)), at)
}

func fileWrite(_ *libc.TLS, file, from uintptr, size int32, at int64) int32 {
	return fileOverlay(file).write(libc.GoBytes(from, int(size)), at)
}

func fileTruncate(_ *libc.TLS, file uintptr, size int64) int32 {
	fileOverlay(file).truncate(size)
	return lib.SQLITE_OK
}

func fileSync(*libc.TLS, uintptr, int32) int32 { return lib.SQLITE_OK }

func fileSize(_ *libc.TLS, file, out uintptr) int32 {
	*at[int64](out) = int64(fileOverlay(file).count) * pageSize
	return lib.SQLITE_OK
}

// fileLock: an overlay belongs to one connection.
func fileLock(*libc.TLS, uintptr, int32) int32 { return lib.SQLITE_OK }

func fileReserved(_ *libc.TLS, _, out uintptr) int32 {
	*at[int32](out) = 0
	return lib.SQLITE_OK
}

func fileControl(*libc.TLS, uintptr, int32, uintptr) int32 { return lib.SQLITE_NOTFOUND }

func fileSector(*libc.TLS, uintptr) int32 { return pageSize }

func fileCharacteristics(*libc.TLS, uintptr) int32 {
	return lib.SQLITE_IOCAP_ATOMIC4K | lib.SQLITE_IOCAP_SAFE_APPEND | lib.SQLITE_IOCAP_POWERSAFE_OVERWRITE
}
