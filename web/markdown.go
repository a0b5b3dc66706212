package web

import (
	"html"
	"html/template"
	"regexp"
	"strings"
)

// markdown turns a page of our own manual into HTML: headings, paragraphs, lists,
// tables, code, links and emphasis. Everything else is text. link turns the target
// of a link into where it leads; empty: nowhere, and only its text is shown.
func markdown(source string, link func(target string) string) template.HTML {
	m := &markdownPage{lines: strings.Split(source, "\n"), link: link}
	for m.at < len(m.lines) {
		m.block()
	}
	return template.HTML(m.out.String()) // all text in it went through escape
}

type markdownPage struct {
	lines []string
	at    int
	link  func(string) string
	out   strings.Builder
}

var (
	headingLine = regexp.MustCompile(`^(#{1,4}) +(.*)$`)
	bulletLine  = regexp.MustCompile(`^[-*] +(.*)$`)
	numberLine  = regexp.MustCompile(`^[0-9]+\. +(.*)$`)
)

// block writes one block, and goes behind it.
func (m *markdownPage) block() {
	line := m.lines[m.at]
	switch {
	case strings.TrimSpace(line) == "":
		m.at++
	case strings.HasPrefix(line, "```"):
		m.fenced()
	case strings.HasPrefix(line, "    "):
		m.indented()
	case strings.HasPrefix(line, "|"):
		m.table()
	case headingLine.MatchString(line):
		m.heading()
	case bulletLine.MatchString(line):
		m.list("ul", bulletLine)
	case numberLine.MatchString(line):
		m.list("ol", numberLine)
	default:
		m.out.WriteString("<p>" + m.inline(strings.Join(m.paragraph(), " ")) + "</p>\n")
	}
}

func (m *markdownPage) heading() {
	found := headingLine.FindStringSubmatch(m.lines[m.at])
	level := string('0' + byte(len(found[1])))
	m.out.WriteString("<h" + level + ` id="` + anchor(found[2]) + `">` + m.inline(found[2]) + "</h" + level + ">\n")
	m.at++
}

// anchor names a heading as GitHub does, so that links work there and here.
func anchor(heading string) string {
	var b strings.Builder
	for _, r := range strings.ToLower(heading) {
		switch {
		case r >= 'a' && r <= 'z', r >= '0' && r <= '9', r == '-', r == '_':
			b.WriteRune(r)
		case r == ' ':
			b.WriteByte('-')
		}
	}
	return b.String()
}

// paragraph takes the lines up to the next block.
func (m *markdownPage) paragraph() (lines []string) {
	for ; m.at < len(m.lines); m.at++ {
		line := m.lines[m.at]
		if strings.TrimSpace(line) == "" || strings.HasPrefix(line, "```") || strings.HasPrefix(line, "|") || headingLine.MatchString(line) ||
			bulletLine.MatchString(line) || len(lines) > 0 && numberLine.MatchString(line) {
			break
		}
		lines = append(lines, strings.TrimSpace(line))
	}
	return lines
}

func (m *markdownPage) fenced() {
	m.at++
	var code []string
	for ; m.at < len(m.lines) && !strings.HasPrefix(m.lines[m.at], "```"); m.at++ {
		code = append(code, m.lines[m.at])
	}
	m.at++
	m.code(code)
}

func (m *markdownPage) indented() {
	var code []string
	for ; m.at < len(m.lines); m.at++ {
		line, ok := strings.CutPrefix(m.lines[m.at], "    ")
		if !ok && (strings.TrimSpace(line) != "" || m.at+1 == len(m.lines) || !strings.HasPrefix(m.lines[m.at+1], "    ")) {
			break
		}
		code = append(code, line)
	}
	m.code(code)
}

func (m *markdownPage) code(lines []string) {
	m.out.WriteString(`<pre tabindex="0"><code>` + html.EscapeString(strings.Join(lines, "\n")) + "</code></pre>\n")
}

// list writes the items, each with the lines behind it that are indented or follow directly.
func (m *markdownPage) list(kind string, item *regexp.Regexp) {
	m.out.WriteString("<" + kind + ">\n")
	for m.at < len(m.lines) {
		found := item.FindStringSubmatch(m.lines[m.at])
		if found == nil {
			break
		}
		m.at++
		text := append([]string{found[1]}, m.continuation()...)
		m.out.WriteString("<li>" + m.inline(strings.Join(text, " ")) + "</li>\n")
		if m.at+1 < len(m.lines) && strings.TrimSpace(m.lines[m.at]) == "" && item.MatchString(m.lines[m.at+1]) {
			m.at++ // a loose list
		}
	}
	m.out.WriteString("</" + kind + ">\n")
}

