package threat

import (
	"bufio"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"strconv"
	"strings"
	"time"

	"trivet/spam"
)

// Limits of asking a scanner for viruses.
const (
	// DefaultScanTime is how long a scanner may take for a message.
	DefaultScanTime = 15 * time.Second
	// maxScanReply is how long its answer may be, in octets.
	maxScanReply = 1024
	// scanChunk is how much goes to it at a time, in octets.
	scanChunk = 64 << 10
	// virusPoints make a message refused whatever else is said of it.
	virusPoints = spam.MaxPoints
)

// Clamd asks clamd of ClamAV for viruses, by its INSTREAM command. A scanner that does not answer, or not in time, is
// a temporary failure: the message is put off, never accepted unseen. A message that is larger than
// clamd wants to see (StreamMaxLength) is let through with a reason that says so.
type Clamd struct {
	Network, Address string        // "unix" and a path, or "tcp" and host:port
	Time             time.Duration // 0: DefaultScanTime
}

// ParseClamd reads where a clamd listens: the path of a socket, or HOST:PORT.
func ParseClamd(where string) (Clamd, error) {
	if strings.HasPrefix(where, "/") {
		return Clamd{Network: "unix", Address: where}, nil
	}
	_, port, err := net.SplitHostPort(where)
	if _, notNumber := strconv.ParseUint(port, 10, 16); err != nil || notNumber != nil {
		return Clamd{}, fmt.Errorf("%q is neither the path of a socket nor HOST:PORT", where)
	}
	return Clamd{Network: "tcp", Address: where}, nil
}

// Check implements [spam.Check].
func (c Clamd) Check(ctx context.Context, m *spam.Message) ([]spam.Reason, error) {
	reply, err := c.Scan(ctx, io.NewSectionReader(m.Raw, 0, m.Structure.Size))
	if err != nil {
		return nil, fmt.Errorf("%w: clamd: %w", spam.ErrTemporary, err)
	}
	return reply, nil
}

var errScan = errors.New("the scanner could not look at the message")

// Scan has clamd look at what r gives.
func (c Clamd) Scan(ctx context.Context, r io.Reader) ([]spam.Reason, error) {
	limit := c.Time
	if limit == 0 {
		limit = DefaultScanTime
	}
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	var d net.Dialer
	conn, err := d.DialContext(ctx, c.Network, c.Address)
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	stop := context.AfterFunc(ctx, func() { conn.SetDeadline(time.Unix(1, 0)) })
	defer stop()
	sending := stream(conn, r)
	// clamd answers before the end when it has seen enough: then sending fails, and the answer counts.
	reply, err := bufio.NewReader(io.LimitReader(conn, maxScanReply)).ReadString(0)
	if reply == "" {
		if sending != nil {
			err = sending
		}
		if ctx.Err() != nil {
			err = ctx.Err()
		}
		return nil, err
	}
	return scanned(strings.TrimRight(reply, "\x00\r\n"))
}

// stream sends what r gives as clamd wants it: pieces with their length in front, the last one empty.
func stream(w io.Writer, r io.Reader) error {
	if _, err := w.Write([]byte("zINSTREAM\x00")); err != nil {
		return err
	}
	b := make([]byte, 4+scanChunk)
	for {
		n, err := io.ReadFull(r, b[4:])
		binary.BigEndian.PutUint32(b, uint32(n))
		if n > 0 {
			if _, err := w.Write(b[:4+n]); err != nil {
				return err
			}
		}
		switch {
		case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
			_, err = w.Write([]byte{0, 0, 0, 0})
			return err
		case err != nil:
			return err
		}
	}
}

// scanned reads an answer of clamd.
func scanned(reply string) ([]spam.Reason, error) {
	reply = strings.TrimPrefix(reply, "stream: ")
	switch {
	case reply == "OK":
		return nil, nil
	case strings.HasSuffix(reply, " FOUND"):
		return []spam.Reason{{Name: "virus", Points: virusPoints, Text: "ClamAV found " + shown(strings.TrimSuffix(reply, " FOUND"))}}, nil
	case strings.HasPrefix(reply, "INSTREAM size limit exceeded"):
		return []spam.Reason{{Name: "virus.unscanned", Text: "the message is larger than ClamAV looks at"}}, nil
	}
	return nil, fmt.Errorf("%w: %s", errScan, shown(reply))
}
