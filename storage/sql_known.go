package storage

import "sync"

// remembered keeps answers about the catalogue while it stays as it is: requests
// over HTTP ask the same few questions each time.
type remembered[K comparable, V any] struct {
	mu   sync.Mutex
	asOf uint64 // of the catalogue
	all  map[K]V
}

// maxRemembered bounds the answers that are kept.
const maxRemembered = 4096

// get returns the answer to a question as of the catalogue asOf, from find if it
// is not known. The catalogue is counted after a change is visible, so that an
// answer found meanwhile is at worst newer than asOf says.
func (r *remembered[K, V]) get(asOf uint64, key K, find func() (V, error)) (V, error) {
	r.mu.Lock()
	v, known := r.all[key]
	known = known && r.asOf == asOf
	r.mu.Unlock()
	if known {
		return v, nil
	}
	v, err := find()
	if err != nil {
		return v, err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.all == nil || r.asOf < asOf || len(r.all) >= maxRemembered {
		r.asOf, r.all = max(r.asOf, asOf), map[K]V{}
	}
	if r.asOf == asOf {
		r.all[key] = v
	}
	return v, nil
}

// sqlAsk is who wants to open which database, sqlAnswer what becomes of it.
type (
	sqlAsk struct {
		user SQLUser
		name string
	}
	sqlAnswer struct {
		id  int64
		may Privilege
	}
	knownToken struct {
		account Account
		expires int64 // Unix milliseconds; 0: never
	}
)
