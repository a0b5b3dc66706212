package main

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"trivet/auth"
	"trivet/dns"
	"trivet/docs"
	"trivet/imap"
	"trivet/raft"
	"trivet/smtp"
	"trivet/spam"
	senders "trivet/spam/sender"
	"trivet/storage"
	"trivet/web"
	"trivet/web/mail"
	pages "trivet/web/release"
	"trivet/web/sql"
)

// How long a node waits for itself.
const (
	// readyPatience is how long the mail listeners wait for the log before they
	// answer all the same: reads need no majority.
	readyPatience = 5 * time.Second
	readyPoll     = 5 * time.Millisecond
	// electionPatience is how long a new message waits for a leader: some elections.
	electionPatience = 2 * time.Second
)

// node is what runs on a data folder: the state, the log and whoever asks them.
// The caller holds the folder's lock.
type node struct {
	dir           dataDir
	settings      settings
	log           *slog.Logger
	now           func() time.Time // the wall clock
	store         *storage.Store
	raft          *raft.Node
	identity      *identity
	loginKey      []byte
	metrics       *metrics
	disk          *diskSpace
	activity      activity
	resolver      *dns.Resolver
	senders       *senderCounter
	spamSenders   *spamSenders
	certs         *certificates
	filter        *spam.Filter // judges mail from outside
	guard         *auth.Guard
	acme          *acme
	sqlConns      *connQueue                         // of 'trivet sql'
	authenticator atomic.Pointer[auth.Authenticator] // nil until the state can be read
	shell         *web.Shell
	webmail       *mail.Room
	// lastHosts are the nodes as of the last look; nil before it.
	lastHosts atomic.Pointer[[]host]
	open      listeners
	mail      atomic.Pointer[imap.Server] // nil until mailboxes are served
}

// openNode opens the state and the log of a folder that was set up or joined. It
// serves nobody yet, except other nodes on the listener of the cluster, which it
// closes; nil: there is none.
func openNode(dir dataDir, s settings, log *slog.Logger, cluster net.Listener) (*node, error) {
	failpoint, err := parseFailpoints(os.Getenv(failpointVariable))
	if err != nil {
		return nil, err
	}
	n := &node{dir: dir, settings: s, log: log, now: newClock(), metrics: newMetrics(), disk: &diskSpace{path: string(dir)},
		sqlConns: newConnQueue()}
	n.identity = &identity{node: string(s.Node), now: n.now}
	n.senders = &senderCounter{now: n.now}
	if n.resolver, err = s.newResolver(); err != nil {
		return nil, err
	}
	peers, err := dir.peers()
	if err != nil {
		return nil, err
	}
	n.store, err = storage.Open(storage.Config{Rebuilds: cluster != nil && len(peers) > 0, Dir: string(dir), Logger: log, Failpoint: failpoint, PackBytes: int64(s.PackSize), SQL: s.sqlLimits(), SQLObserver: n.metrics, Now: n.now})
	if err != nil {
		return nil, err
	}
	n.spamSenders = newSpamSenders(n)
	n.filter = n.newFilter()
	if err := n.openLog(failpoint, cluster); err != nil {
		return nil, errors.Join(err, n.store.Close())
	}
	n.store.SetPeer(n.fetchBody)
	n.store.SetLaggards(n.laggards)
	n.store.Attach(replicatedLog{node: n.raft, patience: proposePatience, observe: n.metrics.proposal})
	return n, nil
}

// openLog reads who this node is and opens its log.
func (n *node) openLog(failpoint func(string) error, cluster net.Listener) (err error) {
	if n.loginKey, err = n.readLoginKey(context.Background()); err != nil && n.store.Damaged() == nil {
		return err
	}
	config := raftConfig(n.dir, n.settings, n.log, failpoint)
	if cluster != nil {
		if err := n.joinNetwork(&config, cluster); err != nil {
			return err
		}
	}
	n.raft, err = raft.Open(config, stateMachine{n.store.Machine()})
	return err
}

