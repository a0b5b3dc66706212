package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
)

func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){"trivet": main})
}

// scriptPatience bounds each wait of a script.
const scriptPatience = 30 * time.Second

// TestScripts runs testdata/*.txtar: a file is one story of the command line.
// Each has an empty data folder of its own in TRIVET_DATA.
func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir: "testdata",
		Setup: func(env *testscript.Env) error {
			env.Setenv("TRIVET_DATA", filepath.Join(env.WorkDir, "data"))
			env.Setenv("FREE", "smtp=127.0.0.1:0,imap=127.0.0.1:0,http=127.0.0.1:0")
			return nil
		},
		Cmds: map[string]func(ts *testscript.TestScript, neg bool, args []string){
			"ready":  ready,
			"status": status,
			"field":  field,
			"listen": listen,
			"token":  tokenOf,
			"voters": voters,
		},
	})
}

// ready waits until the node on TRIVET_DATA, or the folder named, is ready.
func ready(ts *testscript.TestScript, _ bool, args []string) {
	dir := ts.Getenv("TRIVET_DATA")
	if len(args) > 0 {
		dir = ts.MkAbs(args[0])
	}
	poll(ts, "the node on "+dir, func() error {
		status, err := statusOf(dir)
		if err == nil && !status.Ready {
			err = fmt.Errorf("not ready: %s", status.Problem)
		}
		return err
	})
}

// listen NAME VARIABLE sets a variable to where the running node listens.
func listen(ts *testscript.TestScript, _ bool, args []string) {
	status, err := statusOf(ts.Getenv("TRIVET_DATA"))
	ts.Check(err)
	address, ok := status.Listen[args[0]]
	if !ok {
		ts.Fatalf("no listener %s in %v", args[0], status.Listen)
	}
	ts.Setenv(args[1], address)
}

// tokenOf VARIABLE sets a variable to the token on standard output.
func tokenOf(ts *testscript.TestScript, _ bool, args []string) {
	var made invitation
	ts.Check(json.Unmarshal([]byte(ts.ReadFile("stdout")), &made))
	ts.Setenv(args[0], made.Token)
}

// voters DIR N waits until the node on DIR knows so many voters.
func voters(ts *testscript.TestScript, _ bool, args []string) {
	want, err := strconv.Atoi(args[1])
	ts.Check(err)
	poll(ts, args[1]+" voters", func() error {
		status, err := statusOf(ts.MkAbs(args[0]))
		if err == nil && status.voters() != want {
			err = fmt.Errorf("nodes %+v", status.Nodes)
		}
		return err
	})
}

func statusOf(dir string) (clusterStatus, error) {
	c := &cli{dir: dataDir(dir)}
	var status clusterStatus
	err := c.ask(context.Background(), "status", nothing{}, &status)
	return status, err
}

// status WANT COMMAND ARG... checks the exit status of a command.
func status(ts *testscript.TestScript, _ bool, args []string) {
	want, err := strconv.Atoi(args[0])
	ts.Check(err)
	err = ts.Exec(args[1], args[2:]...)
	var failed *exec.ExitError
	switch {
	case err == nil && want == 0:
	case errors.As(err, &failed) && failed.ExitCode() == want:
	default:
		ts.Fatalf("%v, want exit status %d", err, want)
	}
}

// field NAME WANT checks a member of the JSON object on standard output; a dotted
// name leads into members and, by number, elements.
func field(ts *testscript.TestScript, neg bool, args []string) {
	var value any
	ts.Check(json.Unmarshal([]byte(ts.ReadFile("stdout")), &value))
	for part := range strings.SplitSeq(args[0], ".") {
		value = member(value, part)
	}
	got := fmt.Sprint(value)
	if (got == args[1]) == neg {
		ts.Fatalf("%s is %q, want %q: %v", args[0], got, args[1], !neg)
	}
}

func member(value any, name string) any {
	switch v := value.(type) {
	case map[string]any:
		return v[name]
	case []any:
		var i int
		if _, err := fmt.Sscan(name, &i); err == nil && i < len(v) {
			return v[i]
		}
	}
	return nil
}

func poll(ts *testscript.TestScript, what string, check func() error) {
	deadline := time.Now().Add(scriptPatience)
	err := check()
	for err != nil && time.Now().Before(deadline) {
		time.Sleep(10 * time.Millisecond)
		err = check()
	}
	if err != nil {
		ts.Fatalf("waited %v for %s: %v", scriptPatience, what, err)
	}
}
