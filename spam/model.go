package spam

import (
	"math"
	"math/rand/v2"
)

// Constants of learning. They were chosen by measurement: see DESIGN.md.
const (
	learnRate   = 0.02 // of the first message that has a feature; falls with count^-1/4
	learnStep   = 6    // points that one message moves its own score at most: its label may be wrong
	learnMargin = 0.02 // messages whose label is more certain than this are not learned from
	bayesWeight = 0.4  // of the naive Bayes part, in points for each standard deviation
	bayesClear  = 0.4  // tokens whose probability is nearer to 1/2 than this say nothing
	bayesStrong = 0.1  // Robinson's s: what one sight of a token weighs against the prior
	bayesPrior  = 0.52 // Robinson's x: the probability of a token never seen
	shyness     = 15   // messages of the rarer label until a model speaks with half its voice
	weightUnit  = 1 << 14
	slotSize    = 4 // octets of a slot where it is kept
)

// slot is what a model knows of one feature.
type slot struct {
	weight    int16 // of logistic regression, in 1/weightUnit points
	ham, spam uint8 // messages that had it, see sights
}

// Model is what was learned of wanted and unwanted mail. It is a value that does not change once others
// can see it: scoring takes no lock.
type Model struct {
	Head
	slots []slot // nil: nothing was learned
	scale scale  // worked out from Head
}

// Head is what a model knows besides its slots.
type Head struct {
	Ham, Spam uint32 // messages learned
	// How messages scored before they were learned, by label, in bins of half a point from -16.
	HamScores, SpamScores [scoreBins]uint16
}

const (
	scoreBins = 64
	binWidth  = 0.5
	// binsFull is how many scores are counted before all are halved: what counts is how the model is now.
	binsFull = 4000
)

// exact is how far sights are counted one by one; from there on 16 steps double the number.
const exact = 64

// sights is how many messages a counter stands for.
var sights = func() (t [256]float64) {
	for c := range t {
		t[c] = float64(c)
		if c > exact {
			t[c] = exact * math.Exp2(float64(c-exact)/16)
		}
	}
	return t
}()

// slowdown is count^-1/4 for 1+count.
var slowdown = func() (t [512]float32) {
	for n := range t {
		t[n] = float32(math.Pow(1+float64(n), -0.25))
	}
	return t
}()

func slowed(count float64) float64 {
	if n := int(count); n < len(slowdown) {
		return float64(slowdown[n])
	}
	return math.Pow(1+count, -0.25)
}

// score is what the parts of a model say of a message.
type score struct {
	regression float64 // points of logistic regression alone, which it learns by
	total      float64 // before calibration
}

// score judges a message by its features.
func (m *Model) score(features Features) score {
	if m.slots == nil {
		return score{}
	}
	var sum int64
	var b bayes
	perHam, perSpam := 1/max(1, float64(m.Ham)), 1/max(1, float64(m.Spam))
	for _, f := range features {
		s := m.slots[f]
		sum += int64(s.weight)
		if f >= tokens && s.ham|s.spam != 0 {
			b.add(sights[s.ham], sights[s.spam], perHam, perSpam)
		}
	}
	out := score{regression: float64(sum) / weightUnit}
	rarer := float64(min(m.Ham, m.Spam))
	out.total = (out.regression + bayesWeight*b.deviation()) * rarer / (rarer + shyness)
	return out
}

// bayes adds up tokens as Robinson and Fisher do: two products of probabilities, each with the power of
// two taken out so that it does not vanish.
type bayes struct {
	spam, ham         float64 // products
	spamPower, hamPow int
	n                 float64
}

func (b *bayes) add(ham, spam, perHam, perSpam float64) {
	if b.n == 0 {
		b.spam, b.ham = 1, 1
	}
	x, y := spam*perSpam, ham*perHam
	n := ham + spam
	f := (bayesStrong*bayesPrior + n*x/(x+y)) / (bayesStrong + n)
	if math.Abs(f-0.5) <= bayesClear {
		return
	}
	b.n++
	b.spam *= 1 - f
	b.ham *= f
	if b.spam < 1e-200 {
		power := 0
		b.spam, power = math.Frexp(b.spam)
		b.spamPower += power
	}
	if b.ham < 1e-200 {
		power := 0
		b.ham, power = math.Frexp(b.ham)
		b.hamPow += power
	}
}

// deviation is how far the message is on the side of the unwanted, in standard deviations: the difference of both
// chi-squares, each made normal by the cube root of Wilson and Hilferty.
func (b *bayes) deviation() float64 {
	if b.n == 0 {
		return 0
	}
	z := func(product float64, power int) float64 {
		chi := -2 * (math.Log(product) + float64(power)*math.Ln2)
		spread := 2 / (18 * b.n)
		return (math.Cbrt(chi/(2*b.n)) - (1 - spread)) / math.Sqrt(spread)
	}
	return z(b.spam, b.spamPower) - z(b.ham, b.hamPow)
}

