package localpg

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strconv"
	"time"

	"golang.org/x/sys/unix"
)

// lockEvery is how often a lock that another process holds is asked for again. A blocking flock
// could not be given up when the context ends.
const lockEvery = 20 * time.Millisecond

// lockFile opens (or creates) a file and takes its flock, LOCK_EX or LOCK_SH. The kernel drops
// the lock when the file is closed or the process dies in any way; children do not inherit it,
// because Go opens every file close-on-exec.
func lockFile(ctx context.Context, path string, how int) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	for {
		ok, err := tryLock(f, how)
		if err != nil {
			f.Close()
			return nil, err
		}
		if ok {
			return f, nil
		}
		if err := sleep(ctx, lockEvery); err != nil {
			f.Close()
			return nil, fmt.Errorf("wait for lock %s: %w", path, err)
		}
	}
}

// tryLock takes or converts the lock of f without waiting. A conversion that does not succeed
// drops the lock that was held before (flock(2)).
func tryLock(f *os.File, how int) (bool, error) {
	for {
		err := unix.Flock(int(f.Fd()), how|unix.LOCK_NB)
		switch {
		case err == nil:
			return true, nil
		case errors.Is(err, unix.EINTR):
		case errors.Is(err, unix.EWOULDBLOCK):
			return false, nil
		default:
			return false, fmt.Errorf("lock %s: %w", f.Name(), err)
		}
	}
}

// alone tells whether nobody else holds the shared lock of f, and holds it shared again
// afterwards. Call it under the main lock only: nobody may come in between.
func alone(f *os.File) (bool, error) {
	yes, err := tryLock(f, unix.LOCK_EX)
	if err != nil {
		return false, err
	}
	if ok, err := tryLock(f, unix.LOCK_SH); err != nil {
		return false, err
	} else if !ok {
		return false, fmt.Errorf("lock %s: a process holds it without the main lock", f.Name())
	}
	return yes, nil
}

// sleep waits, or ends early with the context's error.
func sleep(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-t.C:
		return nil
	}
}

// keepFiles marks every open file but the standard ones as close-on-exec. Go does so for what it
// opens itself; what this process inherited (a pipe of its parent, a lock of a script) would
// otherwise stay open in the detached server, and whoever waits for its end would wait for ever.
func keepFiles() error {
	entries, err := os.ReadDir("/dev/fd")
	if err != nil {
		return fmt.Errorf("list open files: %w", err)
	}
	for _, e := range entries {
		if fd, err := strconv.Atoi(e.Name()); err == nil && fd > 2 {
			unix.CloseOnExec(fd)
		}
	}
	return nil
}
