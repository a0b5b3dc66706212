package auth

import (
	"container/list"
	"context"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"sync"
	"time"

	"trivet/storage"
)

// Bans is where a [Guard] keeps what all nodes are to know; [storage.Store] is
// one. Banned is asked for every connection and answers from memory.
type Bans interface {
	Banned(ctx context.Context, address netip.Addr) (storage.Ban, bool, error)
	AddBan(ctx context.Context, b storage.Ban, force bool) error
	RememberLogins(ctx context.Context, logins []storage.GoodLogin) error
	HasLoggedIn(ctx context.Context, network netip.Prefix) (bool, error)
}

// Offence is what somebody does who means no good, and how much it counts.
type Offence int

// The offences.
const (
	OffenceUnknownRecipient Offence = 1
	OffenceFailedLogin      Offence = 1
	OffenceProtocol         Offence = 5  // too many errors in a session
	OffenceEarlyTalk        Offence = 5  // spoke before the greeting
	OffenceHarvest          Offence = 10 // too many unknown recipients in a session
)

// GuardConfig says what a [Guard] puts up with. A zero switches off what it
// stands for; start from [DefaultGuard].
type GuardConfig struct {
	Offences    int           // points in OffenceTime after which a network is banned
	OffenceTime time.Duration // in which points are forgotten, evenly
	BanTime     time.Duration // how long; 0: nobody is banned
	Connections int           // connections a network may open in a minute
	Commands    int           // SMTP commands a network may send in a minute before it is slowed down
	FreeGuesses int           // points that cost no time; each further one doubles the delay of refusals
	MaxDelay    time.Duration // the longest of these delays

	Node   string           // which node this is, for the list of bans
	Logger *slog.Logger     // nil: slog.Default
	Now    func() time.Time // nil: time.Now
}

// DefaultGuard is meant for a host on the internet.
func DefaultGuard() GuardConfig {
	return GuardConfig{Offences: 100, OffenceTime: time.Hour, BanTime: 24 * time.Hour, Connections: 300, Commands: 12_000,
		FreeGuesses: 5, MaxDelay: 5 * time.Second}
}

const (
	// guardEntries bounds the networks that are counted, about 10 MiB; beyond it
	// the one that did nothing for longest is forgotten.
	guardEntries = 65536
	firstDelay   = 100 * time.Millisecond // of a refusal after the free guesses
	loginPause   = 100 * time.Millisecond // for which logins are gathered that are remembered by one command
	guardQueue   = 1000                   // bans and logins that wait for Run; more are dropped
	// loginAgain is after how long the same login is remembered again.
	loginAgain = 7 * 24 * time.Hour
)

// Guard keeps out networks that attack. It counts what they do over all protocols
// of a node, slows them down, and has them banned on all nodes: never a network
// from which somebody has logged in, and never this machine. It is safe for
// concurrent use.
type Guard struct {
	cfg  GuardConfig
	bans Bans

	mu     sync.Mutex
	counts map[netip.Prefix]*list.Element // of *conduct
	recent *list.List                     // most recently active in front
	logins map[storage.GoodLogin]time.Time

	wanted chan storage.Ban
	fresh  chan storage.GoodLogin
}

// conduct is what a network has done lately.
type conduct struct {
	network     netip.Prefix
	offences    leaky
	connections leaky
	commands    leaky
	banned      time.Time // until when it need not be asked for again
}

// leaky counts what leaks away evenly.
type leaky struct {
	level float64
	at    time.Time
}

// add counts n, of which limit leak away in per, and returns how many there are.
func (l *leaky) add(n float64, limit int, per time.Duration, now time.Time) float64 {
	if !l.at.IsZero() {
		l.level = max(0, l.level-float64(limit)*now.Sub(l.at).Seconds()/per.Seconds())
	}
	l.level, l.at = l.level+n, now
	return l.level
}

// NewGuard returns a guard; Run does what takes longer.
func NewGuard(bans Bans, cfg GuardConfig) *Guard {
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.Default()
	}
	return &Guard{cfg: cfg, bans: bans, counts: map[netip.Prefix]*list.Element{}, recent: list.New(), logins: map[storage.GoodLogin]time.Time{},
		wanted: make(chan storage.Ban, guardQueue), fresh: make(chan storage.GoodLogin, guardQueue)}
}

// of returns the conduct of a client, or nil for one that is not counted. g.mu is held.
func (g *Guard) of(remote net.Addr) *conduct {
	ip, ok := addressOf(remote)
	if !ok || ip.IsLoopback() {
		return nil
	}
	network := storage.Network(ip)
	element, ok := g.counts[network]
	if !ok {
		element = g.recent.PushFront(&conduct{network: network})
		g.counts[network] = element
		if g.recent.Len() > guardEntries {
			last := g.recent.Back()
			g.recent.Remove(last)
			delete(g.counts, last.Value.(*conduct).network)
		}
	}
	g.recent.MoveToFront(element)
	return element.Value.(*conduct)
}

