package imap

import (
	"bytes"
	"errors"
	"io"
	"strings"

	"trivet/storage/message"
)

// contains reports whether header text holds a folded string, both decoded.
func contains(header, needle string) bool {
	return needle == "" || strings.Contains(message.Fold(message.DecodeHeader(header)), needle)
}

// searchWindow is how much text is folded and searched at a time.
const searchWindow = 32 << 10

// streamContains reports whether text holds a folded string, across the edges of the pieces in which
// it is read. It keeps one window and one needle in memory. size is about what is to be read.
func streamContains(r io.Reader, size int64, needle string) (bool, error) {
	f := message.NewFolder(r, min(searchWindow, size+1))
	var text []byte // folded, searched but for the end
	for {
		piece, err := f.Next()
		text = append(text, piece...)
		if bytes.Contains(text, []byte(needle)) {
			return true, nil
		}
		text = append(text[:0], text[max(0, len(text)-len(needle)):]...)
		if errors.Is(err, io.EOF) {
			return false, nil
		}
		if err != nil {
			return false, err
		}
	}
}
