package mail

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"trivet/storage"
	"trivet/storage/message"
	"trivet/web"
)

// Limits of a search.
const (
	maxFound     = 200             // messages, the newest
	searchPiece  = 100             // messages that are read at a time
	searchTime   = 8 * time.Second // then what was found so far is shown
	searchWindow = 32 << 10        // octets of a text that are folded at a time
	maxQuery     = 500             // octets
)

// search shows what was found.
func (m *Room) search(w http.ResponseWriter, r *http.Request, v *web.Visit) error {
	f, err := m.newFrame(r, v)
	if err != nil {
		return err
	}
	f.Pane = "list"
	if f.List, err = m.found(r, v, f); err != nil {
		return err
	}
	f.Query = r.URL.Query().Get("q")
	return m.render(w, r, v, f, "mail.search", http.StatusOK)
}

// hit is a message that was found.
type hit struct {
	where box
	uid   uint32
	date  time.Time
}

// found makes the list of what fits a query.
func (m *Room) found(r *http.Request, v *web.Visit, f *frame) (*listing, error) {
	text := r.URL.Query().Get("q")
	text = strings.ToValidUTF8(text[:min(len(text), maxQuery)], "")
	l := &listing{Search: true, Page: 1, Path: "/mail/search?q=" + url.QueryEscape(text)}
	if page, err := strconv.Atoi(r.URL.Query().Get("page")); err == nil && page > 1 && page <= maxFound/PageSize {
		l.Page = page
	}
	l.Box.Label, l.Back = text, l.pagePath(l.Page)
	q := parseQuery(text, v.Zone)
	if q.empty() {
		l.Pages = 1
		return l, nil
	}
	ctx, cancel := context.WithTimeout(r.Context(), searchTime)
	defer cancel()
	name := func(b box) string { return v.T(b.Label) }
	var hits []hit
	for _, b := range q.mailboxes(f.Boxes, name) {
		in, err := m.searchBox(ctx, b, q)
		if err != nil && ctx.Err() == nil {
			return nil, err
		}
		l.Partial = l.Partial || err != nil || len(in) == maxFound
		hits = append(hits, in...)
	}
	slices.SortStableFunc(hits, func(a, b hit) int { return b.date.Compare(a.date) })
	if len(hits) > maxFound {
		hits, l.Partial = hits[:maxFound], true
	}
	l.Total = len(hits)
	l.Pages = max(1, (l.Total+PageSize-1)/PageSize)
	shown := hits[min(len(hits), (l.Page-1)*PageSize):min(len(hits), l.Page*PageSize)]
	return l, m.rowsOf(r.Context(), l, shown, text)
}

// rowsOf makes rows of hits, which are of several mailboxes.
func (m *Room) rowsOf(ctx context.Context, l *listing, hits []hit, text string) error {
	byBox := map[int64][][]uint32{}
	for _, h := range hits {
		byBox[h.where.ID] = append(byBox[h.where.ID], []uint32{h.uid})
	}
	made := map[selectionKey]row{}
	for id, groups := range byBox {
		rows, err := m.rows(ctx, id, groups, false)
		if err != nil {
			return err
		}
		for _, r := range rows {
			made[selectionKey{id, r.UID}] = r
		}
	}
	for _, h := range hits {
		r := made[selectionKey{h.where.ID, h.uid}]
		r.Where = h.where
		r.Path = "/mail/search/" + idText(h.where.ID) + "/" + idText(int64(h.uid)) + "?q=" + url.QueryEscape(text)
		if l.Page > 1 {
			r.Path += "&page=" + strconv.Itoa(l.Page)
		}
		l.Rows = append(l.Rows, r)
	}
	return nil
}

type selectionKey struct {
	mailbox int64
	uid     uint32
}

// searchBox finds the newest messages of a mailbox that fit.
func (m *Room) searchBox(ctx context.Context, b box, q query) ([]hit, error) {
	uids, narrowed, err := m.store.Narrow(ctx, b.ID, q.index())
	if err != nil {
		return nil, err
	}
	if !narrowed {
		view, err := m.store.Select(ctx, b.ID)
		if err != nil {
			return nil, err
		}
		uids = view.UIDs
	}
	var hits []hit
	for end := len(uids); end > 0 && len(hits) < maxFound; end -= searchPiece {
		piece := uids[max(0, end-searchPiece):end]
		found, err := m.searchPiece(ctx, b, q, piece)
		hits = append(hits, found...)
		if err != nil {
			return hits, err
		}
	}
	slices.SortFunc(hits, func(a, b hit) int { return cmp.Compare(b.uid, a.uid) })
	return hits[:min(len(hits), maxFound)], nil
}

func (m *Room) searchPiece(ctx context.Context, b box, q query, uids []uint32) ([]hit, error) {
	var hits []hit
	for rest := ranges(uids); len(rest) > 0; {
		got, err := m.store.Items(ctx, b.ID, rest, rowFields, len(uids))
		if err != nil {
			return hits, err
		}
		for i := range got {
			fits, err := m.fits(ctx, q, &got[i])
			if err != nil {
				return hits, err
			}
			if fits {
				hits = append(hits, hit{b, got[i].UID, got[i].InternalDate})
			}
		}
		rest = after(rest, got)
	}
	return hits, nil
}

// fits reports whether a message is one that is searched for. Its text is read only if nothing cheaper decides.
func (m *Room) fits(ctx context.Context, q query, it *storage.Item) (bool, error) {
	e, err := message.ParseEnvelope(it.Envelope)
	if err != nil {
		return false, nil
	}
	fits, left := q.header(it, e)
	if !fits || len(left) == 0 {
		return fits, nil
	}
	root, err := message.ParseStructure(it.Structure)
	if err != nil {
		return false, nil
	}
	body, err := m.store.OpenBody(ctx, it.MessageID)
	if err != nil {
		return false, nil // it was expunged meanwhile
	}
	defer body.Close()
	root.Walk(func(p *message.Part) bool {
		if err = ctx.Err(); err != nil {
			return false
		}
		if name := message.Fold(p.Filename()); name != "" {
			left = slices.DeleteFunc(left, func(word string) bool { return strings.Contains(name, word) })
		}
		if p.Type == "text" {
			left, err = missing(body, p, left)
		}
		return err == nil && len(left) > 0
	})
	return len(left) == 0, err
}

// missing are the words that a text part has not.
func missing(body *storage.Body, p *message.Part, words []string) ([]string, error) {
	text := message.DecodeText(p, io.NewSectionReader(body, p.BodyOffset, p.BodySize))
	if p.Subtype == "html" {
		folded := message.Fold(message.TextFromHTML(text, storage.MaxSearchHTML))
		return slices.DeleteFunc(slices.Clone(words), func(word string) bool { return strings.Contains(folded, word) }), nil
	}
	longest := 0
	for _, word := range words {
		longest = max(longest, len(word))
	}
	folder := message.NewFolder(text, min(searchWindow, p.BodySize+1))
	var window []byte
	for left := slices.Clone(words); ; {
		piece, err := folder.Next()
		window = append(window, piece...)
		left = slices.DeleteFunc(left, func(word string) bool { return bytes.Contains(window, []byte(word)) })
		if len(left) == 0 || errors.Is(err, io.EOF) {
			return left, nil
		}
		if err != nil {
			return left, err
		}
		window = append(window[:0], window[max(0, len(window)-longest):]...)
	}
}
