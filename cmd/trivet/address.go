package main

import (
	"errors"
	"net"
	"net/netip"
	"os"
	"strings"
	"syscall"
)

// openListeners opens what m says. Where the cluster's port is free to choose,
// the one of the last time is preferred: the others know it.
func (d dataDir) openListeners(m listenMap, fallback bool) (listeners, error) {
	host, port, err := net.SplitHostPort(m[listenCluster])
	if err != nil || port != "0" {
		return m.open(fallback)
	}
	path := d.cluster().path(portFile)
	if last, err := os.ReadFile(path); err == nil {
		as := listenMap{}
		for name, address := range m {
			as[name] = address
		}
		as[listenCluster] = net.JoinHostPort(host, strings.TrimSpace(string(last)))
		if opened, err := as.open(fallback); err == nil || !errors.Is(err, syscall.EADDRINUSE) {
			return opened, err
		}
	}
	opened, err := m.open(fallback)
	if err != nil {
		return nil, err
	}
	_, port, _ = net.SplitHostPort(opened[listenCluster].Addr().String()) // a TCP address has one
	if err := errors.Join(d.cluster().create(), writeFile(path, []byte(port+"\n"))); err != nil {
		opened.close()
		return nil, err
	}
	return opened, nil
}

// clusterAddress is where the other nodes reach a listener: what the setting
// says, else where it listens, else the first address of this machine.
func clusterAddress(setting string, listener net.Addr) string {
	host, port, _ := net.SplitHostPort(listener.String())
	if setting != "" {
		if _, _, err := net.SplitHostPort(setting); err == nil {
			return setting
		}
		return net.JoinHostPort(strings.Trim(setting, "[]"), port)
	}
	if ip, err := netip.ParseAddr(host); err == nil && ip.IsUnspecified() {
		return net.JoinHostPort(machineAddress(), port)
	}
	return net.JoinHostPort(host, port)
}

// machineAddress is the first address of this machine that others may reach,
// public ones before private ones, or its name.
func machineAddress() string {
	if public := publicAddresses(); len(public) > 0 {
		return public[0].String()
	}
	interfaces, _ := net.InterfaceAddrs() // none: the name is left
	for _, a := range interfaces {
		prefix, err := netip.ParsePrefix(a.String())
		if ip := prefix.Addr().Unmap(); err == nil && ip.IsGlobalUnicast() {
			return ip.String()
		}
	}
	if name, err := os.Hostname(); err == nil {
		return name
	}
	return "localhost"
}
