package main

import (
	"bytes"
	"context"
	"embed"
	"fmt"
	"io/fs"
	"net"
	"time"

	gosmtp "github.com/emersion/go-smtp"
)

// samples are mails of different shapes: plain, HTML, attachments, foreign
// charsets, a forwarded message.
//
//go:embed demo/*.eml
var samples embed.FS

// samplesPatience bounds the delivery of all samples.
const samplesPatience = 10 * time.Second

// deliverSamples sends the samples through SMTP as anybody else would, and
// returns how many messages lie in mailboxes then. Without an address there are none.
func deliverSamples(ctx context.Context, address string, ann, bob demoAccount) (int, error) {
	if address == "" {
		return 0, nil
	}
	names, err := fs.Glob(samples, "demo/*.eml")
	if err != nil {
		return 0, err
	}
	ctx, cancel := context.WithTimeout(ctx, samplesPatience)
	defer cancel()
	var dialer net.Dialer
	conn, err := dialer.DialContext(ctx, "tcp", address)
	if err != nil {
		return 0, fmt.Errorf("deliver sample mail: %w", err)
	}
	stop := context.AfterFunc(ctx, func() { conn.Close() })
	defer stop()
	client := gosmtp.NewClient(conn)
	defer client.Close()
	delivered := 0
	for _, name := range names {
		to, err := deliverSample(client, name, ann, bob)
		if err != nil {
			return delivered, fmt.Errorf("deliver sample mail %s: %w", name, err)
		}
		delivered += len(to)
	}
	return delivered, client.Quit()
}

// loopbackFor is where a listener is reached from this machine, also when it
// listens everywhere; empty when there is none.
func loopbackFor(l net.Listener) string {
	if l == nil {
		return ""
	}
	tcp, ok := l.Addr().(*net.TCPAddr)
	if !ok || !tcp.IP.IsUnspecified() {
		return l.Addr().String()
	}
	return fmt.Sprintf("localhost:%d", tcp.Port)
}

// deliverSample sends one sample to whom of the two its header names.
func deliverSample(client *gosmtp.Client, name string, ann, bob demoAccount) (to []string, err error) {
	data, err := samples.ReadFile(name)
	if err != nil {
		return nil, err
	}
	message := bytes.ReplaceAll(bytes.ReplaceAll(data, []byte("\r\n"), []byte("\n")), []byte("\n"), []byte("\r\n"))
	header, _, _ := bytes.Cut(message, []byte("\r\n\r\n"))
	for line := range bytes.SplitSeq(header, []byte("\r\n")) {
		if !bytes.HasPrefix(line, []byte("To:")) && !bytes.HasPrefix(line, []byte("Cc:")) {
			continue
		}
		for _, a := range []demoAccount{ann, bob} {
			if bytes.Contains(line, []byte(a.Address)) {
				to = append(to, a.Address)
			}
		}
	}
	return to, client.SendMail("samples@example.org", to, bytes.NewReader(message))
}
