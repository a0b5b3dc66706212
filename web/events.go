package web

import (
	"context"
	"encoding/json"
	"net/http"
	"time"
)

// The limits of streams of events.
const (
	MaxStreams    = 256              // at once; further ones are refused, and their pages ask for news less often
	streamBeat    = 25 * time.Second // between two signs of life, each of which looks whether the session still is
	streamPatient = 10 * time.Second // for a client to take what is sent
)

// Stream sends events to one page (the EventSource of the HTML standard). It is
// for one goroutine.
type Stream struct {
	w  http.ResponseWriter
	rc *http.ResponseController
}

// Send sends an event with its data as JSON.
func (s *Stream) Send(event string, data any) error {
	text, err := json.Marshal(data)
	if err != nil {
		return err
	}
	return s.write("event: " + event + "\ndata: " + string(text) + "\n\n")
}

func (s *Stream) write(text string) error {
	if err := s.rc.SetWriteDeadline(time.Now().Add(streamPatient)); err != nil {
		return err
	}
	if _, err := s.w.Write([]byte(text)); err != nil {
		return err
	}
	return s.rc.Flush()
}

// Watcher begins to watch what a page shows: wake gets a token after each change, until stop is called.
type Watcher func(v *Visit) (wake <-chan struct{}, stop func())

// Teller makes what sends the news of one page: it is called at once, and after
// each change, and returns when it has sent what there was.
type Teller func(v *Visit) func(context.Context, *Stream) error

// MountEvents answers GET requests of a path with a stream of events (<tv-events src=PATH> in
// a page). It ends when the page goes away, the session ends or the node stops.
func (s *Shell) MountEvents(path string, a Access, watch Watcher, tell Teller) {
	s.Mount("GET "+path, a, func(w http.ResponseWriter, r *http.Request, v *Visit) error {
		if s.streams.Add(1) > MaxStreams {
			s.streams.Add(-1)
			answer(w, http.StatusServiceUnavailable, "too many pages are open")
			return nil
		}
		defer s.streams.Add(-1)
		stream := &Stream{w: w, rc: http.NewResponseController(w)}
		if err := stream.rc.SetReadDeadline(time.Time{}); err != nil {
			return err
		}
		w.Header().Set("Content-Type", "text/event-stream; charset=utf-8")
		wake, stop := watch(v)
		defer stop()
		if err := s.stream(r.Context(), v, stream, wake, tell(v)); err != nil {
			s.log.Debug("a stream of events ended", "error", err)
		}
		return nil
	})
}

// stream tells until the page goes away, the session ends or the node stops.
func (s *Shell) stream(ctx context.Context, v *Visit, stream *Stream, wake <-chan struct{}, tell func(context.Context, *Stream) error) error {
	beat := time.NewTicker(streamBeat)
	defer beat.Stop()
	for {
		if err := tell(ctx, stream); err != nil {
			return err
		}
		for again := false; !again; {
			select {
			case <-ctx.Done():
				return ctx.Err()
			case <-s.closing:
				return nil
			case <-wake:
				again = true
			case <-beat.C:
				if _, _, err := s.store.WebSession(ctx, v.secret); err != nil {
					return err
				}
				if err := stream.write(":\n\n"); err != nil {
					return err
				}
			}
		}
	}
}
