package search

import (
	"runtime"
	"syscall"
)

// niceness is that of the indexing thread: it takes what the others leave.
const niceness = 15

// lowerPriority makes the calling goroutine the only one of its thread, and that thread one that others go ahead of. The
// thread ends with the goroutine.
func lowerPriority() {
	runtime.LockOSThread()
	_ = syscall.Setpriority(syscall.PRIO_PROCESS, syscall.Gettid(), niceness)
}
