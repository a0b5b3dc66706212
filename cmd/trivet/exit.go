package main

import (
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"trivet/storage"
)

// The exit statuses of every command.
const (
	exitDone     = 0
	exitFailed   = 1
	exitUsage    = 2 // nothing was asked of any node
	exitNoQuorum = 3
)

// usageError is a command line that makes no sense.
type usageError struct{ err error }

func (e *usageError) Error() string { return e.err.Error() }
func (e *usageError) Unwrap() error { return e.err }

// usagef returns a wrong use.
func usagef(format string, args ...any) error {
	return &usageError{fmt.Errorf(format, args...)}
}

// usageOf returns err as a wrong use of cmd, with the command that explains it.
func usageOf(cmd *cobra.Command, err error) error {
	return usagef("%w; see '%s --help'", err, cmd.CommandPath())
}

func exitStatus(err error) int {
	var usage *usageError
	switch {
	case err == nil:
		return exitDone
	case errors.As(err, &usage):
		return exitUsage
	case storage.KindOf(err) == storage.KindNoQuorum:
		return exitNoQuorum
	default:
		return exitFailed
	}
}
