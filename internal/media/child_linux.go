package media

import (
	"syscall"

	"golang.org/x/sys/unix"
)

// confine puts hard limits on a child that has just been started, and lowers its priority.
func confine(pid int, l childLimits) {
	for resource, most := range map[int]uint64{
		unix.RLIMIT_AS: l.memory, unix.RLIMIT_CPU: l.seconds, unix.RLIMIT_FSIZE: l.file,
		unix.RLIMIT_NOFILE: 64, unix.RLIMIT_CORE: 0,
	} {
		// A child that is gone already needs no limits.
		_ = unix.Prlimit(pid, resource, &unix.Rlimit{Cur: most, Max: most}, nil)
	}
	_ = syscall.Setpriority(syscall.PRIO_PROCESS, pid, 10)
}
