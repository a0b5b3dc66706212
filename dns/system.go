package dns

import (
	"fmt"
	"net"
	"net/netip"
	"os"
	"strings"

	"github.com/miekg/dns"
)

// Off is the address that ParseServers takes for no server at all.
const Off = "off"

// systemFile is where the operating system says whom to ask.
const systemFile = "/etc/resolv.conf"

// maxServers is how many servers of a system are asked, as resolv.conf(5) has it.
const maxServers = 3

// ParseServers reads a setting: the IP address of a server, with or without
// a port, [Off], or nothing, which are the servers of the system.
func ParseServers(setting string) ([]string, error) {
	switch setting {
	case "":
		return systemServers(systemFile)
	case Off:
		return nil, nil
	}
	if addr, err := netip.ParseAddr(strings.Trim(setting, "[]")); err == nil {
		return []string{netip.AddrPortFrom(addr, 53).String()}, nil
	}
	addrPort, err := netip.ParseAddrPort(setting)
	if err != nil || addrPort.Port() == 0 {
		return nil, fmt.Errorf("%q is no address of a DNS server: write IP, IP:PORT or %s", setting, Off)
	}
	return []string{addrPort.String()}, nil
}

// systemServers reads a resolv.conf. One that is not there names this machine
// (resolv.conf(5)).
func systemServers(path string) ([]string, error) {
	config, err := dns.ClientConfigFromFile(path)
	if os.IsNotExist(err) {
		return []string{"127.0.0.1:53"}, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read the DNS servers of the system: %w", err)
	}
	var servers []string
	for _, s := range config.Servers[:min(len(config.Servers), maxServers)] {
		servers = append(servers, net.JoinHostPort(s, config.Port))
	}
	return servers, nil
}
