package spam

import (
	"bufio"
	"bytes"
	"cmp"
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"trivet/storage/message"
)

// Trial says how to measure the classifier on labelled mail.
type Trial struct {
	Dir   string  // has folders ham and spam, and perhaps a file order: a path below Dir on each line
	Seeds int     // shuffles whose mean is taken, when there is no order; 0: 1
	Noise float64 // share of labels that are taught wrong, 0 to 0.5
	// Bogofilter measures that one, too, which has to be installed.
	Bogofilter bool
}

// Measured is how well a filter did.
type Measured struct {
	Messages  int     `json:"messages"`
	Area      float64 `json:"one_minus_roca_percent"`
	RecallPer float64 `json:"recall_at_0.1_percent"` // share of unwanted mail caught, in percent, at 0.1 % of wanted mail lost
	RecallHun float64 `json:"recall_at_1_percent"`
}

// TrialResult is what came out.
type TrialResult struct {
	Ham                int               `json:"ham"`
	Spam               int               `json:"spam"`
	Seeds              int               `json:"seeds"`
	Noise              float64           `json:"noise"`
	Feedback           Measured          `json:"immediate_feedback"` // judge, then learn, each message in order
	Split              Measured          `json:"split_30_70"`        // learn the first 30 %, judge the rest
	BogofilterFeedback *Measured         `json:"bogofilter_immediate_feedback,omitempty"`
	BogofilterSplit    *Measured         `json:"bogofilter_split_30_70,omitempty"`
	Calibrated         []CalibrationStep `json:"calibration"`
	PerSecond          float64           `json:"messages_per_second"` // features, verdict and learning, a second of processor time
	Judging            float64           `json:"verdicts_per_second"` // features and verdict
	Features           float64           `json:"features_per_message"`
	ModelSize          int               `json:"model_octets"`
}

// CalibrationStep compares what was said with what was so, of the messages whose probability was in a range.
type CalibrationStep struct {
	From     float64 `json:"from"`
	To       float64 `json:"to"`
	Messages int     `json:"messages"`
	Said     float64 `json:"said"` // mean probability
	Were     float64 `json:"were"` // share that was unwanted
}

// Sample is one labelled message.
type Sample struct {
	Path     string
	Unwanted bool
}

// Samples lists the labelled messages below dir in their order: that of the file order, else by name. ordered
// tells which.
func Samples(dir string) (found []Sample, ordered bool, err error) {
	for _, label := range []string{"ham", "spam"} {
		entries, err := os.ReadDir(filepath.Join(dir, label))
		if err != nil {
			return nil, false, fmt.Errorf("read labelled mail: %w", err)
		}
		for _, e := range entries {
			if !e.IsDir() {
				found = append(found, Sample{filepath.Join(label, e.Name()), label == "spam"})
			}
		}
	}
	order, err := os.ReadFile(filepath.Join(dir, "order"))
	if os.IsNotExist(err) {
		return found, false, nil
	}
	if err != nil {
		return nil, false, fmt.Errorf("read labelled mail: %w", err)
	}
	known := map[string]bool{}
	for _, s := range found {
		known[s.Path] = true
	}
	found = nil
	lines := bufio.NewScanner(bytes.NewReader(order))
	for lines.Scan() {
		path := filepath.Clean(strings.TrimSpace(lines.Text()))
		if !known[path] {
			return nil, false, fmt.Errorf("read labelled mail: order names %q, which is in neither ham nor spam", path)
		}
		found = append(found, Sample{path, strings.HasPrefix(path, "spam")})
	}
	return found, true, lines.Err()
}

// labelled is a sample that was looked at.
type labelled struct {
	features Features
	unwanted bool
	path     string
}

// outcome is a score beside what is so.
type outcome struct {
	score    float64
	unwanted bool
}

// Evaluate measures the classifier. It reads each message once, and learns it anew for each seed.
func Evaluate(ctx context.Context, t Trial) (TrialResult, error) {
	samples, ordered, err := Samples(t.Dir)
	if err != nil {
		return TrialResult{}, err
	}
	if ordered || t.Seeds == 0 {
		t.Seeds = 1
	}
	out := TrialResult{Seeds: t.Seeds, Noise: t.Noise, ModelSize: slots * slotSize}
	all, looking, err := t.look(samples)
	if err != nil {
		return out, err
	}
	for _, l := range all {
		out.Features += float64(len(l.features)) / float64(len(all))
		if l.unwanted {
			out.Spam++
		} else {
			out.Ham++
		}
	}
	calibration := newCalibration()
	var judging, learning time.Duration
	for seed := range uint64(t.Seeds) {
		if err := ctx.Err(); err != nil {
			return out, err
		}
		order := slices.Clone(all)
		random := rand.New(rand.NewPCG(seed, 1))
		if !ordered {
			random.Shuffle(len(order), func(i, j int) { order[i], order[j] = order[j], order[i] })
		}
		taught := t.taught(order, random)
		began := cpuTime()
		feedback := immediate(order, taught, calibration)
		learning += cpuTime() - began
		out.Feedback.add(feedback, t.Seeds)
		split, took := splitTrial(order, taught)
		judging += took
		out.Split.add(split, t.Seeds)
		if t.Bogofilter {
			if err := t.compare(ctx, order, taught, &out); err != nil {
				return out, err
			}
		}
	}
	n := float64(len(all))
	perMessage := looking.Seconds() / n
	out.PerSecond = 1 / (perMessage + learning.Seconds()/n/float64(t.Seeds))
	out.Judging = 1 / (perMessage + judging.Seconds()/float64(out.Split.Messages)/float64(t.Seeds))
	out.Calibrated = calibration.steps()
	return out, nil
}

