package storage

import (
	"context"
	"errors"
	"io"
	"path/filepath"
	"slices"
	"time"

	"zombiezen.com/go/sqlite"

	"trivet/storage/message"
	"trivet/storage/search"
)

// The words of package search, for those who ask [Store.Narrow].
type (
	// SearchQuery is what a message must have.
	SearchQuery = search.Query
	// SearchField is a part of a message that is searched by itself.
	SearchField = search.Field
)

// The fields of a [SearchQuery].
const (
	SearchText      = search.Text
	SearchSubject   = search.Subject
	SearchAddresses = search.Addresses
)

// Bounds of what is searched in one message, for the index and for whoever reads it to decide.
const (
	MaxSearchHeader = 2 << 20 // octets of a header
	MaxSearchHTML   = 1 << 20 // octets of text taken from one HTML part
)

// Narrow returns the UIDs of the messages of a mailbox that the index of this node does not rule out, ascending: those that
// may match the query, and those that are not in the index yet. ok is false when the index has nothing to say.
func (s *Store) Narrow(ctx context.Context, mailbox int64, q SearchQuery) (uids []uint32, ok bool, err error) {
	if !q.Narrows() {
		return nil, false, nil
	}
	ids, mark, err := s.index.Search(q)
	if err != nil || mark == 0 {
		return nil, false, readError("search the index", err)
	}
	err = s.with(ctx, func(c *conn) error {
		return c.rows("SELECT uid, message_id FROM mailbox_message WHERE mailbox_id = ? ORDER BY uid", func(st *sqlite.Stmt) bool {
			id := st.ColumnInt64(1)
			if _, found := slices.BinarySearch(ids, id); found || id > mark {
				uids = append(uids, uint32(st.ColumnInt64(0)))
			}
			return true
		}, mailbox)
	})
	return uids, err == nil, readError("search the index", err)
}

// SearchStatus is how far the index of this node is.
type SearchStatus struct {
	search.Status
	Waiting int64     // messages that are not in it, at most [MaxWaiting]; searches read them
	Since   time.Time // about when the first of them came; zero: none waits, or it came more than an hour ago
}

// MaxWaiting is up to where [SearchStatus] counts.
const MaxWaiting = 1_000_000

// SearchStatus says how far the index of this node is.
func (s *Store) SearchStatus(ctx context.Context) (SearchStatus, error) {
	st := SearchStatus{Status: s.index.Status()}
	err := s.with(ctx, func(c *conn) error {
		first := int64(0)
		_, err := c.row("SELECT count(*), ifnull(min(id), 0) FROM (SELECT id FROM message WHERE id > ? ORDER BY id LIMIT ?)", func(row *sqlite.Stmt) {
			st.Waiting, first = row.ColumnInt64(0), row.ColumnInt64(1)
		}, st.Mark, MaxWaiting)
		if err == nil && st.Waiting > 0 { // the command that brought it says when
			_, err = c.row(`SELECT at FROM request WHERE "index" = ?`, func(row *sqlite.Stmt) { st.Since = millis(row.ColumnInt64(0)) }, first/idsPerCommand)
		}
		return err
	})
	return st, readError("look at the index", err)
}

func (s *Store) newIndex() *search.Index {
	return search.New(filepath.Join(s.cfg.Dir, "local", "search"), s.cfg.SearchSettle, s.cfg.Logger)
}

// runIndex keeps the index up until the store is closed.
func (s *Store) runIndex() {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		s.index.Run(ctx, &indexSource{s: s})
	}()
	<-s.stop
	cancel()
	<-done
}

// indexSource gives the index the messages of the state.
type indexSource struct {
	s     *Store
	asked time.Time // when Busy was last asked
	then  uint64    // what was applied by then
}

// busyRate is how many commands a second make the index wait. Bringing 10,000 messages into it takes a second of a core,
// which mail that is just coming in can use better.
const busyRate = 200

// Busy implements [search.Source].
func (src *indexSource) Busy() bool {
	now, applied := time.Now(), src.s.machine.Applied()
	rate := float64(int64(applied-src.then)) / now.Sub(src.asked).Seconds()
	src.asked, src.then = now, applied
	return rate > busyRate
}

