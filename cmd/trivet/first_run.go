package main

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"mime"
	"mime/quotedprintable"
	"net"
	"strings"
	"time"

	"trivet/storage"
	"trivet/web"
)

// mountSetup puts the wizard of the first run on the web.
func (n *node) mountSetup() error { return n.shell.MountSetup(firstRun{n}, n.services) }

// firstRun is what the wizard needs of the node.
type firstRun struct{ node *node }

// CheckDomain implements [web.SetupDesk].
func (f firstRun) CheckDomain(ctx context.Context, domain string) ([]web.SetupRecord, error) {
	findings, err := f.node.domainCheck(ctx, named{Name: domain})
	var records []web.SetupRecord
	for _, found := range findings {
		records = append(records, web.SetupRecord{Record: found.Check, Status: string(found.Status), Found: found.Found, Paste: found.Paste})
	}
	return records, err
}

// Trace implements [web.SetupDesk].
func (f firstRun) Trace(ctx context.Context, what string) ([]storage.Traced, error) {
	return f.node.store.Trace(ctx, what)
}

// SendTest implements [web.SetupDesk]: the message goes the way of any other, signed.
func (f firstRun) SendTest(ctx context.Context, from storage.Account, to, subject, text string) (string, error) {
	n := f.node
	var random [8]byte
	rand.Read(random[:]) // never fails, see crypto/rand
	id := hex.EncodeToString(random[:])
	letter := testLetter(from.Address, to, subject, text, id+"@"+n.hostname(), n.now())
	if signatures, err := n.sign(ctx, domainPart(from.Address), []byte(letter)); err == nil { // without a key, it goes unsigned
		letter = signatures + letter
	}
	content, err := n.store.Prepare(ctx, strings.NewReader(letter))
	if err != nil {
		return "", err
	}
	defer content.Close()
	resolved, err := n.store.Resolve(ctx, to)
	if err != nil {
		return "", err
	}
	d := storage.Delivery{Transaction: sha256.Sum256(random[:]), Content: content, Received: n.now(),
		Trail: &storage.Trail{ID: id, Node: string(n.settings.Node), Sender: from.Address, Via: "first run"}}
	for _, a := range resolved.Accounts {
		d.Recipients = append(d.Recipients, a.ID)
	}
	if !resolved.Local {
		d.Outbound = &storage.Outbound{Sender: from.Address, Account: from.ID, Recipients: []storage.OutboundRecipient{{Address: to}}}
	} else if len(d.Recipients) == 0 {
		return "", &storage.Error{Op: "send a test message to " + to, Kind: storage.KindNotFound, Hint: "there is no such mailbox here"}
	}
	_, err = n.store.Deliver(ctx, d)
	return id, err
}

func testLetter(from, to, subject, text, id string, now time.Time) string {
	var b strings.Builder
	for _, field := range [][2]string{{"From", "<" + from + ">"}, {"To", "<" + to + ">"}, {"Subject", mime.QEncoding.Encode("utf-8", subject)}, {"Date", now.Format(time.RFC1123Z)},
		{"Message-ID", "<" + id + ">"}, {"MIME-Version", "1.0"}, {"Content-Type", "text/plain; charset=utf-8"}, {"Content-Transfer-Encoding", "quoted-printable"}} {
		fmt.Fprintf(&b, "%s: %s\r\n", field[0], field[1])
	}
	b.WriteString("\r\n")
	w := quotedprintable.NewWriter(&b)
	_, _ = w.Write([]byte(text + "\r\n")) // a builder takes all
	_ = w.Close()
	return b.String()
}

func domainPart(address string) string { return address[strings.LastIndexByte(address, '@')+1:] }

// firstRunURLs are where the wizard of a token is: under the node's name, and on this machine itself. Empty: there is no such listener.
func firstRunURLs(s settings, token string) (public, local string) {
	if _, port, err := net.SplitHostPort(s.Listen[listenHTTPS]); err == nil {
		host := string(s.Hostname)
		if port != "443" && port != "https" {
			host = net.JoinHostPort(host, port)
		}
		public = "https://" + host + web.SetupPath(token)
	}
	if address, port, err := net.SplitHostPort(s.Listen[listenHTTP]); err == nil {
		if ip := net.ParseIP(address); address == "" || ip.IsUnspecified() {
			address = "127.0.0.1"
		}
		local = "http://" + net.JoinHostPort(address, port) + web.SetupPath(token)
		if ip := net.ParseIP(address); address != "localhost" && !ip.IsLoopback() {
			local = ""
		}
	}
	return public, local
}
