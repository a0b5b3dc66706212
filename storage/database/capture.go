package database

import (
	"encoding/base64"
	"encoding/json"
	"math"
	"strconv"
	"strings"

	"github.com/klauspost/compress/zstd"
	"modernc.org/libc"
	lib "modernc.org/sqlite/lib"
)

// RowChange is a row that a transaction changed. Values are as in JSON; a BLOB is
// {"base64": "…"}.
type RowChange struct {
	Table string `json:"table,omitempty"`
	Op    string `json:"op"` // insert, update, delete; unknown: something changed of which no rows are told
	// Row are the values of a row that was inserted, and those that an update changed.
	Row map[string]any `json:"row,omitempty"`
	// Old are the values of a row that was deleted, and of one that was updated its
	// key and what was changed.
	Old map[string]any `json:"old,omitempty"`
}

// MaxCaptured bounds what is told of one transaction, in octets, compressed.
const MaxCaptured = 256 << 10

// maxCapturing bounds it before that.
const maxCapturing = 8 << 20

// capture begins to note which rows change. SQLite's session extension finds the
// net effect: what a savepoint or an error took back is not in it.
func (w *workspace) capture() error {
	w.endCapture()
	name, err := libc.CString("main")
	if err != nil {
		return err
	}
	defer libc.Xfree(w.tls, name)
	pointers := libc.Xcalloc(w.tls, 1, 8)
	defer libc.Xfree(w.tls, pointers)
	if rc := lib.Xsqlite3session_create(w.tls, w.db, name, pointers); rc != lib.SQLITE_OK {
		return w.failure(rc)
	}
	w.session = *at[uintptr](pointers)
	*at[int32](pointers) = 1
	if rc := lib.Xsqlite3session_object_config(w.tls, w.session, lib.SQLITE_SESSION_OBJCONFIG_ROWID, pointers); rc != lib.SQLITE_OK {
		return w.failure(rc)
	}
	if rc := lib.Xsqlite3session_attach(w.tls, w.session, 0); rc != lib.SQLITE_OK {
		return w.failure(rc)
	}
	return nil
}

func (w *workspace) endCapture() {
	if w.session != 0 {
		lib.Xsqlite3session_delete(w.tls, w.session)
		w.session = 0
	}
}

// captured returns the rows that the transaction changed, as JSON compressed by
// zstd; nil: they are not told, because nothing is captured or they are too many.
func (w *workspace) captured() ([]byte, error) {
	if w.session == 0 {
		return nil, nil
	}
	w.rule.internal = true
	defer func() { w.rule.internal = false }()
	defer w.endCapture()
	out := libc.Xcalloc(w.tls, 2, 8)
	defer libc.Xfree(w.tls, out)
	if rc := lib.Xsqlite3session_changeset(w.tls, w.session, out, out+8); rc != lib.SQLITE_OK {
		return nil, w.failure(rc)
	}
	size, data := *at[int32](out), *at[uintptr](out + 8)
	defer lib.Xsqlite3_free(w.tls, data)
	if size == 0 || size > maxCapturing {
		return nil, nil
	}
	changes, err := w.rowsOf(size, data)
	if err != nil || len(changes) == 0 {
		return nil, err
	}
	plain, err := json.Marshal(changes)
	if err != nil {
		return nil, err
	}
	encoder, err := zstd.NewWriter(nil, zstd.WithEncoderConcurrency(1), zstd.WithEncoderLevel(zstd.SpeedFastest))
	if err != nil {
		return nil, err
	}
	packed := encoder.EncodeAll(plain, nil)
	if len(packed) > MaxCaptured {
		return nil, nil
	}
	return packed, nil
}

// capturedTable is what is known of a table while its changes are read.
type capturedTable struct {
	columns []string // nil: its rows are not told
}

