package smtp

import (
	"crypto/sha256"
	"errors"
	"hash"
	"io"
	"time"
)

var (
	errAborted = errors.New("the client gave the message up")
	errRefused = errors.New("the message was refused before its last chunk")
)

// body is a message on its way in, through DATA or BDAT. It reads as the trace
// fields, then the octets of the message. Everything but io.EOF means that the
// message is not to be delivered.
type body struct {
	text
	gate    *gate
	started time.Time
	prefix  []byte        // trace fields not yet read
	digest  hash.Hash     // of the envelope and the message as the client sent it
	opened  bool          // go-smtp has called Data
	found   *Authenticity // nil: who sent it is not known
	err     error         // why there is no more: io.EOF when the client said that the message is complete

	fresh bool // DATA: at the start of a line

	chunked bool  // BDAT
	left    int64 // BDAT: octets of the chunk to come
	last    bool  // BDAT: the chunk is the last one
}

func newBody(g *gate) *body {
	return &body{text: text{limits: g.limits}, gate: g, started: time.Now(), fresh: true}
}

// open makes the body readable, with the trace fields in front of it.
func (b *body) open(prefix, envelope []byte) {
	b.opened, b.prefix, b.digest = true, prefix, sha256.New()
	b.digest.Write(envelope)
}

// Read implements io.Reader. Its error is a *reply as soon as the message is
// known to be refused; drain then reads the rest of it.
func (b *body) Read(p []byte) (int, error) {
	if len(b.prefix) > 0 {
		n := copy(p, b.prefix)
		b.prefix = b.prefix[n:]
		return n, nil
	}
	n, err := b.next(p)
	if b.refusal != nil {
		return 0, b.refusal
	}
	b.digest.Write(p[:n])
	return n, err
}

// next reads some of the message, whether it is going to be refused or not.
func (b *body) next(p []byte) (n int, err error) {
	for n == 0 && b.err == nil && len(p) > 0 {
		if b.chunked {
			n = b.chunk(p)
		} else {
			n = b.lines(p)
		}
	}
	if n > 0 {
		return n, nil
	}
	return 0, b.err
}

// fill waits for more input; it reports whether there is some.
func (b *body) fill() bool {
	if err := b.gate.fill(b.by(), false); err != nil {
		b.stop(err)
	}
	return b.err == nil
}

// stop notes that no more can be read.
func (b *body) stop(err error) {
	if errors.Is(err, io.EOF) {
		err = io.ErrUnexpectedEOF
	}
	b.err = err
}

// by is until when the next octets must come.
func (b *body) by() time.Time {
	l := b.limits
	by := deadline(l.CommandTimeout)
	if l.DataTime > 0 {
		by = earliest(by, b.started.Add(l.DataTime))
	}
	if l.MinDataRate > 0 {
		paid := time.Duration(float64(b.size) / float64(l.MinDataRate) * float64(time.Second))
		by = earliest(by, b.started.Add(dataGrace+paid))
	}
	return by
}

// dataGrace is how long a message may take whatever MinDataRate says.
const dataGrace = time.Minute

// drain reads the rest of a message that is refused, so that the next command
// is found where it starts: what is left of a message must never be executed.
// Where that cannot be had the session ends.
func (b *body) drain() {
	var scratch []byte
	for b.err == nil {
		if scratch == nil {
			scratch = make([]byte, outputBuffer)
		}
		if limit := b.limits.MaxMessageBytes; limit > 0 && b.size/2 > limit {
			b.err = errTooLarge
			break
		}
		b.next(scratch)
	}
	if !b.inSync() {
		b.gate.closing = true
	}
}

// inSync reports whether what comes next on the wire is a command.
func (b *body) inSync() bool {
	return b.err == io.EOF || b.err == errAborted || b.err == errRefused
}

// outcome is the reply to a message that was not received or not stored, or
// nil if it was; err is what the storage made of it.
func (b *body) outcome(err error) *reply {
	switch {
	case b.refusal != nil:
		return b.refusal
	case isTimeout(b.err):
		return errTimeout
	case b.err != nil && b.err != io.EOF:
		return errBroken
	case err != nil:
		return failure(err)
	case b.err == nil:
		return errTemporary // the storage did not read to the end
	}
	return nil
}
