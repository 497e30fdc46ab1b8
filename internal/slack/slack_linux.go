package slack

import (
	"os"
	"runtime"
	"time"

	"golang.org/x/sys/unix"
)

// Widen gives all threads of the process the slack Wide, those that the runtime began before main among them. A thread has its slack from
// the one that began it, and no process may set another thread's without CAP_SYS_NICE, so the process becomes its
// own program anew, with the same arguments, environment, files and pid; the second time there is nothing left to do, and nothing where it
// was begun with as much. Call it first, before anything is open or under way. It returns having done nothing if the system does not allow it.
func Widen() {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	before := Now()
	if before < 0 || before >= Wide || unix.Prctl(unix.PR_SET_TIMERSLACK, uintptr(Wide), 0, 0, 0) != nil {
		return
	}
	_ = unix.Exec("/proc/self/exe", os.Args, os.Environ()) // by this name it is the very program, even if its file was replaced meanwhile
	_ = unix.Prctl(unix.PR_SET_TIMERSLACK, uintptr(before), 0, 0, 0)
}

// Now is the slack of the thread that it runs on, below zero if the system does not tell.
func Now() time.Duration {
	n, err := unix.PrctlRetInt(unix.PR_GET_TIMERSLACK, 0, 0, 0, 0)
	if err != nil {
		return -1
	}
	return time.Duration(n)
}
