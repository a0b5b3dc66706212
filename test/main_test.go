package test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// binary is the program under test; TestMain sets it before any test runs.
var binary string

func TestMain(m *testing.M) { os.Exit(runTests(m)) }

func runTests(m *testing.M) int {
	if binary = os.Getenv("TRIVET_BINARY"); binary != "" {
		return m.Run()
	}
	dir, err := os.MkdirTemp("", "trivet-test-")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer os.RemoveAll(dir)
	binary = filepath.Join(dir, "trivet")
	build := exec.Command("go", "build", "-o", binary, "trivet/cmd/trivet")
	build.Stdout, build.Stderr = os.Stdout, os.Stderr
	if err := build.Run(); err != nil {
		fmt.Fprintln(os.Stderr, "build trivet:", err)
		return 1
	}
	return m.Run()
}

const (
	domain   = "test.example"
	password = "correct horse battery staple"
	// patience bounds every wait for the server: it is for a machine that is
	// busy with other tests, and no test measures with it.
	patience = 60 * time.Second
)

// node is a running `trivet serve` with its data folder.
type node struct {
	t      testing.TB
	data   string
	listen map[string]string // by name, kept over restarts
	env    []string          // for the process, beside the usual
	flags  []string          // for serve
	binary string            // empty: the one under test
	quiet  bool              // its log goes into a file beside its data, and not through this process
	netns  string            // network namespace to run in; empty: this one

	mu      sync.Mutex
	process *exec.Cmd
	log     *bytes.Buffer
	exited  chan struct{}
}

// setUp prepares a data folder with an administrator, admin@test.example.
func setUp(t testing.TB, data string) *node {
	t.Helper()
	n := &node{t: t, data: data, listen: map[string]string{"smtp": free(t), "imap": free(t), "http": free(t)}}
	n.command(password, "setup", "admin@"+domain, "--password-stdin", "--listen", n.listenFlag())
	return n
}

// newNode sets a node up, starts it and stops it at the end of the test.
func newNode(t testing.TB, accounts ...string) *node {
	t.Helper()
	n := setUp(t, t.TempDir())
	n.start()
	for _, a := range accounts {
		n.command(password, "account", "add", a+"@"+domain, "--password-stdin")
	}
	t.Cleanup(n.stop)
	return n
}

// free is an address on loopback that nobody listens on. A node keeps its
// addresses when it is restarted, so they are chosen here; from below those that
// the kernel gives to connections, or one of them could take it meanwhile.
func free(t testing.TB) string {
	t.Helper()
	const first, ephemeral, attempts = 10_000, 32_768, 1000
	for range attempts {
		port := first + rand.IntN(ephemeral-first)
		if _, taken := chosen.LoadOrStore(port, true); taken {
			continue
		}
		if l, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", port)); err == nil {
			defer l.Close()
			return l.Addr().String()
		}
	}
	t.Fatal("no port is free")
	return ""
}

// chosen are the ports that free has given out.
var chosen sync.Map

func (n *node) listenFlag() string {
	var parts []string
	for name, addr := range n.listen {
		parts = append(parts, name+"="+addr)
	}
	return strings.Join(parts, ",")
}

// command runs trivet with --json on the node's data folder and returns what it printed.
func (n *node) command(stdin string, args ...string) []byte {
	n.t.Helper()
	out, err := n.try(stdin, args...)
	if err != nil {
		n.t.Fatalf("trivet %s: %v\n%s", strings.Join(args, " "), err, n.tail())
	}
	return out
}

func (n *node) try(stdin string, args ...string) ([]byte, error) {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	cmd := exec.CommandContext(ctx, n.program(), append(args, "--data", n.data, "--json")...)
	cmd.Stdin = strings.NewReader(stdin + "\n")
	var errs bytes.Buffer
	cmd.Stderr = &errs
	out, err := cmd.Output()
	if err != nil {
		err = fmt.Errorf("%w: %s%s", err, out, errs.Bytes())
	}
	return out, err
}

func (n *node) program() string {
	if n.binary != "" {
		return n.binary
	}
	return binary
}

// start runs the node and waits until it is ready.
func (n *node) start() {
	n.t.Helper()
	n.launch()
	n.wait("ready", n.ready)
}

