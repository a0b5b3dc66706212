package message

import (
	"strconv"
	"strings"
	"time"
)

// ParseDate reads a Date field (RFC 5322, 3.3 and 4.3) tolerantly: the parts may come in any order with any
// punctuation, so that ctime and ISO 8601 dates are read too; a missing time is midnight, a missing or unknown zone is
// UTC. ok is false without a possible day, month and year.
func ParseDate(s string) (t time.Time, ok bool) {
	d := dateParts{day: -1, year: -1, zone: time.UTC}
	s = s[:min(len(s), 256)]
	for i := 0; i < len(s); {
		switch c := s[i]; {
		case c == '(':
			i = skipComment(s, i)
		case c == '+' || c == '-' && (d.hasTime || d.year < 0 && d.day < 0):
			end := tokenEnd(s, i+1, isDateDigit)
			d.offset(s[i:end])
			i = max(end, i+1)
		case isDateDigit(c):
			end := tokenEnd(s, i, isTimeByte)
			d.number(s[i:end])
			i = end
		case isDateLetter(c):
			end := tokenEnd(s, i, isDateLetter)
			d.word(s[i:end])
			i = end
		default:
			i++
		}
	}
	return d.time()
}

func tokenEnd(s string, i int, in func(byte) bool) int {
	for i < len(s) && in(s[i]) {
		i++
	}
	return i
}

func isDateDigit(c byte) bool { return '0' <= c && c <= '9' }
func isTimeByte(c byte) bool  { return isDateDigit(c) || c == ':' }
func isDateLetter(c byte) bool {
	return 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z'
}

// dateParts collects what the tokens of a date say.
type dateParts struct {
	year, day       int // -1 if not seen
	month           time.Month
	hour, min, sec  int
	hasTime, hasOff bool
	zone            *time.Location
}

// number reads hh:mm[:ss], a day, a month of an ISO date, or a year.
func (d *dateParts) number(tok string) {
	if strings.IndexByte(tok, ':') >= 0 {
		d.clock(tok)
		return
	}
	n, err := strconv.Atoi(tok)
	switch {
	case err != nil || n > 9999:
	case len(tok) <= 2 && d.year >= 0 && d.month == 0 && d.day < 0: // yyyy-mm
		d.month = time.Month(n)
	case len(tok) <= 2 && d.day < 0:
		d.day = n
	case d.year < 0:
		d.year = fullYear(n, len(tok))
	}
}

// fullYear expands an obsolete year of two or three digits (RFC 5322, 4.3).
func fullYear(n, digits int) int {
	switch {
	case digits <= 2 && n < 50:
		return 2000 + n
	case digits <= 3:
		return 1900 + n
	}
	return n
}

func (d *dateParts) clock(tok string) {
	if d.hasTime {
		return
	}
	var v [3]int
	for i := range v {
		var part string
		part, tok, _ = strings.Cut(tok, ":")
		v[i], _ = strconv.Atoi(part)
	}
	if v[0] > 24 || v[1] > 59 || v[2] > 60 {
		return
	}
	d.hour, d.min, d.sec, d.hasTime = v[0], v[1], v[2], true
}

// offset reads +hhmm or +hh.
func (d *dateParts) offset(tok string) {
	n, err := strconv.Atoi(tok[1:])
	if err != nil || n > 9999 || d.hasOff {
		return
	}
	if len(tok) <= 3 {
		n *= 100
	}
	seconds := n/100*3600 + n%100*60
	if seconds > 24*3600 {
		return
	}
	if tok[0] == '-' {
		seconds = -seconds
	}
	d.hasOff = true
	if seconds != 0 {
		d.zone = time.FixedZone("", seconds)
	}
}

// word reads a month or a zone; names of days and anything else are skipped.
func (d *dateParts) word(tok string) {
	if hours, ok := zoneHours(tok); ok && !d.hasOff {
		d.hasOff = true
		if hours != 0 {
			d.zone = time.FixedZone(strings.ToUpper(tok), hours*3600)
		}
		return
	}
	const months = "janfebmaraprmayjunjulaugsepoctnovdec"
	if len(tok) < 3 || d.month != 0 {
		return
	}
	if i := strings.Index(months, strings.ToLower(tok[:3])); i >= 0 && i%3 == 0 {
		d.month = time.Month(i/3 + 1)
	}
}

// zoneHours knows the zones of RFC 5322, 4.3; others mean UTC.
func zoneHours(name string) (hours int, ok bool) {
	switch strings.ToUpper(name) {
	case "UT", "GMT", "UTC", "Z":
		return 0, true
	case "EDT":
		return -4, true
	case "EST", "CDT":
		return -5, true
	case "CST", "MDT":
		return -6, true
	case "MST", "PDT":
		return -7, true
	case "PST":
		return -8, true
	}
	return 0, false
}

func (d *dateParts) time() (time.Time, bool) {
	if d.day < 1 || d.day > 31 || d.month < 1 || d.month > 12 || d.year < 1 {
		return time.Time{}, false
	}
	return time.Date(d.year, d.month, d.day, d.hour, d.min, d.sec, 0, d.zone), true
}
