package sql

import (
	"context"
	"encoding/base64"
	"encoding/csv"
	"encoding/json"
	"fmt"
	"net/http"

	"trivet/storage"
)

// flusher is a sink that buffers.
type flusher interface {
	storage.SQLSink
	// end sends what is left, and an error that came after the first row.
	end(err error) error
	begun() bool
}

// stream sends rows as they come. What goes wrong after the first of them is
// told in the last line, and by a connection that is cut off.
func stream(ctx context.Context, w http.ResponseWriter, session storage.SQLSession, st storage.SQLStatement, kind string, sink flusher) error {
	w.Header().Set("Content-Type", kind)
	w.Header().Set("Cache-Control", "no-store")
	_, _, err := session.Run(ctx, st, sink)
	if err != nil && !sink.begun() {
		w.Header().Del("Content-Type")
		return err
	}
	if end := sink.end(err); end != nil || err != nil {
		_ = http.NewResponseController(w).Flush() // the error must arrive before the end; without a client it does not matter
		panic(http.ErrAbortHandler)               // so that a part is never taken for all
	}
	return nil
}

type csvSink struct {
	out   *csv.Writer
	row   []string
	start bool
}

func (s *csvSink) begun() bool { return s.start }

// Columns implements [storage.SQLSink].
func (s *csvSink) Columns(columns []storage.SQLColumn) error {
	s.start = true
	s.row = make([]string, len(columns))
	for i, c := range columns {
		s.row[i] = c.Name
	}
	return s.out.Write(s.row)
}

// Row implements [storage.SQLSink].
func (s *csvSink) Row(row []storage.SQLValue) error {
	for i, v := range row {
		switch v := v.(type) {
		case nil:
			s.row[i] = ""
		case []byte:
			s.row[i] = base64.StdEncoding.EncodeToString(v)
		default:
			s.row[i] = fmt.Sprint(v)
		}
	}
	return s.out.Write(s.row)
}

func (s *csvSink) end(error) error {
	s.out.Flush()
	return s.out.Error()
}

type ndjsonSink struct {
	out   *json.Encoder
	names []string
	start bool
}

func (s *ndjsonSink) begun() bool { return s.start }

// Columns implements [storage.SQLSink].
func (s *ndjsonSink) Columns(columns []storage.SQLColumn) error {
	for _, c := range columns {
		s.names = append(s.names, c.Name)
	}
	return nil
}

// Row implements [storage.SQLSink].
func (s *ndjsonSink) Row(row []storage.SQLValue) error {
	s.start = true
	object := make(map[string]any, len(row))
	for i, v := range row {
		object[s.names[i]] = jsonValue(v)
	}
	return s.out.Encode(object)
}

func (s *ndjsonSink) end(err error) error {
	if err == nil {
		return nil
	}
	p, _ := problemOf(err)
	return s.out.Encode(map[string]any{"error": p})
}
