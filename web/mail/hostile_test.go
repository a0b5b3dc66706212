package mail

import (
	"fmt"
	"io/fs"
	"net/http"
	"os"
	"regexp"
	"strings"
	"testing"

	"golang.org/x/net/html"
)

// Messages that mean no good are files in testdata/hostile; each has the word "seen" in its text. What they would fetch is
// on leak.example. The test in ./test has a browser show them, and looks at what it asks for.

// harmless are the elements that HTML of a message may have after it was cleaned.
var harmless = regexp.MustCompile(`^(a|abbr|address|article|aside|b|bdi|bdo|big|blockquote|br|caption|center|cite|code|col|colgroup|dd|del|dfn|div|dl|dt|em|figcaption|figure|font|footer|h[1-6]|header|hr|i|img|ins|kbd|li|main|mark|nav|ol|p|pre|q|rp|rt|ruby|s|samp|section|small|span|strike|strong|sub|sup|table|tbody|td|tfoot|th|thead|time|tr|tt|u|ul|var|wbr)$`)

// checkClean fails the test if cleaned HTML has anything that runs, loads or submits.
func checkClean(t *testing.T, name, page string, images bool) {
	t.Helper()
	z := html.NewTokenizer(strings.NewReader(page))
	for {
		kind := z.Next()
		if kind == html.ErrorToken {
			return
		}
		if kind == html.CommentToken || kind == html.DoctypeToken {
			t.Errorf("%s: a comment is left: %s", name, z.Raw())
		}
		if kind != html.StartTagToken && kind != html.SelfClosingTagToken {
			continue
		}
		token := z.Token()
		if !harmless.MatchString(token.Data) {
			t.Errorf("%s: <%s> is left", name, token.Data)
		}
		for _, a := range token.Attr {
			value := strings.ToLower(strings.TrimSpace(a.Val))
			switch {
			case strings.HasPrefix(a.Key, "on"), a.Key == "srcset", a.Key == "background", a.Key == "ping", a.Key == "action", a.Key == "id", a.Key == "class", a.Key == "name":
				t.Errorf("%s: %s=%q is left", name, a.Key, a.Val)
			case a.Key == "style" && (strings.Contains(value, "url") || strings.Contains(value, "expression") || strings.Contains(value, "position") || strings.Contains(value, "\\") || strings.Contains(value, "@")):
				t.Errorf("%s: style=%q is left", name, a.Val)
			case a.Key == "src" && !strings.HasPrefix(value, "data:image/png;base64,") && !strings.HasPrefix(value, "data:image/gif;base64,") && !strings.HasPrefix(value, "data:image/jpeg;base64,") &&
				!strings.HasPrefix(value, "data:image/webp;base64,") && !(images && (strings.HasPrefix(value, "https:") || strings.HasPrefix(value, "http:"))):
				t.Errorf("%s: src=%.80q is left", name, a.Val)
			case a.Key == "href" && !strings.HasPrefix(value, "https://") && !strings.HasPrefix(value, "http://") && !strings.HasPrefix(value, "/mail/compose?mailto="):
				t.Errorf("%s: href=%q is left", name, a.Val)
			}
		}
	}
}

var frameSource = regexp.MustCompile(`<iframe class="html" src="([^"?]+)`)

