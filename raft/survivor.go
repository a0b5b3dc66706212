package raft

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"

	hraft "github.com/hashicorp/raft"
)

const (
	expelledName = "expelled"
	expelledMost = 1 << 20
)

// expelled are the nodes that Recover left behind. If one of them came back with its old log, it could undo what has been
// done since; so this node does not talk to it.
type expelled []string

func readExpelled(dir string) (expelled, error) {
	raw, err := os.ReadFile(filepath.Join(dir, expelledName))
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var ids expelled
	if len(raw) > expelledMost || json.Unmarshal(raw, &ids) != nil {
		return nil, fmt.Errorf("%w: %s", ErrCorrupt, expelledName)
	}
	return ids, nil
}

// Recover makes the stopped node of cfg the only member of its cluster. Everything in its log becomes committed; what other
// nodes had acknowledged and this one had not received is lost. The other nodes must never run again with the data they
// have: this one refuses to talk to them, and new ones join with new IDs.
func Recover(cfg Config) error {
	const op = "recover"
	cfg, err := cfg.withDefaults()
	if err != nil {
		return &Error{Op: op, Kind: kindOf(err), Cause: err}
	}
	lock, err := lockDir(cfg.Dir)
	if err != nil {
		return err
	}
	defer lock.Close()
	log, err := openStores(cfg, nil, newFaults(cfg.Logger), context.Background())
	if err != nil {
		return &Error{Op: op, Kind: kindOf(err), Cause: err}
	}
	if err = errors.Join(leaveAlone(cfg, log), log.close()); err != nil {
		return &Error{Op: op, Kind: kindOf(err), Cause: err}
	}
	return nil
}

// leaveAlone ends the log with a configuration of this node alone. It can be repeated.
func leaveAlone(cfg Config, log *logStore) error {
	mark := log.markers.last()
	if _, err := os.Stat(log.markers.file(installName)); err == nil {
		return &Error{Op: "recover", Kind: ErrUnavailable, Hint: "a state was being received; start the node once, then try again"}
	}
	if max(log.last.Load(), mark.Index) == 0 {
		return &Error{Op: "recover", Kind: ErrNotBootstrapped}
	}
	if err := expelOthers(cfg, log, mark); err != nil {
		return err
	}
	last, err := log.passState()
	if err != nil {
		return err
	}
	term, err := log.GetUint64([]byte(keyCurrentTerm))
	if err != nil {
		return err
	}
	term++
	if err := log.SetUint64([]byte(keyCurrentTerm), term); err != nil {
		return err
	}
	alone := hraft.EncodeConfiguration(aloneConfiguration(cfg))
	return log.StoreLog(&hraft.Log{Index: last + 1, Term: term, Type: hraft.LogConfiguration, Data: alone})
}

// expelOthers records every other node that the marker or the log knows of.
func expelOthers(cfg Config, log *logStore, mark marker) error {
	ids, err := readExpelled(cfg.Dir)
	if err != nil {
		return err
	}
	add := func(raw []byte) {
		for _, s := range hraft.DecodeConfiguration(raw).Servers {
			if id := string(s.ID); id != cfg.NodeID && !slices.Contains(ids, id) {
				ids = append(ids, id)
			}
		}
	}
	if mark.Index > 0 {
		add(mark.Configuration)
	}
	first, err := log.FirstIndex()
	if err != nil {
		return err
	}
	for i := first; i > 0 && i <= log.last.Load(); i++ {
		var entry hraft.Log
		if err := log.GetLog(i, &entry); err != nil {
			return err
		}
		if entry.Type == hraft.LogConfiguration {
			add(entry.Data)
		}
	}
	raw, err := json.Marshal(ids)
	if err != nil {
		return err
	}
	return replaceFile(filepath.Join(cfg.Dir, expelledName), raw)
}

// passState returns the index the log goes on from. A state that was received can be ahead of the log that came with it; then
// the marker is moved up to it, or new entries would get the indexes of ones that the state has.
func (s *logStore) passState() (uint64, error) {
	mark, last := s.markers.last(), s.last.Load()
	if mark.State <= max(last, mark.Index) {
		return max(last, mark.Index), nil
	}
	mark.Index = mark.State
	if err := s.markers.write(mark); err != nil {
		return 0, err
	}
	return mark.Index, s.dropStale()
}
