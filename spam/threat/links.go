package threat

import (
	"io"
	"net/netip"
	"net/url"
	"strings"

	"golang.org/x/net/html"
	"golang.org/x/net/html/atom"
	"golang.org/x/net/idna"
	"golang.org/x/net/publicsuffix"

	"trivet/storage/message"
)

// Limits of looking for links.
const (
	MaxLinks     = 1000    // of a message
	MaxLinkText  = 300     // octets of what a link shows that are compared
	maxTextBytes = 1 << 20 // octets of text parts together that are looked at
	maxTextParts = 20
)

// Link is one of a message.
type Link struct {
	Host string // in lower case and A-labels, without port; or an IP address
	Text string // what HTML shows for it; empty: itself
	User bool   // it has a user name before the host, which misleads
}

// Links finds the links in the text and HTML of a message, in their order. raw has its octets.
func Links(root *message.Part, raw io.ReaderAt) []Link {
	c := collector{budget: maxTextBytes}
	parts := 0
	root.Walk(func(p *message.Part) bool {
		if p.Type != "text" || p.Multipart() {
			return true
		}
		if parts++; parts > maxTextParts {
			return false
		}
		text := &io.LimitedReader{R: message.DecodeText(p, io.NewSectionReader(raw, p.BodyOffset, p.BodySize)), N: c.budget}
		if p.Subtype == "html" {
			c.html(text)
		} else if b, err := io.ReadAll(text); err == nil {
			c.plain(string(b))
		}
		c.budget = text.N
		return c.budget > 0 && len(c.links) < MaxLinks
	})
	return c.links
}

// collector gathers links.
type collector struct {
	links  []Link
	budget int64
}

// add notes a link; one that leads to no host is none.
func (c *collector) add(target, text string) {
	if len(c.links) >= MaxLinks {
		return
	}
	host, user, ok := hostOf(target)
	if ok {
		c.links = append(c.links, Link{host, strings.TrimSpace(text), user})
	}
}

// hostOf is the host that a browser goes to for a target of http or https.
func hostOf(target string) (host string, user, ok bool) {
	target = strings.Map(func(r rune) rune { // as browsers do
		if r == '\t' || r == '\n' || r == '\r' {
			return -1
		}
		return r
	}, strings.TrimSpace(target))
	target = strings.ReplaceAll(target, `\`, "/")
	if strings.HasPrefix(target, "//") {
		target = "http:" + target
	}
	u, err := url.Parse(target)
	if err != nil {
		return "", false, false
	}
	switch strings.ToLower(u.Scheme) {
	case "http", "https", "ftp":
	default:
		return "", false, false
	}
	host = canonicalHost(u.Hostname())
	return host, u.User != nil, host != ""
}

// canonicalHost is a name as DNS has it, or an IP address; empty: neither.
func canonicalHost(host string) string {
	host = strings.TrimSuffix(strings.ToLower(host), ".")
	if a, err := netip.ParseAddr(host); err == nil {
		return a.Unmap().String()
	}
	ascii, err := host, error(nil)
	if !isPlain(host) {
		ascii, err = forLookup.ToASCII(host)
	}
	if err != nil || len(ascii) > 253 || !strings.Contains(ascii, ".") || strings.ContainsAny(ascii, " /@:") {
		return ""
	}
	return ascii
}

// forLookup and forReading are how names of other scripts are written for DNS, and for people. They are never changed.
var (
	forLookup  = idna.New(idna.MapForLookup(), idna.StrictDomainName(false))
	forReading = idna.New(idna.StrictDomainName(false))
)

// isPlain reports whether a name has letters of ASCII alone, encoded ones neither: what most names are.
func isPlain(name string) bool {
	for i := range len(name) {
		if name[i] >= 0x80 {
			return false
		}
	}
	return !strings.Contains(name, "xn--")
}

// plain finds links in text.
func (c *collector) plain(text string) {
	for len(c.links) < MaxLinks {
		at := indexURL(text)
		if at < 0 {
			return
		}
		text = text[at:]
		end := strings.IndexFunc(text, func(r rune) bool { return r <= ' ' || strings.ContainsRune(`<>"'()[]{}|`, r) })
		if end < 0 {
			end = len(text)
		}
		c.add(strings.TrimRight(text[:end], ".,;:!?"), "")
		text = text[end:]
	}
}

// indexURL is where a URL begins.
func indexURL(text string) int {
	from := 0
	for {
		i := strings.Index(text[from:], "://")
		if i < 0 {
			return -1
		}
		i += from
		for _, scheme := range [...]string{"https", "http", "ftp"} {
			if i >= len(scheme) && strings.EqualFold(text[i-len(scheme):i], scheme) {
				return i - len(scheme)
			}
		}
		from = i + 3
	}
}

// html finds links in HTML: those to be followed with what they show, and those of forms.
func (c *collector) html(r io.Reader) {
	z := html.NewTokenizer(r)
	z.SetMaxBuf(message.MaxHTMLToken)
	target, open := "", false
	var shown strings.Builder
	end := func() {
		if open {
			c.add(target, shown.String())
		}
		open = false
		shown.Reset()
	}
	for len(c.links) < MaxLinks {
		switch z.Next() {
		case html.ErrorToken:
			end()
			return
		case html.TextToken:
			if open {
				b := z.Text()
				shown.Write(b[:min(len(b), max(0, MaxLinkText-shown.Len()))])
			}
		case html.StartTagToken, html.SelfClosingTagToken:
			name, more := z.TagName()
			switch atom.Lookup(name) {
			case atom.A, atom.Area:
				end()
				target, open = attribute(z, more, "href")
			case atom.Form:
				if action, ok := attribute(z, more, "action"); ok {
					c.add(action, "")
				}
			}
		case html.EndTagToken:
			if name, _ := z.TagName(); atom.Lookup(name) == atom.A {
				end()
			}
		}
	}
}

// attribute is the value of one of a tag's.
func attribute(z *html.Tokenizer, more bool, wanted string) (value string, ok bool) {
	for more {
		var key, v []byte
		key, v, more = z.TagAttr()
		if string(key) == wanted && !ok {
			value, ok = string(v), true
		}
	}
	return value, ok
}

// Organization is the domain that somebody registered, above or equal to name: example.co.uk for
// www.example.co.uk. Of what has none it is the name itself.
func Organization(name string) string {
	if registered, err := publicsuffix.EffectiveTLDPlusOne(name); err == nil {
		return registered
	}
	return name
}

// claimed is the host that the text of a link says it leads to; empty: it says none.
func claimed(text string) string {
	text = strings.Trim(strings.ToLower(text), " \t\r\n\u00a0<>()[]\"'")
	if strings.ContainsAny(text, " \t\r\n@") {
		return ""
	}
	if host, _, ok := hostOf(text); ok {
		return host
	}
	host, _, _ := strings.Cut(text, "/")
	host, _, _ = strings.Cut(host, ":")
	if !strings.Contains(host, ".") || strings.ContainsAny(host, "…?&=%#") {
		return ""
	}
	host = canonicalHost(host)
	if suffix, icann := publicsuffix.PublicSuffix(host); host == "" || !icann || suffix == host {
		return "" // "report.pdf", "node.js"
	}
	return host
}
