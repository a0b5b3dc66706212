package admin

import (
	"math"
	"strconv"
	"strings"
)

// plot is lines over the last hours, in units of its viewBox.
type plot struct {
	Title         string // a key of the catalogue
	Width, Height int
	Lines         []drawn
	Top           string // what the highest line across is worth
	From, To      string // times
	Empty         bool
}

// line is one of them: a key of the catalogue below admin.plot-, and its values.
type line struct {
	name  string
	value func(Sample) float64
}

type drawn struct {
	Name   string
	Points string
	Last   string
}

const (
	plotWidth  = 600
	plotHeight = 140
)

// newPlot draws samples, the oldest first.
func newPlot(title string, samples []Sample, lines ...line) plot {
	p := plot{Title: title, Width: plotWidth, Height: plotHeight, Empty: len(samples) < 2}
	if p.Empty {
		return p
	}
	highest := 1.0
	for _, s := range samples {
		for _, l := range lines {
			highest = math.Max(highest, l.value(s))
		}
	}
	p.Top = strconv.FormatFloat(math.Ceil(highest), 'f', -1, 64)
	p.From, p.To = samples[0].At.Format("15:04"), samples[len(samples)-1].At.Format("15:04")
	for _, l := range lines {
		var b strings.Builder
		for i, s := range samples {
			x := float64(i) / float64(len(samples)-1) * plotWidth
			y := plotHeight - l.value(s)/math.Ceil(highest)*plotHeight
			b.WriteString(strconv.FormatFloat(x, 'f', 1, 64) + "," + strconv.FormatFloat(y, 'f', 1, 64) + " ")
		}
		p.Lines = append(p.Lines, drawn{l.name, strings.TrimSpace(b.String()), strconv.FormatFloat(l.value(samples[len(samples)-1]), 'f', -1, 64)})
	}
	return p
}
