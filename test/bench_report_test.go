package test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"text/tabwriter"
	"time"

	"golang.org/x/sys/unix"
)

// report is what the benchmark found.
type report struct {
	Processors int    `json:"processors"` // shared by server and client
	Dir        string `json:"dir"`
	Rates      []rate `json:"rates"`
	Reads      []read `json:"reads"`

	floors map[int]floor // by connections
}

// floor is what the disk and the loopback alone do in a second.
type floor struct{ disk, loopback float64 }

// rate is one measurement of messages that are acknowledged.
type rate struct {
	Name        string  `json:"name"`
	Connections int     `json:"connections"`
	Messages    int     `json:"messages"`
	PerSecond   float64 `json:"per_second"`
	P50         float64 `json:"p50_ms"`
	P99         float64 `json:"p99_ms"`
	ServerCPU   float64 `json:"server_cpu_us,omitempty"` // a message
	ClientCPU   float64 `json:"client_cpu_us,omitempty"`
	Busy        float64 `json:"busy_cpu,omitempty"`   // part of all processors that was not idle
	Others      float64 `json:"others_cpu,omitempty"` // part that neither server nor client took
	Followers   float64 `json:"followers_cpu_us,omitempty"`
	OfDisk      float64 `json:"of_disk_floor,omitempty"`
	OfLoopback  float64 `json:"of_loopback_floor,omitempty"`
}

func newRate(name string, connections int, m measured) rate {
	return rate{Name: name, Connections: connections, Messages: m.count, PerSecond: m.perSecond(), P50: m.quantile(0.5), P99: m.quantile(0.99)}
}

func (r *rate) charge(u usage) {
	r.ServerCPU = u.server.Seconds() * 1e6 / float64(r.Messages)
	r.Followers = u.followers.Seconds() * 1e6 / float64(r.Messages)
	r.ClientCPU = u.client.Seconds() * 1e6 / float64(r.Messages)
	r.Busy, r.Others = u.busy(), u.others()
}

func (r *rate) compare(f floor, smtp bool) {
	r.OfDisk = r.PerSecond / f.disk
	if smtp {
		r.OfLoopback = r.PerSecond / f.loopback
	}
}

// read is one measurement of a FETCH of a whole mailbox.
type read struct {
	Name       string  `json:"name"`
	Messages   int     `json:"messages"`
	Runs       int     `json:"runs"`
	First      float64 `json:"first_ms"`
	Median     float64 `json:"median_ms"`
	Megabytes  float64 `json:"megabytes"` // of 10^6 octets
	PerSecond  float64 `json:"megabytes_per_second"`
	ServerCPU  float64 `json:"server_cpu_ms"` // a run
	Others     float64 `json:"others_cpu"`
	Floor      float64 `json:"floor_ms"` // the same octets over loopback
	TimesFloor float64 `json:"times_floor"`
}

func newRead(name string, messages int, octets int64, first time.Duration, times, floors []time.Duration, u usage) read {
	r := read{Name: name, Messages: messages, Runs: len(times), First: milliseconds(first), Median: milliseconds(median(times)),
		Megabytes: float64(octets) / 1e6, Floor: milliseconds(median(floors)), Others: u.others()}
	r.PerSecond = r.Megabytes / r.Median * 1000
	r.ServerCPU = milliseconds(u.server) / float64(len(times))
	r.TimesFloor = r.Median / r.Floor
	return r
}

func (r *report) add(rates ...rate)  { r.Rates = append(r.Rates, rates...) }
func (r *report) addRead(reads read) { r.Reads = append(r.Reads, reads) }
func percent(part float64) string    { return fmt.Sprintf("%.0f %%", 100*part) }
func optional(v float64, text string) string {
	if v == 0 {
		return ""
	}
	return text
}

// nameWidth is the width of the first column, which begins at the left.
const nameWidth = 30