func (m *markdownPage) continuation() (lines []string) {
	for ; m.at < len(m.lines); m.at++ {
		line := m.lines[m.at]
		if strings.TrimSpace(line) == "" || bulletLine.MatchString(line) || numberLine.MatchString(line) || strings.HasPrefix(line, "|") ||
			strings.HasPrefix(line, "```") || headingLine.MatchString(line) {
			break
		}
		lines = append(lines, strings.TrimSpace(line))
	}
	return lines
}

// table writes rows; the second one says where the head ends.
func (m *markdownPage) table() {
	m.out.WriteString(`<div class="scroll" tabindex="0"><table>` + "\n")
	head := m.at+1 < len(m.lines) && strings.HasPrefix(m.lines[m.at+1], "|--") || m.at+1 < len(m.lines) && strings.HasPrefix(m.lines[m.at+1], "| --")
	for first := true; m.at < len(m.lines) && strings.HasPrefix(m.lines[m.at], "|"); m.at++ {
		cell, open, end := "td", "", ""
		if first && head {
			cell, open, end = "th", "<thead>", "</thead>"
		}
		m.out.WriteString(open + "<tr>")
		for _, text := range cells(m.lines[m.at]) {
			kind := cell
			if text == "" {
				kind = "td" // a heading that says nothing is none
			}
			m.out.WriteString("<" + kind + ">" + m.inline(text) + "</" + kind + ">")
		}
		m.out.WriteString("</tr>" + end + "\n")
		if first && head {
			m.at++ // the line under the head
		}
		first = false
	}
	m.out.WriteString("</table></div>\n")
}

// cells splits a row at the bars that are neither escaped nor in code.
func cells(line string) []string {
	line = strings.TrimSuffix(strings.TrimPrefix(strings.TrimSpace(line), "|"), "|")
	var out []string
	var cell strings.Builder
	code := false
	for i := 0; i < len(line); i++ {
		switch {
		case line[i] == '\\' && i+1 < len(line) && line[i+1] == '|':
			cell.WriteByte('|')
			i++
		case line[i] == '|' && !code:
			out = append(out, strings.TrimSpace(cell.String()))
			cell.Reset()
		default:
			code = code != (line[i] == '`')
			cell.WriteByte(line[i])
		}
	}
	return append(out, strings.TrimSpace(cell.String()))
}

var inlineMark = regexp.MustCompile("`[^`]+`|\\*\\*[^*]+\\*\\*|\\*[^* ][^*]*\\*|\\[[^\\]]+\\]\\([^)\\s]+\\)")

// inline writes the text of a block: code, strong, emphasis and links.
func (m *markdownPage) inline(text string) string {
	var b strings.Builder
	for text != "" {
		at := inlineMark.FindStringIndex(text)
		if at == nil {
			b.WriteString(html.EscapeString(text))
			break
		}
		b.WriteString(html.EscapeString(text[:at[0]]))
		mark := text[at[0]:at[1]]
		switch {
		case mark[0] == '`':
			b.WriteString("<code>" + html.EscapeString(mark[1:len(mark)-1]) + "</code>")
		case strings.HasPrefix(mark, "**"):
			b.WriteString("<strong>" + m.inline(mark[2:len(mark)-2]) + "</strong>")
		case mark[0] == '*':
			b.WriteString("<em>" + m.inline(mark[1:len(mark)-1]) + "</em>")
		default:
			label, target, _ := strings.Cut(mark[1:len(mark)-1], "](")
			b.WriteString(m.anchorTo(label, target))
		}
		text = text[at[1]:]
	}
	return b.String()
}

func (m *markdownPage) anchorTo(label, target string) string {
	to := m.link(target)
	if to == "" {
		return m.inline(label)
	}
	rel := ""
	if strings.HasPrefix(to, "https://") {
		rel = ` rel="noreferrer"`
	}
	return `<a href="` + html.EscapeString(to) + `"` + rel + ">" + m.inline(label) + "</a>"
}
