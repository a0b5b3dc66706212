package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"net/http"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"trivet/auth"
	"trivet/imap"
	"trivet/raft"
	"trivet/smtp"
	"trivet/storage"
	"trivet/web"
)

// How long a node waits for itself.
const (
	// readyPatience is how long the mail listeners wait for the log before they
	// answer all the same: reads need no majority.
	readyPatience = 5 * time.Second
	readyPoll     = 5 * time.Millisecond
)

// node is what runs on a data folder: the state, the log and whoever asks them.
// The caller holds the folder's lock.
type node struct {
	dir      dataDir
	settings settings
	log      *slog.Logger
	store    *storage.Store
	raft     *raft.Node
	auth     *auth.Authenticator
	metrics  *metrics
	disk     *diskSpace
	open     listeners
}

// openNode opens the state and the log of a folder that was set up. It serves
// nobody yet.
func openNode(dir dataDir, s settings, log *slog.Logger) (*node, error) {
	failpoint, err := parseFailpoints(os.Getenv(failpointVariable))
	if err != nil {
		return nil, err
	}
	secret, err := dir.readSecret()
	if err != nil {
		return nil, err
	}
	n := &node{dir: dir, settings: s, log: log, metrics: newMetrics(), disk: &diskSpace{path: string(dir)}}
	n.store, err = storage.Open(storage.Config{Dir: string(dir), Logger: log, Failpoint: failpoint, PackBytes: int64(s.PackSize)})
	if err != nil {
		return nil, err
	}
	n.raft, err = raft.Open(raftConfig(dir, s, log, failpoint), stateMachine{n.store.Machine()})
	if err != nil {
		return nil, errors.Join(err, n.store.Close())
	}
	n.store.Attach(replicatedLog{node: n.raft, observe: n.metrics.proposal})
	n.auth = auth.NewAuthenticator(n.store, auth.Config{Secret: secret, Throttle: s.loginThrottle(), Observe: n.metrics.login})
	return n, nil
}

func raftConfig(dir dataDir, s settings, log *slog.Logger, failpoint func(string) error) raft.Config {
	return raft.Config{
		Dir:           dir.raft(),
		NodeID:        string(s.Node),
		Logger:        log,
		MinFreeBytes:  uint64(s.DiskReserve),
		LogBytes:      int64(s.LogKeep),
		SnapshotBytes: int64(s.LogSnapshot),
		SegmentBytes:  min(raft.DefaultSegmentBytes, int(s.LogSnapshot)),
		Failpoint:     failpoint,
	}
}

// readSecret returns the key behind the salts of users that do not exist, and
// makes it when there is none.
func (d dataDir) readSecret() ([]byte, error) {
	secret, err := os.ReadFile(d.secretFile())
	if errors.Is(err, fs.ErrNotExist) {
		secret = auth.NewSecret()
		err = writeFile(d.secretFile(), secret)
	}
	if err != nil {
		return nil, fmt.Errorf("login key: %w", err)
	}
	return secret, nil
}

// close stops the log, then the state under it.
func (n *node) close() error {
	return errors.Join(n.raft.Close(), n.store.Close())
}

// waitReady waits until the node can do its work, and returns why it cannot when ctx ends before.
func (n *node) waitReady(ctx context.Context) error {
	tick := time.NewTicker(readyPoll)
	defer tick.Stop()
	for {
		err := n.raft.Ready()
		if err == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return storageError(err)
		case <-tick.C:
		}
	}
}

// healthy says whether mail can be accepted.
func (n *node) healthy(context.Context) error {
	if err := n.raft.Ready(); err != nil {
		return storageError(err)
	}
	if free, ok := n.disk.free(time.Now()); ok && free < uint64(n.settings.DiskReserve) {
		return &storage.Error{Op: "check the disk", Kind: storage.KindDiskFull, Hint: "make room on the disk of the data folder"}
	}
	return nil
}

// service is one listener and who answers it.
type service struct {
	name     string
	listener net.Listener
	serve    func(net.Listener) error
	shutdown func(context.Context) error
}

