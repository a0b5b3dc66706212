package threat

import (
	"strings"
	"unicode"

	"golang.org/x/text/unicode/norm"
)

// LookAlike reports whether a domain looks like one of known without being it or below it, and which. Both are
// organisational domains in A-labels.
func LookAlike(domain string, known []string) (like string, yes bool) {
	if domain == "" {
		return "", false
	}
	shape := skeleton(domain)
	label := firstLabel(shape)
	for _, k := range known {
		if k == domain || strings.HasSuffix(domain, "."+k) {
			return "", false
		}
	}
	for _, k := range known {
		other := skeleton(k)
		if shape == other {
			return k, true
		}
		own := firstLabel(other)
		switch {
		case len(own) < minLabel:
		case label == own && domain != k && isForeign(domain): // the name itself, in letters of another script
			return k, true
		case label != own && suffixOf(shape) == suffixOf(other) && near(label, own):
			return k, true
		case strings.HasPrefix(domain, k[:strings.LastIndexByte(k, '.')+1]) && strings.Count(domain, ".") > strings.Count(k, "."):
			return k, true // example.com.evil.test shows as example.com…
		}
	}
	return "", false
}

// minLabel is the shortest name that others may be near to: of shorter ones too many honest ones are.
const minLabel = 5

func firstLabel(name string) string {
	label, _, _ := strings.Cut(name, ".")
	return label
}

func suffixOf(name string) string {
	_, suffix, _ := strings.Cut(name, ".")
	return suffix
}

func isForeign(domain string) bool { return strings.Contains(domain, "xn--") }

// confusables are letters that are taken for others (a part of Unicode's UTS 39 that covers Cyrillic, Greek and
// what ASCII itself confuses). Marks above and below letters are left out before.
var confusables = map[rune]string{
	'0': "o", '1': "l", '|': "l", 'i': "l", '3': "e", '5': "s", '$': "s", '@': "a", '4': "a", '8': "b", '6': "b", '9': "g", '2': "z",
	'а': "a", 'в': "b", 'с': "c", 'ԁ': "d", 'е': "e", 'һ': "h", 'н': "h", 'і': "l", 'ј': "j", 'к': "k", 'ӏ': "l", 'м': "m", 'п': "n", 'о': "o", 'р': "p",
	'ԛ': "q", 'г': "r", 'ѕ': "s", 'т': "t", 'ц': "u", 'ѵ': "v", 'ԝ': "w", 'ш': "w", 'х': "x", 'у': "y", 'ү': "y", 'з': "e", 'ь': "b", 'ѡ': "w",
	'α': "a", 'β': "b", 'ε': "e", 'γ': "y", 'η': "n", 'ι': "l", 'κ': "k", 'μ': "u", 'ν': "v", 'ο': "o", 'ρ': "p", 'σ': "o", 'τ': "t", 'υ': "u", 'χ': "x", 'ω': "w",
	'ı': "l", 'ł': "l", 'ɩ': "l", 'ɡ': "g", 'ƅ': "b", 'ɑ': "a", 'ʋ': "v", 'ø': "o", 'đ': "d", 'ħ': "h", 'ß': "b", 'æ': "ae", 'œ': "oe", 'ſ': "s",
}

// skeleton is a domain in the form in which those that look alike are equal.
func skeleton(domain string) string {
	text := strings.ToLower(domain)
	if !isPlain(text) {
		if readable, err := forReading.ToUnicode(text); err == nil {
			text = strings.ToLower(readable)
		}
		text = norm.NFKD.String(text)
	}
	var b strings.Builder
	for _, r := range text {
		switch like, ok := confusables[r]; {
		case ok:
			b.WriteString(like)
		case unicode.Is(unicode.Mn, r), r == '-':
		default:
			b.WriteRune(r)
		}
	}
	return pairs.Replace(b.String())
}

// pairs are letters that are taken for one.
var pairs = strings.NewReplacer("rn", "m", "vv", "w", "cl", "d", "nn", "m")

// near reports whether one change makes b of a: a letter more, less, another, or two swapped.
func near(a, b string) bool {
	x, y := []rune(a), []rune(b)
	if len(x) > len(y) {
		x, y = y, x
	}
	if len(y)-len(x) > 1 || len(y) > 63 {
		return false
	}
	i := 0
	for i < len(x) && x[i] == y[i] {
		i++
	}
	if len(x) < len(y) {
		return string(x[i:]) == string(y[i+1:])
	}
	if i == len(x) {
		return false // equal
	}
	if string(x[i+1:]) == string(y[i+1:]) {
		return true
	}
	return i+1 < len(x) && x[i] == y[i+1] && x[i+1] == y[i] && string(x[i+2:]) == string(y[i+2:])
}
