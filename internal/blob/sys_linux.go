package blob

import (
	"errors"
	"io"
	"os"

	"golang.org/x/sys/unix"
)

// directFlag keeps writes out of the page cache.
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

// writeAll writes buffers at an offset, in one piece of work for the disk.
func writeAll(f *os.File, list [][]byte, off int64) error {
	for len(list) > 0 {
		n, err := unix.Pwritev(int(f.Fd()), list, off)
		switch {
		case errors.Is(err, unix.EINTR):
			continue
		case err != nil:
			return err
		case n == 0:
			return io.ErrShortWrite
		}
		off += int64(n)
		list = behind(list, n)
	}
	return nil
}

// behind is what is left of buffers after the first n bytes.
func behind(list [][]byte, n int) [][]byte {
	for len(list) > 0 && n >= len(list[0]) {
		n -= len(list[0])
		list = list[1:]
	}
	if len(list) > 0 {
		list[0] = list[0][n:]
	}
	return list
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

// lock claims a segment for its writer until the file is closed; false if another has it. Where files cannot be
// locked nobody has it, and nobody may take its space back.
func lock(f *os.File) bool {
	for {
		err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		if !errors.Is(err, unix.EINTR) {
			return err == nil
		}
	}
}

// dataEnd is where the last bytes end that were ever written; the file's size where the filesystem cannot tell
// them from space that was only reserved.
func dataEnd(f *os.File, size int64) int64 {
	end := int64(0)
	for end < size {
		from, err := unix.Seek(int(f.Fd()), end, unix.SEEK_DATA)
		if errors.Is(err, unix.ENXIO) {
			return end
		}
		if err != nil {
			return size
		}
		if end, err = unix.Seek(int(f.Fd()), from, unix.SEEK_HOLE); err != nil {
			return size
		}
	}
	return size
}
