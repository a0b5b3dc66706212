package main

import (
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"golang.org/x/term"
)

// progressBar shows on a terminal how far something is. Anywhere else it is silent.
type progressBar struct {
	out         io.Writer // nil: silent
	label       string
	done, total int
	shown       time.Time
	started     time.Time
}

func newProgressBar(out io.Writer, quiet bool) *progressBar {
	f, ok := out.(*os.File)
	if quiet || !ok || !term.IsTerminal(int(f.Fd())) {
		return &progressBar{}
	}
	return &progressBar{out: out}
}

// begin starts with something of a total number of steps.
func (p *progressBar) begin(label string, total int) {
	p.end()
	p.label, p.done, p.total, p.started = label, 0, total, time.Now()
	p.show(true)
}

func (p *progressBar) step(n int) {
	p.done += n
	p.show(p.done == p.total)
}

const (
	barWidth = 30
	barEvery = 100 * time.Millisecond
)

func (p *progressBar) show(now bool) {
	if p.out == nil || p.total == 0 || !now && time.Since(p.shown) < barEvery {
		return
	}
	p.shown = time.Now()
	filled := barWidth * p.done / p.total
	rate := float64(p.done) / max(time.Since(p.started).Seconds(), 0.001)
	fmt.Fprintf(p.out, "\r%-24.24s [%s%s] %d of %d, %.0f/s ", p.label, strings.Repeat("#", filled), strings.Repeat(" ", barWidth-filled), p.done, p.total, rate)
}

// end leaves the line.
func (p *progressBar) end() {
	if p.out != nil && p.total > 0 {
		fmt.Fprintln(p.out)
	}
	p.total = 0
}
