package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"path"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/caddyserver/certmagic"

	"trivet/storage"
)

// The locks of the ACME client.
const (
	// acmeLockLife is how long a lock outlives its holder.
	acmeLockLife = 15 * time.Second
	// acmeLockExtend is how often a holder that lives extends it.
	acmeLockExtend = acmeLockLife / 3
	// acmeLockPoll is how often who waits for a lock asks for it.
	acmeLockPoll = time.Second
)

// acmeFiles is what acmeStorage needs of [storage.Store].
type acmeFiles interface {
	PutCertificateFile(ctx context.Context, name string, value []byte, locks []storage.CertificateLock) error
	DeleteCertificateFiles(ctx context.Context, name string, locks []storage.CertificateLock) error
	CertificateFile(ctx context.Context, name string) ([]byte, error)
	CertificateFiles(ctx context.Context, name string) ([]storage.CertificateFile, error)
	LockCertificates(ctx context.Context, name, holder string, life time.Duration) (storage.CertificateLock, error)
	ExtendCertificateLock(ctx context.Context, lock storage.CertificateLock, life time.Duration) error
	UnlockCertificates(ctx context.Context, lock storage.CertificateLock) error
}

// acmeStorage keeps what certmagic wants kept in the replicated state. What it
// writes while it holds locks is refused when one of them was lost, so a node that
// was cut off or asleep cannot write over what the next one did.
type acmeStorage struct {
	files   acmeFiles
	holder  string // this node
	log     *slog.Logger
	catchUp func(context.Context) error // waits until reads here see what was written elsewhere; nil: they do

	mu   sync.Mutex
	held map[string]*heldLock
}

// heldLock is a lock of this process, extended until stop is called.
type heldLock struct {
	lock storage.CertificateLock
	stop context.CancelFunc
	done chan struct{}
}

var _ certmagic.Storage = (*acmeStorage)(nil)

// Lock implements certmagic.Locker.
func (a *acmeStorage) Lock(ctx context.Context, name string) error {
	for {
		lock, err := a.files.LockCertificates(ctx, name, a.holder, acmeLockLife)
		if err == nil {
			a.keep(lock)
			return nil
		}
		if storage.KindOf(err) != storage.KindExists {
			return err
		}
		if !sleep(ctx, acmeLockPoll) {
			return errors.Join(err, ctx.Err())
		}
	}
}

// keep extends a lock until it is given back or lost.
func (a *acmeStorage) keep(lock storage.CertificateLock) {
	ctx, stop := context.WithCancel(context.Background())
	held := &heldLock{lock: lock, stop: stop, done: make(chan struct{})}
	a.mu.Lock()
	if a.held == nil {
		a.held = map[string]*heldLock{}
	}
	a.held[lock.Name] = held
	a.mu.Unlock()
	go func() {
		defer close(held.done)
		for sleep(ctx, acmeLockExtend) {
			attempt, cancel := context.WithTimeout(ctx, acmeLockExtend)
			err := a.files.ExtendCertificateLock(attempt, lock, acmeLockLife)
			cancel()
			if storage.KindOf(err) == storage.KindDenied {
				a.log.Warn("another node took over what this one was doing with certificates", "lock", lock.Name)
				return
			}
		}
	}()
}

// Unlock implements certmagic.Locker.
func (a *acmeStorage) Unlock(ctx context.Context, name string) error {
	a.mu.Lock()
	held, ok := a.held[name]
	delete(a.held, name)
	a.mu.Unlock()
	if !ok {
		return fmt.Errorf("unlock %s: it is not locked", name)
	}
	held.stop()
	<-held.done
	return a.files.UnlockCertificates(ctx, held.lock)
}

// locks are those that a change is made under.
func (a *acmeStorage) locks() []storage.CertificateLock {
	a.mu.Lock()
	defer a.mu.Unlock()
	var locks []storage.CertificateLock
	for _, held := range a.held {
		locks = append(locks, held.lock)
	}
	return locks
}

// Store implements certmagic.Storage.
func (a *acmeStorage) Store(ctx context.Context, key string, value []byte) error {
	return a.files.PutCertificateFile(ctx, key, value, a.locks())
}

// Load implements certmagic.Storage. An answer to a challenge may have been
// written by another node a moment ago, so its absence is looked at twice.
func (a *acmeStorage) Load(ctx context.Context, key string) ([]byte, error) {
	value, err := a.files.CertificateFile(ctx, key)
	if err != nil && storage.KindOf(err) == storage.KindNotFound && a.catchUp != nil && strings.Contains(key, challengeFolder) {
		if err := a.catchUp(ctx); err != nil {
			return nil, err
		}
		value, err = a.files.CertificateFile(ctx, key)
	}
	return value, absent(err)
}

// challengeFolder is in the path of every answer to a challenge.
const challengeFolder = "/challenge_tokens/"

// absent says in certmagic's terms that something does not exist.
func absent(err error) error {
	if err != nil && storage.KindOf(err) == storage.KindNotFound {
		return fmt.Errorf("%w: %w", fs.ErrNotExist, err)
	}
	return err
}

// Delete implements certmagic.Storage.
func (a *acmeStorage) Delete(ctx context.Context, key string) error {
	return a.files.DeleteCertificateFiles(ctx, key, a.locks())
}

// Exists implements certmagic.Storage.
func (a *acmeStorage) Exists(ctx context.Context, key string) bool {
	files, err := a.files.CertificateFiles(ctx, key)
	return err == nil && len(files) > 0
}

// List implements certmagic.Storage: the folders and files directly in prefix, or all below it.
func (a *acmeStorage) List(ctx context.Context, prefix string, recursive bool) ([]string, error) {
	prefix = strings.TrimSuffix(prefix, "/")
	files, err := a.files.CertificateFiles(ctx, prefix)
	if err != nil {
		return nil, err
	}
	var keys []string
	add := func(key string) {
		if !slices.Contains(keys, key) {
			keys = append(keys, key)
		}
	}
	for _, f := range files {
		rest := strings.TrimPrefix(strings.TrimPrefix(f.Name, prefix), "/")
		for key := prefix; rest != ""; {
			part, behind, _ := strings.Cut(rest, "/")
			key, rest = path.Join(key, part), behind
			add(key)
			if !recursive {
				break
			}
		}
	}
	if len(keys) == 0 {
		return nil, fmt.Errorf("list %s: %w", prefix, fs.ErrNotExist)
	}
	return keys, nil
}

// Stat implements certmagic.Storage.
func (a *acmeStorage) Stat(ctx context.Context, key string) (certmagic.KeyInfo, error) {
	files, err := a.files.CertificateFiles(ctx, key)
	switch {
	case err != nil:
		return certmagic.KeyInfo{}, err
	case len(files) == 0:
		return certmagic.KeyInfo{}, fmt.Errorf("stat %s: %w", key, fs.ErrNotExist)
	case files[0].Name != key:
		return certmagic.KeyInfo{Key: key}, nil // a folder
	}
	return certmagic.KeyInfo{Key: key, Modified: files[0].Modified, Size: files[0].Size, IsTerminal: true}, nil
}
