package smtp

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base32"
	"errors"
	"strings"
	"time"
)

// The Sender Rewriting Scheme: a reverse path of ours that holds another's, so
// that what was forwarded passes SPF and its failures come back through us. The
// forms are those of libsrs2, in which most others write them:
//
//	SRS0=hash=day=domain=local@ours        of whoever sent it to us
//	SRS1=hash=forwarder==rest@ours         of another forwarder's SRS0
const (
	srs0 = "SRS0"
	srs1 = "SRS1"
	// srsDays is how long failures of forwarded mail come back: queues give up
	// after a week.
	srsDays = 21
	// srsHash is the length of the hash in characters of 5 bits.
	srsHash = 8
	day     = 24 * time.Hour
)

var (
	srsEncoding = base32.NewEncoding("abcdefghijklmnopqrstuvwxyz234567").WithPadding(base32.NoPadding)
	errNoSRSKey = errors.New("the key of rewritten senders is not known")
	errNoSRS    = errors.New("not a rewritten sender of ours")
)

// rewrite returns the reverse path under which mail from somebody is sent on for
// an address of a domain of ours. The null sender stays; so does one of a domain
// hosted here.
func (srv *Server) rewrite(from path, domain string) (path, error) {
	if from == (path{}) {
		return from, nil
	}
	if to, err := srv.cfg.Store.Resolve(srv.ctx, from.String()); err != nil {
		return path{}, err
	} else if to.Local {
		return from, nil
	}
	key, err := srv.srsKey(srv.ctx)
	if err != nil {
		return path{}, err
	}
	prefix, rest, rewritten := cutSRS(from.local)
	switch {
	case rewritten && prefix == srs1: // keep the first forwarder, drop the one between
		if _, inner, ok := strings.Cut(rest, "="); ok {
			return path{local: srs1 + "=" + srsSum(key, inner) + "=" + inner, domain: domain, international: from.international}, nil
		}
	case rewritten:
		inner := from.domain + "==" + rest
		return path{local: srs1 + "=" + srsSum(key, inner) + "=" + inner, domain: domain, international: from.international}, nil
	}
	inner := srsDay(srv.cfg.Clock()) + "=" + from.domain + "=" + from.local
	return path{local: srs0 + "=" + srsSum(key, inner) + "=" + inner, domain: domain, international: from.international}, nil
}

func (srv *Server) srsKey(ctx context.Context) ([]byte, error) {
	if srv.cfg.SRSKey == nil {
		return nil, errNoSRSKey
	}
	return srv.cfg.SRSKey(ctx)
}

// cutSRS recognises a rewritten local part, whatever the case and the separator
// behind its name.
func cutSRS(local string) (prefix, rest string, ok bool) {
	if len(local) < len(srs0)+1 || strings.IndexByte("=+-", local[len(srs0)]) < 0 {
		return "", "", false
	}
	prefix = strings.ToUpper(local[:len(srs0)])
	return prefix, local[len(srs0)+1:], prefix == srs0 || prefix == srs1
}

// restore returns the address that a rewritten local part of ours holds.
func (srv *Server) restore(ctx context.Context, local string) (path, error) {
	prefix, rest, ok := cutSRS(local)
	hash, inner, found := strings.Cut(rest, "=")
	if !ok || !found {
		return path{}, errNoSRS
	}
	key, err := srv.srsKey(ctx)
	if err != nil {
		return path{}, err
	}
	if !hmac.Equal([]byte(strings.ToLower(hash)), []byte(srsSum(key, inner))) {
		return path{}, errNoSRS
	}
	first, second, ok := strings.Cut(inner, "=")
	if !ok {
		return path{}, errNoSRS
	}
	text := "" // the address as a path
	if prefix == srs1 {
		text = quoteLocal(srs0+second) + "@" + first // second begins with the separator
	} else {
		domain, local, ok := strings.Cut(second, "=")
		if !ok || !srsFresh(first, srv.cfg.Clock()) {
			return path{}, errNoSRS
		}
		text = quoteLocal(local) + "@" + domain
	}
	p, after, ok := parsePath("<" + text + ">")
	if !ok || after != "" || p.domain == "" {
		return path{}, errNoSRS
	}
	return p, nil
}

// srsSum is the hash over what an address holds. Local parts lose their case on
// the way through some systems.
func srsSum(key []byte, inner string) string {
	mac := hmac.New(sha256.New, key)
	mac.Write([]byte(strings.ToLower(inner)))
	return srsEncoding.EncodeToString(mac.Sum(nil))[:srsHash]
}

const srsDigits = "abcdefghijklmnopqrstuvwxyz234567"

// srsDay is the day in two characters, which come again after 1,024 days.
func srsDay(now time.Time) string {
	n := now.Unix() / int64(day/time.Second) % 1024
	return string([]byte{srsDigits[n>>5], srsDigits[n&31]})
}

func srsFresh(text string, now time.Time) bool {
	if len(text) != 2 {
		return false
	}
	text = strings.ToLower(text)
	for i := range srsDays + 1 {
		if srsDay(now.Add(-time.Duration(i)*day)) == text {
			return true
		}
	}
	return false
}
