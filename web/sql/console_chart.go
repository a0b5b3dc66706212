package sql

import (
	"math"
	"slices"
	"strconv"
	"strings"

	"trivet/storage"
)

// chart is a result as a picture, in units of its viewBox.
type chart struct {
	Kind    string // bar or line
	X, Y    string // columns
	Columns []string
	Numbers []string // columns that can be drawn
	Width   int
	Height  int
	Bars    []bar
	Line    string // points of a polyline
	Dots    []dot
	Ticks   []tick
	Labels  []label
	Left    int // where the axis is
	Bottom  int
	Zero    float64
	Rows    int
	Cut     bool // there are more rows than are drawn
	Nothing bool // no column has numbers
}

type bar struct {
	Y, Height, X, Width float64
	Label, Value        string
	Middle              float64 // where the text stands
	End                 float64
}

type dot struct {
	X, Y         float64
	Label, Value string
}

// tick is a line across with its value.
type tick struct {
	At    float64
	Value string
}

type label struct {
	X    float64
	Text string
}

// Measures of charts.
const (
	chartWidth  = 960
	barStep     = 26
	lineHeight  = 360
	lineLeft    = 70
	lineBottom  = 320
	lineTop     = 16
	labelWidth  = 220
	MaxBars     = 60
	chartLabels = 8
)

// newChart draws a result: bars, or a line through the values in the order of the rows.
func newChart(q *query, g *grid) *chart {
	c := &chart{Kind: q.Chart, Width: chartWidth, Cut: g.More}
	for _, h := range g.Columns {
		c.Columns = append(c.Columns, h.Name)
		if h.Numbers {
			c.Numbers = append(c.Numbers, h.Name)
		}
	}
	x, y := slices.Index(c.Columns, q.X), slices.Index(c.Columns, q.Y)
	if y < 0 || !g.Columns[y].Numbers {
		y = slices.IndexFunc(g.Columns, func(h head) bool { return h.Numbers && (h.Name != q.X) })
	}
	if y < 0 {
		c.Nothing = true
		return c
	}
	if x < 0 {
		x = slices.IndexFunc(g.Columns, func(h head) bool { return !h.Numbers })
	}
	if x < 0 {
		x = 0
	}
	c.X, c.Y = c.Columns[x], c.Columns[y]
	var labels []string
	var values []float64
	for r, row := range g.values {
		v, ok := float(row[y])
		if !ok {
			continue
		}
		name := g.Rows[r][x].Text
		if g.Rows[r][x].Null {
			name = "NULL"
		}
		labels, values = append(labels, name), append(values, v)
	}
	if c.Rows = len(values); c.Rows == 0 {
		c.Nothing = true
		return c
	}
	if c.Kind == "line" {
		c.drawLine(labels, values)
	} else {
		c.drawBars(labels, values)
	}
	return c
}

func float(v storage.SQLValue) (float64, bool) {
	switch v := v.(type) {
	case int64:
		return float64(v), true
	case float64:
		return v, !math.IsInf(v, 0) && !math.IsNaN(v)
	}
	return 0, false
}

func (c *chart) drawBars(labels []string, values []float64) {
	c.Kind = "bar"
	if len(values) > MaxBars {
		labels, values, c.Cut = labels[:MaxBars], values[:MaxBars], true
	}
	low, high := min(0, slices.Min(values)), max(0, slices.Max(values))
	room := float64(chartWidth - labelWidth - 90)
	scale := room / max(high-low, math.SmallestNonzeroFloat64)
	if high == low {
		scale = 0
	}
	c.Zero = labelWidth - low*scale
	c.Left, c.Height = labelWidth, len(values)*barStep+8
	for i, v := range values {
		b := bar{Y: float64(i*barStep + 6), Height: barStep - 8, X: c.Zero, Width: v * scale, Label: cut(labels[i], 32), Value: short(v)}
		if v < 0 {
			b.X, b.Width = c.Zero+v*scale, -v*scale
		}
		b.Middle, b.End = b.Y+b.Height/2+5, b.X+b.Width+8
		c.Bars = append(c.Bars, b)
	}
}

func (c *chart) drawLine(labels []string, values []float64) {
	low, high := slices.Min(values), slices.Max(values)
	if low > 0 && low < high/2 {
		low = 0
	}
	step := niceStep((high - low) / 5)
	low, high = math.Floor(low/step)*step, math.Ceil(high/step)*step
	if high == low {
		high = low + step
	}
	c.Left, c.Bottom, c.Height = lineLeft, lineBottom, lineHeight
	at := func(v float64) float64 { return lineBottom - (v-low)/(high-low)*(lineBottom-lineTop) }
	for v := low; v <= high+step/2; v += step {
		c.Ticks = append(c.Ticks, tick{at(v), short(v)})
	}
	var points strings.Builder
	for i, v := range values {
		x := lineLeft + float64(i)/float64(max(len(values)-1, 1))*(chartWidth-lineLeft-20)
		points.WriteString(strconv.FormatFloat(x, 'f', 1, 64) + "," + strconv.FormatFloat(at(v), 'f', 1, 64) + " ")
		if len(values) <= 100 {
			c.Dots = append(c.Dots, dot{x, at(v), labels[i], short(v)})
		}
		if every := max(1, len(values)/chartLabels); i%every == 0 && (i/every < chartLabels) {
			c.Labels = append(c.Labels, label{x, cut(labels[i], 14)})
		}
	}
	c.Line = strings.TrimSpace(points.String())
}

// niceStep is 1, 2 or 5 times a power of ten, not below n.
func niceStep(n float64) float64 {
	if n <= 0 || math.IsInf(n, 0) {
		return 1
	}
	power := math.Pow(10, math.Floor(math.Log10(n)))
	for _, factor := range []float64{1, 2, 5} {
		if n <= factor*power {
			return factor * power
		}
	}
	return 10 * power
}

// short is a number for a chart.
func short(v float64) string {
	for _, unit := range []struct {
		size float64
		name string
	}{{1e12, "T"}, {1e9, "G"}, {1e6, "M"}, {1e4, "k"}} {
		if math.Abs(v) >= unit.size {
			if unit.name == "k" {
				unit.size = 1e3
			}
			return strconv.FormatFloat(v/unit.size, 'f', 1, 64) + " " + unit.name
		}
	}
	return strconv.FormatFloat(math.Round(v*1000)/1000, 'f', -1, 64)
}
