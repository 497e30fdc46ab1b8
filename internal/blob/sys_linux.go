package blob

import (
	"errors"
	"os"

	"golang.org/x/sys/unix"
)

// directFlag keeps segment writes out of the page cache: a copy less, and no writeback that
// competes with the sync.
const directFlag = unix.O_DIRECT

// reserve allots the file's space at once, so that a write changes no metadata but the state of
// its extents, and a full disk shows here. Filesystems without it grow the file as they go.
func reserve(f *os.File, size int64) error {
	for {
		err := unix.Fallocate(int(f.Fd()), 0, 0, size)
		switch {
		case errors.Is(err, unix.EINTR):
			continue
		case errors.Is(err, unix.EOPNOTSUPP), errors.Is(err, unix.ENOSYS):
			return nil
		}
		return err
	}
}

// syncData makes a file's bytes and size durable.
func syncData(f *os.File) error {
	for {
		err := unix.Fdatasync(int(f.Fd()))
		if !errors.Is(err, unix.EINTR) {
			return err
		}
	}
}