func TestHostileMessages(t *testing.T) {
	h := newHouse(t)
	names, err := fs.Glob(os.DirFS("testdata/hostile"), "*.eml")
	h.must(err)
	if len(names) < 15 {
		t.Fatalf("%d messages", len(names))
	}
	for _, name := range names {
		data, err := os.ReadFile("testdata/hostile/" + name)
		h.must(err)
		uid := h.put("INBOX", string(data))
		page := h.page(fmt.Sprintf("%s/%d", h.box("INBOX"), uid))
		h.hasNot(page, "<script>", "onerror=", "<svg onload")
		frames := frameSource.FindAllStringSubmatch(page, -1)
		if len(frames) == 0 && !strings.Contains(page, "seen") {
			t.Errorf("%s: nothing of it is shown", name)
		}
		for _, frame := range frames {
			for _, images := range []bool{false, true} {
				path := frame[1]
				if images {
					path += "?images=1"
				}
				r, body := h.get(path)
				policy := r.Header.Get("Content-Security-Policy")
				if r.StatusCode != http.StatusOK || !strings.Contains(policy, "default-src 'none'") || !strings.Contains(policy, "; sandbox allow-popups") || strings.Contains(policy, "script-src") ||
					strings.Contains(policy, "allow-same-origin") || strings.Contains(policy, "allow-scripts") || !images && strings.Contains(policy, "http") {
					t.Errorf("%s: %d, policy %s", name, r.StatusCode, policy)
				}
				content, ok := strings.CutPrefix(body, frameHead)
				if !ok || !strings.Contains(content, "seen") {
					t.Errorf("%s: what it says is gone: %s", name, content)
				}
				checkClean(t, name, content, images)
				if !images && strings.Contains(strings.ToLower(regexp.MustCompile(`href="[^"]*"|title="[^"]*"`).ReplaceAllString(content, "")), "leak.example") {
					t.Errorf("%s: leak.example is left in %s", name, content)
				}
			}
		}
		h.page(fmt.Sprintf("/mail/m/%d/%d/source", h.boxes["INBOX"].ID, uid))
		for at := 1; at <= 4; at++ {
			r, _ := h.get(fmt.Sprintf("/mail/m/%d/%d/part/%d", h.boxes["INBOX"].ID, uid, at))
			kind, where := r.Header.Get("Content-Type"), r.Header.Get("Content-Disposition")
			if r.StatusCode == http.StatusOK && (kind != "application/octet-stream" && kind != "image/png" || !strings.HasPrefix(where, "attachment") || r.Header.Get("X-Evil") != "") {
				t.Errorf("%s: part %d comes as %s, %s", name, at, kind, where)
			}
		}
	}
	h.page(h.box("INBOX"))
}

// A message of 5 MB of HTML is shown, and one that is all markup does not take long or much.
func TestLargeHTML(t *testing.T) {
	h := newHouse(t)
	head := "From: a@x.example\nSubject: large\nContent-Type: text/html\n\n"
	for name, body := range map[string]string{"text": "<p>seen</p>" + strings.Repeat("<p style=\"color:red;margin:3px\">some words of a paragraph <a href=\"https://ok.example/\">there</a></p>\n", 50_000),
		"nesting": "seen" + strings.Repeat("<div>", 200_000), "attributes": "<p>seen</p><p " + strings.Repeat("style=\"color:red\" ", 50_000) + ">x", "quotes": "seen" + strings.Repeat("<p title='", 100_000),
		"links": "seen\n" + strings.Repeat("http://a.b/", 100_000)} {
		text := head + body + "\n"
		if name == "links" {
			text = strings.Replace(text, "text/html", "text/plain", 1)
		}
		uid := h.put("INBOX", text)
		page := h.page(fmt.Sprintf("%s/%d", h.box("INBOX"), uid))
		if frame := frameSource.FindStringSubmatch(page); frame != nil {
			checkClean(t, name, strings.TrimPrefix(h.page(frame[1]), frameHead), false)
		} else if name != "links" {
			t.Errorf("%s: no frame", name)
		}
	}
}

// FuzzClean: whatever HTML comes, only harmless elements are left.
func FuzzClean(f *testing.F) {
	names, _ := fs.Glob(os.DirFS("testdata/hostile"), "*.eml")
	for _, name := range names {
		data, err := os.ReadFile("testdata/hostile/" + name)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(string(data))
	}
	f.Add("<p><img src=https://x/ alt='a\"><script>'></p>")
	c := newCleaner()
	f.Fuzz(func(t *testing.T, in string) {
		for _, images := range []bool{false, true} {
			r := rewriter{images: images}
			checkClean(t, fmt.Sprintf("%q", in), c.policy.SanitizeReader(r.rewrite([]byte(in))).String(), images)
		}
	})
}
