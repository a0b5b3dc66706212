package main

import (
	"context"
	"errors"
	"time"

	"trivet/auth"
	"trivet/raft"
	"trivet/spam"
	"trivet/storage"
)

// settingSpamKey is the name under which the nodes share the key that features are hashed with.
const settingSpamKey = "spam.key"

// ledger is the replicated state as package spam sees it.
type ledger struct{ store *storage.Store }

// Key implements [spam.Ledger]. There is none before something was to be learned.
func (l ledger) Key(ctx context.Context) (*spam.Key, error) {
	value, err := l.store.Setting(ctx, settingSpamKey)
	if err != nil && storage.KindOf(err) == storage.KindNotFound {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	key := new(spam.Key)
	copy(key[:], value)
	return key, nil
}

// makeKey returns the key, and makes it if there is none.
func (l ledger) makeKey(ctx context.Context) (spam.Key, error) {
	key, err := l.Key(ctx)
	if key != nil || err != nil {
		return orZero(key), err
	}
	if err := l.store.SetSetting(ctx, settingSpamKey, auth.NewSecret()); err != nil {
		return spam.Key{}, err
	}
	key, err = l.Key(ctx)
	return orZero(key), err
}

func orZero(key *spam.Key) spam.Key {
	if key == nil {
		return spam.Key{}
	}
	return *key
}

// Generation implements [spam.Ledger].
func (l ledger) Generation() uint64 { return l.store.SpamGeneration() }

// Version implements [spam.Ledger].
func (l ledger) Version(ctx context.Context, account int64) (int64, error) {
	return l.store.SpamModelVersion(ctx, account)
}

// Model implements [spam.Ledger].
func (l ledger) Model(ctx context.Context, account int64) (spam.Stored, error) {
	m, err := l.store.SpamModel(ctx, account)
	return spam.Stored(m), err
}

// Lessons implements [spam.Ledger].
func (l ledger) Lessons(ctx context.Context, limit int) ([]spam.Lesson, error) {
	lessons, err := l.store.Lessons(ctx, limit)
	out := make([]spam.Lesson, len(lessons))
	for i, x := range lessons {
		out[i] = spam.Lesson{ID: x.ID, Account: x.Account, Message: x.Message, Hash: x.Hash, Unwanted: x.Unwanted, Features: x.Features,
			Learned: x.Before != storage.LearnedNot, WasUnwanted: x.Before == storage.LearnedSpam, Shared: x.Shared}
	}
	return out, err
}

// Message implements [spam.Ledger].
func (l ledger) Message(ctx context.Context, id int64) (spam.Body, error) {
	body, err := l.store.OpenBody(ctx, id)
	if err != nil {
		return nil, err
	}
	return body, nil
}

// Share implements [spam.Ledger].
func (l ledger) Share(ctx context.Context, account int64) (int64, error) {
	return l.store.SpamShareOf(ctx, account)
}

// Train implements [spam.Ledger].
func (l ledger) Train(ctx context.Context, t spam.Training) error {
	out := storage.Training{Done: t.Done}
	for _, x := range t.Labels {
		out.Labels = append(out.Labels, storage.LearnedItem(x))
	}
	for _, c := range t.Changes {
		out.Change(storage.SpamModel(c.Before), storage.SpamModel(c.After))
	}
	err := l.store.Train(ctx, out)
	if err != nil && storage.KindOf(err) == storage.KindExists {
		return nil // a leader of before was faster
	}
	return err
}

var _ spam.Ledger = ledger{}

// keptEvery is how often read mail is looked for that nobody marked as wanted.
const keptEvery = 10 * time.Minute

// learnSpam has the models learn while this node leads.
func (n *node) learnSpam(ctx context.Context) {
	leads := func() bool { return n.raft.Status().Role == raft.RoleLeader && n.store.Level() >= 3 }
	trainer := spam.Trainer{Ledger: ledger{n.store}, Leads: leads, Logger: n.log}
	trainer.Ready = func(ctx context.Context) error {
		_, err := ledger{n.store}.makeKey(ctx)
		return err
	}
	looked := time.Now()
	trainer.Idle = func(ctx context.Context) {
		if time.Since(looked) < keptEvery {
			return
		}
		looked = time.Now()
		if _, err := n.store.LearnKept(ctx); err != nil && !errors.Is(err, context.Canceled) {
			n.log.Warn("read mail was not looked through for lessons", "error", err)
		}
	}
	trainer.Run(ctx)
}
