package database

import (
	"context"
	"errors"
	"strconv"
	"strings"
	"sync"

	lib "modernc.org/sqlite/lib"
)

// Table is a read-only table whose rows are found by Go code: SQL reaches what
// that code gives it, and nothing else.
type Table struct {
	Name    string
	Columns []TableColumn
	// Rows finds the rows that the query may need: all that satisfy its
	// constraints. More is allowed, because SQLite looks at each again.
	Rows func(ctx context.Context, q TableQuery) (TableRows, error)
}

// TableColumn is a column of a [Table].
type TableColumn struct {
	Name string
	Type string // as declared
	// Key is the part of the rows, about, that have one value of this column; 0: a
	// constraint on it does not help to find rows.
	Key float64
	// Argument: the column is hidden, and an argument of the table as a function,
	// without which there are no rows.
	Argument bool
}

// Op is how a constraint compares.
type Op byte

// The comparisons.
const (
	OpEqual Op = iota
	OpLess
	OpAtMost
	OpGreater
	OpAtLeast
)

// Constraint is what a row must satisfy: column Op Value.
type Constraint struct {
	Column int
	Op     Op
	Value  Value
}

// TableQuery is what SQLite asks of a table.
type TableQuery struct {
	Constraints []Constraint
	used        uint64
}

// Needs reports whether the values of a column are needed.
func (q TableQuery) Needs(column int) bool { return q.used&(1<<min(column, 63)) != 0 }

// Equal returns the value that a column must have, if it must have one.
func (q TableQuery) Equal(column int) (Value, bool) {
	for _, c := range q.Constraints {
		if c.Column == column && c.Op == OpEqual {
			return c.Value, true
		}
	}
	return nil, false
}

// TableRows goes through rows. It is used by one goroutine.
type TableRows interface {
	// Next goes to the next row; false: there is none. The first call goes to the first.
	Next() (bool, error)
	// Value returns a value of the row.
	Value(column int) (Value, error)
}

// Views returns a database of tables, and of views on them, that is nowhere but
// in the memory of this node. Nothing in it can be changed.
func (e *Engine) Views(tables []Table, views []string) *Database {
	return &Database{engine: e, tables: tables, views: views}
}

// tableModule is the name by which SQLite knows what implements the tables.
const tableModule = "trivet"

func (d *Database) openTables() (*conn, error) {
	c, err := openConn(":memory:", lib.SQLITE_OPEN_READWRITE|lib.SQLITE_OPEN_CREATE, "")
	if err != nil {
		return nil, err
	}
	err = c.addTables(d.tables)
	statements := make([]string, 0, len(d.tables)+len(d.views)+4)
	for _, t := range d.tables {
		statements = append(statements, `CREATE VIRTUAL TABLE "`+t.Name+`" USING `+tableModule)
	}
	statements = append(append(statements, d.views...), "PRAGMA temp_store=FILE", "PRAGMA cache_size=-2048", "PRAGMA query_only=ON")
	for _, sql := range statements {
		if err == nil {
			err = c.exec(sql)
		}
	}
	if err != nil {
		return nil, errors.Join(err, c.close())
	}
	for _, sql := range statements { // none is to be kept
		c.forget(sql)
	}
	c.restrict()
	return c, nil
}

// declaration is the table in SQL.
func (t *Table) declaration() string {
	var b strings.Builder
	b.WriteString("CREATE TABLE x (")
	for i, c := range t.Columns {
		if i > 0 {
			b.WriteString(", ")
		}
		b.WriteString(`"` + c.Name + `" ` + c.Type)
		if c.Argument {
			b.WriteString(" HIDDEN")
		}
	}
	return b.String() + ")"
}

// handles are the Go values that the library knows by a number: its callbacks
// get no Go value.
type handles[T any] struct {
	mu   sync.RWMutex
	last uintptr
	open map[uintptr]T
}

func (h *handles[T]) add(v T) uintptr {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.last++
	h.open[h.last] = v
	return h.last
}

func (h *handles[T]) of(id uintptr) T {
	h.mu.RLock()
	defer h.mu.RUnlock()
	return h.open[id]
}

func (h *handles[T]) drop(id uintptr) {
	h.mu.Lock()
	defer h.mu.Unlock()
	delete(h.open, id)
}

// tableSet is what the module of one connection knows.
type tableSet struct {
	c      *conn
	tables []Table
}

// connected is a table as one connection has it.
type connected struct {
	set   *tableSet
	table *Table
}

// text is a query without its values, as a statement that is prepared keeps it:
// the columns that are needed, and the constraints in the order of their arguments.
func (q TableQuery) text() string {
	b := strconv.AppendUint(nil, q.used, 36)
	for _, c := range q.Constraints {
		b = strconv.AppendInt(append(b, ' '), int64(c.Column), 36)
		b = strconv.AppendInt(append(b, ' '), int64(c.Op), 36)
	}
	return string(b)
}

// queryOf reads what text wrote.
func queryOf(text string) (q TableQuery) {
	next := func() (n uint64) {
		word, rest, _ := strings.Cut(text, " ")
		text = rest
		n, _ = strconv.ParseUint(word, 36, 64) // we wrote it
		return n
	}
	q.used = next()
	for text != "" {
		c := Constraint{Column: int(next())}
		c.Op = Op(next())
		q.Constraints = append(q.Constraints, c)
	}
	return q
}

// scan is a walk through the rows of a table.
type scan struct {
	at   *connected
	rows TableRows
	end  bool
	row  int64
}

var (
	tableSets  = handles[*tableSet]{open: map[uintptr]*tableSet{}}
	connecteds = handles[*connected]{open: map[uintptr]*connected{}}
	scans      = handles[*scan]{open: map[uintptr]*scan{}}
)

// failed notes why a callback failed, for whoever runs the statement.
func (s *tableSet) failed(err error) int32 {
	if s.c.running != nil && s.c.running.Err() != nil {
		return lib.SQLITE_INTERRUPT
	}
	s.c.cause = err
	return lib.SQLITE_ERROR
}

// context is that of the statement that runs.
func (s *tableSet) context() context.Context {
	if s.c.running == nil {
		return context.Background()
	}
	return s.c.running
}
