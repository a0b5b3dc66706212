package message

import "strings"

// AddressKind tells an address from the marks that enclose the members of a group (RFC 9051, 7.5.2).
type AddressKind uint8

// The kinds of Address.
const (
	Mailbox    AddressKind = iota // an address
	GroupStart                    // the group's name is in Mailbox
	GroupEnd                      // all texts are empty
)

// Address is one element of an address field. Quoting and comments are removed, encoded words are not decoded.
type Address struct {
	Name    string // display name, or the last comment if there is none
	Route   string // obsolete source route, "@a,@b"
	Mailbox string // local part
	Host    string // domain; "" if the address has none
	Kind    AddressKind
}

// Addr is the address as local-part@domain, without quoting; "" for a group mark.
func (a Address) Addr() string {
	switch {
	case a.Kind != Mailbox:
		return ""
	case a.Host == "":
		return a.Mailbox
	}
	return a.Mailbox + "@" + a.Host
}

// ParseAddressList reads an unfolded address field (RFC 5322, 3.4 with the obsolete syntax of 4.4) tolerantly: what is
// no address is skipped or becomes a name, a semicolon separates like a comma, and a missing comma between two
// addresses in angle brackets is supplied. At most MaxAddresses elements are returned.
func ParseAddressList(s string) []Address { return appendAddresses(nil, s) }

// appendAddresses appends to list up to MaxAddresses in all. An open group is always closed.
func appendAddresses(list []Address, s string) []Address {
	p := addressParser{s: s, list: list}
	for p.i < len(s) && len(p.list) < MaxAddresses-1 {
		p.next()
	}
	p.flush()
	p.endGroup()
	return p.list
}

// addressParser reads a list in one pass. The element being read is a phrase, which may turn out to be a name, a group
// name or a local part when '<', ':' or '@' comes.
type addressParser struct {
	s    string
	i    int
	list []Address

	phrase     int // start of the words before '<', ':' or '@'; -1 if there are none
	local      int // start of the last word of them
	end        int // end of the last word
	started    bool
	comment    string
	addr       Address
	have, done bool // addr is set; it came in angle brackets
	group      bool
}

// next reads one token.
func (p *addressParser) next() {
	switch c := p.s[p.i]; c {
	case ' ', '\t', '\r', '\n':
		p.i++
	case '(':
		end := skipComment(p.s, p.i)
		p.setComment(p.s[p.i+1 : end])
		p.i = end
	case '<':
		p.angle()
	case '@':
		p.atSign()
	case ',':
		p.i++
		p.flush()
	case ';':
		p.i++
		p.flush()
		p.endGroup()
	case ':':
		p.colon()
	case '>', ']', ')', '[', '\\':
		p.i++
	default:
		p.word()
	}
}

func (p *addressParser) setComment(c string) {
	c = strings.TrimSpace(strings.TrimSuffix(c, ")"))
	if strings.IndexByte(c, '\\') >= 0 {
		c = unescape(c)
	}
	if c != "" {
		p.comment = c
	}
}

// word notes an atom or a quoted string. Words joined by dots are one local part (RFC 5322, 4.4).
func (p *addressParser) word() {
	start := p.i
	p.i = wordEnd(p.s, start)
	switch {
	case !p.started:
		p.phrase, p.local, p.started = start, start, true
	case p.s[start] != '.' && p.s[p.end-1] != '.':
		p.local = start
	}
	p.end = p.i
}

// wordEnd is the index after the quoted string, encoded word or atom at i. It is above i.
func wordEnd(s string, i int) int {
	if s[i] == '"' {
		_, end := readQuoted(s, i)
		return end
	}
	if end := encodedWordEnd(s, i); end > 0 {
		return end
	}
	for i++; i < len(s) && !isSpace(s[i]); i++ {
		switch s[i] {
		case '(', ')', '<', '>', '@', ',', ';', ':', '"', '[', ']', '\\':
			return i
		}
	}
	return i
}

// encodedWordEnd is the index after the encoded word at i, or 0. Some senders leave commas and the like in it.
func encodedWordEnd(s string, i int) int {
	const longest = 200 // RFC 2047 permits 75
	if !strings.HasPrefix(s[i:], "=?") {
		return 0
	}
	marks := 0
	for j := i + 2; j < min(len(s), i+longest) && !isSpace(s[j]); j++ {
		if s[j] != '?' {
			continue
		}
		if marks++; marks == 3 {
			if j+1 < len(s) && s[j+1] == '=' {
				return j + 2
			}
			return 0
		}
	}
	return 0
}

// angle reads <route:local@domain>.
func (p *addressParser) angle() {
	if p.done {
		p.flushKeepingWords()
	}
	p.addr = Address{}
	if p.started {
		p.addr.Name = cleanPhrase(p.s[p.phrase:p.end])
	}
	p.i = skipSpace(p.s, p.i+1)
	p.route()
	start := p.i
	at := -1
	for p.i < len(p.s) && p.s[p.i] != '>' && p.s[p.i] != ',' && p.s[p.i] != '<' && p.s[p.i] != ';' {
		switch p.s[p.i] {
		case '"':
			_, p.i = readQuoted(p.s, p.i)
			continue
		case '(':
			p.i = skipComment(p.s, p.i)
			continue
		case '@':
			at = p.i
		}
		p.i++
	}
	if at < 0 {
		p.addr.Mailbox = cleanSpec(p.s[start:p.i])
	} else {
		p.addr.Mailbox, p.addr.Host = cleanSpec(p.s[start:at]), cleanSpec(p.s[at+1:p.i])
	}
	if p.i < len(p.s) && p.s[p.i] == '>' {
		p.i++
	}
	p.have, p.done, p.started = true, true, false
}

