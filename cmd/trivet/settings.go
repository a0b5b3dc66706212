package main

import (
	"errors"
	"fmt"
	"io/fs"
	"math"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/pelletier/go-toml/v2"
	"github.com/spf13/pflag"

	"trivet/auth"
	"trivet/dns"
	"trivet/imap"
	"trivet/pgwire"
	"trivet/raft"
	"trivet/smtp"
	"trivet/storage"
)

// settings are what belongs to one node; everything else is replicated state.
// Each is a key of node.toml and a flag of the same name.
type settings struct {
	Node            text
	Hostname        text
	ClusterAddress  text
	Listen          listenMap
	TLSCert         text
	TLSKey          text
	LogLevel        level
	LogFormat       format
	DiskReserve     size
	ShutdownTimeout duration
	LogKeep         size
	LogSnapshot     size
	PackSize        size
	Housekeeping    duration
	Heartbeat       duration
	DiskTimeout     duration

	Resolver          text
	ResolverValidates toggle
	Monitor           toggle

	MaxMessageSize            size
	MaxRecipients             number
	SMTPConnections           number
	SMTPConnectionsPerAddress number
	SMTPErrors                number
	SMTPRefusedRecipients     number
	SubmissionMessages        number
	SubmissionRecipients      number
	IMAPConnections           number
	IMAPConnectionsPerAddress number
	IMAPFailedLogins          number
	IMAPMessageLimit          number
	SQLConnections            number
	SQLConnectionsPerAccount  number
	SQLStatementTime          duration
	SQLWriteTime              duration
	SQLTransactionTime        duration
	SQLIdleTime               duration
	SQLResultSize             size
	SQLEffectSize             size

	Queue queueSettings

	GreetingDelay  duration
	ConnectionRate number
	CommandRate    number
	Tarpit         duration
	BanOffences    number
	BanTime        duration

	LoginThrottle        toggle
	LoginFailures        number
	LoginFailuresNetwork number
	LoginLockout         duration
}

// The defaults that no room decides.
const (
	defaultDiskReserve = 2 * raft.DefaultSegmentBytes
	// defaultGreetingDelay is longer than a client that does not listen waits.
	defaultGreetingDelay = time.Second

	defaultShutdownTimeout = 10 * time.Second
	// defaultHousekeeping is how often the leader prunes what nobody needs any more.
	defaultHousekeeping = time.Minute
	// leastDiskTimeout is longer than a disk takes that works.
	leastDiskTimeout = time.Second
	// Bounds of how long a node waits for its leader.
	leastHeartbeat = 50 * time.Millisecond
	mostHeartbeat  = 10 * time.Second
)

// defaultSettings serve everybody on the usual ports.
func defaultSettings() settings {
	limits, guard := smtp.DefaultLimits(), auth.DefaultGuard()
	return settings{
		Listen:          listenMap{listenSMTP: ":25", listenSubmission: ":587", listenSubmissions: ":465", listenIMAP: ":143", listenIMAPS: ":993", listenHTTP: ":80", listenHTTPS: ":443"},
		LogLevel:        "info",
		LogFormat:       "text",
		DiskReserve:     defaultDiskReserve,
		ShutdownTimeout: duration(defaultShutdownTimeout),
		LogKeep:         raft.DefaultLogBytes,
		LogSnapshot:     raft.DefaultSnapshotBytes,
		PackSize:        storage.DefaultPackBytes,
		Housekeeping:    duration(defaultHousekeeping),
		Heartbeat:       duration(raft.DefaultHeartbeat),
		DiskTimeout:     duration(raft.DefaultDiskTimeout),

		MaxMessageSize:            size(limits.MaxMessageBytes),
		MaxRecipients:             number(limits.MaxRecipients),
		SMTPConnections:           number(limits.MaxConnections),
		SMTPConnectionsPerAddress: number(limits.MaxConnectionsPerAddress),
		SMTPErrors:                number(limits.MaxErrors),
		SMTPRefusedRecipients:     number(limits.MaxRefusedRecipients),
		SubmissionMessages:        defaultSubmissionMessages,
		SubmissionRecipients:      defaultSubmissionRecipients,
		IMAPConnections:           imap.DefaultConnections,
		IMAPConnectionsPerAddress: imap.DefaultConnectionsPerAddress,
		IMAPFailedLogins:          imap.DefaultAuthFailures,
		SQLConnections:            pgwire.MaxConnections,
		SQLConnectionsPerAccount:  pgwire.MaxPerUser,
		SQLStatementTime:          duration(storage.DefaultSQLLimits().ReadTime),
		SQLWriteTime:              duration(storage.DefaultSQLLimits().WriteTime),
		SQLTransactionTime:        duration(storage.DefaultSQLLimits().TransactionTime),
		SQLIdleTime:               duration(storage.DefaultSQLLimits().IdleTime),
		SQLResultSize:             size(storage.DefaultSQLLimits().ResultBytes),
		SQLEffectSize:             size(storage.DefaultSQLLimits().EffectBytes),

		Queue: defaultQueueSettings(),

		GreetingDelay:  duration(defaultGreetingDelay),
		ConnectionRate: number(guard.Connections),
		CommandRate:    number(guard.Commands),
		Tarpit:         duration(guard.MaxDelay),
		BanOffences:    number(guard.Offences),
		BanTime:        duration(guard.BanTime),

		LoginThrottle:        true,
		LoginFailures:        auth.DefaultAccountFailures,
		LoginFailuresNetwork: auth.DefaultNetworkFailures,
		LoginLockout:         duration(auth.DefaultMaxDelay),
	}
}

