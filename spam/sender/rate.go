package sender

import (
	"net/netip"
	"sync"
	"time"
)

// Limits of counting what networks send.
const (
	// RateWindow is the time over which messages from a network are counted, by each node by itself.
	RateWindow = 10 * time.Minute
	// maxRates bounds the networks that are counted.
	maxRates = 20_000
)

// Rates counts messages by network, in windows of [RateWindow]. The zero value is ready.
type Rates struct {
	mu     sync.Mutex
	window int64
	now    map[string]int
	before map[string]int
}

// count returns how many messages came from a's network within about the last [RateWindow], with this one if it is to be
// counted.
func (r *Rates) count(a netip.Addr, at time.Time, counted bool) int {
	network := Network(a)
	if network == "" {
		return 0
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	size := int64(RateWindow / time.Second)
	window, rest := at.Unix()/size, at.Unix()%size
	switch {
	case window == r.window+1:
		r.window, r.before, r.now = window, r.now, nil
	case window != r.window:
		r.window, r.before, r.now = window, nil, nil
	}
	if r.now == nil {
		r.now = map[string]int{}
	}
	if _, there := r.now[network]; counted && (there || len(r.now) < maxRates) {
		r.now[network]++
	}
	return r.now[network] + int(int64(r.before[network])*(size-rest)/size)
}
