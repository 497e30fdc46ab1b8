//go:build !linux

package blob

import "os"

// directFlag is nothing here: all is written through the page cache.
const directFlag = 0

// reserve leaves the file to grow with its records.
func reserve(*os.File, int64) error { return nil }

// writeAll writes buffers at an offset, one after another.
func writeAll(f *os.File, list [][]byte, off int64) error {
	for _, b := range list {
		if _, err := f.WriteAt(b, off); err != nil {
			return err
		}
		off += int64(len(b))
	}
	return nil
}

// syncData makes a file's bytes and size durable; on Darwin the library asks for F_FULLFSYNC.
func syncData(f *os.File) error { return f.Sync() }

// lock has nothing to claim: no space is reserved.
func lock(*os.File) bool { return true }

// dataEnd is the file's size: no space is reserved.
func dataEnd(_ *os.File, size int64) int64 { return size }
