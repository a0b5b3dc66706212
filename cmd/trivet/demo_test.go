package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"
)

// startDemo runs a demo in this process until the test ends or stop is called.
func startDemo(t *testing.T, args ...string) (d demonstration, stop func() int) {
	t.Helper()
	out, in := io.Pipe()
	ctx, cancel := context.WithCancel(t.Context())
	var stderr bytes.Buffer
	ended := make(chan int, 1)
	go func() {
		defer in.Close()
		ended <- run(ctx, func() {}, append([]string{"demo", "--json"}, args...), streams{in: strings.NewReader(""), out: in, err: &stderr})
	}()
	stop = func() int {
		cancel()
		status := <-ended
		ended <- status // for the next call
		return status
	}
	t.Cleanup(func() { stop() })
	line, err := bufio.NewReader(out).ReadBytes('\n')
	if err != nil {
		stop()
		t.Fatalf("%v: %s", err, stderr.String())
	}
	if err := json.Unmarshal(line, &d); err != nil {
		t.Fatal(err)
	}
	return d, stop
}

const freePorts = "--listen=smtp=127.0.0.1:0,imap=127.0.0.1:0,http=127.0.0.1:0"

func TestDemo(t *testing.T) {
	t.Setenv("TMPDIR", t.TempDir())
	d, stop := startDemo(t, freePorts)
	if len(d.Accounts) != 2 || d.Messages != 7 || d.Kept || d.PID != os.Getpid() || len(d.Listen) != 3 {
		t.Errorf("demonstration %+v", d)
	}
	for i, want := range []string{"* 4 EXISTS", "* 3 EXISTS"} {
		answer := imapTalk(t, d.Listen[listenIMAP], fmt.Sprintf("a LOGIN %s %s\r\nb SELECT INBOX\r\nc LOGOUT\r\n", d.Accounts[i].Address, d.Accounts[i].Password))
		if !strings.Contains(answer, want) {
			t.Errorf("%s does not see %q: %s", d.Accounts[i].Address, want, answer)
		}
	}
	response, err := http.Get("http://" + d.Listen[listenHTTP] + "/readyz")
	if err != nil || response.StatusCode != http.StatusOK {
		t.Errorf("readyz: %v, %v", response, err)
	}
	if _, err := os.Stat(d.Data); err != nil {
		t.Error(err)
	}
	if status := stop(); status != exitDone {
		t.Errorf("exit status %d", status)
	}
	if left, err := os.ReadDir(os.TempDir()); err != nil || len(left) > 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
}

// imapTalk sends all of commands and reads to the end of the connection.
func imapTalk(t *testing.T, address, commands string) string {
	t.Helper()
	conn, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(scriptPatience)); err != nil {
		t.Fatal(err)
	}
	if _, err := io.WriteString(conn, commands); err != nil {
		t.Fatal(err)
	}
	answer, err := io.ReadAll(conn)
	if err != nil {
		t.Fatal(err)
	}
	return string(answer)
}

func TestDemoKeepsTheFolderItIsGiven(t *testing.T) {
	dir := t.TempDir() + "/demo"
	d, stop := startDemo(t, "--data="+dir, "--listen=imap=127.0.0.1:0")
	if !d.Kept || d.Data != dir || d.Messages != 0 || len(d.Listen) != 1 {
		t.Errorf("demonstration %+v", d)
	}
	if status := stop(); status != exitDone {
		t.Errorf("exit status %d", status)
	}
	if ok, err := dataDir(dir).isSetUp(); !ok || err != nil {
		t.Errorf("the folder is gone: %v", err)
	}
}

// Its default ports are handy, but no reason to fail: two demos run side by side.
func TestDemoTakesFreePorts(t *testing.T) {
	t.Setenv("TMPDIR", t.TempDir())
	one, _ := startDemo(t)
	two, _ := startDemo(t)
	for name, address := range one.Listen {
		if two.Listen[name] == address || two.Listen[name] == "" {
			t.Errorf("%s: %q and %q", name, address, two.Listen[name])
		}
	}
}

func TestDemoText(t *testing.T) {
	d := demonstration{
		Listen: map[string]string{listenSMTP: "127.0.0.1:2525", listenIMAP: "127.0.0.1:1143", listenHTTP: "127.0.0.1:8080"}, Domain: demoDomain, Data: "/tmp/x",
		Accounts: []demoAccount{{Address: "ann@demo.example", Password: "one"}, {Address: "bob@demo.example", Password: "two"}},
	}
	d.Try = d.commands(dataDir(d.Data))
	var text strings.Builder
	d.text(&text)
	for _, want := range []string{"127.0.0.1:2525", "127.0.0.1:1143", "127.0.0.1:8080", "ann@demo.example\tpassword one",
		"bob@demo.example\tpassword two", "swaks --server 127.0.0.1:2525", "Open http://127.0.0.1:8080/ and log in", "curl -s --user 'ann@demo.example:one'", "mutt -e", "is removed at the end"} {
		if !strings.Contains(text.String(), want) {
			t.Errorf("no %q in %s", want, text.String())
		}
	}
}
