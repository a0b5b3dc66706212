package database

// Value is what a column or a parameter holds: nil, int64, float64, string or
// []byte; a parameter may be a bool as well.
type Value = any

// Column is a column of a result.
type Column struct {
	Name     string `cbor:"1,keyasint"`
	Declared string `cbor:"2,keyasint,omitempty"` // the type its table declares, as it is written there; empty for an expression
}

// Sink takes the rows of a result, as they come. An error of its ends the statement.
type Sink interface {
	// Columns is called once before any row.
	Columns([]Column) error
	// Row is called for each row. The slice is used again; what is in it is not.
	Row([]Value) error
}

// Outcome is how a statement ended.
type Outcome struct {
	Kind         StatementKind `cbor:"1,keyasint"`
	Rows         int64         `cbor:"2,keyasint,omitempty"` // sent
	Changed      int64         `cbor:"3,keyasint,omitempty"` // rows inserted, updated or deleted, without those of triggers
	LastInsertID int64         `cbor:"4,keyasint,omitempty"` // rowid of the last row this session inserted
	Version      uint64        `cbor:"5,keyasint,omitempty"`
	Text         string        `cbor:"-"` // of the statement
}

// Rows is a sink that keeps the rows.
type Rows struct {
	Names []Column  `cbor:"1,keyasint,omitempty"`
	Data  [][]Value `cbor:"2,keyasint,omitempty"`
	size  int64
	most  int64 // octets; 0: any number
}

// Columns implements [Sink].
func (r *Rows) Columns(c []Column) error {
	r.Names = c
	return nil
}

// Row implements [Sink].
func (r *Rows) Row(row []Value) error {
	r.size += sizeOf(row)
	if r.most > 0 && r.size > r.most {
		return fail(StateTooLong, "return less of each row", "the rows returned are more than %d octets", r.most)
	}
	r.Data = append(r.Data, append([]Value{}, row...))
	return nil
}

// Size is about what the rows take, in octets.
func (r *Rows) Size() int64 { return r.size }

// sizeOf is about what a row takes, in octets.
func sizeOf(row []Value) int64 {
	n := int64(24)
	for _, v := range row {
		n += 16
		switch v := v.(type) {
		case string:
			n += int64(len(v))
		case []byte:
			n += int64(len(v))
		}
	}
	return n
}
