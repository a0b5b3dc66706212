package wire

import (
	"errors"
	"io"
	"strings"
	"testing"
	"testing/iotest"
)

// script feeds a Reader and counts the continuations it asked for.
type script struct {
	*Reader
	asked int
}

func newScript(input string, limits Limits) *script {
	s := &script{}
	s.Reader = NewReader(iotest.OneByteReader(strings.NewReader(input)), limits, func() error {
		s.asked++
		return nil
	})
	return s
}

// commands runs every command through f and returns the tags that were seen, in order.
func (s *script) commands(f func(*Decoder)) (tags string, err error) {
	for {
		d, err := s.Next()
		if err != nil {
			return tags, err
		}
		tag := d.Tag()
		if tag == "" {
			tag = "?"
		}
		tags += tag
		if f != nil {
			f(d)
		}
		if err := s.Finish(); err != nil {
			return tags, err
		}
	}
}

func TestRefusedLiteralIsNeverACommand(t *testing.T) {
	for name, c := range map[string]struct {
		input string
		want  string
	}{
		"not read at all":           {"a X {13+}\r\nx CREATE evil\r\nb NOOP\r\n", "ab"},
		"two of them":               {"a X {3+}\r\nx Y {2+}\r\nq \r\nb NOOP\r\n", "ab"},
		"synchronising is not sent": {"a X {13}\r\nb NOOP\r\n", "ab"},
		"literal8":                  {"a X ~{3+}\r\nx Y\r\nb NOOP\r\n", "ab"},
		"no tag":                    {"{3+}\r\nx Y\r\nb NOOP\r\n", "?b"},
		"in an open quoted string":  {"a X \"q{3+}\r\nx Y\r\nb NOOP\r\n", "ab"},
		"not an announcement":       {"a X {3 }\r\nb NOOP\r\n", "ab"},
		"line end in the literal":   {"a X {2+}\r\n\r\n\r\nb NOOP\r\n", "ab"},
	} {
		tags, err := newScript(c.input, Limits{}).commands(nil)
		if tags != c.want || err != io.EOF {
			t.Errorf("%s: %q %v, want %q", name, tags, err, c.want)
		}
	}
}

func TestRefusedLiteralTooLongToSkip(t *testing.T) {
	// Several together are bounded by what they are, not by what they might have been.
	several := "a X {3+}\r\n012 {3+}\r\n345\r\nb NOOP\r\n"
	for discard, want := range map[int64]error{7: io.EOF, 6: ErrFlood} {
		if tags, err := newScript(several, Limits{Discard: discard}).commands(nil); !errors.Is(err, want) {
			t.Errorf("discard %d: %q %v, want %v", discard, tags, err, want)
		}
	}
	for size, want := range map[string]error{"10": io.EOF, "11": ErrFlood, "99999999999999999999999": ErrFlood} {
		s := newScript("a X {"+size+"+}\r\n0123456789\r\n", Limits{Discard: 10})
		if tags, err := s.commands(nil); !errors.Is(err, want) {
			t.Errorf("%s: %q %v, want %v", size, tags, err, want)
		}
	}
}

func TestLineLimit(t *testing.T) {
	limits := Limits{Line: 20, Discard: 100}
	long := strings.Repeat("x", 50)
	for name, c := range map[string]struct {
		input string
		want  string
		bad   int
	}{
		"at the edge":             {"a " + long[:18] + "\r\nb NOOP\r\n", "ab", 0},
		"one over":                {"a " + long[:19] + "\r\nb NOOP\r\n", "ab", 1},
		"over and a literal":      {"a " + long + " {3+}\r\nx Y\r\nb NOOP\r\n", "ab", 1},
		"announced at the seam":   {"a " + long[:15] + "{3+}\r\nx Y\r\nb NOOP\r\n", "ab", 1},
		"over after a literal":    {"a {1+}\r\nq " + long + "\r\nb NOOP\r\n", "ab", 1},
		"sum over, each line not": {"a {1+}\r\nq 3456789012 {1+}\r\nq34567890123\r\nb NOOP\r\n", "ab", 1},
	} {
		bad := 0
		tags, err := newScript(c.input, limits).commands(func(d *Decoder) {
			for !d.AtEnd() && d.Err() == nil {
				if !d.Try(' ') {
					d.AString()
				}
			}
			if d.Err() != nil {
				bad++
			}
		})
		if tags != c.want || bad != c.bad || err != io.EOF {
			t.Errorf("%s: %q, %d bad, %v; want %q, %d", name, tags, bad, err, c.want, c.bad)
		}
	}
	// The announcement may have begun in what was not kept.
	if _, err := newScript("a "+long+strings.Repeat("1", 70)+"}\r\nb NOOP\r\n", limits).commands(nil); !errors.Is(err, ErrFlood) {
		t.Errorf("digits without a brace ended with %v", err)
	}
	if _, err := newScript(strings.Repeat("x", 1000), limits).commands(nil); !errors.Is(err, ErrFlood) {
		t.Errorf("an endless line ended with %v", err)
	}
}

