package message

import (
	"bytes"
	"errors"
	"fmt"
	"strconv"
	"strings"
)

// checkBody and checkEnvelope hold IMAP output against the grammar of RFC 9051, 9. They share nothing with the code
// that writes or reads it.

type grammar struct {
	b        []byte
	extended bool
}

var errGrammar = errors.New("not the grammar of RFC 9051")

// checkBody checks a whole body production.
func checkBody(b []byte, extended bool) (err error) {
	g := &grammar{b, extended}
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("%w: %v at %d", errGrammar, r, len(b)-len(g.b))
		}
	}()
	g.body()
	if len(g.b) > 0 {
		panic("trailing bytes")
	}
	return nil
}

// checkEnvelope checks a whole envelope production.
func checkEnvelope(b []byte) (err error) {
	g := &grammar{b: b}
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("%w: %v at %d", errGrammar, r, len(b)-len(g.b))
		}
	}()
	g.envelope()
	if len(g.b) > 0 {
		panic("trailing bytes")
	}
	return nil
}

func (g *grammar) want(token string) {
	if !g.have(token) {
		panic("no " + token)
	}
}

func (g *grammar) have(token string) bool {
	rest, ok := bytes.CutPrefix(g.b, []byte(token))
	if ok {
		g.b = rest
	}
	return ok
}

func (g *grammar) body() {
	g.want("(")
	if len(g.b) > 0 && g.b[0] == '(' {
		for g.b[0] == '(' {
			g.body()
		}
		g.want(" ")
		g.string()
		if g.extended {
			g.want(" ")
			g.params()
			g.tail()
		}
	} else {
		g.leaf()
	}
	g.want(")")
}

func (g *grammar) leaf() {
	typ := g.string()
	g.want(" ")
	full := strings.ToLower(typ + "/" + g.string())
	g.want(" ")
	g.params()
	for range 2 {
		g.want(" ")
		g.nstring()
	}
	g.want(" ")
	g.string()
	g.want(" ")
	g.number()
	switch {
	case full == "message/rfc822" || full == "message/global":
		g.want(" ")
		g.envelope()
		g.want(" ")
		g.body()
		g.want(" ")
		g.number()
	case strings.EqualFold(typ, "text"):
		g.want(" ")
		g.number()
	case strings.EqualFold(typ, "multipart"):
		panic("multipart leaf")
	}
	if g.extended {
		g.want(" ")
		g.nstring()
		g.tail()
	}
}

// tail is disposition, language and location.
func (g *grammar) tail() {
	g.want(" ")
	if !g.have("NIL") {
		g.want("(")
		g.string()
		g.want(" ")
		g.params()
		g.want(")")
	}
	g.want(" ")
	g.strings(1)
	g.want(" ")
	g.nstring()
}

func (g *grammar) params() { g.strings(2) }

// strings is NIL or a list of a positive multiple of n strings.
func (g *grammar) strings(n int) {
	if g.have("NIL") {
		return
	}
	g.want("(")
	for i := 1; ; i++ {
		g.string()
		if g.have(")") {
			if i%n != 0 {
				panic("odd list")
			}
			return
		}
		g.want(" ")
	}
}

func (g *grammar) envelope() {
	g.want("(")
	g.nstring()
	g.want(" ")
	g.nstring()
	for range 6 {
		g.want(" ")
		g.addresses()
	}
	for range 2 {
		g.want(" ")
		g.nstring()
	}
	g.want(")")
}

// addresses also checks that groups open and close in turn.
func (g *grammar) addresses() {
	if g.have("NIL") {
		return
	}
	g.want("(")
	inGroup := false
	for !g.have(")") {
		g.want("(")
		g.nstring()
		g.want(" ")
		g.nstring()
		g.want(" ")
		_, mailbox := g.nstring()
		g.want(" ")
		_, host := g.nstring()
		g.want(")")
		if host {
			continue
		}
		if mailbox == inGroup {
			panic("group mark out of turn")
		}
		inGroup = mailbox
	}
	if inGroup {
		panic("open group")
	}
}

func (g *grammar) number() {
	n := 0
	for n < len(g.b) && '0' <= g.b[n] && g.b[n] <= '9' {
		n++
	}
	if n == 0 {
		panic("no number")
	}
	g.b = g.b[n:]
}

func (g *grammar) nstring() (string, bool) {
	if g.have("NIL") {
		return "", false
	}
	return g.string(), true
}

func (g *grammar) string() string {
	if g.have("{") {
		end := bytes.Index(g.b, []byte("}\r\n"))
		n, err := strconv.Atoi(string(g.b[:end]))
		if err != nil {
			panic(err)
		}
		s := g.b[end+3 : end+3+n]
		if bytes.IndexByte(s, 0) >= 0 {
			panic("NUL in literal")
		}
		g.b = g.b[end+3+n:]
		return string(s)
	}
	g.want(`"`)
	var out []byte
	for !g.have(`"`) {
		if g.b[0] == '\\' {
			g.b = g.b[1:]
			if g.b[0] != '"' && g.b[0] != '\\' {
				panic("bad escape")
			}
		}
		if c := g.b[0]; c == 0 || c == '\r' || c == '\n' || c >= 0x80 {
			panic("byte in quoted string")
		}
		out = append(out, g.b[0])
		g.b = g.b[1:]
	}
	return string(out)
}
