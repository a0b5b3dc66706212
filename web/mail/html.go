package mail

import (
	"bytes"
	"context"
	"encoding/base64"
	"image"
	_ "image/gif" // for their sizes
	_ "image/jpeg"
	_ "image/png"
	"io"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"sync"

	"github.com/microcosm-cc/bluemonday"
	"golang.org/x/net/html"

	"trivet/storage"
	"trivet/storage/message"
	"trivet/web"
)

// The policies of HTML that came in a message. Nothing but the document and the pictures in it; with images, pictures from anywhere too.
// The sandbox takes its origin and its scripts away, whoever opens it however.
const (
	framePolicy  = "default-src 'none'; style-src 'unsafe-inline'; img-src data:; form-action 'none'; base-uri 'none'; frame-ancestors 'self'; " + frameSandbox
	imagesPolicy = "default-src 'none'; style-src 'unsafe-inline'; img-src data: https: http:; form-action 'none'; base-uri 'none'; frame-ancestors 'self'; " + frameSandbox
	frameSandbox = "sandbox allow-popups allow-popups-to-escape-sandbox"
)

// frameHead stands in front of HTML that came in a message. Its ground is white, as its author expects.
const frameHead = `<!doctype html><html><head><meta charset="utf-8"><meta name="referrer" content="no-referrer"><meta name="viewport" content="width=device-width">` +
	`<title>.</title><style>html{color-scheme:light;background:#fff;color:#1c2024;font:15px/1.5 system-ui,-apple-system,"Segoe UI",Roboto,sans-serif}` +
	`body{margin:16px;overflow-wrap:anywhere}img{max-width:100%;height:auto}table{max-width:100%}pre{white-space:pre-wrap}` +
	`blockquote{margin:0 0 0 .5em;padding-left:.8em;border-left:2px solid #ddd;color:#555}a{color:#b23c0a}</style></head><body>`

// cleaner makes HTML of a message harmless: what runs, loads, submits or covers something else goes.
type cleaner struct {
	policy *bluemonday.Policy

	mu    sync.Mutex
	pages map[pageKey]*cleanPage
	order []pageKey
	size  int
}

// pageKey names a cleaned part.
type pageKey struct {
	message int64
	at      string
	images  bool
}

// cleanPage is a part after that.
type cleanPage struct {
	html   []byte
	remote int  // pictures that are elsewhere
	height int  // about, in pixels
	cut    bool // it was too long
}

// maxCleaned bounds what is kept of cleaned parts, in octets: the frame asks right after its page.
const maxCleaned = 32 << 20

// plainColour is what a background may be: pictures are remote content.
var plainColour = regexp.MustCompile(`^(#[0-9a-fA-F]{3,8}|[a-zA-Z]{1,30}|rgba?\([0-9., %]{1,40}\))$`)

// simpleLength is a length, or some.
var simpleLength = regexp.MustCompile(`^(-?[0-9.]{1,8}(px|em|rem|pt|%)?|auto|normal|inherit)(\s+(-?[0-9.]{1,8}(px|em|rem|pt|%)?|auto)){0,3}$`)

// simpleWords are values without functions: no url(), no expression().
var simpleWords = regexp.MustCompile(`^[a-zA-Z0-9#.,%' "-]{1,200}$`)

// dataPicture is what a data: URL has behind its scheme when it is a picture.
var dataPicture = regexp.MustCompile(`^image/(png|jpeg|gif|webp);base64,[A-Za-z0-9+/=\s]*$`)