// key is one setting.
type key struct {
	name, usage string
	value       pflag.Value
}

const (
	keyNode    = "node"
	keyListen  = "listen"
	keyMonitor = "monitor"
)

// keys is the one list of the settings, in the order of the reference.
func (s *settings) keys() []key {
	return append([]key{
		{keyNode, "name of this node in its cluster; fixed by setup", &s.Node},
		{"hostname", "name by which this node calls itself to others", &s.Hostname},
		{"cluster-address", "HOST or HOST:PORT at which the other nodes reach this one", &s.ClusterAddress},
		{keyListen, "listeners to open: smtp, submission, submissions, imap, imaps, http, https, cluster; a name left out is not opened, port 0 picks a free one", &s.Listen},
		{"tls-cert", "PEM file of a certificate and its chain, read again when it changes; without it the cluster's own", &s.TLSCert},
		{"tls-key", "PEM file of its key", &s.TLSKey},
		{"log-level", "least level that is logged: debug, info, warn or error", &s.LogLevel},
		{"log-format", "text or json", &s.LogFormat},
		{"disk-reserve", "free disk space below which nothing is accepted; 0: no reserve", &s.DiskReserve},
		{"shutdown-timeout", "how long sessions may go on after a signal to stop", &s.ShutdownTimeout},
		{"log-keep", "newest part of the Raft log that a snapshot leaves, for followers that are behind", &s.LogKeep},
		{"log-snapshot", "growth of the Raft log at which the state is made durable and the log truncated", &s.LogSnapshot},
		{"pack-size", "size at which a file of message bodies is sealed and the next one begun", &s.PackSize},
		{"housekeeping", "how often the leader prunes what nobody needs any more", &s.Housekeeping},
		{"heartbeat", "how long a node waits for its leader before it stands for election, 50ms to 10s; the same on all nodes", &s.Heartbeat},
		{"disk-timeout", "how long a write may hang before the node steps aside and leaves the lead to another", &s.DiskTimeout},
		{"resolver", "DNS server to ask, as IP or IP:PORT; off: none; left out: those of the system", &s.Resolver},
		{"resolver-validates", "believe that the DNS server validates DNSSEC although it is not on loopback: on or off", &s.ResolverValidates},
		{keyMonitor, "note who really sent a message, and refuse or put aside nothing for it: on or off", &s.Monitor},
		{"max-message-size", "largest message accepted by SMTP and IMAP", &s.MaxMessageSize},
		{"max-recipients", "most recipients of one SMTP transaction; 0: any number", &s.MaxRecipients},
		{"smtp-connections", "most SMTP connections at once; 0: any number", &s.SMTPConnections},
		{"smtp-connections-per-address", "most SMTP connections at once from one address; 0: any number", &s.SMTPConnectionsPerAddress},
		{"smtp-errors", "most malformed commands of an SMTP session; 0: any number", &s.SMTPErrors},
		{"smtp-refused-recipients", "most unknown recipients of an SMTP session; 0: any number", &s.SMTPRefusedRecipients},
		{"submission-messages", "most messages an account may send in an hour; 0: any number", &s.SubmissionMessages},
		{"submission-recipients", "most recipients an account may address in an hour; 0: any number", &s.SubmissionRecipients},
		{"imap-connections", "most IMAP connections at once; 0: any number", &s.IMAPConnections},
		{"imap-connections-per-address", "most IMAP connections at once from one address; 0: any number", &s.IMAPConnectionsPerAddress},
		{"imap-failed-logins", "failed logins after which an IMAP connection is closed; 0: any number", &s.IMAPFailedLogins},
		{"imap-message-limit", "most messages that one IMAP command processes, at least 1000; 0: any number; the same on all nodes", &s.IMAPMessageLimit},
		{"sql-connections", "most SQL connections at once; 0: any number", &s.SQLConnections},
		{"sql-connections-per-account", "most SQL connections at once of one account; 0: any number", &s.SQLConnectionsPerAccount},
		{"sql-statement-time", "longest time of an SQL statement, with the sending of its rows", &s.SQLStatementTime},
		{"sql-write-time", "longest time of an SQL statement that writes outside of a transaction: others of its database wait for it", &s.SQLWriteTime},
		{"sql-transaction-time", "longest time from BEGIN to COMMIT", &s.SQLTransactionTime},
		{"sql-idle-time", "longest time between two statements of a transaction", &s.SQLIdleTime},
		{"sql-result-size", "largest result of an SQL statement", &s.SQLResultSize},
		{"sql-effect-size", "most that one SQL transaction may change, in pages of 4 KiB", &s.SQLEffectSize},
		{"greeting-delay", "how long an SMTP client from elsewhere must be silent before it is greeted; 0: not at all", &s.GreetingDelay},
		{"connection-rate", "most connections from one network in a minute, over all protocols of mail; 0: any number", &s.ConnectionRate},
		{"command-rate", "SMTP commands from one network in a minute before they are slowed down; 0: any number", &s.CommandRate},
		{"tarpit", "longest time that an answer to guessing of addresses takes; 0: no time", &s.Tarpit},
		{"ban-offences", "offences of a network in an hour after which it is banned; 0: nobody is banned", &s.BanOffences},
		{"ban-time", "how long a network is banned; 0: not at all", &s.BanTime},
		{"login-throttle", "slow down whoever fails to log in: on or off", &s.LoginThrottle},
		{"login-failures", "failed logins of an account from one network before they are slowed down", &s.LoginFailures},
		{"login-failures-per-network", "failed logins from one network, over all accounts, before they are slowed down", &s.LoginFailuresNetwork},
		{"login-lockout", "longest time for which logins are refused after failed ones", &s.LoginLockout},
	}, s.Queue.keys()...)
}

