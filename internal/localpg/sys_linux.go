package localpg

import (
	"errors"
	"io/fs"
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// mayServe tells whether a living process may be a server on data. /proc/PID/cmdline is readable
// by everyone, /proc/PID/cwd is not (not even by root in a container without CAP_SYS_PTRACE).
func mayServe(pid int, data string) bool {
	b, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/cmdline")
	if err != nil {
		return !errors.Is(err, fs.ErrNotExist)
	}
	s := strings.TrimRight(string(b), "\x00")
	if s == "" { // a zombie or a kernel thread
		return false
	}
	return commandServes(strings.Split(s, "\x00"), data)
}

// syncTree makes everything below dir durable with one call.
func syncTree(dir string) error {
	f, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer f.Close()
	return unix.Syncfs(int(f.Fd()))
}
