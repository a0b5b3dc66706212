package main

import (
	"encoding/json"
	"fmt"
	"io"
	"text/tabwriter"
)

// print writes v as one JSON object or array with --json, else what text writes.
// Columns that text separates by tabs are aligned.
func (c *cli) print(v any, text func(w io.Writer)) error {
	if c.json {
		encoder := json.NewEncoder(c.out)
		encoder.SetEscapeHTML(false)
		return encoder.Encode(v)
	}
	table := tabwriter.NewWriter(c.out, 0, 8, 2, ' ', 0)
	text(table)
	return table.Flush()
}

// line is a text that consists of one line.
func line(format string, args ...any) func(io.Writer) {
	return func(w io.Writer) { fmt.Fprintf(w, format+"\n", args...) }
}

// removed is what a command that removes something prints with --json.
type removed struct {
	Removed string `json:"removed"`
}
