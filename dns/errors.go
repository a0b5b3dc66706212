package dns

import (
	"context"
	"errors"
	"net"
	"os"
)

var (
	errNoServer  = errors.New("no DNS server is configured; see the setting resolver")
	errUnwell    = errors.New("no DNS server answers")
	errBusy      = errors.New("too many DNS questions are under way")
	errAliases   = errors.New("the aliases (CNAME) of the name have no end")
	errMalformed = errors.New("the DNS server sent a malformed answer")
	errRefused   = errors.New("the DNS server could not answer")
)

// failure is the error of a question without an answer.
func failure(name, server string, err error) *net.DNSError {
	timeout := errors.Is(err, context.DeadlineExceeded) || errors.Is(err, os.ErrDeadlineExceeded)
	return &net.DNSError{UnwrapErr: err, Err: err.Error(), Name: name, Server: server, IsTimeout: timeout, IsTemporary: true}
}

// notFound is the error of a question whose answer is that there is nothing.
func notFound(name, what string) *net.DNSError {
	return &net.DNSError{Err: what, Name: name, IsNotFound: true}
}
