package main

import (
	"context"
	"errors"
	"io/fs"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"trivet/storage"
)

// startControl serves operations on a folder's socket.
func startControl(t *testing.T, dir dataDir, operations map[string]operation) {
	t.Helper()
	l, err := dir.listenControl()
	if err != nil {
		t.Fatal(err)
	}
	server := &http.Server{Handler: controlHandler(operations, func(string, string, string, error) {})}
	done := make(chan error, 1)
	go func() { done <- server.Serve(l) }()
	t.Cleanup(func() {
		server.Close()
		<-done
	})
}

func TestControl(t *testing.T) {
	dir := dataDir(t.TempDir())
	refusal := &storage.Error{Op: "create domain", Kind: storage.KindExists, Hint: "do something else", Err: errors.New("the cause")}
	startControl(t, dir, map[string]operation{
		"echo":   operationOf(func(_ context.Context, in named) (named, error) { return in, nil }),
		"refuse": operationOf(func(context.Context, nothing) (nothing, error) { return nothing{}, refusal }),
		"break":  operationOf(func(context.Context, nothing) (nothing, error) { return nothing{}, errors.New("no kind") }),
	})
	ctl := newController(dir)
	var out named
	if err := ctl.do(t.Context(), "echo", named{Name: "<&>"}, &out); err != nil || out.Name != "<&>" {
		t.Errorf("echo %q, %v", out.Name, err)
	}
	err := ctl.do(t.Context(), "refuse", nothing{}, &out)
	if storage.KindOf(err) != storage.KindExists || err.Error() != refusal.Error() {
		t.Errorf("refuse: %v", err)
	}
	if err := ctl.do(t.Context(), "break", nothing{}, &out); err == nil || err.Error() != "no kind" {
		t.Errorf("break: %v", err)
	}
	if err := ctl.do(t.Context(), "nonsense", nothing{}, &out); err == nil || !strings.Contains(err.Error(), "another release") {
		t.Errorf("nonsense: %v", err)
	}
	if err := ctl.do(t.Context(), "echo", "a string", &out); storage.KindOf(err) != storage.KindInvalid {
		t.Errorf("wrong input: %v", err)
	}
	if err := ctl.do(t.Context(), "echo", named{Name: strings.Repeat("x", maxControlRequest)}, &out); err == nil {
		t.Error("a request over the limit is taken")
	}
}

func TestControlSocketIsTheOwners(t *testing.T) {
	dir := dataDir(t.TempDir())
	startControl(t, dir, nil)
	info, err := os.Stat(dir.socket())
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("mode %v, %v", info.Mode(), err)
	}
}

func TestControlOfLongPaths(t *testing.T) {
	base := t.TempDir()
	for _, length := range []int{maxSocketPath, maxSocketPath + 1, 250} {
		// The folder's name makes the path of the socket exactly that long.
		name := strings.Repeat("x", length-len(base)-len("//control.sock"))
		dir := dataDir(filepath.Join(base, name))
		if err := dir.create(); err != nil {
			t.Fatal(err)
		}
		if len(dir.socket()) != length {
			t.Fatalf("%d octets, want %d", len(dir.socket()), length)
		}
		startControl(t, dir, map[string]operation{"echo": operationOf(func(_ context.Context, in named) (named, error) { return in, nil })})
		var out named
		if err := newController(dir).do(t.Context(), "echo", named{Name: "x"}, &out); err != nil || out.Name != "x" {
			t.Errorf("%d octets: %v", length, err)
		}
	}
}

// A node that dies in the middle leaves the outcome open, and the command says so.
func TestControlCutOff(t *testing.T) {
	dir := dataDir(t.TempDir())
	l, err := dir.listenControl()
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	go func() {
		conn, err := l.Accept()
		if err != nil {
			return
		}
		buffer := make([]byte, 4096)
		conn.Read(buffer)
		conn.Close()
	}()
	if err := newController(dir).do(t.Context(), "echo", nothing{}, nil); err == nil || errors.Is(err, errNotRunning) {
		t.Errorf("cut off: %v", err)
	}
}

func TestUnreachable(t *testing.T) {
	dir := dataDir(t.TempDir())
	if err := writeFile(dir.settingsFile(), nil); err != nil {
		t.Fatal(err)
	}
	if err := newController(dir).do(t.Context(), "echo", nothing{}, nil); !errors.Is(err, errNotRunning) {
		t.Errorf("no socket: %v", err)
	}
	stale, err := net.ListenUnix("unix", &net.UnixAddr{Name: dir.socket(), Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	stale.SetUnlinkOnClose(false)
	stale.Close()
	if err := newController(dir).do(t.Context(), "echo", nothing{}, nil); !errors.Is(err, errNotRunning) {
		t.Errorf("socket of a killed node: %v", err)
	}
	denied := newController(dir).unreachable(fs.ErrPermission)
	if errors.Is(denied, errNotRunning) || !strings.Contains(denied.Error(), "another user") {
		t.Errorf("somebody else's: %v", denied)
	}
}