// learn changes the model by one more message. Nobody else may see m yet.
func (m *Model) learn(features Features, unwanted bool, chance *rand.Rand) {
	if m.slots == nil {
		m.slots = make([]slot, slots)
	}
	said := m.score(features)
	m.Head.note(said.total, unwanted)
	y := 0.0
	if unwanted {
		y = 1
	}
	miss := y - Probability(said.regression)
	if math.Abs(miss) > learnMargin {
		whole := 0.0
		for _, f := range features {
			s := &m.slots[f]
			whole += slowed(sights[s.ham] + sights[s.spam])
		}
		step := learnRate * miss
		if math.Abs(step)*whole > learnStep {
			step = math.Copysign(learnStep/whole, miss)
		}
		step *= weightUnit
		for _, f := range features {
			s := &m.slots[f]
			change := step * slowed(sights[s.ham]+sights[s.spam])
			whole := math.Floor(change)
			if chance.Float64() < change-whole { // so that small steps are not lost
				whole++
			}
			s.weight = int16(max(math.MinInt16, min(math.MaxInt16, float64(s.weight)+whole)))
		}
	}
	m.count(features, unwanted, 1, chance)
}

// unlearn takes a message out of the counts. Its weights stay: learning it under its other label turns those.
func (m *Model) unlearn(features Features, unwanted bool, chance *rand.Rand) {
	if m.slots != nil {
		m.count(features, unwanted, -1, chance)
	}
}

// count adds a message to the counts, or takes it out.
func (m *Model) count(features Features, unwanted bool, by int, chance *rand.Rand) {
	all := &m.Ham
	if unwanted {
		all = &m.Spam
	}
	if by < 0 && *all == 0 {
		return
	}
	*all = uint32(int64(*all) + int64(by))
	for _, f := range features {
		counter := &m.slots[f].ham
		if unwanted {
			counter = &m.slots[f].spam
		}
		*counter = counted(*counter, by, chance)
	}
	m.scale = m.Head.fit()
}

// counted is a counter after one more message, or one less: beyond what is counted one by one, by chance.
func counted(c uint8, by int, chance *rand.Rand) uint8 {
	switch {
	case by > 0 && c == math.MaxUint8, by < 0 && c == 0:
		return c
	case by > 0 && (c < exact || chance.Float64()*(sights[c+1]-sights[c]) < 1):
		return c + 1
	case by < 0 && (c <= exact || chance.Float64()*(sights[c]-sights[c-1]) < 1):
		return c - 1
	}
	return c
}

// note counts how a message scored before it was learned.
func (h *Head) note(total float64, unwanted bool) {
	bins := &h.HamScores
	if unwanted {
		bins = &h.SpamScores
	}
	bins[bin(total)]++
	sum := 0
	for _, n := range bins {
		sum += int(n)
	}
	if sum >= binsFull {
		for i := range bins {
			bins[i] /= 2
		}
	}
}

func bin(total float64) int {
	return int(max(0, min(scoreBins-1, math.Floor(total/binWidth)+scoreBins/2)))
}

// middle is the score in the middle of a bin.
func middle(i int) float64 { return (float64(i-scoreBins/2) + 0.5) * binWidth }

// scale turns scores into points that are true log-odds.
type scale struct{ slope, shift float64 }

// Of the fit: it begins with a scale of 1, which weighs as much as so many messages at one point.
const (
	fitWeight = 10
	fitRounds = 12
)

// fit works out by logistic regression (Platt) what scores have meant so far.
func (h *Head) fit() scale {
	s := scale{slope: 1}
	for range fitRounds {
		// Newton's method on the log-likelihood, with a normal prior around slope 1 and shift 0.
		ga, gb := fitWeight*(1-s.slope), -fitWeight*s.shift
		haa, hab, hbb := float64(fitWeight), 0.0, float64(fitWeight)
		for i := range scoreBins {
			ham, spam := float64(h.HamScores[i]), float64(h.SpamScores[i])
			if ham+spam == 0 {
				continue
			}
			x := middle(i)
			p := Probability(s.slope*x + s.shift)
			miss := spam - (ham+spam)*p
			ga, gb = ga+miss*x, gb+miss
			v := (ham + spam) * p * (1 - p)
			haa, hab, hbb = haa+v*x*x, hab+v*x, hbb+v
		}
		det := haa*hbb - hab*hab
		s.slope += max(-1, min(1, (hbb*ga-hab*gb)/det))
		s.shift += max(-1, min(1, (haa*gb-hab*ga)/det))
	}
	return s
}

// points are what a score means.
func (m *Model) points(total float64) float64 {
	if m.Ham == 0 || m.Spam == 0 {
		return 0
	}
	return m.scale.slope*total + m.scale.shift
}

// floor is the points above which at most one in a thousand wanted messages were, but for one.
func (m *Model) floor() float64 {
	all := 0
	for _, n := range m.HamScores {
		all += int(n)
	}
	allowed := all/1000 + 1
	for i := scoreBins - 1; i >= 0; i-- {
		if allowed -= int(m.HamScores[i]); allowed < 0 {
			return m.points(middle(i) + binWidth/2)
		}
	}
	return math.Inf(-1)
}

// seeded is the chance by which a message is learned: its own, so that the same lessons give the same model.
func seeded(features Features) *rand.Rand {
	h := uint64(fnvOffset)
	for _, f := range features {
		h = (h ^ uint64(f)) * fnvPrime
	}
	return rand.New(rand.NewPCG(h, golden))
}
