package database

import (
	"encoding/binary"
	"errors"
	"maps"
	"slices"

	lib "modernc.org/sqlite/lib"
)

// pageSize is that of every database. A page number is the place of a page in
// the file, from 1.
const pageSize = 4096

// The octets of the first page that are ours or each file's own; see
// https://www.sqlite.org/fileformat2.html#the_database_header.
const (
	headerFormat  = 18 // and 19: 1 with a rollback journal, 2 with a WAL
	headerCounter = 24 // 4 octets: changes of the file, which SQLite counts itself
	headerPages   = 28 // 4 octets: how many pages there are
	headerVersion = 72 // 8 octets of those reserved for expansion: our version of the file
	headerIndex   = 80 // 8 octets more: the log's index of the last effect
	headerValid   = 92 // 4 octets: the counter for which headerPages holds
	headerEnd     = 100
)

// ours reports whether octet i of the first page belongs to the file as it lies
// on one node, not to the content.
func ours(i int) bool {
	return i == headerFormat || i == headerFormat+1 || i >= headerCounter && i < headerPages || i >= headerVersion && i < headerEnd
}

// source is what an overlay lies on: a file as of one version.
type source interface {
	page(number uint32, into []byte) error
	size() uint32 // in pages
}

// overlay is a private copy-on-write view of a file, to which SQLite writes as
// if it were a file with a rollback journal.
type overlay struct {
	base    source
	pages   map[uint32][]byte // those written
	count   uint32            // pages there are now
	counter uint32            // what the first page says of changes
	budget  *Budget
	held    int64 // octets taken from the budget
	limit   int   // pages that may be written
	full    bool  // the limit or the budget stopped a write
	over    bool  // it was the limit
	err     error // reading the base failed: this node's fault
	scratch [pageSize]byte
	handle  uintptr
}

func newOverlay(budget *Budget) *overlay {
	return &overlay{pages: map[uint32][]byte{}, budget: budget, counter: 1}
}

// rest makes the overlay lie on base, with nothing written. moved: the content
// is not the one that the connection saw last.
func (o *overlay) rest(base source, limit int, moved bool) {
	o.budget.give(o.held)
	o.held = 0
	clear(o.pages)
	o.base, o.count, o.limit, o.full = base, base.size(), limit, false
	if moved {
		o.counter++
	}
}

// read implements the read of a file.
func (o *overlay) read(into []byte, at int64) int32 {
	number := uint32(at/pageSize) + 1
	from := int(at % pageSize)
	if number > o.count || from+len(into) > pageSize {
		clear(into)
		return lib.SQLITE_IOERR_SHORT_READ
	}
	page := o.pages[number]
	if page == nil {
		page = o.scratch[:]
		if number > o.base.size() {
			clear(page)
		} else if err := o.base.page(number, page); err != nil {
			o.err = errors.Join(o.err, err)
			return lib.SQLITE_IOERR_READ
		}
		if number == 1 {
			page[headerFormat], page[headerFormat+1] = 1, 1
			binary.BigEndian.PutUint32(page[headerCounter:], o.counter)
			binary.BigEndian.PutUint32(page[headerValid:], o.counter)
		}
	}
	copy(into, page[from:])
	return lib.SQLITE_OK
}

// write implements the write of a file.
func (o *overlay) write(data []byte, at int64) int32 {
	if at%pageSize != 0 || len(data) != pageSize {
		return lib.SQLITE_IOERR_WRITE
	}
	number := uint32(at/pageSize) + 1
	page := o.pages[number]
	if page == nil {
		if o.over = len(o.pages) >= o.limit; o.over || !o.budget.take(pageSize) {
			o.full = true
			return lib.SQLITE_FULL
		}
		o.held += pageSize
		page = make([]byte, pageSize)
		o.pages[number] = page
	}
	copy(page, data)
	o.count = max(o.count, number)
	if number == 1 {
		o.counter = binary.BigEndian.Uint32(data[headerCounter:])
	}
	return lib.SQLITE_OK
}

func (o *overlay) truncate(size int64) {
	o.count = uint32(size / pageSize)
	for number := range o.pages {
		if number > o.count {
			delete(o.pages, number)
			o.held -= pageSize
			o.budget.give(pageSize)
		}
	}
}

// effect returns what the pages written differ in from the base, or nil.
func (o *overlay) effect() (*Effect, error) {
	e := &Effect{Pages: o.count}
	var old, empty [pageSize]byte
	for _, number := range slices.Sorted(maps.Keys(o.pages)) {
		if number > o.base.size() {
			break
		}
		if err := o.base.page(number, old[:]); err != nil {
			return nil, err
		}
		e.add(number, old[:], o.pages[number])
	}
	// Each new page is written, an empty one too: a file that shrank may have
	// something else in this place.
	for number := o.base.size() + 1; number <= o.count; number++ {
		page := o.pages[number]
		if page == nil {
			page = empty[:]
		}
		e.addNew(number, empty[:], page)
	}
	if len(e.patches) == 0 && o.count == o.base.size() {
		return nil, nil
	}
	return e, nil
}
