package chaos

import (
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// giveBack frees what a dead process reserved in segment files below a folder and never wrote: with hundreds of
// deaths it would fill a disk.
func giveBack(dir string) error {
	files, err := filepath.Glob(filepath.Join(dir, "*"))
	if err != nil {
		return err
	}
	for _, name := range files {
		if err := punch(name); err != nil {
			return err
		}
	}
	return nil
}

// punch frees the space behind a file's last data. The file keeps its size.
func punch(name string) error {
	f, err := os.OpenFile(name, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	fi, err := f.Stat()
	if err != nil {
		return err
	}
	end := int64(0)
	for {
		data, err := unix.Seek(int(f.Fd()), end, unix.SEEK_DATA)
		if err == unix.ENXIO {
			break
		}
		if err == nil {
			end, err = unix.Seek(int(f.Fd()), data, unix.SEEK_HOLE)
		}
		if err != nil {
			return err
		}
	}
	if end == fi.Size() {
		return nil
	}
	return unix.Fallocate(int(f.Fd()), unix.FALLOC_FL_PUNCH_HOLE|unix.FALLOC_FL_KEEP_SIZE, end, fi.Size()-end)
}
