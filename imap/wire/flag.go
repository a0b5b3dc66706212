package wire

import "strings"

// The system flags (RFC 9051 section 2.3.2; \Recent only in RFC 3501).
const (
	FlagSeen     = `\Seen`
	FlagAnswered = `\Answered`
	FlagFlagged  = `\Flagged`
	FlagDeleted  = `\Deleted`
	FlagDraft    = `\Draft`
	FlagRecent   = `\Recent`
)

// systemFlags are the flags a client may set, in their canonical case.
var systemFlags = [...]string{FlagSeen, FlagAnswered, FlagFlagged, FlagDeleted, FlagDraft}

// Flag reads a flag: a keyword as it stands, or a system flag in its canonical case. Flags with a
// backslash that no client may set, \Recent among them, are syntax errors (RFC 9051 section 9).
func (d *Decoder) Flag() string {
	if !d.Try('\\') {
		return d.Atom()
	}
	name := d.Atom()
	for _, f := range systemFlags {
		if strings.EqualFold(f[1:], name) {
			return f
		}
	}
	d.Fail("Unknown system flag")
	return ""
}

// FlagList reads flags in parentheses.
func (d *Decoder) FlagList() []string {
	var flags []string
	d.List(func() { flags = append(flags, d.Flag()) })
	return flags
}

// StoreFlags reads flags in parentheses or bare with spaces between, as STORE allows.
func (d *Decoder) StoreFlags() []string {
	if d.Peek() == '(' {
		return d.FlagList()
	}
	flags := []string{d.Flag()}
	for d.Try(' ') {
		flags = append(flags, d.Flag())
	}
	return flags
}

// Attribute reads a mailbox attribute such as \Sent and returns it as written, for the caller to
// compare without regard to case.
func (d *Decoder) Attribute() string {
	d.Expect('\\')
	return `\` + d.Atom()
}
