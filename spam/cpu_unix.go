//go:build unix

package spam

import (
	"syscall"
	"time"
)

// cpuTime is how long this process has computed, on all cores: what else the machine does is not in it.
func cpuTime() time.Duration {
	var u syscall.Rusage
	if syscall.Getrusage(syscall.RUSAGE_SELF, &u) != nil {
		return 0
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