func TestInMemoryLiteral(t *testing.T) {
	s := newScript("a LOGIN {3}\r\nbob {4+}\r\np\r\nw\r\nb NOOP\r\n", Limits{})
	d, err := s.Next()
	if err != nil {
		t.Fatal(err)
	}
	d.Tag()
	d.SP()
	d.Word()
	d.SP()
	user := d.AString()
	d.SP()
	pass := d.AString()
	if err := d.End(); err != nil || user != "bob" || pass != "p\r\nw" || s.asked != 1 {
		t.Errorf("%q %q %v, asked %d times", user, pass, err, s.asked)
	}
	if err := s.Finish(); err != nil {
		t.Fatal(err)
	}
	if tags, _ := s.commands(nil); tags != "b" {
		t.Errorf("then %q", tags)
	}
}

func TestLiteralLimits(t *testing.T) {
	limits := Limits{Literal: 4, InMemory: 6, Literals: 3}
	for input, fails := range map[string]bool{
		"{4+}\r\nabcd":                        false,
		"{5+}\r\nabcde":                       true,
		"{4+}\r\nabcd {2+}\r\nab":             false,
		"{4+}\r\nabcd {3+}\r\nabc":            true,
		"{0+}\r\n {0+}\r\n {0+}\r\n":          false,
		"{0+}\r\n {0+}\r\n {0+}\r\n {0+}\r\n": true,
		"{1+}\r\n\x00":                        true,
	} {
		var failed error
		tags, err := newScript("a "+input+"\r\nb NOOP\r\n", limits).commands(func(d *Decoder) {
			for d.SP(); !d.AtEnd() && d.Err() == nil; d.Try(' ') {
				d.AString()
			}
			if failed == nil {
				failed = d.End()
			}
		})
		if (failed != nil) != fails || tags != "ab" || err != io.EOF {
			t.Errorf("%q: %v, then %q %v", input, failed, tags, err)
		}
	}
}

func TestStreamedLiteral(t *testing.T) {
	s := newScript("a APPEND {10}\r\n0123456789 (more)\r\nb NOOP\r\n", Limits{Literal: 1})
	d, err := s.Next()
	if err != nil {
		t.Fatal(err)
	}
	d.Tag()
	d.SP()
	d.Word()
	d.SP()
	lit := d.Stream(10)
	if lit == nil {
		t.Fatal(d.Err())
	}
	head := make([]byte, 4)
	if _, err := io.ReadFull(lit, head); err != nil || string(head) != "0123" {
		t.Fatalf("%q %v", head, err)
	}
	// The six octets left are skipped when the command goes on.
	d.SP()
	if d.List(func() { d.Atom() }); d.End() != nil {
		t.Fatal(d.Err())
	}
	if err := s.Finish(); err != nil {
		t.Fatal(err)
	}
	if tags, _ := s.commands(nil); tags != "b" {
		t.Errorf("then %q", tags)
	}
}

func TestStreamedLiteralCutShort(t *testing.T) {
	s := newScript("a {10+}\r\n01234", Limits{})
	d, err := s.Next()
	if err != nil {
		t.Fatal(err)
	}
	d.Tag()
	d.SP()
	lit := d.Stream(10)
	if got, err := io.ReadAll(lit); string(got) != "01234" || !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("%q %v", got, err)
	}
	if err := s.Finish(); !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("Finish: %v", err)
	}
}

// TestAbandonedStream: a handler that fails in the middle of a literal leaves the rest, and the
// line after it, to Finish.
func TestAbandonedStream(t *testing.T) {
	s := newScript("a {10+}\r\n0123456789 {4+}\r\nx Y\n z\r\nb NOOP\r\n", Limits{})
	tags, err := s.commands(func(d *Decoder) {
		if d.SP() {
			d.Stream(10)
			d.Fail("given up")
		}
	})
	if tags != "ab" || err != io.EOF {
		t.Errorf("%q %v", tags, err)
	}
}

func TestStreamOverItsLimit(t *testing.T) {
	s := newScript("a {11+}\r\n0123456789A\r\nb NOOP\r\n", Limits{})
	var got error
	tags, _ := s.commands(func(d *Decoder) {
		if d.SP(); d.Stream(10) == nil && got == nil {
			got = d.Err()
		}
	})
	var big *TooBigError
	if !errors.As(got, &big) || big.Size != 11 || big.Limit != 10 || tags != "ab" || s.asked != 0 {
		t.Errorf("%v, tags %q, asked %d", got, tags, s.asked)
	}
}

func TestResetDropsPlaintext(t *testing.T) {
	r := NewReader(strings.NewReader("a STARTTLS\r\nb EVIL\r\n"), Limits{}, nil)
	if _, err := r.Next(); err != nil {
		t.Fatal(err)
	}
	if err := r.Finish(); err != nil {
		t.Fatal(err)
	}
	if n := r.Reset(strings.NewReader("c NOOP\r\n")); n != len("b EVIL\r\n") {
		t.Errorf("dropped %d", n)
	}
	d, err := r.Next()
	if err != nil || d.Tag() != "c" {
		t.Errorf("%v", err)
	}
}

func TestEOF(t *testing.T) {
	for input, want := range map[string]error{
		"":              io.EOF,
		"a":             io.ErrUnexpectedEOF,
		"a {3+}\r\n":    io.ErrUnexpectedEOF,
		"a {3+}\r\nab":  io.ErrUnexpectedEOF,
		"a {3+}\r\nabc": io.ErrUnexpectedEOF,
	} {
		if _, err := newScript(input, Limits{}).commands(nil); err != want {
			t.Errorf("%q: %v, want %v", input, err, want)
		}
	}
}