// Admit counts a connection and says why it is refused, or nil. The text is for
// the client.
func (g *Guard) Admit(ctx context.Context, remote net.Addr) error {
	ip, ok := addressOf(remote)
	if !ok || ip.IsLoopback() {
		return nil
	}
	if ban, banned, err := g.bans.Banned(ctx, ip); err == nil && banned {
		if ban.Expires.IsZero() {
			return fmt.Errorf("%s is banned here", ban.Network)
		}
		return fmt.Errorf("%s is banned here until %s", ban.Network, ban.Expires.UTC().Format("2006-01-02 15:04 MST"))
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	if c := g.of(remote); g.cfg.Connections > 0 && c.connections.add(1, g.cfg.Connections, time.Minute, g.cfg.Now()) > float64(g.cfg.Connections) {
		return fmt.Errorf("too many connections in a minute from %s", c.network)
	}
	return nil
}

// Command counts a command and returns how long it is to wait.
func (g *Guard) Command(remote net.Addr) time.Duration {
	if g.cfg.Commands <= 0 || Loopback(remote) {
		return 0
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	c := g.of(remote)
	if c == nil {
		return 0
	}
	over := c.commands.add(1, g.cfg.Commands, time.Minute, g.cfg.Now()) - float64(g.cfg.Commands)
	if over <= 0 {
		return 0
	}
	return min(time.Duration(over*float64(time.Minute)/float64(g.cfg.Commands)), max(g.cfg.MaxDelay, firstDelay))
}

// Offend counts an offence, has the network banned if that was the last, and
// returns how long the answer is to wait.
func (g *Guard) Offend(remote net.Addr, what Offence) time.Duration {
	g.mu.Lock()
	defer g.mu.Unlock()
	c := g.of(remote)
	if c == nil || g.cfg.OffenceTime <= 0 {
		return 0
	}
	now := g.cfg.Now()
	points := c.offences.add(float64(what), max(g.cfg.Offences, 1), g.cfg.OffenceTime, now)
	if g.cfg.Offences > 0 && g.cfg.BanTime > 0 && points >= float64(g.cfg.Offences) && now.After(c.banned) {
		c.banned = now.Add(time.Minute)
		select {
		case g.wanted <- storage.Ban{Network: c.network, Reason: "too many offences", Node: g.cfg.Node, Expires: now.Add(g.cfg.BanTime)}:
		default: // the next offence asks again
		}
	}
	return g.delay(points)
}

// delay doubles with each point after the free ones.
func (g *Guard) delay(points float64) time.Duration {
	over := int(points) - g.cfg.FreeGuesses
	if g.cfg.MaxDelay <= 0 || over <= 0 {
		return 0
	}
	delay := firstDelay
	for i := 1; i < over && delay < g.cfg.MaxDelay; i++ {
		delay *= 2
	}
	return min(delay, g.cfg.MaxDelay)
}

// LoggedIn notes that somebody logged in from there: the network is not banned.
func (g *Guard) LoggedIn(remote net.Addr, account int64) {
	ip, ok := addressOf(remote)
	if !ok || ip.IsLoopback() {
		return
	}
	login := storage.GoodLogin{Network: storage.Network(ip), Account: account}
	now := g.cfg.Now()
	g.mu.Lock()
	defer g.mu.Unlock()
	if at, known := g.logins[login]; known && now.Sub(at) < loginAgain {
		return
	}
	if len(g.logins) >= guardEntries {
		clear(g.logins) // they are only remembered once more
	}
	g.logins[login] = now
	select {
	case g.fresh <- login:
	default:
		delete(g.logins, login)
	}
}

// Run bans and remembers until ctx ends. A login from a new place is remembered at
// once: no other node is to ban it.
func (g *Guard) Run(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case b := <-g.wanted:
			g.flush(ctx) // whoever logged in a moment ago counts
			g.ban(ctx, b)
		case first := <-g.fresh:
			pause := time.NewTimer(loginPause)
			select {
			case <-ctx.Done():
			case <-pause.C:
			}
			pause.Stop()
			g.flush(ctx, first)
		}
	}
}

func (g *Guard) ban(ctx context.Context, b storage.Ban) {
	used, err := g.bans.HasLoggedIn(ctx, b.Network)
	if err == nil && !used {
		err = g.bans.AddBan(ctx, b, false)
	}
	switch {
	case used, storage.KindOf(err) == storage.KindDenied && err != nil:
		g.cfg.Logger.Info("not banned: somebody has logged in from there", "network", b.Network)
	case err != nil:
		g.cfg.Logger.Warn("ban failed; the next offence asks again", "network", b.Network, "error", err)
	default:
		g.acquit(b.Network) // so that who is let off is not banned again for what it has paid for
		g.cfg.Logger.Warn("banned", "network", b.Network, "until", b.Expires, "reason", b.Reason)
	}
}

// acquit forgets the offences of a network.
func (g *Guard) acquit(network netip.Prefix) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if element, ok := g.counts[network]; ok {
		element.Value.(*conduct).offences = leaky{}
	}
}

// flush remembers the logins that wait, in one command.
func (g *Guard) flush(ctx context.Context, batch ...storage.GoodLogin) {
	for {
		select {
		case l := <-g.fresh:
			batch = append(batch, l)
			continue
		default:
		}
		break
	}
	if len(batch) == 0 {
		return
	}
	if err := g.bans.RememberLogins(ctx, batch); err != nil {
		g.cfg.Logger.Warn("logins not remembered; the next ones are", "logins", len(batch), "error", err)
		g.mu.Lock()
		defer g.mu.Unlock()
		for _, l := range batch {
			delete(g.logins, l)
		}
	}
}
