package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"time"

	"trivet/storage"
)

// The control socket is HTTP with JSON bodies: POST /NAME asks for the operation
// of that name. Whoever may open the socket, its owner, may do everything.

// Limits of the control socket.
const (
	maxControlRequest  = 1 << 20 // octets
	maxControlResponse = 64 << 20
	controlTimeout     = time.Minute // for a request's header, and for what a command waits
	// maxSocketPath is what the sun_path of every system holds (macOS has the
	// smallest, 104 with its final NUL).
	maxSocketPath = 103
)

// operation does one thing for a command on the node that runs here.
type operation func(ctx context.Context, body []byte) (any, error)

// operationOf makes an operation of a function with typed input.
func operationOf[In, Out any](do func(ctx context.Context, in In) (Out, error)) operation {
	return func(ctx context.Context, body []byte) (any, error) {
		var in In
		if err := json.Unmarshal(body, &in); err != nil {
			return nil, &storage.Error{Op: "read the request", Kind: storage.KindInvalid, Err: err}
		}
		return do(ctx, in)
	}
}

// controlAnswer is what comes back: one of the two.
type controlAnswer struct {
	Result json.RawMessage `json:"result,omitempty"`
	Error  *controlError   `json:"error,omitempty"`
}

// controlError carries a [storage.Error] over the socket.
type controlError struct {
	Op    string       `json:"op"`
	Kind  storage.Kind `json:"kind"`
	Cause string       `json:"cause,omitempty"`
	Hint  string       `json:"hint,omitempty"`
}

func newControlError(err error) *controlError {
	var typed *storage.Error
	if !errors.As(err, &typed) {
		return &controlError{Kind: storage.KindInternal, Cause: err.Error()}
	}
	e := &controlError{Op: typed.Op, Kind: typed.Kind, Hint: typed.Hint}
	if typed.Err != nil {
		e.Cause = typed.Err.Error()
	}
	return e
}

func (e *controlError) error() error {
	err := &storage.Error{Op: e.Op, Kind: e.Kind, Hint: e.Hint}
	if e.Cause != "" {
		err.Err = errors.New(e.Cause)
	}
	return err
}

// controlHandler serves the operations.
//
// done is told of each with what it was about.
func controlHandler(operations map[string]operation, done func(by, operation, subject string, err error)) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		name := strings.TrimPrefix(r.URL.Path, "/")
		do, known := operations[name]
		if !known || r.Method != http.MethodPost {
			answerControl(w, nil, &storage.Error{Op: "control", Kind: storage.KindInvalid, Hint: "the running node is of another release: restart it",
				Err: fmt.Errorf("unknown operation %s %s", r.Method, r.URL.Path)})
			return
		}
		body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxControlRequest))
		var result any
		if err == nil {
			result, err = do(r.Context(), body) // ends when the command goes away
			done(operatorName, name, subjectOf(body), err)
		}
		answerControl(w, result, err)
	})
}

// subjectOf is the address or the name that an operation is about, if its
// parameters have one.
func subjectOf(body []byte) string {
	var in struct {
		Address, Name, Domain string
	}
	if json.Unmarshal(body, &in) != nil {
		return "" // it is refused for that
	}
	return cmp.Or(in.Address, in.Name, in.Domain)
}

func answerControl(w http.ResponseWriter, result any, err error) {
	var answer controlAnswer
	if err == nil {
		answer.Result, err = json.Marshal(result)
	}
	if err != nil {
		answer.Error = newControlError(err)
	}
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(answer) // fails only when the command has gone away
}

// listenControl opens the control socket. The folder is locked, so a socket that
// is there already is left from a process that was killed.
func (d dataDir) listenControl() (net.Listener, error) {
	if err := os.Remove(d.socket()); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	path, done, err := d.shortSocket()
	if err != nil {
		return nil, err
	}
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		done()
		return nil, fmt.Errorf("open the control socket: %w", err)
	}
	// The folder is closed to others, so nobody comes in before this.
	if err := os.Chmod(d.socket(), 0o600); err != nil {
		l.Close()
		done()
		return nil, err
	}
	return controlListener{l, done}, nil
}

// controlListener holds the folder open for as long as its path leads through it.
type controlListener struct {
	net.Listener
	done func()
}

func (l controlListener) Close() error {
	err := l.Listener.Close()
	l.done()
	return err
}

// shortSocket returns a path of the socket that fits into a socket address:
// through the open folder where the real one is too long. done gives it up.
func (d dataDir) shortSocket() (path string, done func(), err error) {
	if len(d.socket()) <= maxSocketPath {
		return d.socket(), func() {}, nil
	}
	dir, err := os.Open(string(d))
	if err != nil {
		return "", nil, err
	}
	path = fmt.Sprintf("/proc/self/fd/%d/%s", dir.Fd(), filepath.Base(d.socket()))
	if _, err := os.Stat(filepath.Dir(path)); err != nil {
		dir.Close()
		return "", nil, fmt.Errorf("the path of the control socket, %s, is longer than %d octets; choose a shorter data folder", d.socket(), maxSocketPath)
	}
	return path, func() { dir.Close() }, nil
}

// controller asks the node that runs on a data folder.
type controller struct {
	dir    dataDir
	client *http.Client
}

func newController(dir dataDir) *controller {
	dial := func(ctx context.Context, _, _ string) (net.Conn, error) {
		path, done, err := dir.shortSocket()
		if err != nil {
			return nil, err
		}
		defer done()
		var dialer net.Dialer
		return dialer.DialContext(ctx, "unix", path)
	}
	return &controller{dir: dir, client: &http.Client{Transport: &http.Transport{DialContext: dial}}}
}

// ask asks the node for an operation that is quick.
func (c *cli) ask(ctx context.Context, name string, in, out any) error {
	ctx, cancel := context.WithTimeout(ctx, controlTimeout)
	defer cancel()
	return newController(c.dir).do(ctx, name, in, out)
}

// do asks for an operation and reads its result into out.
func (c *controller) do(ctx context.Context, name string, in, out any) error {
	body, err := json.Marshal(in)
	if err != nil {
		return err
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://control/"+name, strings.NewReader(string(body)))
	if err != nil {
		return err
	}
	response, err := c.client.Do(request)
	if err != nil {
		return c.unreachable(err)
	}
	defer response.Body.Close()
	var answer controlAnswer
	if err := json.NewDecoder(io.LimitReader(response.Body, maxControlResponse)).Decode(&answer); err != nil {
		return fmt.Errorf("the node stopped while it was asked; whether it was done is not known: %w", err)
	}
	if answer.Error != nil {
		return answer.Error.error()
	}
	return json.Unmarshal(answer.Result, out)
}

// errNotRunning: there is no node to ask.
var errNotRunning = errors.New("no node runs")

func (c *controller) unreachable(err error) error {
	var network *net.OpError
	dialled := !errors.Is(err, fs.ErrNotExist) && (!errors.As(err, &network) || network.Op != "dial")
	switch {
	case errors.Is(err, fs.ErrPermission):
		return fmt.Errorf("the data folder %s belongs to another user: %w", c.dir, err)
	case dialled:
		return fmt.Errorf("ask the node on %s: %w", c.dir, err)
	}
	if err := c.dir.checkSetUp(); err != nil {
		return err
	}
	return fmt.Errorf("%w on %s; start it with 'trivet serve%s'", errNotRunning, c.dir, c.dir.flag())
}