// route reads an obsolete source route up to its colon, if there is one.
func (p *addressParser) route() {
	if p.i == len(p.s) || p.s[p.i] != '@' {
		return
	}
	end := strings.IndexAny(p.s[p.i:], ":><")
	if end < 0 || p.s[p.i+end] != ':' {
		return
	}
	p.addr.Route = cleanSpec(p.s[p.i : p.i+end])
	p.i += end + 1
}

// atSign reads the domain of an address without angle brackets.
func (p *addressParser) atSign() {
	if p.done {
		p.flushKeepingWords()
	}
	at := p.i
	p.i = p.domainEnd(at + 1)
	if p.have { // a second @: all of it may be the name before an angle bracket
		p.started, p.end = true, p.i
		return
	}
	p.have = true
	p.addr = Address{Host: cleanSpec(p.s[at+1 : p.i])}
	if p.started {
		p.addr.Mailbox = cleanSpec(p.s[p.local:p.end])
		p.addr.Name = cleanPhrase(p.s[p.phrase:p.local])
	} else {
		p.started, p.phrase, p.local = true, at, at
	}
	p.end = p.i
}

// domainEnd is the index after the domain or domain literal at i; white space and comments are permitted around dots.
func (p *addressParser) domainEnd(i int) int {
	i = skipCFWS(p.s, i)
	if i < len(p.s) && p.s[i] == '[' {
		for i < len(p.s) && p.s[i] != ']' && p.s[i] != ',' && p.s[i] != '>' {
			i++
		}
		if i < len(p.s) && p.s[i] == ']' {
			i++
		}
		return i
	}
	for i < len(p.s) && strings.IndexByte("()<>@,;:\"[]\\ \t\r\n", p.s[i]) < 0 {
		i++
		if next := skipCFWS(p.s, i); next < len(p.s) && next > i && (p.s[next] == '.' || p.s[i-1] == '.') {
			i = next
		}
	}
	return i
}

// colon ends a group's name, or is noise.
func (p *addressParser) colon() {
	p.i++
	if p.group && !p.have {
		p.started = false
	}
	if p.group || p.have || !p.started {
		return
	}
	p.list = append(p.list, Address{Kind: GroupStart, Mailbox: cleanPhrase(p.s[p.phrase:p.end])})
	p.group = true
	p.reset()
}

func (p *addressParser) endGroup() {
	if p.group {
		p.list = append(p.list, Address{Kind: GroupEnd})
		p.group = false
	}
}

// flush ends the element. Words without an address are a mailbox without domain, or a name alone if there are several.
func (p *addressParser) flush() {
	if !p.have && p.started {
		if p.local == p.phrase {
			p.addr = Address{Mailbox: cleanSpec(p.s[p.phrase:p.end])}
		} else {
			p.addr = Address{Name: cleanPhrase(p.s[p.phrase:p.end])}
		}
		p.have = true
	}
	if p.have {
		if p.addr.Name == "" {
			p.addr.Name = p.comment
		}
		p.list = append(p.list, p.addr)
	}
	p.reset()
}

// flushKeepingWords ends an element in angle brackets at the sign of a second one; the words since then are its name.
func (p *addressParser) flushKeepingWords() {
	phrase, local, end, started := p.phrase, p.local, p.end, p.started
	p.flush()
	p.phrase, p.local, p.end, p.started = phrase, local, end, started
}

func (p *addressParser) reset() {
	p.started, p.have, p.done, p.comment, p.addr = false, false, false, "", Address{}
}

// cleanPhrase removes quoting and comments from words and leaves one space between them.
func cleanPhrase(s string) string {
	s = strings.TrimSpace(s)
	if simplePhrase(s) {
		return s
	}
	if s[0] == '"' {
		if content, end := readQuoted(s, 0); end == len(s) {
			return strings.TrimSpace(content)
		}
	}
	return joinWords(s, " ")
}

// simplePhrase reports whether s needs no cleaning.
func simplePhrase(s string) bool {
	for i := range len(s) {
		switch s[i] {
		case '"', '(', '\t', '\r', '\n':
			return false
		case ' ':
			if s[i+1] == ' ' { // s is trimmed: a space is never last
				return false
			}
		}
	}
	return true
}

// cleanSpec removes quoting, comments and white space outside quotes from a local part, domain or route.
func cleanSpec(s string) string {
	if !strings.ContainsAny(s, "\"( \t\r\n") {
		return s
	}
	return joinWords(s, "")
}

// joinWords joins the quoted strings and atoms of s, without the comments and white space between them.
func joinWords(s, separator string) string {
	var b strings.Builder
	for i := skipCFWS(s, 0); i < len(s); i = skipCFWS(s, i) {
		var word string
		if s[i] == '"' {
			word, i = readQuoted(s, i)
		} else {
			start := i
			for i < len(s) && !isSpace(s[i]) && s[i] != '"' && s[i] != '(' {
				i++
			}
			word = s[start:i]
		}
		if b.Len() > 0 && word != "" {
			b.WriteString(separator)
		}
		b.WriteString(word)
	}
	return b.String()
}
