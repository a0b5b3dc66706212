package pgwire

import (
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5/pgtype"

	"trivet/storage"
)

// The types that results have. SQLite's values have one of five, whatever was
// declared; the declared type says what a client is told.
const (
	oidBool   = pgtype.BoolOID
	oidBytea  = pgtype.ByteaOID
	oidInt8   = pgtype.Int8OID
	oidFloat8 = pgtype.Float8OID
	oidText   = pgtype.TextOID
	oidJSON   = pgtype.JSONOID
)

const (
	formatText   = 0
	formatBinary = 1
)

// declaredOID follows SQLite's rules of affinity
// (https://www.sqlite.org/datatype3.html section 3.1), with BOOLEAN and JSON besides.
func declaredOID(declared string) uint32 {
	d := strings.ToUpper(declared)
	switch {
	case d == "":
		return 0
	case strings.HasPrefix(d, "BOOL"):
		return oidBool
	case strings.HasPrefix(d, "JSON"):
		return oidJSON
	case strings.Contains(d, "INT"):
		return oidInt8
	case strings.Contains(d, "CHAR"), strings.Contains(d, "CLOB"), strings.Contains(d, "TEXT"):
		return oidText
	case strings.Contains(d, "BLOB"), d == "BYTEA":
		return oidBytea
	case strings.Contains(d, "REAL"), strings.Contains(d, "FLOA"), strings.Contains(d, "DOUB"):
		return oidFloat8
	}
	return oidText
}

// valueOID is the type of a value.
func valueOID(v storage.SQLValue) uint32 {
	switch v.(type) {
	case int64:
		return oidInt8
	case float64:
		return oidFloat8
	case []byte:
		return oidBytea
	}
	return oidText
}

func sizeOfType(oid uint32) int16 {
	switch oid {
	case oidBool:
		return 1
	case oidInt8, oidFloat8:
		return 8
	}
	return -1
}

// textOf is a value as SQLite writes it.
func textOf(v storage.SQLValue) string {
	switch v := v.(type) {
	case int64:
		return strconv.FormatInt(v, 10)
	case float64:
		return strconv.FormatFloat(v, 'g', -1, 64)
	case string:
		return v
	case []byte:
		return string(v)
	}
	return ""
}

// encode writes a value as a column of type oid. A value that does not fit the
// type it was declared with is sent as text, or refused in the binary format.
func encode(into []byte, v storage.SQLValue, oid uint32, format int16) ([]byte, error) {
	if v == nil {
		return nil, nil
	}
	if into == nil {
		into = []byte{}
	}
	if format == formatBinary {
		return encodeBinary(into, v, oid)
	}
	switch oid {
	case oidBool:
		if i, ok := v.(int64); ok && (i == 0 || i == 1) {
			return append(into, "ft"[i]), nil
		}
	case oidBytea:
		data, ok := v.([]byte)
		if !ok {
			data = []byte(textOf(v))
		}
		return hex.AppendEncode(append(into, '\\', 'x'), data), nil
	case oidFloat8:
		if f, ok := v.(float64); ok {
			return append(into, floatText(f)...), nil
		}
	}
	switch v := v.(type) {
	case int64:
		return strconv.AppendInt(into, v, 10), nil
	case float64:
		return append(into, floatText(v)...), nil
	case string:
		return append(into, v...), nil
	}
	return hex.AppendEncode(append(into, '\\', 'x'), v.([]byte)), nil
}

func floatText(f float64) string {
	switch {
	case math.IsInf(f, 1):
		return "Infinity"
	case math.IsInf(f, -1):
		return "-Infinity"
	}
	return strconv.FormatFloat(f, 'g', -1, 64)
}

func encodeBinary(into []byte, v storage.SQLValue, oid uint32) ([]byte, error) {
	switch oid {
	case oidInt8:
		switch v := v.(type) {
		case int64:
			return binary.BigEndian.AppendUint64(into, uint64(v)), nil
		case float64:
			if i := int64(v); float64(i) == v {
				return binary.BigEndian.AppendUint64(into, uint64(i)), nil
			}
		case string:
			if i, err := strconv.ParseInt(v, 10, 64); err == nil {
				return binary.BigEndian.AppendUint64(into, uint64(i)), nil
			}
		}
	case oidFloat8:
		switch v := v.(type) {
		case int64:
			return binary.BigEndian.AppendUint64(into, math.Float64bits(float64(v))), nil
		case float64:
			return binary.BigEndian.AppendUint64(into, math.Float64bits(v)), nil
		}
	case oidBool:
		if i, ok := v.(int64); ok && (i == 0 || i == 1) {
			return append(into, byte(i)), nil
		}
	default:
		return append(into, textOf(v)...), nil
	}
	return nil, &storage.SQLError{State: "42804", Message: fmt.Sprintf("a value of type %T stands in a column of another type", v),
		Hint: "CAST it, or ask for the text format"}
}

