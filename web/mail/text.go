package mail

import (
	"html/template"
	"regexp"
	"strings"
)

// links are what is made a link in plain text: what one would type.
var links = regexp.MustCompile(`(?i)\b(?:https?://|www\.)[^\s<>"]+|\b[a-z0-9._%+-]{1,64}@[a-z0-9-]{1,63}(?:\.[a-z0-9-]{1,63}){1,8}\b`)

// quoteLines is how many quoted lines in a row are folded away.
const quoteLines = 4

// textHTML shows plain text: links are links, long quotations are folded.
func textHTML(text string) template.HTML {
	var b strings.Builder
	lines := strings.Split(strings.TrimRight(strings.ReplaceAll(text, "\r\n", "\n"), "\n"), "\n")
	b.WriteString(`<div class="text">`)
	for i := 0; i < len(lines); {
		end := i
		for end < len(lines) && strings.HasPrefix(lines[end], ">") {
			end++
		}
		switch {
		case end == i:
			linked(&b, lines[i])
			b.WriteByte('\n')
			i++
		case end-i <= quoteLines:
			b.WriteString(`<span class="quote">`)
			quoted(&b, lines[i:end])
			b.WriteString("</span>")
			i = end
		default:
			b.WriteString(`<details class="quote"><summary>…</summary>`)
			quoted(&b, lines[i:end])
			b.WriteString("</details>")
			i = end
		}
	}
	b.WriteString("</div>")
	return template.HTML(b.String())
}

func quoted(b *strings.Builder, lines []string) {
	for _, line := range lines {
		linked(b, line)
		b.WriteByte('\n')
	}
}

// linked writes a line with its links.
func linked(b *strings.Builder, line string) {
	if !strings.ContainsAny(line, "@:.") {
		b.WriteString(template.HTMLEscapeString(line))
		return
	}
	at := 0
	for _, found := range links.FindAllStringIndex(line, -1) {
		target := strings.TrimRight(line[found[0]:found[1]], ".,;:!?'\")]}")
		if strings.HasSuffix(line[found[0]:found[1]], ")") && strings.Contains(target, "(") {
			target += ")"
		}
		b.WriteString(template.HTMLEscapeString(line[at:found[0]]))
		at = found[0] + len(target)
		href := target
		switch lower := strings.ToLower(target); {
		case strings.HasPrefix(lower, "www."):
			href = "https://" + target
		case !strings.HasPrefix(lower, "http"):
			b.WriteString(`<a href="/mail/compose?to=` + template.URLQueryEscaper(target) + `">` + template.HTMLEscapeString(target) + "</a>")
			continue
		}
		b.WriteString(`<a href="` + template.HTMLEscapeString(href) + `" target="_blank" rel="noopener noreferrer">` + template.HTMLEscapeString(target) + "</a>")
	}
	b.WriteString(template.HTMLEscapeString(line[at:]))
}