// joinNetwork has the log speak with other nodes.
func (n *node) joinNetwork(config *raft.Config, cluster net.Listener) error {
	if err := n.identity.load(n.dir); err != nil {
		return err
	}
	if err := n.renewCertificate(context.Background()); err != nil && n.store.Damaged() == nil {
		return err
	}
	peers, err := n.dir.peers()
	if err != nil {
		return err
	}
	config.Barred = n.barred
	config.Version, config.Level = release, storage.Level
	config.Listener = cluster
	config.Address = clusterAddress(string(n.settings.ClusterAddress), cluster.Addr())
	config.ServerTLS, config.ClientTLS = n.identity.serverTLS, n.identity.clientTLS
	config.Joining, config.Peers, config.Replica = n.dir.joining(), peers, n.dir.replica()
	config.Handlers = n.peerHandlers()
	config.Public = map[string]http.Handler{pathJoin: clusterHandler(n.admit)}
	return nil
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

		DiskTimeout:      time.Duration(s.DiskTimeout),
		HeartbeatTimeout: time.Duration(s.Heartbeat),
		LeaseTimeout:     time.Duration(s.Heartbeat) * 4 / 5, // before another one can lead
	}
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

// healthy says whether mail can be accepted. It waits for an election, so that
// senders need not come back for that.
func (n *node) healthy(ctx context.Context) error {
	err := n.raft.Ready()
	if errors.Is(err, raft.ErrNoQuorum) {
		patience, cancel := context.WithTimeout(ctx, electionPatience)
		defer cancel()
		if err := n.waitReady(patience); err != nil {
			return err
		}
	} else if err != nil {
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
	var err error
	if n.certs, err = newCertificates(n.store, n.settings, n.log); err != nil {
		open.close()
		return err
	}
	n.acme = newACME(n)
	n.certs.host, n.certs.challenge = strings.ToLower(n.hostname()), n.acme.answerALPN
	early, err := n.earlyServices(open)
	if err != nil {
		open.close()
		return err
	}
	run := &serving{log: n.log, failed: make(chan error, len(listenNames)+1)}
	run.start(early)
	background, stop := context.WithCancel(ctx)
	defer stop()
	run.wait.Go(func() { n.certs.keep(background) })
	n.guard = auth.NewGuard(n.store, n.guardConfig())
	run.wait.Go(func() { n.guard.Run(background) })
	n.waitForMail(ctx)
	if ctx.Err() == nil {
		n.settleOnce(ctx) // so that a node that says it is ready has written what it has to say
	}
	run.wait.Go(func() { n.keepMembership(background) })
	late, err := n.mailServices(open)
	if err != nil {
		n.log.Error("mail is not served", "error", err)
		run.failed <- err
	}
	run.start(late)
	run.wait.Go(func() { n.keepHouse(background) })
	run.wait.Go(func() { n.keepJournal(background) })
	run.wait.Go(func() { n.watchActivity(background) })
	run.wait.Go(func() { n.reportSenders(background) })
	run.wait.Go(func() { n.learnSpam(background) })
	run.wait.Go(func() { n.spamSenders.keep(background) })
	run.wait.Go(func() { n.send(background) })
	if n.webmail != nil {
		run.wait.Go(func() { n.webmail.Run(background) })
	}
	run.wait.Go(func() { n.keepCertificates(background) })
	if ctx.Err() == nil && err == nil {
		n.log.Info("ready", "node", string(n.settings.Node), "listen", open.addresses())
		onReady()
	}
	select {
	case <-ctx.Done():
		n.log.Info("stopping")
	case err = <-run.failed:
	}
	stop()
	run.stop(append(early, late...), time.Duration(n.settings.ShutdownTimeout))
	return err
}

// waitForMail waits until mail can be answered: until the node is ready, or not
// for long, because reads need no majority. A node that has just joined has
// nothing to read until it has caught up.
func (n *node) waitForMail(ctx context.Context) {
	if n.dir.joining() || n.store.Damaged() != nil {
		n.log.Info("getting the state from the others; mail is served when that is done")
		if n.waitReady(ctx) != nil {
			return
		}
	}
	patience, cancel := context.WithTimeout(ctx, readyPatience)
	defer cancel()
	if err := n.waitReady(patience); err != nil && ctx.Err() == nil {
		n.log.Warn("serving before the node is ready", "error", err)
	}
}

// earlyServices are those that say what the node does, which start at once.
func (n *node) earlyServices(open listeners) ([]service, error) {
	control, err := n.dir.listenControl()
	if err != nil {
		return nil, err
	}
	controlServer := &http.Server{Handler: n.withSQL(withProfiles(n.withMailboxes(controlHandler(n.operations(), n.noteChange)))), ReadHeaderTimeout: controlTimeout}
	services := []service{{"control", control, controlServer.Serve, controlServer.Shutdown}}
	n.metrics.watch(n)
	sqlServer := sql.New(n.store, n.authenticator.Load, n.raft.Ready)
	webServer, err := web.NewServer(web.Config{Logger: n.log, Ready: n.raft.Ready, Collectors: n.metrics.collectors,
		TLS: n.certs.server("h2", "http/1.1", protocolALPN), Challenge: n.acme.answerHTTP, Directory: n.services,
		Store: n.store, Host: n.webHost(), Manual: docs.Manual, Handlers: sqlServer.Handlers()})
	if err != nil {
		control.Close()
		return nil, err
	}
	n.shell = webServer.Shell()
	if err := errors.Join(n.mountConsole(), n.mountAdministration(), n.mountSetup()); err != nil {
		control.Close()
		return nil, err
	}
	if err := pages.Mount(n.shell, desk{n}, senders.ProofBits); err != nil {
		control.Close()
		return nil, err
	}
	stop := func(ctx context.Context) error {
		sqlServer.EndFollowing()
		return webServer.Shutdown(ctx)
	}
	if l := open[listenHTTP]; l != nil {
		services = append(services, service{listenHTTP, l, webServer.Serve, stop})
	}
	if l := open[listenHTTPS]; l != nil {
		services = append(services, service{listenHTTPS, l, webServer.ServeTLS, stop})
	}
	return services, nil
}

// mailServices are those that need the state.
func (n *node) mailServices(open listeners) ([]service, error) {
	key, err := n.readSharedLoginKey(context.Background())
	if err != nil {
		return nil, err
	}
	authenticator := auth.NewAuthenticator(n.store, auth.Config{Secret: key, Now: n.now, Throttle: n.settings.loginThrottle(), Observe: n.metrics.login,
		Guard: n.guard, Attempts: n.noteLogin})
	n.authenticator.Store(authenticator)
	imapServer := imap.NewServer(imap.Config{Store: n.store, Auth: authenticator, TLS: n.certs.server(), Logger: n.log, Version: release, Limits: n.settings.imapLimits(), Clock: n.now, Current: n.raft.Ready})
	n.mail.Store(imapServer)
	n.shell.SetAuth(authenticator)
	incoming := n.smtpConfig()
	incoming.Verification, incoming.Report, incoming.Judge = n.verification(), n.keepReport, n.filter
	smtpServer := smtp.New(incoming)
	submission := n.submissionServer(authenticator)
	if err := n.openWebmail(submission); err != nil {
		return nil, err
	}
	services := append(n.submissionServices(open, submission), n.sqlServices(open, authenticator)...)
	if l := open[listenIMAP]; l != nil {
		services = append(services, service{listenIMAP, guarded{l, n.guard}, imapServer.Serve, imapServer.Shutdown})
	}
	if l := open[listenIMAPS]; l != nil {
		l = tls.NewListener(guarded{l, n.guard}, n.certs.server()) // the handshake is made, and bounded, by the session
		services = append(services, service{listenIMAPS, l, imapServer.Serve, imapServer.Shutdown})
	}
	if l := open[listenSMTP]; l != nil {
		services = append(services, service{listenSMTP, l, smtpServer.Serve, smtpServer.Shutdown})
	}
	return services, nil
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

// keepHouse prunes the state, and has the nodes compare theirs, while this node leads.
func (n *node) keepHouse(ctx context.Context) {
	tick := time.NewTicker(time.Duration(n.settings.Housekeeping))
	defer tick.Stop()
	for compared := time.Now(); ; {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		if n.raft.Status().Role != raft.RoleLeader {
			continue
		}
		if err := n.store.Housekeep(ctx); err != nil && ctx.Err() == nil {
			n.log.Warn("housekeeping failed; it is tried again", "error", err)
		}
		if time.Since(compared) > compareEvery {
			compared = time.Now()
			n.reportDifferences(ctx)
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
