package smtp

import (
	"bytes"
	"errors"
	"io"
	"strconv"
)

// bdat checks the BDAT that begins a message (RFC 3030 section 2) and shows it
// to go-smtp as DATA; [body.chunk] reads the chunks.
func (g *gate) bdat(arg []byte) ([]byte, *reply) {
	size, last, ok := parseChunk(arg)
	if !ok {
		g.finish(errChunkSize) // how much follows is not known
		return nil, nil
	}
	b := newBody(g)
	b.chunked = true
	b.announce(size, last)
	switch {
	case !g.s.accepted:
		return nil, b.turnAway(errNoMail)
	case len(g.s.rcpts) == 0:
		return nil, b.turnAway(errNoRecipients)
	}
	g.body, g.mute = b, true // go-smtp's 354
	return dataCommand, nil
}

// turnAway reads and forgets a chunk outside a transaction: it comes whatever
// the reply is (RFC 3030 section 2).
func (b *body) turnAway(r *reply) *reply {
	b.refuse(r)
	b.drain()
	return r
}

// parseChunk reads "size [LAST]".
func parseChunk(arg []byte) (size int64, last, ok bool) {
	fields := bytes.Fields(arg)
	if len(fields) == 0 || len(fields) > 2 {
		return 0, false, false
	}
	if len(fields) == 2 {
		if !bytes.EqualFold(fields[1], []byte("LAST")) {
			return 0, false, false
		}
		last = true
	}
	n, err := strconv.ParseUint(string(fields[0]), 10, 63)
	return int64(n), last, err == nil
}

// announce notes the chunk that comes next.
func (b *body) announce(size int64, last bool) {
	b.left, b.last = size, last
	if limit := b.limits.MaxMessageBytes; limit > 0 && size > limit-b.size {
		b.refuse(errTooLarge)
	}
}

// chunk copies octets of a chunked message to p. Between two chunks it answers
// the first and reads the command that brings the second.
func (b *body) chunk(p []byte) int {
	for b.left == 0 {
		switch {
		case b.last:
			b.end()
			b.err = io.EOF
			return 0
		case b.refusal != nil:
			b.err = errRefused
			return 0
		}
		b.gate.reply(answer(250, 2, 0, 0, strconv.FormatInt(b.size, 10)+" octets received"))
		if b.nextChunk(); b.err != nil {
			return 0
		}
	}
	if len(b.gate.input()) == 0 && !b.fill() {
		return 0
	}
	in := b.gate.input()
	n := copy(p, in[:min(int64(len(in)), b.left)])
	b.gate.skip(n)
	b.left -= int64(n)
	for rest := p[:n]; len(rest) > 0; {
		line := firstLine(rest)
		b.line(line)
		rest = rest[len(line):]
	}
	return n
}

// nextChunk reads commands until the next BDAT, or one that gives the message
// up.
func (b *body) nextChunk() {
	for b.err == nil {
		line, err := b.gate.readLine(b.by(), false)
		switch {
		case errors.Is(err, errLongLine):
			b.gate.reply(errCommandLong)
		case err != nil:
			b.stop(err)
		default:
			if b.betweenChunks(line) {
				return
			}
		}
		if b.gate.closing {
			b.giveUp(io.ErrUnexpectedEOF)
		}
	}
}

// betweenChunks executes a command between two chunks and reports whether it
// was BDAT.
func (b *body) betweenChunks(line []byte) bool {
	verb, arg, refusal := splitCommand(line)
	if refusal == nil {
		refusal = errInChunks
	}
	switch string(verb) {
	case "BDAT":
		size, last, ok := parseChunk(arg)
		if !ok {
			b.gate.finish(errChunkSize)
			return false
		}
		b.announce(size, last)
		return true
	case "NOOP":
		b.gate.reply(answer(250, 2, 0, 0, "OK"))
	case "RSET", "QUIT", "EHLO", "HELO":
		b.gate.stash = bytes.Clone(line)
		b.giveUp(errAborted)
	default:
		b.gate.reply(refusal)
	}
	return false
}

// giveUp ends the message without a reply to it: what ended it has its own.
func (b *body) giveUp(err error) {
	b.err = err
	b.gate.mute = true
}
