package message

import (
	"bytes"
	"crypto/rand"
	"encoding/base64"
	"fmt"
	"io"
	"strings"
	"testing"
)

// twoParts is an ordinary message of about 5 KB: text and HTML alternatives.
func twoParts() []byte {
	var b bytes.Buffer
	for i := range 4 {
		fmt.Fprintf(&b, "Received: from mx%d.example.org (mx%d.example.org [192.0.2.%d])\r\n"+
			"\tby mail.example.net with ESMTPS id abc%d\r\n\tfor <jo@example.net>; Mon, 2 Nov 2026 10:00:0%d +0000\r\n", i, i, i, i, i)
	}
	b.WriteString("DKIM-Signature: v=1; a=rsa-sha256; c=relaxed/relaxed; d=example.org; s=s1;\r\n" +
		"\th=from:to:subject:date; bh=" + strings.Repeat("x", 44) + ";\r\n\tb=" + strings.Repeat("y", 300) + "\r\n" +
		"From: =?utf-8?Q?J=C3=B6rg?= Example <joerg@example.org>\r\nTo: Jo <jo@example.net>, \"Doe, Jane\" <jane@example.net>\r\n" +
		"Subject: Minutes of the meeting\r\n and what follows\r\nDate: Mon, 02 Nov 2026 10:00:00 +0100\r\n" +
		"Message-ID: <20261102.1@example.org>\r\nIn-Reply-To: <20261101.7@example.net>\r\n" +
		"References: <20261101.6@example.net> <20261101.7@example.net>\r\nMIME-Version: 1.0\r\n" +
		"Content-Type: multipart/alternative; boundary=\"----=_Part_1234_5678.90\"\r\n\r\n" +
		"------=_Part_1234_5678.90\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: quoted-printable\r\n\r\n")
	b.WriteString(strings.Repeat("The quick brown fox jumps over the lazy dog, as f=C3=BCchse do.\r\n", 22))
	b.WriteString("------=_Part_1234_5678.90\r\nContent-Type: text/html; charset=utf-8\r\nContent-Transfer-Encoding: quoted-printable\r\n\r\n<html><body>")
	b.WriteString(strings.Repeat("<p>The quick brown fox jumps over the lazy dog.</p>\r\n", 30))
	b.WriteString("</body></html>\r\n------=_Part_1234_5678.90--\r\n")
	return b.Bytes()
}

// withAttachment is a message with size bytes of random data in base64.
func withAttachment(size int) []byte {
	data := make([]byte, size)
	rand.Read(data)
	var b bytes.Buffer
	b.WriteString("From: a@b\r\nContent-Type: multipart/mixed; boundary=x\r\n\r\n--x\r\n\r\nhello\r\n--x\r\n" +
		"Content-Type: application/octet-stream\r\nContent-Transfer-Encoding: base64\r\n\r\n")
	text := base64.StdEncoding.EncodeToString(data)
	for len(text) > 0 {
		n := min(76, len(text))
		b.WriteString(text[:n] + "\r\n")
		text = text[n:]
	}
	b.WriteString("--x--\r\n")
	return b.Bytes()
}

func BenchmarkScanTwoParts(b *testing.B) {
	raw := twoParts()
	b.SetBytes(int64(len(raw)))
	b.ReportAllocs()
	for b.Loop() {
		if m, _ := Scan(bytes.NewReader(raw)); m.Parts != 3 {
			b.Fatal(m.Parts)
		}
	}
}

func BenchmarkScanAttachment(b *testing.B) {
	raw := withAttachment(25 << 20)
	b.SetBytes(int64(len(raw)))
	b.ReportAllocs()
	for b.Loop() {
		if m, _ := Scan(bytes.NewReader(raw)); m.Parts != 3 {
			b.Fatal(m.Parts)
		}
	}
}

func BenchmarkHeaderFields(b *testing.B) {
	raw := twoParts()
	m, _ := Scan(bytes.NewReader(raw))
	names := []string{"From", "To", "Cc", "Subject", "Date", "Message-ID", "References", "Content-Type", "List-Id"}
	b.ReportAllocs()
	for b.Loop() {
		HeaderFields(raw[:m.HeaderSize], names, false)
	}
}

func BenchmarkAppendEnvelope(b *testing.B) {
	m, _ := Scan(bytes.NewReader(twoParts()))
	var dst []byte
	b.ReportAllocs()
	for b.Loop() {
		dst = m.Envelope.AppendIMAP(dst[:0])
	}
}

func BenchmarkParseEnvelope(b *testing.B) {
	m, _ := Scan(bytes.NewReader(twoParts()))
	stored := m.Envelope.AppendIMAP(nil)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := ParseEnvelope(stored); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkBodyStructure is what a FETCH BODYSTRUCTURE costs: the stored form to the answer.
func BenchmarkBodyStructure(b *testing.B) {
	m, _ := Scan(bytes.NewReader(twoParts()))
	stored := m.AppendStructure(nil)
	b.ReportMetric(float64(len(stored)), "stored-bytes")
	var dst []byte
	b.ReportAllocs()
	for b.Loop() {
		p, err := ParseStructure(stored)
		if err != nil {
			b.Fatal(err)
		}
		dst = p.AppendBodyStructure(dst[:0], true)
	}
}

func BenchmarkDecodeBase64(b *testing.B) {
	raw := withAttachment(1 << 20)
	m, _ := Scan(bytes.NewReader(raw))
	p := m.Root.Children[1]
	b.SetBytes(p.BodySize)
	for b.Loop() {
		r, _ := DecodeBody(p, bytes.NewReader(raw[p.BodyOffset:p.End()]))
		if n, _ := io.Copy(io.Discard, r); n != 1<<20 {
			b.Fatal(n)
		}
	}
}

func BenchmarkDecodeQuotedPrintable(b *testing.B) {
	raw := []byte(strings.Repeat("The quick brown fox jumps over the lazy dog, as f=C3=BCchse do =\r\n", 10_000))
	p := &Part{Encoding: "quoted-printable"}
	b.SetBytes(int64(len(raw)))
	for b.Loop() {
		io.Copy(io.Discard, DecodeText(p, bytes.NewReader(raw)))
	}
}

func BenchmarkTextFromHTML(b *testing.B) {
	raw := strings.Repeat("<p class=\"x\">The quick <b>brown</b> fox &amp; the lazy dog.</p>\r\n", 1000)
	b.SetBytes(int64(len(raw)))
	b.ReportAllocs()
	for b.Loop() {
		TextFromHTML(strings.NewReader(raw), 1<<20)
	}
}

// BenchmarkHostile scans messages made to be slow; see hostile_test.go.
func BenchmarkHostile(b *testing.B) {
	for _, h := range hostileMessages() {
		b.Run(h.name, func(b *testing.B) {
			raw := h.make()
			b.SetBytes(int64(len(raw)))
			b.ReportAllocs()
			for b.Loop() {
				Scan(bytes.NewReader(raw))
			}
		})
	}
}
