package wire

import (
	"math"
	"time"
)

// Number reads a number of 32 bits.
func (d *Decoder) Number() uint32 { return uint32(d.number(math.MaxUint32)) }

// NZNumber reads a number of 32 bits that is not zero.
func (d *Decoder) NZNumber() uint32 {
	n := d.Number()
	if n == 0 {
		d.Fail("Expected a number that is not zero")
	}
	return n
}

// Number64 reads a number of 63 bits (RFC 9051 section 4.2).
func (d *Decoder) Number64() int64 { return int64(d.number(math.MaxInt64)) }

func (d *Decoder) number(limit uint64) uint64 {
	digits := d.run(digitChars, "a number")
	n := uint64(0)
	for _, c := range digits {
		v := uint64(c - '0')
		if n > (limit-v)/10 {
			d.Fail("Number is too large")
			return 0
		}
		n = n*10 + v
	}
	return n
}

// dateLayout and dateTimeLayout are date and date-time of RFC 9051 section 9.
const (
	dateLayout     = "2-Jan-2006"
	dateTimeLayout = "_2-Jan-2006 15:04:05 -0700"
)

// Date reads a day, quoted or not, as midnight UTC. Years have four digits.
func (d *Decoder) Date() time.Time {
	var text []byte
	if d.Try('"') {
		text = d.run(textChars, "a date")
		d.Expect('"')
	} else {
		text = d.run(astringChars, "a date")
	}
	return d.parseTime(dateLayout, string(text), "Bad date")
}

// DateTime reads a quoted date and time with its zone, which is kept.
func (d *Decoder) DateTime() time.Time {
	d.Expect('"')
	text := string(d.run(textChars, "a date and time"))
	d.Expect('"')
	return d.parseTime(dateTimeLayout, text, "Bad date and time")
}

func (d *Decoder) parseTime(layout, text, complaint string) time.Time {
	if d.err != nil {
		return time.Time{}
	}
	t, err := time.Parse(layout, text)
	if err != nil {
		d.Fail(complaint)
		return time.Time{}
	}
	return t
}
