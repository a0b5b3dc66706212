package threat

import (
	"bytes"
	"slices"
	"strings"
	"testing"

	"trivet/spam"
	"trivet/storage/message"
)

func linksOf(t testing.TB, raw string) []Link {
	t.Helper()
	m, err := message.Scan(strings.NewReader(raw))
	if err != nil {
		t.Fatal(err)
	}
	return Links(m.Root, bytes.NewReader([]byte(raw)))
}

func TestLinks(t *testing.T) {
	const html = "Content-Type: text/html\r\n\r\n"
	tests := []struct{ raw, want string }{
		{"\r\nSee https://a.example/x, (http://B.example.) and HTTP://c.example:80.", "a.example b.example c.example"},
		{"\r\nno://d.example mailto:a@e.example xhttp//f", ""},
		{html + `<a href="https://a.example/?x">one <b>two</b></a><A HREF=//b.example>x</A>`, "a.example=one two b.example=x"},
		{html + `<a href="ht` + "\r\n\t" + `tps://a.example">x</a>`, "a.example=x"},
		{html + `<a href="https:\\a.example\x">x`, "a.example=x"},
		{html + `<a href="mailto:a@b.example">x</a><a href="#x">y</a><a>z</a>`, ""},
		{html + `<a href="https://user:x@a.example">x</a>`, "a.example=x!"},
		{html + `<a href="https://bücher.example">x</a>`, "xn--bcher-kva.example=x"},
		{html + `<a href="http://192.0.2.1/">x</a><form action="https://f.example">`, "192.0.2.1=x f.example"},
		{html + `<a href="https://a.example">one<a href="https://b.example">two`, "a.example=one b.example=two"},
	}
	for _, test := range tests {
		var got []string
		for _, l := range linksOf(t, test.raw) {
			text := l.Host
			if l.Text != "" {
				text += "=" + l.Text
			}
			if l.User {
				text += "!"
			}
			got = append(got, text)
		}
		if strings.Join(got, " ") != test.want {
			t.Errorf("%q: %q, want %q", test.raw, got, test.want)
		}
	}
	if n := len(linksOf(t, "\r\n"+strings.Repeat("http://a.example ", MaxLinks+1))); n != MaxLinks {
		t.Errorf("%d links", n)
	}
}

func TestLookAlike(t *testing.T) {
	known := []string{"example.com", "paypal.com", "trivet.example", "ab.org"}
	for domain, want := range map[string]string{
		"example.com": "", "mail.example.com": "", "other.org": "", "example.org": "", "paypa1.com": "paypal.com", "paypai.com": "paypal.com", "payppal.com": "paypal.com",
		"papyal.com": "paypal.com", "pypal.com": "paypal.com", "xn--pypal-4ve.com": "paypal.com", "trlvet.example": "trivet.example", "trivvet.example": "trivet.example",
		"exarnple.com": "example.com", "exa-mple.com": "example.com", "ac.org": "", "": "", "example.com.evil.test": "example.com", "completely.com": "",
	} {
		got, yes := LookAlike(domain, known)
		if got != want || yes != (want != "") {
			t.Errorf("%q looks like %q, want %q", domain, got, want)
		}
	}
}

func found(reasons []spam.Reason) string {
	var list []string
	for _, r := range reasons {
		list = append(list, strings.TrimPrefix(r.Name, "phishing."))
	}
	slices.Sort(list)
	return strings.Join(list, " ")
}

func TestPhishing(t *testing.T) {
	own := []string{"test.example"}
	tests := []struct {
		name   string
		author Author
		links  []Link
		want   string
	}{
		{"honest", Author{Name: "Bea Brown", Address: "bea@other.example"}, []Link{{Host: "www.other.example", Text: "our page"}}, ""},
		{"address in the name", Author{Name: "ann@test.example", Address: "x@evil.example"}, nil, "display-address"},
		{"own address in the name", Author{Name: "bea@mail.other.example", Address: "bea@other.example"}, nil, ""},
		{"own domain in the name", Author{Name: "test.example support", Address: "x@evil.example"}, nil, "own-name"},
		{"looks alike", Author{Address: "x@tesst.example"}, nil, ""}, // four letters are too few to say
		{"answers elsewhere", Author{Address: "boss@test.example", Reply: "boss@evil.example"}, nil, "reply-to"},
		{"link text", Author{Address: "a@b.example"}, []Link{{Host: "evil.com", Text: "https://bank.com/login"}}, "link-text"},
		{"link text without scheme", Author{Address: "a@b.example"}, []Link{{Host: "evil.com", Text: "www.bank.com"}}, "link-text"},
		{"link text of a file", Author{Address: "a@b.example"}, []Link{{Host: "host.com", Text: "report.pdf"}}, ""},
		{"link within the organisation", Author{Address: "a@b.example"}, []Link{{Host: "track.bank.com", Text: "www.bank.com"}}, ""},
		{"user and address", Author{Address: "a@b.example"}, []Link{{Host: "192.0.2.1", User: true}}, "link-address link-user"},
	}
	for _, test := range tests {
		if got := found(Phishing(test.author, test.links, own)); got != test.want {
			t.Errorf("%s: %q, want %q", test.name, got, test.want)
		}
	}
	proven, not := Phishing(Author{Address: "a@b.example", Proven: true}, tests[6].links, own), Phishing(tests[6].author, tests[6].links, own)
	if proven[0].Points >= not[0].Points {
		t.Error("a newsletter that counts clicks is as bad as who hides")
	}
}

func TestPersonal(t *testing.T) {
	known := Known{Domains: []string{"friends.example"}, Names: map[string][]string{PlainName("Jane Doe"): {"jane@friends.example"}}}
	for _, test := range []struct{ name, address, want string }{
		{"Jane Doe", "jane@friends.example", ""}, {"Jane Doe", "jane.doe@friends.example", ""}, {"Doe, Jane", "x@evil.example", "known-name"},
		{"Jаne D0e", "x@evil.example", "known-name"}, {"Jane", "x@evil.example", ""}, {"Else", "x@fr1ends.example", "look-alike-known"},
	} {
		if got := found(Personal(Author{Name: test.name, Address: test.address}, known)); got != test.want {
			t.Errorf("%s <%s>: %q, want %q", test.name, test.address, got, test.want)
		}
	}
}

func FuzzLinks(f *testing.F) {
	f.Add("Content-Type: text/html\r\n\r\n<a href=http://a.example>b.example</a>")
	f.Add("\r\nhttp://a.example")
	f.Fuzz(func(t *testing.T, raw string) {
		for _, l := range linksOf(t, raw) {
			if l.Host == "" || len(l.Host) > 253 || len(l.Text) > MaxLinkText+4 {
				t.Fatalf("%+v", l)
			}
			claimed(l.Text)
		}
	})
}

func FuzzLookAlike(f *testing.F) {
	f.Add("paypa1.com")
	f.Add("xn--pypal-4ve.com")
	f.Fuzz(func(t *testing.T, domain string) {
		if like, yes := LookAlike(domain, []string{"paypal.com"}); yes && like != "paypal.com" {
			t.Fatal(like)
		}
		PlainName(domain)
	})
}
