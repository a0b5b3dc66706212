package sql

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"

	"trivet/storage"
)

// Limits of those who follow the changes of databases.
const (
	// MaxFollowing is how many there are at once; beyond: 503.
	MaxFollowing = 64
	// followBeat is how often a line is sent that says nothing, so that a
	// connection that is dead is found out, and the client's rights are looked at.
	followBeat = 15 * time.Second
	// followWrite is how long a client may take for what it is sent.
	followWrite = 30 * time.Second
)

// committed is one event of a feed.
type committed struct {
	Version uint64          `json:"version"`
	At      time.Time       `json:"at"`
	Rows    json.RawMessage `json:"rows"` // of storage/database's RowChange
}

// unknownRows stands for changes of which no rows are told.
var unknownRows = json.RawMessage(`[{"op":"unknown"}]`)

// follow sends what is committed in a database as server-sent events, from
// behind ?after=VERSION or the Last-Event-ID on, or from now on.
func (s *Server) follow(w http.ResponseWriter, r *http.Request, user storage.SQLUser) error {
	name := r.PathValue("database")
	after, err := s.followFrom(r, user, name)
	if err != nil {
		return err
	}
	// What is wrong with the version is said before the stream begins.
	look, cancel := context.WithCancel(r.Context())
	cancel()
	first, err := s.databases.DatabaseChanges(look, user, name, after)
	if err != nil {
		return err
	}
	out := http.NewResponseController(w)
	if err := errors.Join(out.SetReadDeadline(time.Time{}), out.SetWriteDeadline(time.Now().Add(followWrite))); err != nil {
		return err
	}
	w.Header().Set("Content-Type", "text/event-stream; charset=utf-8")
	w.Header().Set("Cache-Control", "no-store")
	if err := told(w, out, ": from version %d\n\n", after); err != nil {
		return nil // the client has gone
	}
	for changes := first; ; {
		for _, c := range changes {
			if err := tellCommit(w, out, c); err != nil {
				return nil // the client has gone
			}
			after = c.Version
		}
		wait, cancel := context.WithTimeout(r.Context(), followBeat)
		stop := context.AfterFunc(s.stopping, cancel)
		changes, err = s.databases.DatabaseChanges(wait, user, name, after)
		stop()
		cancel()
		if err == nil && len(changes) == 0 && strings.HasPrefix(r.Header.Get("Authorization"), "Bearer ") {
			user, err = s.user(r)
		}
		switch {
		case r.Context().Err() != nil, s.stopping.Err() != nil:
			return nil
		case err != nil:
			p, _ := problemOf(err)
			data, _ := json.Marshal(p)                           // texts and numbers
			_ = told(w, out, "event: error\ndata: %s\n\n", data) // fails only when the client has gone
			return nil
		case len(changes) == 0:
			if told(w, out, ":\n\n") != nil {
				return nil
			}
		}
	}
}

// followFrom is the version that a client has seen.
func (s *Server) followFrom(r *http.Request, user storage.SQLUser, name string) (uint64, error) {
	from := r.Header.Get("Last-Event-ID")
	if from == "" {
		from = r.URL.Query().Get("after")
	}
	if from == "" {
		return s.databases.DatabaseVersion(r.Context(), user, name)
	}
	version, err := strconv.ParseUint(from, 10, 63)
	if err != nil {
		return 0, &storage.SQLError{State: "22023", Message: "after is the number of a version"}
	}
	return version, nil
}

func tellCommit(w http.ResponseWriter, out *http.ResponseController, c storage.DatabaseChange) error {
	event := committed{c.Version, c.At, c.Rows}
	if event.Rows == nil {
		event.Rows = unknownRows
	}
	data, err := json.Marshal(event)
	if err != nil {
		return err
	}
	return told(w, out, "id: %d\nevent: commit\ndata: %s\n\n", c.Version, data)
}

func told(w http.ResponseWriter, out *http.ResponseController, format string, args ...any) error {
	if err := out.SetWriteDeadline(time.Now().Add(followWrite)); err != nil {
		return err
	}
	if _, err := fmt.Fprintf(w, format, args...); err != nil {
		return err
	}
	return out.Flush()
}

// EndFollowing ends the streams of those who follow, when the node stops.
func (s *Server) EndFollowing() { s.stop() }
