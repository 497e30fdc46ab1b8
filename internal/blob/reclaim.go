package blob

import (
	"context"
	"io/fs"
	"os"
	"path/filepath"
	"time"
)

// reclaim gives the space back that processes had reserved in their segments and died before they gave it back
// themselves. A segment whose writer lives is locked; one that was written since before is left for another time.
// Only space that never held a byte goes, so whatever a row may name stays.
func reclaim(ctx context.Context, root string, before time.Time) error {
	return filepath.WalkDir(filepath.Join(root, "seg"), func(path string, e fs.DirEntry, err error) error {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if err != nil || !e.Type().IsRegular() {
			return skipGone(err)
		}
		info, err := e.Info()
		if err != nil || !info.ModTime().Before(before) {
			return skipGone(err)
		}
		return skipGone(giveBack(path))
	})
}

// skipGone forgives a file that another process removed meanwhile.
func skipGone(err error) error {
	if os.IsNotExist(err) {
		return nil
	}
	return err
}

func giveBack(path string) error {
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	if !lock(f) {
		return nil
	}
	info, err := f.Stat()
	if err != nil {
		return err
	}
	if end := dataEnd(f, info.Size()); end < info.Size() {
		return f.Truncate(end)
	}
	return nil
}