// launch runs the node without waiting for it.
func (n *node) launch() {
	n.t.Helper()
	n.mu.Lock()
	defer n.mu.Unlock()
	args := append([]string{n.program(), "serve", "--data", n.data, "--log-format", "json"}, n.flags...)
	if n.netns != "" {
		args = append([]string{"ip", "netns", "exec", n.netns}, args...) // becomes the node, same process
	}
	cmd := exec.Command(args[0], args[1:]...)
	cmd.Env = append(os.Environ(), n.env...)
	n.log = &bytes.Buffer{}
	cmd.Stdout = io.MultiWriter(n.log, n.keptLog())
	if n.quiet {
		file, err := os.Create(n.data + ".log")
		if err != nil {
			n.t.Fatal(err)
		}
		defer file.Close()
		cmd.Stdout = file
	}
	cmd.Stderr = cmd.Stdout
	if err := cmd.Start(); err != nil {
		n.t.Fatal(err)
	}
	exited := make(chan struct{})
	go func() {
		cmd.Wait()
		close(exited)
	}()
	n.process, n.exited = cmd, exited
}

// keptLog is a file for the log in the folder that TRIVET_TEST_LOGS names, if it does.
func (n *node) keptLog() io.Writer {
	dir := os.Getenv("TRIVET_TEST_LOGS")
	if dir == "" {
		return io.Discard
	}
	name := strings.ReplaceAll(n.t.Name(), "/", "-") + "-" + port(n.listen["imap"]) + n.netns + "-*.log"
	f, err := os.CreateTemp(dir, name)
	if err != nil {
		n.t.Fatal(err)
	}
	n.t.Cleanup(func() { f.Close() })
	return f
}

func (n *node) ready() bool {
	client := http.Client{Timeout: time.Second, Transport: &http.Transport{DisableKeepAlives: true,
		DialContext: func(context.Context, string, string) (net.Conn, error) { return dial(n.at("http"), time.Second) }}}
	r, err := client.Get("http://node/readyz")
	if err != nil {
		return false
	}
	defer r.Body.Close()
	io.Copy(io.Discard, r.Body)
	return r.StatusCode == http.StatusOK && answers(n.at("smtp")) && answers(n.at("imap"))
}

// at is the address of a listener, for [dial].
func (n *node) at(name string) string {
	if n.netns == "" {
		return n.listen[name]
	}
	return n.netns + "!" + n.listen[name]
}

func answers(addr string) bool {
	c, err := dial(addr, time.Second)
	if err != nil {
		return false
	}
	return c.Close() == nil
}

// wait polls until a condition holds, and fails the test when it does not.
func (n *node) wait(what string, condition func() bool) {
	n.t.Helper()
	for deadline := time.Now().Add(patience); !condition(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) || n.gone() && !condition() {
			n.t.Fatalf("the node is not %s\n%s", what, n.tail())
		}
	}
}

// gone reports whether the process has ended.
func (n *node) gone() bool {
	select {
	case <-n.exited:
		return true
	default:
		return false
	}
}

// kill ends the process as a crash does, and waits for its end.
func (n *node) kill() {
	n.mu.Lock()
	process, exited := n.process, n.exited
	n.mu.Unlock()
	process.Process.Kill()
	<-exited
}

// stop ends the process as an operator does.
func (n *node) stop() {
	n.mu.Lock()
	process, exited := n.process, n.exited
	n.mu.Unlock()
	if process == nil {
		return
	}
	process.Process.Signal(syscall.SIGTERM)
	select {
	case <-exited:
	case <-time.After(patience):
		process.Process.Signal(syscall.SIGQUIT) // which makes it write down what its goroutines do
		select {
		case <-exited:
		case <-time.After(10 * time.Second):
			process.Process.Kill()
			<-exited
		}
		n.t.Errorf("the node did not stop by itself\n%s", n.last(64<<10))
	}
	if n.log != nil && bytes.Contains(n.log.Bytes(), []byte("stopping took too long")) {
		n.t.Errorf("the node could not close\n%s", n.last(64<<10))
	}
}

// tail is the end of the log. The process may still write to it, and is ended first.
func (n *node) tail() string { return n.last(2000) }

func (n *node) last(octets int) string {
	if n.log == nil {
		return ""
	}
	if n.process != nil && !n.gone() {
		n.process.Process.Kill()
		<-n.exited
	}
	b := n.log.Bytes()
	return string(b[max(0, len(b)-octets):])
}

// verification is what `trivet verify --json` prints.
type verification struct {
	OK       bool              `json:"ok"`
	Checksum string            `json:"checksum"`
	Tables   map[string]string `json:"tables"`
	Messages int64             `json:"messages"`
	Problems []string          `json:"problems"`
}

// verify fails the test unless files, bodies and counters are sound.
func (n *node) verify() verification {
	n.t.Helper()
	var v verification
	if err := json.Unmarshal(n.command("", "verify"), &v); err != nil {
		n.t.Fatal(err)
	}
	if !v.OK || len(v.Problems) > 0 {
		n.t.Fatalf("the state is not sound: %s", strings.Join(v.Problems, "\n"))
	}
	return v
}