// rowsOf reads a changeset.
func (w *workspace) rowsOf(size int32, data uintptr) (changes []RowChange, err error) {
	p := libc.Xcalloc(w.tls, 4, 8)
	defer libc.Xfree(w.tls, p)
	if rc := lib.Xsqlite3changeset_start(w.tls, p, size, data); rc != lib.SQLITE_OK {
		return nil, w.failure(rc)
	}
	walk := *at[uintptr](p)
	defer lib.Xsqlite3changeset_finalize(w.tls, walk)
	tables := map[string]capturedTable{}
	for lib.Xsqlite3changeset_next(w.tls, walk) == lib.SQLITE_ROW {
		if rc := lib.Xsqlite3changeset_op(w.tls, walk, p+8, p+16, p+24, 0); rc != lib.SQLITE_OK {
			return nil, w.failure(rc)
		}
		name, width, op := libc.GoString(*at[uintptr](p + 8)), int(*at[int32](p + 16)), *at[int32](p + 24)
		t, known := tables[name]
		if !known {
			if t, err = w.capturedTable(name, width); err != nil {
				return nil, err
			}
			tables[name] = t
		}
		if t.columns == nil {
			continue
		}
		c := RowChange{Table: name}
		if op != lib.SQLITE_DELETE {
			c.Row = w.side(walk, t, p+8, lib.Xsqlite3changeset_new)
		}
		if op != lib.SQLITE_INSERT {
			c.Old = w.side(walk, t, p+8, lib.Xsqlite3changeset_old)
		}
		c.Op = map[int32]string{lib.SQLITE_INSERT: "insert", lib.SQLITE_UPDATE: "update", lib.SQLITE_DELETE: "delete"}[op]
		changes = append(changes, c)
	}
	return changes, nil
}

// capturedTable finds the names of a table's columns. Tables that virtual ones
// are made of are not told.
func (w *workspace) capturedTable(name string, width int) (t capturedTable, err error) {
	shadow := false
	if _, err := w.row("SELECT type = 'shadow' FROM pragma_table_list WHERE schema = 'main' AND name = ?", func(st *stmt) { shadow = st.int(0) != 0 }, name); err != nil || shadow || strings.HasPrefix(name, "sqlite_") {
		return t, err
	}
	var names string
	if _, err := w.row("SELECT json_group_array(name) FROM (SELECT name FROM pragma_table_xinfo(?) WHERE hidden = 0 ORDER BY cid)", func(st *stmt) { names = st.text(0) }, name); err != nil {
		return t, err
	}
	if err := json.Unmarshal([]byte(names), &t.columns); err != nil {
		return t, err
	}
	if len(t.columns) == width-1 { // it has no key of its own
		t.columns = append([]string{"_rowid_"}, t.columns...)
	}
	for len(t.columns) < width {
		t.columns = append(t.columns, "column"+strconv.Itoa(len(t.columns)+1))
	}
	t.columns = t.columns[:width]
	return t, nil
}

// side reads the old or the new values of a change, as far as it has them.
func (w *workspace) side(walk uintptr, t capturedTable, p uintptr, get func(*libc.TLS, uintptr, int32, uintptr) int32) map[string]any {
	values := map[string]any{}
	for i, name := range t.columns {
		*at[uintptr](p) = 0
		if get(w.tls, walk, int32(i), p) == lib.SQLITE_OK && *at[uintptr](p) != 0 {
			values[name] = jsonOf(libraryValue(w.tls, *at[uintptr](p)))
		}
	}
	return values
}

func jsonOf(v Value) any {
	switch v := v.(type) {
	case []byte:
		return map[string]string{"base64": base64.StdEncoding.EncodeToString(v)}
	case float64:
		if math.IsInf(v, 0) || math.IsNaN(v) {
			return strconv.FormatFloat(v, 'g', -1, 64)
		}
	case string:
		return strings.ToValidUTF8(v, "\ufffd")
	}
	return v
}

// UnpackChanges returns the JSON of what a transaction changed.
func UnpackChanges(packed []byte) ([]byte, error) {
	decoder, err := zstd.NewReader(nil, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxMemory(8*maxCapturing))
	if err != nil {
		return nil, err
	}
	defer decoder.Close()
	return decoder.DecodeAll(packed, nil)
}