// decode reads a parameter of type oid; 0: the client did not say.
func decode(data []byte, oid uint32, format int16, types *pgtype.Map) (storage.SQLValue, error) {
	if data == nil {
		return nil, nil
	}
	text := string(data)
	if format == formatBinary {
		return decodeBinary(data, oid, types)
	}
	switch oid {
	case pgtype.Int2OID, pgtype.Int4OID, pgtype.Int8OID, pgtype.OIDOID, pgtype.XIDOID:
		i, err := strconv.ParseInt(text, 10, 64)
		if err != nil {
			return nil, malformed(text, "integer")
		}
		return i, nil
	case pgtype.Float4OID, pgtype.Float8OID:
		f, err := strconv.ParseFloat(text, 64)
		if err != nil {
			return nil, malformed(text, "number")
		}
		return f, nil
	case pgtype.NumericOID:
		if i, err := strconv.ParseInt(text, 10, 64); err == nil {
			return i, nil
		}
		f, err := strconv.ParseFloat(text, 64)
		if err != nil {
			return nil, malformed(text, "number")
		}
		return f, nil
	case pgtype.BoolOID:
		switch strings.ToLower(text) {
		case "t", "true", "1", "on", "yes", "y":
			return int64(1), nil
		case "f", "false", "0", "off", "no", "n":
			return int64(0), nil
		}
		return nil, malformed(text, "boolean")
	case pgtype.ByteaOID:
		if !strings.HasPrefix(text, `\x`) {
			return data, nil
		}
		raw, err := hex.DecodeString(text[2:])
		if err != nil {
			return nil, malformed(text, "bytea")
		}
		return raw, nil
	}
	return text, nil
}

func malformed(text, what string) error {
	return &storage.SQLError{State: "22P02", Message: fmt.Sprintf("%.40q is no %s", text, what)}
}

func decodeBinary(data []byte, oid uint32, types *pgtype.Map) (storage.SQLValue, error) {
	switch oid {
	case 0, pgtype.TextOID, pgtype.VarcharOID, pgtype.BPCharOID, pgtype.NameOID, pgtype.JSONOID, pgtype.UnknownOID:
		return string(data), nil
	case pgtype.ByteaOID:
		return append([]byte{}, data...), nil
	}
	t, known := types.TypeForOID(oid)
	if !known {
		return nil, &storage.SQLError{State: "0A000", Message: fmt.Sprintf("parameters of type %d are not supported in the binary format", oid)}
	}
	v, err := t.Codec.DecodeValue(types, oid, formatBinary, data)
	if err != nil {
		return nil, &storage.SQLError{State: "22P03", Message: "a parameter is malformed", Err: err}
	}
	switch v := v.(type) {
	case int64:
		return v, nil
	case int32:
		return int64(v), nil
	case int16:
		return int64(v), nil
	case uint32:
		return int64(v), nil
	case float32:
		return float64(v), nil
	case float64:
		return v, nil
	case bool:
		if v {
			return int64(1), nil
		}
		return int64(0), nil
	case string:
		return v, nil
	case time.Time:
		return timeText(v, oid), nil
	case [16]byte: // a UUID
		return fmt.Sprintf("%x-%x-%x-%x-%x", v[:4], v[4:6], v[6:8], v[8:10], v[10:]), nil
	}
	buffer, err := types.Encode(oid, formatText, v, nil)
	if err != nil {
		return nil, &storage.SQLError{State: "0A000", Message: fmt.Sprintf("parameters of type %s are not supported in the binary format", t.Name)}
	}
	return decode(buffer, oid, formatText, types)
}

// timeText is a time as SQLite's date functions read it.
func timeText(t time.Time, oid uint32) string {
	switch oid {
	case pgtype.DateOID:
		return t.Format("2006-01-02")
	case pgtype.TimestampOID:
		return t.Format("2006-01-02 15:04:05.999999")
	}
	return t.UTC().Format("2006-01-02 15:04:05.999999")
}
