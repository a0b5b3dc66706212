package main

import (
	"errors"
	"fmt"
	"maps"
	"net"
	"slices"
	"strings"
	"syscall"
)

// The names of listeners.
const (
	listenSMTP = "smtp"

	listenSubmission  = "submission"
	listenSubmissions = "submissions"

	listenIMAP    = "imap"
	listenIMAPS   = "imaps"
	listenHTTP    = "http"
	listenHTTPS   = "https"
	listenSQL     = "sql"
	listenCluster = "cluster"
)

// listenNames are all names of the command line contract.
var listenNames = [...]string{listenSMTP, listenSubmission, listenSubmissions, listenIMAP, listenIMAPS, listenHTTP, listenHTTPS, listenSQL, listenCluster}

// listenMap is what --listen says: an address by name. A name left out is not opened.
type listenMap map[string]string

// Set implements pflag.Value: name=ADDR,name=ADDR, replacing what was there.
func (m *listenMap) Set(text string) error {
	parsed := listenMap{}
	for item := range strings.SplitSeq(text, ",") {
		if item == "" {
			continue
		}
		name, address, ok := strings.Cut(item, "=")
		if !ok {
			return fmt.Errorf("%q is not name=ADDR", item)
		}
		if err := parsed.add(name, address); err != nil {
			return err
		}
	}
	*m = parsed
	return nil
}

func (m listenMap) add(name, address string) error {
	if !slices.Contains(listenNames[:], name) {
		return fmt.Errorf("unknown listener %q; the names are %s", name, strings.Join(listenNames[:], ", "))
	}
	if _, twice := m[name]; twice {
		return fmt.Errorf("listener %q is given twice", name)
	}
	if _, _, err := net.SplitHostPort(address); err != nil {
		return fmt.Errorf("listener %s: %q is not HOST:PORT, [IPv6]:PORT or :PORT", name, address)
	}
	m[name] = address
	return nil
}

// String implements pflag.Value.
func (m listenMap) String() string {
	var items []string
	for _, name := range slices.Sorted(maps.Keys(m)) {
		items = append(items, name+"="+m[name])
	}
	return strings.Join(items, ",")
}

// Type implements pflag.Value.
func (*listenMap) Type() string { return "name=ADDR,..." }

// listeners are the open ones, by name.
type listeners map[string]net.Listener

// open opens every address of m that has a server, all or none. With fallback, a
// port that is taken is replaced by a free one.
func (m listenMap) open(fallback bool) (listeners, error) {
	opened := listeners{}
	for _, name := range listenNames {
		address, wanted := m[name]
		if !wanted {
			continue
		}
		l, err := net.Listen("tcp", address)
		if err != nil && fallback && errors.Is(err, syscall.EADDRINUSE) {
			host, _, _ := net.SplitHostPort(address) // add has checked it
			l, err = net.Listen("tcp", net.JoinHostPort(host, "0"))
		}
		if err != nil {
			opened.close()
			return nil, fmt.Errorf("open %s on %s: %w%s", name, address, err, listenHint(name, err))
		}
		opened[name] = l
	}
	return opened, nil
}

func listenHint(name string, err error) string {
	switch {
	case errors.Is(err, syscall.EACCES):
		return "; ports below 1024 need root or CAP_NET_BIND_SERVICE: choose another with --listen " + name + "=:PORT"
	case errors.Is(err, syscall.EADDRINUSE):
		return "; another program has it: choose another with --listen " + name + "=HOST:PORT, or port 0 for a free one"
	}
	return ""
}

func (ls listeners) close() {
	for _, l := range ls {
		l.Close()
	}
}

// addresses returns where each listener really is.
func (ls listeners) addresses() map[string]string {
	addresses := make(map[string]string, len(ls))
	for name, l := range ls {
		addresses[name] = l.Addr().String()
	}
	return addresses
}
