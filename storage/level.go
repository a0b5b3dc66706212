package storage

import (
	"context"
	"fmt"
	"strconv"

	"zombiezen.com/go/sqlite"
)

// Level is the feature level of this release: a number that grows with what a
// release can apply. The state has a level of its own, from 1. It is raised by a
// command once every node has a release that knows it, and until then nothing is
// proposed that an older release would not understand. So releases whose levels
// are neighbours run side by side.
//
// Rules for whoever changes apply, held by TestLevels:
//   - A new kind of command is of the newest level without more ado.
//   - A kind whose body means more than it did has another layout (see [layered]),
//     entered in laterLayouts.
//   - What an old kind does besides, to new tables, it does only if tx.level says so:
//     on older releases it would not be done.
//   - A step of the schema only adds tables, columns with a constant default and
//     indexes. What has to be worked out from the rows that are there is done in
//     levelSteps, at the same command on every node.
const Level = 3

// firstLevel is that of a state which was never raised.
const firstLevel = 1

// kindRaiseLevel is understood by whoever it can reach.
const kindRaiseLevel kind = 68

const settingLevel = "cluster.level"

// laterLayouts are the levels of the layouts 2, 3 … of a kind's body.
var laterLayouts = map[kind][]int{kindSetPassword: {2}, kindSetQuota: {2}, kindChangeDatabase: {3}, kindCreateAccount: {3}, kindDispatch: {3}}

// levelSteps bring the rows that are there up to a level.
var levelSteps = map[int]func(*tx) error{}

// layered is a body that has more than one layout; layout returns the lowest
// that says all that this one does, from 1.
type layered interface{ layout() uint8 }

func layoutOf(body any) uint8 {
	if b, ok := body.(layered); ok {
		return b.layout()
	}
	return 1
}

// known reports whether this release can apply a layout of a kind.
func known(k kind, layout uint8) bool {
	return appliers[k] != nil && layout >= 1 && int(layout) <= 1+len(laterLayouts[k])
}

// levelOf returns the level that a state must have for a command.
func levelOf(k kind, layout uint8) int {
	if layout > 1 {
		return laterLayouts[k][layout-2]
	}
	switch {
	case k == kindRaiseLevel,
		k >= kindCreateDomain && k <= kindRemoveAlias, k >= kindCreateMailbox && k <= kindSubscribe,
		k >= kindPutPart && k <= kindExpunge, k >= kindForget && k <= kindRollPack, k >= kindSetSetting && k <= kindAudit:
		return firstLevel
	case k >= kindClaimRecent && k <= kindAnnotate, k == kindAppendAll, k == kindForgetOld,
		k >= kindDispatch && k <= kindForgetTLS, k >= kindAddAppPassword && k <= kindRememberLogins,
		k >= kindCreateDatabase && k <= kindRemoveToken, k >= kindChangeDatabase && k <= kindDropParts,
		k >= kindCreateWebSession && k <= kindEndWebSessions, k >= kindPutCertificateFile && k <= kindUnlockCertificates,
		k >= kindCountSenders && k <= kindSetSenderPolicy:
		return 2
	}
	return Level
}

// Level returns the level of the state.
func (s *Store) Level() int { return int(s.machine.level.Load()) }

// RaiseLevel makes level that of the state. Whoever calls it has made sure that
// every node knows it; one that does not stops where it meets this.
func (s *Store) RaiseLevel(ctx context.Context, level int) error {
	return s.decide(ctx, kindRaiseLevel, raiseLevel{level})
}

// SetLaggards says who is asked which nodes keep the level from being raised.
// The answer goes into the hint of a refusal: "n2 runs 0.1.0".
func (s *Store) SetLaggards(f func(ctx context.Context) string) { s.laggards.Store(&f) }

// allowed refuses what an older release in the cluster would not understand.
func (s *Store) allowed(ctx context.Context, k kind, layout uint8) error {
	if levelOf(k, layout) <= s.Level() {
		return nil
	}
	hint := "upgrade all nodes"
	if f := s.laggards.Load(); f != nil {
		if who := (*f)(ctx); who != "" {
			hint += ": " + who
		}
	}
	return &Error{Op: "write", Kind: KindUnavailable, Hint: hint,
		Err: fmt.Errorf("this needs feature level %d, the cluster has %d", levelOf(k, layout), s.Level())}
}

type raiseLevel struct {
	Level int `cbor:"1,keyasint"`
}

func applyRaiseLevel(t *tx, b raiseLevel) (any, error) {
	if b.Level > Level {
		return nil, fmt.Errorf("the cluster has feature level %d, this release knows %d; upgrade this node", b.Level, Level)
	}
	for t.level < b.Level {
		t.level++
		if step := levelSteps[t.level]; step != nil {
			if err := step(t); err != nil {
				return nil, err
			}
		}
	}
	return applySetSetting(t, setSetting{settingLevel, []byte(strconv.Itoa(t.level))})
}

// readLevel reads the level of the state, and refuses one that this release does not know.
func readLevel(c *conn) (level int, err error) {
	level = firstLevel
	_, err = c.row("SELECT value FROM setting WHERE name = ?", func(st *sqlite.Stmt) {
		level, err = strconv.Atoi(string(columnBytes(st, 0)))
	}, settingLevel)
	if err == nil && level > Level {
		err = fmt.Errorf("the state has feature level %d, this release knows %d; run the newer release", level, Level)
	}
	return level, err
}
