package database

import (
	"sync/atomic"
	"time"

	lib "modernc.org/sqlite/lib"
)

// Limits bound what one client can cost. The zero value of a field means the default.
type Limits struct {
	ReadTime        time.Duration // of a statement that only reads, with the sending of its rows
	WriteTime       time.Duration // of a statement or list of statements that writes by itself: it holds up others of its database
	TransactionTime time.Duration // of a transaction from its first statement to COMMIT
	IdleTime        time.Duration // between two statements of a transaction
	ResultBytes     int64         // of the rows of a statement that only reads
	ReturnBytes     int64         // of the rows of a statement that writes, which are kept until it is replicated
	RowsChanged     int64         // by a transaction
	EffectBytes     int64         // pages that a transaction may change
}

// The defaults.
const (
	DefaultReadTime        = time.Minute
	DefaultWriteTime       = 10 * time.Second
	DefaultTransactionTime = 5 * time.Minute
	DefaultIdleTime        = time.Minute
	DefaultResultBytes     = 1 << 30
	DefaultReturnBytes     = 16 << 20
	DefaultRowsChanged     = 1_000_000
	DefaultEffectBytes     = 64 << 20
	// DefaultBudget bounds the pages that all transactions of a node hold in memory, in octets.
	DefaultBudget = 256 << 20
)

// orDefault fills in what is not set.
func (l Limits) orDefault() Limits {
	set(&l.ReadTime, DefaultReadTime)
	set(&l.WriteTime, DefaultWriteTime)
	set(&l.TransactionTime, DefaultTransactionTime)
	set(&l.IdleTime, DefaultIdleTime)
	set(&l.ResultBytes, DefaultResultBytes)
	set(&l.ReturnBytes, DefaultReturnBytes)
	set(&l.RowsChanged, DefaultRowsChanged)
	set(&l.EffectBytes, DefaultEffectBytes)
	return l
}

func set[T comparable](field *T, value T) {
	var zero T
	if *field == zero {
		*field = value
	}
}

// MaxStatement is the longest text of a statement, in octets.
const MaxStatement = 1 << 20

// libraryLimits are those of each connection that runs a client's statements;
// see https://www.sqlite.org/limits.html.
var libraryLimits = [...]struct{ limit, value int32 }{
	{lib.SQLITE_LIMIT_LENGTH, 32 << 20},
	{lib.SQLITE_LIMIT_SQL_LENGTH, MaxStatement},
	{lib.SQLITE_LIMIT_EXPR_DEPTH, 500},
	{lib.SQLITE_LIMIT_COMPOUND_SELECT, 500},
	{lib.SQLITE_LIMIT_FUNCTION_ARG, 127},
	{lib.SQLITE_LIMIT_ATTACHED, 1}, // VACUUM needs one
	{lib.SQLITE_LIMIT_LIKE_PATTERN_LENGTH, 1000},
	{lib.SQLITE_LIMIT_VARIABLE_NUMBER, 32766},
	{lib.SQLITE_LIMIT_TRIGGER_DEPTH, 100},
	{lib.SQLITE_LIMIT_WORKER_THREADS, 0},
}

// Budget bounds the memory that all overlays of a node hold.
type Budget struct {
	most int64
	used atomic.Int64
}

// NewBudget returns a budget of so many octets; 0: [DefaultBudget].
func NewBudget(most int64) *Budget {
	set(&most, DefaultBudget)
	return &Budget{most: most}
}

func (b *Budget) take(n int64) bool {
	if b.used.Add(n) > b.most {
		b.used.Add(-n)
		return false
	}
	return true
}

func (b *Budget) give(n int64) { b.used.Add(-n) }

// Used is how much is in use, in octets.
func (b *Budget) Used() int64 { return b.used.Load() }
