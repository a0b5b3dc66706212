package smtp

import (
	"strings"
	"testing"
)

func TestParsePath(t *testing.T) {
	label := strings.Repeat("d", maxLabel)
	long := strings.Join([]string{label, label, label, strings.Repeat("d", maxLabel)}, ".") // 255 octets
	for _, test := range []struct {
		in, want, rest string // want: as written; "!" is an error
	}{
		{"<>", "", ""},
		{"<> SIZE=1", "", " SIZE=1"},
		{"<a@b>x", "a@b", "x"},
		{"<A.b+c@EXAMPLE.org>", "A.b+c@example.org", ""},
		{"<@x,@y:a@b>", "a@b", ""},
		{"<@x,@y a@b>", "!", ""},
		{`<"a"@b>`, "a@b", ""},
		{`<"a b"@c>`, `"a b"@c`, ""},
		{`<"a\"\\b"@c>`, `"a\"\\b"@c`, ""},
		{`<"a>"@c>`, `"a>"@c`, ""},
		{`<"a\a"@c>`, "aa@c", ""},
		{"<a..b@c>", `"a..b"@c`, ""},
		{`<"a@c>`, "!", ""},
		{`<"a"b@c>`, "!", ""},
		{`<""@c>`, "!", ""},
		{"<\"a\tb\"@c>", "!", ""},
		{"<\"a\\\tb\"@c>", "!", ""},
		{"<a@b", "!", ""},
		{"a@b>", "!", ""},
		{"<a>", "!", ""},
		{"<@b>", "!", ""},
		{"<a@b@c>", "!", ""},
		{"<a b@c>", "!", ""},
		{"<a,b@c>", "!", ""},
		{"<postmaster>", "postmaster", ""},
		{"<POSTMASTER>", "POSTMASTER", ""},
		{"<a@under_score.x>", "a@under_score.x", ""},
		{"<a@b->", "!", ""},
		{"<a@b.>", "!", ""},
		{"<a@.b>", "!", ""},
		{"<a@[1.2.3.4]>", "a@[1.2.3.4]", ""},
		{"<a@[ipv6:2001:DB8::1]>", "a@[IPv6:2001:db8::1]", ""},
		{"<a@[IPv6:fe80::1%eth0]>", "!", ""},
		{"<a@[IPv6:1.2.3.4]>", "!", ""},
		{"<a@[2001:db8::1]>", "!", ""},
		{"<a@[1.2.3.4>", "!", ""},
		{"<a@[]>", "!", ""},
		{"<é@Bücher.example>", "é@xn--bcher-kva.example", ""},
		{"<\xff@b>", "!", ""},
		{"<a@\u200d.example>", "!", ""},
		{"<" + strings.Repeat("l", maxLocalPart) + "@b>", strings.Repeat("l", maxLocalPart) + "@b", ""},
		{"<" + strings.Repeat("l", maxLocalPart+1) + "@b>", "!", ""},
		{"<a@" + long + ">", "a@" + long, ""},
		{"<a@d." + long[2:] + "d>", "!", ""},
		{"<a@" + label + "d>", "!", ""},
	} {
		p, rest, ok := parsePath(test.in)
		switch {
		case !ok && test.want != "!":
			t.Errorf("%q is refused", test.in)
		case ok && (p.String() != test.want || rest != test.rest):
			t.Errorf("%q is %q and %q", test.in, p, rest)
		}
	}
}
