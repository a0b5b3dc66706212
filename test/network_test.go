package test

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// network is a bridge with a network namespace for each node, in which the
// test can cut cables. The test itself sits on the bridge.
type network struct {
	t      testing.TB
	prefix string // of the names of what it makes
	subnet string // 10.231.N
	size   int
}

// newNetwork makes a network, or returns nil where that is not allowed.
func newNetwork(t testing.TB, size int) *network {
	t.Helper()
	if os.Geteuid() != 0 {
		return nil
	}
	if _, err := exec.LookPath("ip"); err != nil {
		return nil
	}
	id := rand.IntN(250) + 1
	w := &network{t: t, prefix: fmt.Sprintf("tvt%d", id), subnet: fmt.Sprintf("10.231.%d", id), size: size}
	t.Cleanup(w.remove)
	if err := w.build(); err != nil {
		t.Logf("no network namespaces here: %v", err)
		return nil
	}
	return w
}

func (w *network) build() error {
	commands := []string{
		"link add " + w.bridge() + " type bridge",
		"addr add " + w.subnet + ".254/24 dev " + w.bridge(),
		"link set " + w.bridge() + " up",
	}
	for i := range w.size {
		ns, cable := w.namespace(i), w.cable(i)
		commands = append(commands,
			"netns add "+ns,
			"link add "+cable+" type veth peer name eth0 netns "+ns,
			"link set "+cable+" master "+w.bridge()+" up",
			"-n "+ns+" addr add "+w.addr(i)+"/24 dev eth0",
			"-n "+ns+" link set eth0 up",
			"-n "+ns+" link set lo up")
	}
	for _, c := range commands {
		if err := ip(c); err != nil {
			return err
		}
	}
	return nil
}

func (w *network) bridge() string         { return w.prefix + "b" }
func (w *network) namespace(i int) string { return fmt.Sprintf("%sn%d", w.prefix, i) }
func (w *network) cable(i int) string     { return fmt.Sprintf("%sc%d", w.prefix, i) }
func (w *network) addr(i int) string      { return fmt.Sprintf("%s.%d", w.subnet, i+1) }
func (w *network) blackhole(j int) string { return "blackhole " + w.addr(j) + "/32" }

// must fails the test when the command does.
func (w *network) must(command string) {
	w.t.Helper()
	w.mustRun(append([]string{"ip"}, strings.Fields(command)...)...)
}

// cut takes a node off the network, both ways; heal puts it back.
func (w *network) cut(i int)  { w.t.Helper(); w.must("link set " + w.cable(i) + " down") }
func (w *network) heal(i int) { w.t.Helper(); w.must("link set " + w.cable(i) + " up") }

// mute takes what one node sends to another, and nothing else; unmute lets it through again.
func (w *network) mute(from, to int) {
	w.must("-n " + w.namespace(from) + " route add " + w.blackhole(to))
}
func (w *network) unmute(from, to int) {
	w.must("-n " + w.namespace(from) + " route del " + w.blackhole(to))
}

// thin makes the cable of a node carry little, one way: what it says to the others.
func (w *network) thin(i int) error {
	return run("tc", "-n", w.namespace(i), "qdisc", "add", "dev", "eth0", "root", "tbf", "rate", "2mbit", "burst", "16kb", "latency", "1s")
}
func (w *network) widen(i int) {
	w.t.Helper()
	w.mustRun("tc", "-n", w.namespace(i), "qdisc", "del", "dev", "eth0", "root")
}

func (w *network) mustRun(command ...string) {
	w.t.Helper()
	if err := run(command...); err != nil {
		w.t.Fatal(err)
	}
}

// remove takes down whatever of it was made.
func (w *network) remove() {
	for i := range w.size {
		_ = ip("netns del " + w.namespace(i)) // may never have been made
	}
	_ = ip("link del " + w.bridge())
}

func ip(command string) error { return run(append([]string{"ip"}, strings.Fields(command)...)...) }

func run(command ...string) error {
	out, err := exec.Command(command[0], command[1:]...).CombinedOutput()
	if err != nil {
		return fmt.Errorf("%s: %w: %s", strings.Join(command, " "), err, out)
	}
	return nil
}

// dial connects to an address, in a network namespace when it names one before
// an exclamation mark.
func dial(addr string, limit time.Duration) (net.Conn, error) {
	ns, addr, inside := strings.Cut(addr, "!")
	if !inside {
		return net.DialTimeout("tcp", ns, limit)
	}
	there, err := os.Open("/run/netns/" + ns)
	if err != nil {
		return nil, err
	}
	defer there.Close()
	runtime.LockOSThread() // and never unlocked when it cannot go back: the thread then ends with the goroutine
	home, err := os.Open("/proc/thread-self/ns/net")
	if err != nil {
		return nil, err
	}
	defer home.Close()
	if err := unix.Setns(int(there.Fd()), unix.CLONE_NEWNET); err != nil {
		return nil, err
	}
	conn, err := net.DialTimeout("tcp", addr, limit)
	if backErr := unix.Setns(int(home.Fd()), unix.CLONE_NEWNET); backErr != nil {
		return nil, errors.Join(err, backErr)
	}
	runtime.UnlockOSThread()
	return conn, err
}
