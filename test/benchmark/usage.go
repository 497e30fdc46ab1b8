package main

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5"
)

// tick is the unit of /proc/PID/stat on Linux, USER_HZ.
const tick = 10 * time.Millisecond

// ownTime is the processor time of this process so far.
func ownTime() time.Duration { return timeOf(syscall.RUSAGE_SELF) }

// endedTime is that of its children, and theirs, that have ended.
func endedTime() time.Duration { return timeOf(syscall.RUSAGE_CHILDREN) }

func timeOf(who int) time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(who, &u); err != nil {
		return 0
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// procStat gives the parent and the processor time of a process: its own, and what its children
// that have ended had used.
func procStat(pid int) (parent int, own, ended time.Duration, err error) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0, 0, 0, err
	}
	// The second field is a name in parentheses and may hold anything.
	f := strings.Fields(string(b[bytes.LastIndexByte(b, ')')+1:]))
	if len(f) < 15 {
		return 0, 0, 0, fmt.Errorf("read process %d: %d fields", pid, len(f))
	}
	var n [15]int64
	for _, i := range []int{1, 11, 12, 13, 14} {
		if n[i], err = strconv.ParseInt(f[i], 10, 64); err != nil {
			return 0, 0, 0, fmt.Errorf("read process %d: %w", pid, err)
		}
	}
	return int(n[1]), time.Duration(n[11]+n[12]) * tick, time.Duration(n[13]+n[14]) * tick, nil
}

// serverTime is the processor time of all processes of the database server so far.
func serverTime(postmaster int) time.Duration {
	_, own, ended, err := procStat(postmaster)
	if err != nil {
		return 0
	}
	sum := own + ended
	dirs, _ := filepath.Glob("/proc/[0-9]*")
	for _, d := range dirs {
		pid, _ := strconv.Atoi(filepath.Base(d))
		if parent, own, _, err := procStat(pid); err == nil && parent == postmaster {
			sum += own
		}
	}
	return sum
}

// findPostmaster asks a backend whose child it is.
func findPostmaster(ctx context.Context, c *pgx.Conn) (int, error) {
	var pid int
	if err := c.QueryRow(ctx, `select pg_backend_pid()`).Scan(&pid); err != nil {
		return 0, err
	}
	parent, _, _, err := procStat(pid)
	return parent, err
}

// memoryMB is a figure of a process's memory in MB of 10^6 bytes: VmRSS what is resident, VmHWM the most
// that was.
func memoryMB(pid int, field string) (float64, error) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(b)) {
		if rest, ok := strings.CutPrefix(line, field+":"); ok {
			kib, err := strconv.ParseFloat(strings.TrimSuffix(strings.TrimSpace(rest), " kB"), 64)
			return kib * 1024 / 1e6, err
		}
	}
	return 0, fmt.Errorf("read memory of process %d: no %s", pid, field)
}
