package smtp

import (
	"fmt"
	"strings"

	"trivet/spf/arc"
	"trivet/spf/dmarc"
	"trivet/storage/message"
)

const fieldAuthenticationResults = "Authentication-Results"

// Results writes what was found in the form of RFC 8601, each method on a line of
// its own, without our name in front.
func (a *Authenticity) Results() []string {
	var out []string
	if a.IP.IsValid() {
		out = append(out, "iprev="+a.Reverse.Result+comment(a.Reverse.Name)+" policy.iprev="+value(a.IP.String()))
		if a.MailFrom != "" {
			out = append(out, fmt.Sprintf("spf=%s%s smtp.mailfrom=%s", a.SPF.Result, comment(a.SPF.Reason), value(a.MailFrom)))
		}
		out = append(out, fmt.Sprintf("spf=%s%s smtp.helo=%s", a.Helo.Result, comment(a.Helo.Reason), value(a.Origin.Helo)))
	}
	out = append(out, a.signatures()...)
	if a.ARC.Status != arc.None {
		out = append(out, a.chain())
	}
	return append(out, a.policy())
}

// signatures are the results of DKIM (section 2.7.1).
func (a *Authenticity) signatures() []string {
	if a.Problem != "" {
		return []string{"dkim=permerror" + comment(a.Problem)}
	}
	if len(a.DKIM) == 0 {
		return []string{"dkim=none"}
	}
	var out []string
	for _, s := range a.DKIM {
		note := s.Reason
		if s.KeyBits > 0 && note == "" {
			note = fmt.Sprintf("%d-bit key", s.KeyBits)
		}
		if s.Testing {
			note += ", test mode"
		}
		line := "dkim=" + string(s.Status) + comment(note)
		for _, property := range [][2]string{{"header.d", s.Domain}, {"header.s", s.Selector}, {"header.a", string(s.Algorithm)}, {"header.b", s.Signature}} {
			if property[1] != "" {
				line += " " + property[0] + "=" + value(property[1])
			}
		}
		out = append(out, line)
	}
	return out
}

func (a *Authenticity) chain() string {
	note := a.ARC.Reason
	if a.ARC.Status == arc.Pass {
		note = fmt.Sprintf("i=%d, sealed by %s", len(a.ARC.Domains), a.ARC.Domains[len(a.ARC.Domains)-1])
	}
	status := a.ARC.Status
	if status == arc.TempError {
		status = arc.Fail // RFC 8617 section 10.1 has no other word
	}
	line := "arc=" + string(status) + comment(note)
	if a.IP.IsValid() {
		line += " smtp.remote-ip=" + value(a.IP.String())
	}
	return line
}

// policy is the result of DMARC.
func (a *Authenticity) policy() string {
	note := a.DMARC.Reason
	if a.DMARC.Record != nil && a.DMARC.Result != dmarc.Fail {
		note = "p=" + string(a.DMARC.Policy)
	}
	line := "dmarc=" + string(a.DMARC.Result) + comment(note)
	if a.DMARC.Domain != "" {
		line += " header.from=" + value(a.DMARC.Domain)
	}
	return line
}

// maxComment bounds what is said in a comment, in octets; a line has 998 at most.
const maxComment = 200

// comment writes text as a comment (RFC 5322 section 3.2.2); none for none.
func comment(text string) string {
	if text == "" {
		return ""
	}
	text = strings.Map(func(r rune) rune {
		switch {
		case r < ' ' || r > '~':
			return '?'
		case r == '(' || r == ')' || r == '\\':
			return '\''
		}
		return r
	}, text)
	return " (" + text[:min(len(text), maxComment)] + ")"
}

// value writes a value of a property (RFC 8601 section 2.2), as quoted-string where it has to be.
func value(text string) string {
	plain := text != "" && !strings.ContainsFunc(text, func(r rune) bool {
		return r <= ' ' || r >= 0x7f && r < 0xa0 || strings.ContainsRune(`()<>,;:\"/[]?=`, r)
	})
	if plain {
		return text
	}
	var out strings.Builder
	out.WriteByte('"')
	for _, r := range text {
		switch {
		case r < ' ' || r == 0x7f:
			out.WriteByte('?')
			continue
		case r == '"' || r == '\\':
			out.WriteByte('\\')
		}
		out.WriteRune(r)
	}
	out.WriteByte('"')
	return out.String()
}

// resultsField is the header field that says what was found.
func resultsField(name string, results []string) []byte {
	b := append(make([]byte, 0, 1024), fieldAuthenticationResults+": "+name...)
	for _, r := range results {
		b = append(b, ";\r\n\t"...)
		b = append(b, r...)
	}
	return append(b, "\r\n"...)
}

// withoutResults returns header without the results that claim to be ours: whoever
// reads the message believes those (RFC 8601 section 5).
func withoutResults(header []byte, ours func(name string) bool) []byte {
	var out []byte
	kept := 0 // what of header is in out, if anything was left out
	at := 0
	for f := range message.Fields(header) {
		if f.Is(fieldAuthenticationResults) && ours(serviceName(f.Value())) {
			out = append(out, header[kept:at]...)
			kept = at + len(f.Raw)
		}
		at += len(f.Raw)
	}
	if kept == 0 {
		return header
	}
	return append(out, header[kept:]...)
}

// hasResults reports whether anybody has left results.
func hasResults(header []byte) bool {
	for f := range message.Fields(header) {
		if f.Is(fieldAuthenticationResults) {
			return true
		}
	}
	return false
}

// serviceName is the authserv-id of a value, in lower case: its first word,
// behind comments and without quotes.
func serviceName(text string) string {
	for depth := 0; text != ""; text = text[1:] {
		switch c := text[0]; {
		case c == '(':
			depth++
			continue
		case c == ')' && depth > 0:
			depth--
			continue
		case depth > 0 && c == '\\' && len(text) > 1:
			text = text[1:]
			continue
		case depth > 0 || c == ' ' || c == '\t':
			continue
		}
		break
	}
	if rest, quoted := strings.CutPrefix(text, `"`); quoted {
		name, _, _ := strings.Cut(rest, `"`)
		return strings.ToLower(strings.ReplaceAll(name, `\`, ""))
	}
	end := strings.IndexAny(text, " \t;(")
	if end < 0 {
		end = len(text)
	}
	return strings.ToLower(text[:end])
}
