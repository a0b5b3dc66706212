//go:build !linux

package search

// lowerPriority does nothing where a thread has no priority of its own.
func lowerPriority() {}