func newCleaner() *cleaner {
	p := bluemonday.NewPolicy()
	p.AllowElements("a", "abbr", "address", "article", "aside", "b", "bdi", "bdo", "big", "blockquote", "br", "caption", "center", "cite", "code", "col", "colgroup",
		"dd", "del", "dfn", "div", "dl", "dt", "em", "figcaption", "figure", "font", "footer", "h1", "h2", "h3", "h4", "h5", "h6", "header", "hr", "i", "img", "ins",
		"kbd", "li", "main", "mark", "nav", "ol", "p", "pre", "q", "rp", "rt", "ruby", "s", "samp", "section", "small", "span", "strike", "strong", "sub", "sup",
		"table", "tbody", "td", "tfoot", "th", "thead", "time", "tr", "tt", "u", "ul", "var", "wbr")
	p.AllowNoAttrs().OnElements("a", "font", "img", "span")
	p.AllowAttrs("dir").Matching(regexp.MustCompile(`(?i)^(rtl|ltr|auto)$`)).Globally()
	p.AllowAttrs("lang", "title", "align", "valign").Globally()
	p.AllowAttrs("bgcolor", "color").Matching(plainColour).Globally()
	p.AllowAttrs("width", "height", "border", "cellpadding", "cellspacing", "colspan", "rowspan", "size", "start", "span").Matching(regexp.MustCompile(`^[0-9]{1,5}(px|%)?$`)).Globally()
	p.AllowAttrs("face").Matching(simpleWords).OnElements("font")
	p.AllowAttrs("alt", "src").OnElements("img")
	p.AllowAttrs("href").OnElements("a")
	p.AllowAttrs("target").Matching(regexp.MustCompile(`^_blank$`)).OnElements("a")
	p.AllowAttrs("rel").Matching(regexp.MustCompile(`^noopener noreferrer$`)).OnElements("a")
	p.AllowURLSchemes("http", "https")
	p.AllowRelativeURLs(true) // only our own, see link
	// Not AllowDataURIImages: that takes SVG too, which is a document.
	p.AllowURLSchemeWithCustomPolicy("data", func(u *url.URL) bool { return dataPicture.MatchString(u.Opaque) })
	p.AllowStyles("color", "background-color", "background", "border-color").Matching(plainColour).Globally()
	p.AllowStyles("margin", "margin-top", "margin-right", "margin-bottom", "margin-left", "padding", "padding-top", "padding-right", "padding-bottom", "padding-left",
		"width", "max-width", "min-width", "height", "max-height", "line-height", "font-size", "letter-spacing", "border-radius", "border-width", "border-spacing").Matching(simpleLength).Globally()
	p.AllowStyles("font-family", "font-weight", "font-style", "text-align", "text-decoration", "text-transform", "vertical-align", "white-space", "word-break", "overflow-wrap",
		"border", "border-top", "border-right", "border-bottom", "border-left", "border-style", "border-collapse", "list-style-type", "direction").Matching(simpleWords).Globally()
	p.AllowStyles("display").Matching(regexp.MustCompile(`^(none|block|inline|inline-block|table|table-row|table-cell)$`)).Globally()
	return &cleaner{policy: p, pages: map[pageKey]*cleanPage{}}
}

// get is what was cleaned lately.
func (c *cleaner) get(k pageKey) *cleanPage {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.pages[k]
}

func (c *cleaner) put(k pageKey, p *cleanPage) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.pages[k] != nil || len(p.html) > maxCleaned/4 {
		return
	}
	c.pages[k], c.order, c.size = p, append(c.order, k), c.size+len(p.html)
	for c.size > maxCleaned {
		c.size -= len(c.pages[c.order[0]].html)
		delete(c.pages, c.order[0])
		c.order = slices.Delete(c.order, 0, 1)
	}
}

// cleaned is a part of HTML as it may be shown.
func (m *Room) cleaned(ctx context.Context, id int64, root *message.Part, body *storage.Body, t numbered, images bool) (*cleanPage, error) {
	k := pageKey{id, t.at, images}
	if p := m.clean.get(k); p != nil {
		return p, nil
	}
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	raw, err := io.ReadAll(io.LimitReader(message.DecodeText(t.part, io.NewSectionReader(body, t.part.BodyOffset, t.part.BodySize)), MaxHTML+1))
	if err != nil {
		return nil, err
	}
	r := rewriter{images: images, inline: inlinePictures(root), body: body, left: MaxInline}
	p := &cleanPage{cut: len(raw) > MaxHTML}
	rewritten := r.rewrite(raw[:min(len(raw), MaxHTML)])
	p.html, p.remote, p.height = m.clean.policy.SanitizeReader(rewritten).Bytes(), r.remote, r.height()
	m.clean.put(k, p)
	return p, nil
}

// inlinePictures are the pictures of a message that its HTML may show, by their Content-ID.
func inlinePictures(root *message.Part) map[string]*message.Part {
	all := map[string]*message.Part{}
	root.Walk(func(p *message.Part) bool {
		if p.ID != "" && isPicture(p) {
			all[strings.Trim(p.ID, "<> ")] = p
		}
		return true
	})
	return all
}

// rewriter changes where HTML leads to, before it is cleaned.
type rewriter struct {
	images bool // those elsewhere are left
	inline map[string]*message.Part
	body   *storage.Body
	left   int64 // octets that pictures may still have

	remote         int
	letters, lines int // for the height
	pixels         int // of pictures
}

