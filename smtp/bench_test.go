package smtp

import (
	"bufio"
	"context"
	"io"
	"net"
	"strings"
	"sync"
	"syscall"
	"testing"

	gosmtp "github.com/emersion/go-smtp"

	"trivet/storage"
)

// nullStore accepts everything and keeps nothing.
type nullStore struct{ *fakeStore }

var nullAccount = storage.Recipient{Local: true, Accounts: []storage.Account{{ID: 1}}}

func (nullStore) Resolve(context.Context, string) (storage.Recipient, error) { return nullAccount, nil }

func (nullStore) Prepare(_ context.Context, r io.Reader) (*storage.Content, error) {
	_, err := io.Copy(io.Discard, struct{ io.Reader }{r})
	return new(storage.Content), err
}

func (nullStore) DeliverAll(_ context.Context, all []storage.Delivery) ([]storage.Delivered, error) {
	return make([]storage.Delivered, len(all)), nil
}
func (nullStore) Deliver(context.Context, storage.Delivery) (storage.Delivered, error) {
	return storage.Delivered{}, nil
}

// message5k has 5,000 octets in lines of 76.
var message5k = "From: a@b.c\r\n\r\n" + strings.Repeat(strings.Repeat("x", 74)+"\r\n", 65) + strings.Repeat("y", 44) + "\r\n"

var (
	message5kData  = message5k + ".\r\n"
	message5kChunk = "MAIL FROM:<a@example.net>\r\nRCPT TO:<alice@example.org>\r\nBDAT 5000 LAST\r\n" + message5k
)

// benchmark sends b.N messages on 10 connections that stay, a command at a
// time as smtp-source does, and reports the CPU time of client and server.
func benchmark(b *testing.B, addr string, send func(*testing.B, net.Conn, *bufio.Reader)) {
	const conns = 10
	var wg sync.WaitGroup
	work := make(chan struct{}, b.N)
	for range b.N {
		work <- struct{}{}
	}
	close(work)
	var before, after syscall.Rusage
	syscall.Getrusage(syscall.RUSAGE_SELF, &before)
	b.ResetTimer()
	for range conns {
		wg.Go(func() {
			conn, r := dial(b, addr)
			expectCode(b, r, "220")
			io.WriteString(conn, "HELO c\r\n")
			expectCode(b, r, "250")
			for range work {
				send(b, conn, r)
			}
		})
	}
	wg.Wait()
	b.StopTimer()
	syscall.Getrusage(syscall.RUSAGE_SELF, &after)
	used := after.Utime.Nano() + after.Stime.Nano() - before.Utime.Nano() - before.Stime.Nano()
	b.ReportMetric(float64(used)/1e3/float64(b.N), "cpu-µs/msg")
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "msg/s")
}

func expectCode(b testing.TB, r *bufio.Reader, code string) {
	line, err := r.ReadSlice('\n')
	if err != nil || string(line[:3]) != code {
		b.Errorf("got %q, %v; want %s", line, err, code)
	}
}

func sendByData(b *testing.B, conn net.Conn, r *bufio.Reader) {
	io.WriteString(conn, "MAIL FROM:<a@example.net>\r\n")
	expectCode(b, r, "250")
	io.WriteString(conn, "RCPT TO:<alice@example.org>\r\n")
	expectCode(b, r, "250")
	io.WriteString(conn, "DATA\r\n")
	expectCode(b, r, "354")
	io.WriteString(conn, message5kData)
	expectCode(b, r, "250")
}

func sendPipelined(b *testing.B, conn net.Conn, r *bufio.Reader) {
	io.WriteString(conn, "MAIL FROM:<a@example.net>\r\nRCPT TO:<alice@example.org>\r\nDATA\r\n")
	expectCode(b, r, "250")
	expectCode(b, r, "250")
	expectCode(b, r, "354")
	io.WriteString(conn, message5kData)
	expectCode(b, r, "250")
}

func sendByChunk(b *testing.B, conn net.Conn, r *bufio.Reader) {
	io.WriteString(conn, message5kChunk)
	expectCode(b, r, "250")
	expectCode(b, r, "250")
	expectCode(b, r, "250")
}

// BenchmarkReceive is what this package costs with a storage that costs
// nothing, beside go-smtp alone in the same run.
func BenchmarkReceive(b *testing.B) {
	_, addr := startServer(b, nil, func(cfg *Config) { cfg.Store = nullStore{}; cfg.Healthy = nil })
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	bare := gosmtp.NewServer(gosmtp.BackendFunc(func(*gosmtp.Conn) (gosmtp.Session, error) { return sink{}, nil }))
	go bare.Serve(l)
	b.Cleanup(func() { bare.Close() })

	b.Run("data", func(b *testing.B) { benchmark(b, addr, sendByData) })
	b.Run("pipelined", func(b *testing.B) { benchmark(b, addr, sendPipelined) })
	b.Run("chunk", func(b *testing.B) { benchmark(b, addr, sendByChunk) })
	_, checked := startServer(b, nil, func(cfg *Config) {
		cfg.Store, cfg.Healthy, cfg.Verification = nullStore{}, nil, &Verification{Resolver: fakeDNS{}}
	})
	b.Run("checked/data", func(b *testing.B) { benchmark(b, checked, sendByData) })
	b.Run("go-smtp/data", func(b *testing.B) { benchmark(b, l.Addr().String(), sendByData) })
	b.Run("go-smtp/pipelined", func(b *testing.B) { benchmark(b, l.Addr().String(), sendPipelined) })
	b.Run("go-smtp/chunk", func(b *testing.B) { benchmark(b, l.Addr().String(), sendByChunk) })
}

// sink is a go-smtp session that keeps nothing.
type sink struct{}

func (sink) Reset()                                 {}
func (sink) Logout() error                          { return nil }
func (sink) Mail(string, *gosmtp.MailOptions) error { return nil }
func (sink) Rcpt(string, *gosmtp.RcptOptions) error { return nil }
func (sink) Data(r io.Reader) error                 { _, err := io.Copy(io.Discard, r); return err }