// smtpLimits are the limits of one SMTP listener.
func (s settings) smtpLimits() smtp.Limits {
	limits := smtp.DefaultLimits()
	limits.MaxMessageBytes = int64(s.MaxMessageSize)
	limits.MaxRecipients = int(s.MaxRecipients)
	limits.MaxConnections = int(s.SMTPConnections)
	limits.MaxConnectionsPerAddress = int(s.SMTPConnectionsPerAddress)
	limits.MaxErrors = int(s.SMTPErrors)
	limits.MaxRefusedRecipients = int(s.SMTPRefusedRecipients)
	return limits
}

// imapLimits are the limits of the IMAP server, which switches off with a negative number.
func (s settings) imapLimits() imap.Limits {
	return imap.Limits{
		Connections:           off(s.IMAPConnections),
		ConnectionsPerAddress: off(s.IMAPConnectionsPerAddress),
		AuthFailures:          off(s.IMAPFailedLogins),
		AppendSize:            int64(s.MaxMessageSize),
		Messages:              int(s.IMAPMessageLimit),
	}
}

// sqlLimits bound what a client of the databases can cost.
func (s settings) sqlLimits() storage.SQLLimits {
	return storage.SQLLimits{ReadTime: time.Duration(s.SQLStatementTime), WriteTime: time.Duration(s.SQLWriteTime), TransactionTime: time.Duration(s.SQLTransactionTime),
		IdleTime: time.Duration(s.SQLIdleTime), ResultBytes: int64(s.SQLResultSize), EffectBytes: int64(s.SQLEffectSize)}
}

// loginThrottle is how guessing passwords is slowed down.
func (s settings) loginThrottle() auth.Throttle {
	return auth.Throttle{
		Off:             !bool(s.LoginThrottle),
		AccountFailures: int(s.LoginFailures),
		NetworkFailures: int(s.LoginFailuresNetwork),
		MaxDelay:        time.Duration(s.LoginLockout),
	}
}

// addFlags gives flags one flag for each setting but those left out, and returns
// what loads them: defaults, then the file if there is one, then the flags given.
func addFlags(flags *pflag.FlagSet, defaults settings, without ...string) func(file string) (settings, error) {
	flags.SortFlags = false
	shown := defaults
	for _, k := range shown.keys() {
		if !slices.Contains(without, k.name) {
			flags.Var(k.value, k.name, k.usage)
			if k.name == keyMonitor {
				flags.Lookup(k.name).NoOptDefVal = "on" // --monitor alone switches it on
			}
		}
	}
	return func(file string) (settings, error) {
		s := defaults
		if err := s.readFile(file); err != nil {
			return s, err
		}
		for _, k := range s.keys() {
			if flag := flags.Lookup(k.name); flag != nil && flag.Changed {
				if err := k.value.Set(flag.Value.String()); err != nil {
					return s, usagef("--%s: %w", k.name, err)
				}
			}
		}
		return s, s.check()
	}
}