// After implements [search.Source]. Message ids grow with the log. When the greatest is below what was indexed, the state was
// put back, unless what was indexed last has been collected since: then the index is built again for nothing, once.
func (src *indexSource) After(ctx context.Context, id int64, limit int) ([]int64, error) {
	var ids []int64
	var last uint64
	err := src.s.with(ctx, func(c *conn) error {
		err := c.rows("SELECT id FROM message WHERE id > ? ORDER BY id LIMIT ?", func(st *sqlite.Stmt) bool {
			ids = append(ids, st.ColumnInt64(0))
			return true
		}, id, limit)
		if err == nil && len(ids) == 0 {
			last, err = readApplied(c)
		}
		return err
	})
	if err == nil && len(ids) == 0 && id > firstID(last+1) {
		return nil, search.ErrOther
	}
	return ids, readError("list messages", err)
}

// Read implements [search.Source]: all that a search of the message's text may look at.
func (src *indexSource) Read(ctx context.Context, id int64, add search.Adder) error {
	var envelope, structure []byte
	err := src.s.with(ctx, func(c *conn) error {
		_, err := c.row("SELECT envelope, structure FROM message WHERE id = ?", func(st *sqlite.Stmt) {
			envelope, structure = columnBytes(st, 0), columnBytes(st, 1)
		}, id)
		return err
	})
	if err != nil {
		return readError("index a message", err)
	}
	if structure == nil {
		return nil // collected meanwhile
	}
	err = src.read(ctx, id, envelope, structure, add)
	switch {
	case err == nil, ctx.Err() != nil:
		return ctx.Err()
	case KindOf(err) == KindNotFound, KindOf(err) == KindUnavailable:
		return err
	}
	src.s.cfg.Logger.Warn("a message cannot be indexed; searches read it", "message", id, "error", err)
	add.Any()
	return nil
}

func (src *indexSource) read(ctx context.Context, id int64, envelope, structure []byte, add search.Adder) error {
	e, err := message.ParseEnvelope(envelope)
	if err != nil {
		return err
	}
	root, err := message.ParseStructure(structure)
	if err != nil {
		return err
	}
	add.String(search.Subject, message.DecodeHeader(e.Subject))
	for _, list := range [][]message.Address{e.From, e.To, e.Cc, e.Bcc} {
		text := message.DecodeHeader(SearchAddressText(list))
		add.String(search.Addresses, text)
		add.String(search.Text, text)
	}
	body, err := src.s.OpenBody(ctx, id)
	if err != nil {
		return err
	}
	defer body.Close()
	indexHeader(body, root, add)
	var documents message.Documents
	root.Walk(func(p *message.Part) bool {
		err = indexPart(body, p, &documents, add)
		return err == nil
	})
	return err
}

// SearchAddressText is how addresses are searched: as a header shows them, so that a name and an address in one string match.
func SearchAddressText(list []message.Address) string {
	var b []byte
	for _, a := range list {
		b = append(append(b, a.Name...), " <"...)
		b = append(append(b, a.Mailbox...), '@')
		b = append(append(b, a.Host...), ">, "...)
	}
	return string(b)
}

func indexHeader(body *Body, p *message.Part, add search.Adder) {
	header := make([]byte, min(p.BodyOffset-p.HeaderOffset, MaxSearchHeader))
	if _, err := body.ReadAt(header, p.HeaderOffset); err != nil && !errors.Is(err, io.EOF) {
		add.Any()
		return
	}
	for f := range message.Fields(header) {
		value := f.Value()
		add.String(search.Text, message.DecodeHeader(value))
		add.String(search.Text, message.DecodeHeader(string(f.Name)+": "+value))
	}
}

func indexPart(body *Body, p *message.Part, documents *message.Documents, add search.Adder) error {
	switch {
	case p.Enclosed() && len(p.Children) > 0:
		indexHeader(body, p.Children[0], add)
		return nil
	case p.IsDocument():
		text, err := documents.Text(p, io.NewSectionReader(body, p.BodyOffset, p.BodySize))
		add.String(search.Text, text)
		return err
	case p.Type != "text":
		return nil
	}
	text := func() io.Reader { return message.DecodeText(p, io.NewSectionReader(body, p.BodyOffset, p.BodySize)) }
	if err := add.Reader(search.Text, text()); err != nil {
		return err
	}
	if p.Subtype == "html" {
		add.String(search.Text, message.TextFromHTML(text(), MaxSearchHTML))
	}
	return nil
}
