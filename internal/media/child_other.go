//go:build !linux

package media

import "syscall"

// confine lowers a child's priority. Only Linux can limit another process.
func confine(pid int, _ childLimits) { _ = syscall.Setpriority(syscall.PRIO_PROCESS, pid, 10) }