// check says what values mean nothing together or by themselves.
func (s *settings) check() error {
	if s.MaxMessageSize == 0 {
		return usagef("max-message-size is at least 1")
	}
	if n := s.IMAPMessageLimit; n != 0 && (n < imap.LeastMessageLimit || int64(n) > math.MaxUint32) {
		return usagef("imap-message-limit is 0, or %d to %d", imap.LeastMessageLimit, uint32(math.MaxUint32))
	}
	if s.Resolver != "" {
		if _, err := dns.ParseServers(string(s.Resolver)); err != nil {
			return usagef("resolver: %w", err)
		}
	}
	if (s.TLSCert == "") != (s.TLSKey == "") {
		return usagef("tls-cert and tls-key go together")
	}
	if s.LogKeep == 0 || s.LogSnapshot == 0 || s.PackSize == 0 || s.Housekeeping == 0 {
		return usagef("log-keep, log-snapshot, pack-size and housekeeping are more than 0")
	}
	if time.Duration(s.DiskTimeout) < leastDiskTimeout {
		return usagef("disk-timeout is at least %v", leastDiskTimeout)
	}
	if h := time.Duration(s.Heartbeat); h < leastHeartbeat || h > mostHeartbeat {
		return usagef("heartbeat is %v to %v", leastHeartbeat, mostHeartbeat)
	}
	return s.Queue.check()
}

// readFile applies the keys of a node.toml; a file that does not exist has none.
func (s *settings) readFile(path string) error {
	data, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) || path == "" {
		return nil
	}
	if err != nil {
		return fmt.Errorf("read settings: %w", err)
	}
	var values map[string]any
	if err := toml.Unmarshal(data, &values); err != nil {
		return fmt.Errorf("read settings %s: %w", path, err)
	}
	for _, k := range s.keys() {
		if value, ok := values[k.name]; ok {
			if err := k.value.Set(flagForm(value)); err != nil {
				return fmt.Errorf("read settings %s: %s: %w", path, k.name, err)
			}
			delete(values, k.name)
		}
	}
	for name := range values {
		return fmt.Errorf("read settings %s: unknown key %q; 'trivet serve --help' lists them", path, name)
	}
	return nil
}

// flagForm writes a value of TOML as its flag would be given.
func flagForm(value any) string {
	table, ok := value.(map[string]any)
	if !ok {
		return fmt.Sprint(value)
	}
	var items []string
	for name, address := range table {
		items = append(items, name+"="+fmt.Sprint(address))
	}
	return strings.Join(items, ",")
}

// file returns the node.toml of s: the node and what is not the default.
func (s settings) file() ([]byte, error) {
	standard := defaultSettings()
	values := map[string]any{keyListen: map[string]string(s.Listen)}
	for i, k := range standard.keys() {
		if mine := s.keys()[i].value.String(); k.name != keyListen && mine != k.value.String() {
			values[k.name] = mine
		}
	}
	body, err := toml.Marshal(values)
	return append([]byte("# This node's own settings. Every key is also a flag of 'trivet serve', which lists them with --help.\n"), body...), err
}

// text is a string that is not empty.
type text string

func (v *text) Set(s string) error {
	if s == "" || strings.ContainsFunc(s, func(r rune) bool { return r <= ' ' || r >= 0x7f }) {
		return fmt.Errorf("%q is no name", s)
	}
	*v = text(s)
	return nil
}
func (v *text) String() string { return string(*v) }
func (*text) Type() string     { return "NAME" }

// number is a count of 0 or more.
type number int

func (v *number) Set(s string) error {
	n, err := strconv.Atoi(s)
	if err != nil || n < 0 {
		return fmt.Errorf("%q is no number of 0 or more", s)
	}
	*v = number(n)
	return nil
}
func (v *number) String() string { return strconv.Itoa(int(*v)) }
func (*number) Type() string     { return "N" }

// toggle is on or off.
type toggle bool

func (v *toggle) Set(s string) error {
	switch s {
	case "on", "true":
		*v = true
	case "off", "false":
		*v = false
	default:
		return fmt.Errorf("%q is neither on nor off", s)
	}
	return nil
}

func (v *toggle) String() string {
	if *v {
		return "on"
	}
	return "off"
}
func (*toggle) Type() string { return "on|off" }

// duration is a time of 0 or more.
type duration time.Duration

func (v *duration) Set(s string) error {
	d, err := time.ParseDuration(s)
	if err != nil || d < 0 {
		return fmt.Errorf("%q is no duration; write 10s or 1m30s", s)
	}
	*v = duration(d)
	return nil
}
func (v *duration) String() string { return time.Duration(*v).String() }
func (*duration) Type() string     { return "DURATION" }