// hidden are the elements whose text is not the message's.
var hidden = []string{"script", "style", "title", "noscript", "noframes", "noembed", "iframe", "template", "svg", "math", "object", "head", "textarea", "select", "xmp", "plaintext"}

// rewrite passes HTML on with other addresses.
func (r *rewriter) rewrite(raw []byte) io.Reader {
	var out bytes.Buffer
	out.Grow(len(raw))
	z := html.NewTokenizer(bytes.NewReader(raw))
	skip, depth := "", 0
	for {
		switch z.Next() {
		case html.ErrorToken:
			return &out
		case html.TextToken:
			if skip == "" {
				r.letters += len(bytes.TrimSpace(z.Raw()))
				out.Write(z.Raw())
			}
		case html.StartTagToken, html.SelfClosingTagToken:
			t := z.Token()
			switch {
			case skip == t.Data && t.Type == html.StartTagToken:
				depth++
			case skip != "":
			case slices.Contains(hidden, t.Data) && t.Data != "head":
				r.look(&t)
				if t.Type == html.StartTagToken {
					skip, depth = t.Data, 1
				}
			default:
				r.element(&t)
				out.WriteString(t.String())
				if t.Data == "span" && t.Attr != nil && t.Attr[0].Key == placeKey {
					out.WriteString(html.EscapeString(t.Attr[0].Val) + "</span>")
				}
			}
		case html.EndTagToken:
			name, _ := z.TagName()
			switch {
			case skip == "":
				out.WriteString("</" + string(name) + ">")
			case skip == string(name):
				if depth--; depth == 0 {
					skip = ""
				}
			}
		}
	}
}

// look counts what an element would fetch.
func (r *rewriter) look(t *html.Token) {
	for _, a := range t.Attr {
		if (a.Key == "src" || a.Key == "data" || a.Key == "href") && isRemote(a.Val) {
			r.remote++
		}
	}
}

// element changes the attributes of one element.
func (r *rewriter) element(t *html.Token) {
	switch t.Data {
	case "br", "p", "div", "tr", "li", "h1", "h2", "h3", "hr", "blockquote":
		r.lines++
	case "img":
		r.image(t)
		return
	case "a", "area":
		r.link(t)
	case "body":
		t.Data = "div"
	}
	t.Attr = slices.DeleteFunc(t.Attr, func(a html.Attribute) bool {
		if (a.Key == "background" || a.Key == "style") && strings.Contains(strings.ToLower(a.Val), "//") || a.Key == "background" && a.Val != "" {
			r.remote++
			return a.Key == "background"
		}
		return a.Key == "src" || a.Key == "srcset"
	})
}

// isRemote reports whether an address is on another host.
func isRemote(target string) bool {
	target = strings.ToLower(strings.TrimSpace(target))
	return strings.HasPrefix(target, "http:") || strings.HasPrefix(target, "https:") || strings.HasPrefix(target, "//")
}

// image lets a picture in that is in the message, and one that is elsewhere if it may be fetched.
func (r *rewriter) image(t *html.Token) {
	src := ""
	t.Attr = slices.DeleteFunc(t.Attr, func(a html.Attribute) bool {
		if a.Key == "src" && src == "" {
			src = strings.TrimSpace(a.Val)
		}
		return a.Key == "src" || a.Key == "srcset"
	})
	lower := strings.ToLower(src)
	switch {
	case strings.HasPrefix(lower, "cid:"):
		src = r.picture(src[len("cid:"):])
	case strings.HasPrefix(lower, "data:"):
		if !dataPicture.MatchString(src[len("data:"):]) {
			src = ""
		}
	case isRemote(src):
		r.remote++
		if !r.images {
			src = ""
		} else {
			r.pixels += pictureHeight
			if strings.HasPrefix(src, "//") {
				src = "https:" + src
			}
		}
	default:
		src = ""
	}
	if src != "" {
		t.Attr = append(t.Attr, html.Attribute{Key: "src", Val: src})
		return
	}
	text := ""
	for _, a := range t.Attr {
		if a.Key == "alt" {
			text = a.Val
		}
	}
	t.Type, t.Data, t.Attr = html.StartTagToken, "span", []html.Attribute{{Key: placeKey, Val: text}, {Key: "style", Val: "color: #777777"}}
}

// placeKey marks what stands for a picture that is not shown: its description. The policy takes it off.
const placeKey = "data-place"

