package imap

import (
	"archive/zip"
	"bytes"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"testing"
	"time"

	"trivet/storage"
)

// unindexed is a store whose index has nothing to say.
type unindexed struct{ Store }

func (unindexed) Narrow(context.Context, int64, storage.SearchQuery) ([]uint32, bool, error) {
	return nil, false, nil
}

// TestIndexChangesNoAnswer gives searches with and without the index, before and after messages are in it.
func TestIndexChangesNoAnswer(t *testing.T) {
	f := newFixture(t, nil)
	f.fill(150)
	c := f.login()
	c.append("INBOX", "", "From: =?utf-8?q?J=C3=BCrgen?= <j@example.net>\r\nSubject: =?utf-8?b?R3LDvMOfZQ==?=\r\nContent-Type: text/html; charset=utf-8\r\n\r\n<b>Stra&szlig;e</b>nbahn <i>to</i>morrow\r\n")
	c.append("INBOX", "", "Subject: outer\r\nX-Odd: value\r\nContent-Type: message/rfc822\r\n\r\nSubject: inner secret\r\n\r\ntext within\r\n")
	c.append("INBOX", "", "Content-Transfer-Encoding: base64\r\nContent-Type: text/plain; charset=iso-8859-1\r\n\r\nRvxyIEZyZXVuZGU=\r\n")
	c.append("INBOX", "", "Subject: parts\r\nContent-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\n\r\n"+strings.Repeat("filler ", 10_000)+"needle\r\n--b\r\nContent-Type: application/octet-stream\r\n\r\nhidden\r\n--b--\r\n")
	document := docx(t, "<w:p><w:r><w:t>Mietver</w:t></w:r><w:r><w:t>trag f\u00fcr =?utf-8?q?x?=</w:t></w:r></w:p>")
	c.append("INBOX", "", "Subject: lease\r\nContent-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\n\r\nenclosed\r\n--b\r\n"+
		"Content-Type: application/octet-stream\r\nContent-Disposition: attachment; filename=lease.docx\r\nContent-Transfer-Encoding: base64\r\n\r\n"+document+"\r\n--b--\r\n")
	c.append("INBOX", "", "Subject: broken\r\nContent-Type: application/vnd.oasis.opendocument.text\r\nContent-Transfer-Encoding: base64\r\n\r\n"+document[:len(document)/2]+"\r\n")
	c.ok("SELECT INBOX")
	plain := newPlain(f)
	plain.ok("SELECT INBOX")
	searches := []string{"BODY text", `BODY "text 14"`, "TEXT Stra\u00dfe", `SUBJECT "r 7"`, "SUBJECT gr\u00fc\u00dfe", "FROM J\u00dcRGEN", "FROM sender", `FROM "<s77@"`,
		"TO ann", "HEADER X-Odd value", `HEADER X-Odd ""`, "BODY secret", "BODY within", "TEXT f\u00fcr", "BODY needle", "BODY hidden", "BODY tomorrow", "BODY <b>",
		"BODY te", "NOT BODY text", "OR BODY needle SUBJECT outer", "OR BODY nd SUBJECT outer", "BODY needle SUBJECT parts", "BODY nowhere", "CC nobody", "TEXT message-id:",
		"BODY mietvertrag", "TEXT MIETVERTRAG", "BODY w:t", "BODY =?utf-8", "BODY f\u00fcr", "SUBJECT mietvertrag", "NOT TEXT mietvertrag"}
	check := func(when string) {
		for _, s := range searches {
			command := "SEARCH CHARSET UTF-8 " + quoted(s)
			if got, want := fmt.Sprint(c.ok(command)), fmt.Sprint(plain.ok(command)); got != want {
				t.Errorf("%s: %s: %s, want %s", when, s, got, want)
			}
		}
		// The document is found by its text, and nothing else is.
		if got, want := fmt.Sprint(c.ok("UID SEARCH TEXT mietvertrag")), fmt.Sprint(c.ok("UID SEARCH SUBJECT lease")); got != want || !strings.Contains(got, "155") {
			t.Errorf("%s: the document is in %s, want %s", when, got, want)
		}
	}
	check("before")
	for {
		st, err := f.store.SearchStatus(context.Background())
		if err != nil {
			t.Fatal(err)
		}
		if st.Waiting == 0 {
			break
		}
		time.Sleep(10 * time.Millisecond)
	}
	check("indexed")
	c.append("INBOX", "", "Subject: late\r\n\r\nneedle in a later message\r\n")
	plain.ok("NOOP")
	check("and then more")
	box, err := f.store.Mailbox(context.Background(), f.ann.ID, storage.Inbox)
	if err != nil {
		t.Fatal(err)
	}
	uids, ok, err := f.store.Narrow(context.Background(), box.ID, storage.SearchQuery{Needle: "needle"})
	if err != nil || !ok || len(uids) > 5 {
		t.Errorf("the index leaves %v (%v, %v)", uids, ok, err)
	}
	uids, ok, err = f.store.Narrow(context.Background(), box.ID, storage.SearchQuery{Needle: "mietvertrag"})
	if err != nil || !ok || !slices.Contains(uids, 155) || len(uids) > 2 { // and what is not in it yet
		t.Errorf("the index leaves for the document %v (%v, %v)", uids, ok, err)
	}
}

// docx is a document of Word, in base64 without line ends.
func docx(t *testing.T, xml string) string {
	t.Helper()
	var b bytes.Buffer
	z := zip.NewWriter(&b)
	w, err := z.Create("word/document.xml")
	if err == nil {
		_, err = io.WriteString(w, xml)
	}
	if err = errors.Join(err, z.Close()); err != nil {
		t.Fatal(err)
	}
	return base64.StdEncoding.EncodeToString(b.Bytes())
}

// newPlain logs in to a server on the same store that has no index.
func newPlain(f *fixture) *client {
	g := &fixture{t: f.t, store: f.store, ann: f.ann}
	g.serve(func(c *Config) { c.Store = unindexed{f.store} })
	return g.login()
}

// quoted puts what is not ASCII into quotes.
func quoted(s string) string {
	words := strings.Split(s, " ")
	for i, w := range words {
		for _, c := range w {
			if c > 127 {
				words[i] = `"` + w + `"`
				break
			}
		}
	}
	return strings.Join(words, " ")
}
