package dir

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"
	"syscall"
)

// ignored tells names that are no objects: hidden ones, and those of files that somebody still
// writes, by the habits of browsers, editors and copying tools.
func ignored(name string) bool {
	if strings.HasPrefix(name, ".") {
		return true
	}
	for _, end := range []string{".tmp", ".part", ".crdownload", "~"} {
		if len(name) >= len(end) && strings.EqualFold(name[len(name)-len(end):], end) {
			return true
		}
	}
	return false
}

// lstat looks at one file. What cannot be there is fs.ErrNotExist.
func (w *watcher) lstat(ref string) (fs.FileInfo, error) {
	root, err := openRoot(w.path)
	if err != nil {
		return nil, err
	}
	defer root.Close()
	info, err := root.Lstat(filepath.FromSlash(ref))
	if errors.Is(err, syscall.ENOTDIR) {
		err = fs.ErrNotExist
	}
	return info, err
}

// look looks at one name.
func (w *watcher) look(ctx context.Context, ref string) {
	info, err := w.lstat(ref)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		delete(w.seen, ref)
	case err != nil: // the next look at everything
	case info.IsDir():
		if root, err := openRoot(w.path); err == nil {
			defer root.Close()
			w.scan(ctx, root, ref)
		}
	case info.Mode().IsRegular():
		w.observe(ref, stampOf(info))
	}
}

// scanAll looks at everything and forgets what is gone, unless a part of it could not be read. Its
// error is about the folder itself.
func (w *watcher) scanAll(ctx context.Context) error {
	every := w.rescan
	if w.notes.events == nil {
		every = w.poll
	}
	root, err := openRoot(w.path)
	if err == nil {
		defer root.Close()
		w.round++
		var whole bool
		if whole, err = w.scan(ctx, root, "."); whole {
			for ref, s := range w.seen {
				if s.round != w.round {
					delete(w.seen, ref)
				}
			}
		}
	}
	if w.absent = w.longer(w.absent); err == nil {
		w.absent = 0
	} else {
		every = w.absent
	}
	w.scanned = w.now()
	w.scanAt = w.scanned.Add(every)
	return err
}

// scan looks at a folder and all below it. It tells whether it could read everything; its error
// is about the folder itself.
func (w *watcher) scan(ctx context.Context, root *os.Root, from string) (whole bool, err error) {
	whole = true
	for stack := []string{from}; len(stack) > 0; {
		folder := stack[len(stack)-1]
		stack = stack[:len(stack)-1]
		if w.notes.add != nil {
			w.notes.add(filepath.Join(w.path, filepath.FromSlash(folder))) // before it is read, so that nothing falls between
		}
		below, readErr := w.scanFolder(ctx, root, folder)
		stack = append(stack, below...)
		if ctx.Err() != nil {
			return false, ctx.Err()
		}
		if readErr != nil && folder == from {
			err = classify("read folder", readErr)
		}
		if readErr != nil && (folder == from || !errors.Is(readErr, fs.ErrNotExist)) {
			whole = false
		}
	}
	return whole, err
}

// scanFolder looks at the files of one folder and gives the folders in it.
func (w *watcher) scanFolder(ctx context.Context, root *os.Root, folder string) (below []string, err error) {
	here, err := root.OpenRoot(filepath.FromSlash(folder))
	if err != nil {
		return nil, err
	}
	defer here.Close()
	f, err := here.Open(".")
	if err != nil {
		return nil, err
	}
	defer f.Close()
	for ctx.Err() == nil {
		entries, err := f.ReadDir(512)
		for _, e := range entries {
			if ignored(e.Name()) || e.Type()&fs.ModeSymlink != 0 {
				continue
			}
			info, err := here.Lstat(e.Name())
			switch {
			case errors.Is(err, fs.ErrNotExist):
			case err != nil:
				return below, err
			case info.IsDir():
				below = append(below, path.Join(folder, e.Name()))
			case info.Mode().IsRegular():
				w.observe(path.Join(folder, e.Name()), stampOf(info))
			}
		}
		if err == io.EOF {
			return below, nil
		}
		if err != nil {
			return below, err
		}
	}
	return below, ctx.Err()
}

// observe notes what a file looks like now.
func (w *watcher) observe(ref string, now stamp) {
	if ok, err := path.Match(w.pattern, path.Base(ref)); err != nil || !ok {
		return
	}
	if s, ok := w.seen[ref]; ok && s.stamp == now {
		w.seen[ref] = sighting{now, w.round}
		return
	}
	c := w.open[ref]
	switch {
	case c == nil:
		c = &candidate{ref: ref, stamp: now}
		w.open[ref] = c
	case c.busy || c.stamp == now: // whoever is busy with it looks again
		return
	default:
		c.stamp, c.pause = now, 0
	}
	w.queue.schedule(c, w.now().Add(w.settle))
}