// picture is a picture of the message as a data: URL; empty: there is none, or they have become too large.
func (r *rewriter) picture(id string) string {
	if unescaped, err := url.PathUnescape(id); err == nil {
		id = unescaped
	}
	p := r.inline[strings.Trim(id, "<> ")]
	if p == nil || p.BodySize > r.left {
		return ""
	}
	decoded, err := message.DecodeBody(p, io.NewSectionReader(r.body, p.BodyOffset, p.BodySize))
	if err != nil {
		return ""
	}
	data, err := io.ReadAll(io.LimitReader(decoded, r.left))
	if err != nil {
		return ""
	}
	r.left -= p.BodySize
	r.pixels += heightOf(data)
	kind := p.Subtype
	if kind == "jpg" {
		kind = "jpeg"
	}
	return "data:image/" + kind + ";base64," + base64.StdEncoding.EncodeToString(data)
}

// link leaves links to the web, in a window of their own, and has addresses written to here.
func (r *rewriter) link(t *html.Token) {
	href := ""
	t.Attr = slices.DeleteFunc(t.Attr, func(a html.Attribute) bool {
		if a.Key == "href" {
			href = strings.TrimSpace(a.Val)
		}
		return a.Key == "href" || a.Key == "target" || a.Key == "rel" || a.Key == "title"
	})
	switch u, err := url.Parse(href); {
	case err != nil:
		return
	case strings.EqualFold(u.Scheme, "mailto"):
		href = "/mail/compose?mailto=" + url.QueryEscape(u.Opaque+"?"+u.RawQuery)
	case (strings.EqualFold(u.Scheme, "http") || strings.EqualFold(u.Scheme, "https")) && u.Host != "":
		t.Attr = append(t.Attr, html.Attribute{Key: "title", Val: u.Host})
	default:
		return
	}
	t.Attr = append(t.Attr, html.Attribute{Key: "href", Val: href}, html.Attribute{Key: "target", Val: "_blank"}, html.Attribute{Key: "rel", Val: "noopener noreferrer"})
}

// height is about how high the page will be, in pixels: a frame without an origin cannot say it. What is more scrolls within the frame.
func (r *rewriter) height() int {
	const line, perLine, edges, least, most = 25, 65, 96, 140, 2400
	return max(least, min(most, edges+line*(r.letters/perLine+r.lines)+r.pixels))
}

// pictureHeight is that of a picture of which nobody knows it, in pixels.
const pictureHeight = 200

// heightOf is how high a picture will be shown, in pixels.
func heightOf(data []byte) int {
	const widest, highest = 640, 1200
	c, _, err := image.DecodeConfig(bytes.NewReader(data))
	if err != nil || c.Width <= 0 || c.Height <= 0 {
		return pictureHeight
	}
	if c.Width > widest {
		return min(highest, c.Height*widest/c.Width)
	}
	return min(highest, c.Height)
}

// html answers the frame of a part.
func (m *Room) html(w http.ResponseWriter, r *http.Request, v *web.Visit) error {
	_, it, err := m.item(r, v, storage.FieldStructure)
	if err != nil {
		return err
	}
	root, t, err := findPart(it, r.PathValue("at"))
	if err != nil {
		return err
	}
	if t.part.Type != "text" || t.part.Subtype != "html" {
		return web.ErrNotFound
	}
	body, err := m.store.OpenBody(r.Context(), it.MessageID)
	if err != nil {
		return err
	}
	defer body.Close()
	images := r.URL.Query().Get("images") == "1"
	page, err := m.cleaned(r.Context(), it.MessageID, root, body, t, images)
	if err != nil {
		return err
	}
	h := w.Header()
	h.Set("Content-Type", "text/html; charset=utf-8")
	h.Set("Content-Security-Policy", framePolicy)
	if images {
		h.Set("Content-Security-Policy", imagesPolicy)
	}
	h.Set("Referrer-Policy", "no-referrer")
	h.Set("Cross-Origin-Opener-Policy", "unsafe-none") // a document in a frame has none; and the sandbox is stricter
	_, _ = io.WriteString(w, frameHead)                // fails only when the client has gone away
	_, _ = w.Write(page.html)
	return nil
}

// findPart is the part of a message with a number.
func findPart(it storage.Item, at string) (root *message.Part, n numbered, err error) {
	if root, err = message.ParseStructure(it.Structure); err != nil {
		return nil, n, &storage.Error{Op: "read message", Err: err}
	}
	path, err := partPath(at)
	if err != nil {
		return nil, n, err
	}
	p, ok := root.Find(path)
	if !ok {
		return nil, n, web.ErrNotFound
	}
	return root, numbered{p, at}, nil
}