// serve answers the listeners, which it closes, until ctx ends or one fails.
// onReady is called once the node can do its work.
func (n *node) serve(ctx context.Context, open listeners, onReady func()) error {
	n.open = open
	early, late, err := n.services(open)
	if err != nil {
		open.close()
		return err
	}
	run := &serving{log: n.log, failed: make(chan error, len(early)+len(late))}
	run.start(early)
	patience, cancel := context.WithTimeout(ctx, readyPatience)
	if err := n.waitReady(patience); err != nil && ctx.Err() == nil {
		n.log.Warn("serving before the node is ready", "error", err)
	}
	cancel()
	run.start(late)
	background, stop := context.WithCancel(ctx)
	defer stop()
	run.wait.Go(func() { n.keepHouse(background) })
	n.log.Info("ready", "node", string(n.settings.Node), "listen", open.addresses())
	onReady()
	select {
	case <-ctx.Done():
		n.log.Info("stopping")
	case err = <-run.failed:
	}
	stop()
	run.stop(append(early, late...), time.Duration(n.settings.ShutdownTimeout))
	return err
}

// services returns those that say what the node does, which start at once, and
// those that need it to be ready.
func (n *node) services(open listeners) (early, late []service, err error) {
	control, err := n.dir.listenControl()
	if err != nil {
		return nil, nil, err
	}
	controlServer := &http.Server{Handler: withProfiles(controlHandler(n.operations())), ReadHeaderTimeout: controlTimeout}
	early = append(early, service{"control", control, controlServer.Serve, controlServer.Shutdown})
	imapServer := imap.NewServer(imap.Config{Store: n.store, Auth: n.auth, Logger: n.log, Version: release, Limits: n.settings.imapLimits()})
	n.metrics.watch(n, imapServer)
	webServer, err := web.NewServer(web.Config{Logger: n.log, Ready: n.raft.Ready, Collectors: n.metrics.collectors})
	if err != nil {
		control.Close()
		return nil, nil, err
	}
	smtpServer := smtp.New(smtp.Config{Hostname: n.hostname(), Store: n.store, Logger: n.log,
		Limits: n.settings.smtpLimits(), Metrics: n.metrics, Healthy: n.healthy})
	for name, l := range open {
		switch name {
		case listenHTTP:
			early = append(early, service{name, l, webServer.Serve, webServer.Shutdown})
		case listenIMAP:
			late = append(late, service{name, l, imapServer.Serve, imapServer.Shutdown})
		case listenSMTP:
			late = append(late, service{name, l, smtpServer.Serve, smtpServer.Shutdown})
		}
	}
	return early, late, nil
}

// hostname is what the node calls itself.
func (n *node) hostname() string {
	if n.settings.Hostname != "" {
		return string(n.settings.Hostname)
	}
	if name, err := os.Hostname(); err == nil {
		return name
	}
	return "localhost"
}

// keepHouse prunes the state while this node leads.
func (n *node) keepHouse(ctx context.Context) {
	tick := time.NewTicker(time.Duration(n.settings.Housekeeping))
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		if n.raft.Status().Role != "leader" {
			continue
		}
		if err := n.store.Housekeep(ctx); err != nil && ctx.Err() == nil {
			n.log.Warn("housekeeping failed; it is tried again", "error", err)
		}
	}
}

// serving are the services that run.
type serving struct {
	log    *slog.Logger
	failed chan error // the first error of each service
	ending atomic.Bool
	wait   sync.WaitGroup
}

func (r *serving) start(services []service) {
	for _, s := range services {
		r.wait.Go(func() {
			if err := s.serve(s.listener); err != nil && !r.ending.Load() {
				r.failed <- fmt.Errorf("serve %s: %w", s.name, err)
			}
		})
	}
}

// stop ends all services at once, and cuts off the sessions that have not ended after timeout.
func (r *serving) stop(services []service, timeout time.Duration) {
	r.ending.Store(true)
	ctx, cancel := context.WithTimeout(context.Background(), timeout)
	defer cancel()
	var all sync.WaitGroup
	for _, s := range services {
		all.Go(func() {
			if err := s.shutdown(ctx); err != nil {
				r.log.Warn("sessions were cut off", "listener", s.name, "error", err)
			}
			s.listener.Close()
		})
	}
	all.Wait()
	r.wait.Wait()
}