// finish prints the tables and writes the file that was asked for.
func (r *report) finish(b *testing.B) {
	b.Helper()
	fmt.Printf("\n%d processors, which server and client share; data in %s\n\n", r.Processors, r.Dir)
	w := tabwriter.NewWriter(os.Stdout, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(w, "messages of 5 KB, connections \tmessages/s\tp50 ms\tp99 ms\tserver µs each\tfollowers µs each\tclient µs each\tall CPU\tother CPU\tof disk floor\tof null server\t")
	for _, f := range r.Rates {
		fmt.Fprintf(w, "%-*s\t%.0f\t%.2f\t%.2f\t%s\t%s\t%s\t%s\t%s\t%s\t%s\t\n", nameWidth, f.Name, f.PerSecond, f.P50, f.P99,
			optional(f.ServerCPU, fmt.Sprintf("%.0f", f.ServerCPU)), optional(f.Followers, fmt.Sprintf("%.0f", f.Followers)), optional(f.ServerCPU, fmt.Sprintf("%.0f", f.ClientCPU)),
			optional(f.ServerCPU, percent(f.Busy)), optional(f.ServerCPU, percent(f.Others)), optional(f.OfDisk, percent(f.OfDisk)), optional(f.OfLoopback, percent(f.OfLoopback)))
	}
	w.Flush()
	fmt.Println()
	if len(r.Reads) > 0 {
		r.tableOfReads(w)
	}
	r.metrics(b)
	file := os.Getenv("TRIVET_BENCH_JSON")
	if file == "" {
		return
	}
	text, err := json.MarshalIndent(r, "", "  ")
	if err == nil {
		err = os.WriteFile(file, append(text, '\n'), 0o644)
	}
	if err != nil {
		b.Error(err)
	}
}

func (r *report) tableOfReads(w *tabwriter.Writer) {
	fmt.Fprintf(w, "%-*s\tmedian ms\tfirst ms\tMB\tMB/s\tserver ms each\tother CPU\tloopback floor ms\ttimes floor\t\n", nameWidth, fmt.Sprintf("a mailbox of %d messages", r.Reads[0].Messages))
	for _, f := range r.Reads {
		fmt.Fprintf(w, "%-*s\t%.1f\t%.1f\t%.1f\t%.0f\t%.1f\t%s\t%.1f\t%.1f\t\n", nameWidth, f.Name, f.Median, f.First, f.Megabytes, f.PerSecond, f.ServerCPU, percent(f.Others), f.Floor, f.TimesFloor)
	}
	w.Flush()
	fmt.Println()
}

// metrics says the figures in the form that benchstat reads.
func (r *report) metrics(b *testing.B) {
	unit := strings.NewReplacer(", ", "-", " ", "-", ":", "", "(", "", ")", "", "[", "", "]", "")
	b.ReportMetric(0, "ns/op")
	for _, f := range r.Rates {
		b.ReportMetric(f.PerSecond, unit.Replace(f.Name)+"/s")
	}
	for _, f := range r.Reads {
		b.ReportMetric(f.Median, unit.Replace(f.Name)+"-ms")
	}
}

// usage is the processor time that was taken, and the time that passed.
type usage struct {
	server, followers, client, machine time.Duration
	wall                               time.Duration
}

func (s *system) usage() usage {
	s.b.Helper()
	var self unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_SELF, &self); err != nil {
		s.b.Fatal(err)
	}
	server := s.processorTime(s.node)
	followers := time.Duration(0)
	for _, n := range s.followers {
		followers += s.processorTime(n)
	}
	machine, err := ticks("/proc/stat", "cpu ", 0, 1, 2, 5, 6, 7) // all but idle and waiting
	if err != nil {
		s.b.Fatal(err)
	}
	return usage{server, followers, time.Duration(self.Utime.Nano() + self.Stime.Nano()), machine, time.Since(s.begun)}
}

func (s *system) processorTime(n *node) time.Duration {
	s.b.Helper()
	taken, err := ticks(fmt.Sprintf("/proc/%d/stat", n.process.Process.Pid), ")", 11, 12) // utime, stime
	if err != nil {
		s.b.Fatal(err)
	}
	return taken
}

// ticks adds up fields of the first line of a file of /proc, counted after a mark.
func ticks(path, mark string, fields ...int) (sum time.Duration, err error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return 0, err
	}
	line, _, _ := strings.Cut(string(text), "\n")
	values := strings.Fields(line[strings.LastIndex(line, mark)+len(mark):])
	for _, i := range fields {
		n, err := strconv.ParseInt(values[i], 10, 64)
		if err != nil {
			return 0, fmt.Errorf("%s: %w", path, err)
		}
		sum += time.Duration(n) * 10 * time.Millisecond // a tick is 1/100 s on every Linux
	}
	return sum, nil
}

func (u usage) since(before usage) usage {
	return usage{u.server - before.server, u.followers - before.followers, u.client - before.client, u.machine - before.machine, u.wall - before.wall}
}

// busy is the part of all processors that was not idle.
func (u usage) busy() float64 {
	return float64(u.machine) / float64(u.wall) / float64(runtime.NumCPU())
}

// others is the part of all processors that neither server nor client had.
func (u usage) others() float64 {
	return max(0, float64(u.machine-u.server-u.followers-u.client)/float64(u.wall)/float64(runtime.NumCPU()))
}

// profile asks the server for a CPU profile of the time of a measurement, if
// that is wanted; the error comes when it is written.
func (s *system) profile(name string) <-chan error {
	dir := os.Getenv("TRIVET_BENCH_PROFILE")
	if dir == "" {
		return nil
	}
	done := make(chan error, 1)
	file := filepath.Join(dir, strings.NewReplacer(" ", "-", ",", "", "(", "", ")", "", "[", "", "]", "").Replace(name))
	go func() {
		if len(s.followers) == 0 {
			done <- s.saveProfile(s.node, file+".prof")
			return
		}
		follower := make(chan error)
		go func() { follower <- s.saveProfile(s.followers[0], file+"-follower.prof") }()
		done <- errors.Join(s.saveProfile(s.node, file+".prof"), <-follower)
	}()
	return done
}

func (s *system) saveProfile(n *node, file string) error {
	client := http.Client{Transport: &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		var d net.Dialer
		return d.DialContext(ctx, "unix", filepath.Join(n.data, "control.sock"))
	}}}
	defer client.CloseIdleConnections()
	r, err := client.Get(fmt.Sprintf("http://trivet/debug/pprof/profile?seconds=%d", int(s.limit.Seconds())))
	if err != nil {
		return err
	}
	defer r.Body.Close()
	text, err := io.ReadAll(r.Body)
	if err != nil || r.StatusCode != http.StatusOK {
		return fmt.Errorf("profile: %s %v: %.200q", r.Status, err, text)
	}
	if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
		return err
	}
	return os.WriteFile(file, text, 0o644)
}

// profiled waits for a profile, if there is one.
func (s *system) profiled(done <-chan error) {
	s.b.Helper()
	if done == nil {
		return
	}
	if err := <-done; err != nil {
		s.b.Error(err)
	}
}
