package queue

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
)

// reply is what a server said (RFC 5321 section 4.2).
type reply struct {
	code     int      // 200 to 599
	enhanced string   // RFC 3463: "5.1.1"; empty: none
	lines    []string // without code; of one whose text is kept, without enhanced code
}

// Errors of replies. A server that cannot speak SMTP is not spoken to any more.
var (
	errReplySyntax = errors.New("what came is no SMTP reply")
	errReplyLong   = errors.New("the reply is too long")
)

// readReply reads one reply, all lines of it.
func readReply(r *bufio.Reader) (reply, error) {
	var out reply
	for len(out.lines) < maxReplyLines {
		line, err := readLine(r)
		if err != nil {
			return out, err
		}
		code, rest, more, err := splitReply(line)
		if err != nil || out.code != 0 && code != out.code {
			return out, errReplySyntax
		}
		out.code = code
		out.lines = append(out.lines, rest)
		if !more {
			out.enhanced = out.takeEnhanced()
			return out, nil
		}
	}
	return out, errReplyLong
}

// readLine reads up to LF, and takes a CR before it away.
func readLine(r *bufio.Reader) (string, error) {
	var line []byte
	for {
		piece, err := r.ReadSlice('\n')
		line = append(line, piece...)
		if len(line) > maxReplyLine {
			return "", errReplyLong
		}
		switch {
		case err == nil:
			return strings.TrimRight(string(line), "\r\n"), nil
		case errors.Is(err, bufio.ErrBufferFull):
		case errors.Is(err, io.EOF) && len(line) > 0:
			return "", io.ErrUnexpectedEOF
		default:
			return "", err
		}
	}
}

func splitReply(line string) (code int, rest string, more bool, err error) {
	if len(line) < 3 {
		return 0, "", false, errReplySyntax
	}
	code, err = strconv.Atoi(line[:3])
	if err != nil || code < 200 || code > 599 {
		return 0, "", false, errReplySyntax
	}
	switch {
	case len(line) == 3:
		return code, "", false, nil
	case line[3] == '-':
		return code, line[4:], true, nil
	case line[3] == ' ':
		return code, line[4:], false, nil
	}
	return 0, "", false, errReplySyntax
}

// takeEnhanced cuts the enhanced status code off the lines, if its class fits the code.
func (r *reply) takeEnhanced() string {
	first, _, _ := strings.Cut(r.lines[0], " ")
	if !isEnhanced(first) || first[0]-'0' != byte(r.code/100) {
		return ""
	}
	for i, line := range r.lines {
		if rest, ok := strings.CutPrefix(line, first); ok {
			r.lines[i] = strings.TrimPrefix(rest, " ")
		}
	}
	return first
}

// isEnhanced reports whether s is a status code of RFC 3463 section 2.
func isEnhanced(s string) bool {
	parts := strings.Split(s, ".")
	if len(parts) != 3 || len(parts[0]) != 1 || !strings.Contains("245", parts[0]) {
		return false
	}
	for _, p := range parts[1:] {
		if len(p) < 1 || len(p) > 3 || strings.Trim(p, "0123456789") != "" {
			return false
		}
	}
	return true
}

// positive, temporary and permanent are the classes of replies.
func (r reply) positive() bool  { return r.code/100 == 2 }
func (r reply) temporary() bool { return r.code/100 == 4 }
func (r reply) permanent() bool { return r.code/100 == 5 }

// String is the reply in one line of printable text.
func (r reply) String() string {
	text := strings.Join(r.lines, " / ")
	if r.enhanced != "" {
		text = r.enhanced + " " + text
	}
	return printable(strings.TrimSpace(strconv.Itoa(r.code) + " " + text))
}

// printable bounds and cleans text from outside.
func printable(s string) string {
	if len(s) > maxReplyText {
		s = s[:maxReplyText]
	}
	return strings.Map(func(c rune) rune {
		if c < ' ' || c == 0x7f {
			return ' '
		}
		return c
	}, strings.ToValidUTF8(s, "?"))
}

// said is the reply that stands for a failure of our own.
func said(code int, enhanced, format string, args ...any) reply {
	return reply{code: code, enhanced: enhanced, lines: []string{printable(fmt.Sprintf(format, args...))}}
}