// look reads the samples and finds their features, and returns how long that took.
func (t Trial) look(samples []Sample) (all []labelled, took time.Duration, err error) {
	for _, s := range samples {
		path := filepath.Join(t.Dir, s.Path)
		raw, err := os.ReadFile(path)
		if err != nil {
			return nil, took, fmt.Errorf("read labelled mail: %w", err)
		}
		began := cpuTime()
		features, err := FeaturesOf(Key{}, raw)
		took += cpuTime() - began
		if err != nil {
			return nil, took, err
		}
		all = append(all, labelled{features, s.Unwanted, path})
	}
	return all, took, nil
}

// compare has bogofilter do the same.
func (t Trial) compare(ctx context.Context, order []labelled, taught []bool, out *TrialResult) error {
	feedback, err := bogofilterFeedback(ctx, order, taught)
	if err != nil {
		return err
	}
	split, err := bogofilterSplit(ctx, order, taught)
	if err != nil {
		return err
	}
	if out.BogofilterFeedback == nil {
		out.BogofilterFeedback, out.BogofilterSplit = &Measured{}, &Measured{}
	}
	out.BogofilterFeedback.add(feedback, t.Seeds)
	out.BogofilterSplit.add(split, t.Seeds)
	return nil
}

// FeaturesOf returns the features of a message in memory.
func FeaturesOf(key Key, raw []byte) (Features, error) {
	m, err := message.Scan(bytes.NewReader(raw))
	if err != nil {
		return nil, err
	}
	return Extract(key, raw[:m.HeaderSize], bytes.NewReader(raw), m)
}

// taught are the labels as they are taught: some of them wrong, if the trial wants that.
func (t Trial) taught(order []labelled, random *rand.Rand) []bool {
	out := make([]bool, len(order))
	for i, l := range order {
		out[i] = l.unwanted != (random.Float64() < t.Noise)
	}
	return out
}

// immediate judges each message and then learns it.
func immediate(order []labelled, taught []bool, c *calibration) []outcome {
	var m Model
	out := make([]outcome, 0, len(order))
	for i, l := range order {
		total := m.score(l.features).total
		out = append(out, outcome{total, l.unwanted})
		c.add(Probability(m.points(total)), l.unwanted)
		m.learn(l.features, taught[i], seeded(l.features))
	}
	return out
}

// splitTrial learns the first 30 % and judges the rest.
func splitTrial(order []labelled, taught []bool) ([]outcome, time.Duration) {
	var m Model
	first := len(order) * 3 / 10
	for i, l := range order[:first] {
		m.learn(l.features, taught[i], seeded(l.features))
	}
	out := make([]outcome, 0, len(order)-first)
	began := cpuTime()
	for _, l := range order[first:] {
		out = append(out, outcome{m.score(l.features).total, l.unwanted})
	}
	return out, cpuTime() - began
}

// add adds the measures of outcomes, as one of so many.
func (m *Measured) add(outcomes []outcome, of int) {
	area, recall := curve(outcomes, 0.001, 0.01)
	m.Messages = len(outcomes)
	m.Area += area / float64(of)
	m.RecallPer += recall[0] / float64(of)
	m.RecallHun += recall[1] / float64(of)
}

// curve returns what lies above the ROC curve, in percent of all, and the recall in percent at the given shares of
// false positives. It sorts outcomes.
func curve(outcomes []outcome, shares ...float64) (above float64, recall []float64) {
	slices.SortFunc(outcomes, func(a, b outcome) int { return cmp.Compare(b.score, a.score) })
	spam := 0
	for _, o := range outcomes {
		if o.unwanted {
			spam++
		}
	}
	ham := len(outcomes) - spam
	recall = make([]float64, len(shares))
	caught, lost, sum := 0, 0, 0.0
	for i := 0; i < len(outcomes); {
		p, n, score := 0, 0, outcomes[i].score
		for ; i < len(outcomes) && outcomes[i].score == score; i++ {
			if outcomes[i].unwanted {
				p++
			} else {
				n++
			}
		}
		sum += float64(n) * (float64(caught) + float64(p)/2)
		caught, lost = caught+p, lost+n
		for k, s := range shares {
			if float64(lost) <= s*float64(ham) {
				recall[k] = float64(caught) / float64(max(1, spam)) * 100
			}
		}
	}
	return (1 - sum/float64(max(1, spam))/float64(max(1, ham))) * 100, recall
}

// calibration counts messages by the probability that was said.
type calibration struct {
	edges []float64
	found []CalibrationStep
}

func newCalibration() *calibration {
	c := &calibration{edges: []float64{0, 0.01, 0.1, 0.3, 0.5, 0.7, 0.9, 0.99, 1}}
	for i := range c.edges[1:] {
		c.found = append(c.found, CalibrationStep{From: c.edges[i], To: c.edges[i+1]})
	}
	return c
}

func (c *calibration) add(probability float64, unwanted bool) {
	i := 0
	for i < len(c.found)-1 && probability >= c.found[i].To {
		i++
	}
	s := &c.found[i]
	s.Messages++
	s.Said += probability
	if unwanted {
		s.Were++
	}
}

func (c *calibration) steps() []CalibrationStep {
	for i := range c.found {
		if n := float64(c.found[i].Messages); n > 0 {
			c.found[i].Said /= n
			c.found[i].Were /= n
		}
	}
	return c.found
}
