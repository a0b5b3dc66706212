package storage

import (
	"archive/zip"
	"bytes"
	"context"
	"encoding/base64"
	"errors"
	"io"
	"log/slog"
	"testing"
	"time"

	"trivet/storage/search"
)

// TestSearchOfDocuments: the index and whoever decides by the message see the same text of a document.
func TestSearchOfDocuments(t *testing.T) {
	f := newFixture(t)
	ann := f.account("ann@example.org")
	var document bytes.Buffer
	z := zip.NewWriter(&document)
	w, err := z.Create("content.xml")
	if err == nil {
		_, err = io.WriteString(w, "<text:p>Jahres<text:span>abschluss</text:span></text:p>")
	}
	f.must(errors.Join(err, z.Close()))
	const head = "Content-Type: application/vnd.oasis.opendocument.text\r\nContent-Transfer-Encoding: base64\r\n\r\n"
	whole := base64.StdEncoding.EncodeToString(document.Bytes())
	inbox := f.inbox(ann)
	f.append(inbox, []byte("Subject: whole\r\n"+head+whole+"\r\n"), 0)
	f.append(inbox, []byte("Subject: broken\r\n"+head+whole[:len(whole)/2]+"\r\n"), 0)

	rows, err := f.sql(ann, MailDatabase, "SELECT m.subject FROM search('JAHRESABSCHLUSS') s JOIN message m USING (mailbox_id, uid)")
	if got := lines(rows); err != nil || got != "whole" {
		t.Errorf("found %q (%v)", got, err)
	}

	ctx, cancel := context.WithCancel(context.Background())
	index, done := search.New(t.TempDir(), time.Nanosecond, slog.New(slog.DiscardHandler)), make(chan struct{})
	go func() {
		defer close(done)
		index.Run(ctx, &indexSource{s: f.Store})
	}()
	for index.Status().Messages < 2 {
		time.Sleep(time.Millisecond)
	}
	ids, mark, err := index.Search(SearchQuery{Needle: "jahresabschluss"})
	cancel()
	<-done
	if err != nil || len(ids) != 1 || ids[0] >= mark {
		t.Errorf("the index has it in %v of up to %d (%v)", ids, mark, err)
	}
}
