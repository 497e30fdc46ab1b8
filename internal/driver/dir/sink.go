package dir

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"io/fs"
	"os"
	"path"
	"sync"
	"syscall"

	"github.com/gantry-imaging/gantry/internal/gantry"
)

// SinkConfig says where results go.
type SinkConfig struct {
	Path string `yaml:"path" required:"true" path:"true" doc:"The folder for the results; it is made if it is not there."`
}

// Target is the folder.
func (c SinkConfig) Target() gantry.Target { return gantry.Target{Scheme: "dir", Host: c.Path} }

type sink struct {
	path  string
	locks [64]sync.Mutex // by path: tries of one file go one after another
}

// NewSink makes a sink of a folder. It opens nothing yet.
func NewSink(_ context.Context, c SinkConfig, _ gantry.Egress) (gantry.Sink, error) {
	return &sink{path: c.Path}, nil
}

// Deliver writes one file below the folder: under a temporary name first, synced, then linked to
// its own, which fails if that is taken. A file that is there already with the same bytes is
// success.
func (s *sink) Deliver(ctx context.Context, d gantry.Delivery) error {
	if !fs.ValidPath(d.Path) || d.Path == "." {
		return gantry.Errorf(gantry.Illegal, "bad_path", "deliver: a path that is none")
	}
	if err := os.MkdirAll(s.path, 0o755); err != nil {
		return diskError("make folder", err)
	}
	root, err := os.OpenRoot(s.path)
	if err != nil {
		return diskError("open folder", err)
	}
	defer root.Close()
	lock := &s.locks[crc32.ChecksumIEEE([]byte(d.Path))%uint32(len(s.locks))]
	lock.Lock()
	defer lock.Unlock()
	folder := path.Dir(d.Path)
	if err := root.MkdirAll(folder, 0o755); err != nil {
		return diskError("make folder", err)
	}
	same, err := compare(ctx, root, d)
	if same || err != nil {
		return err
	}
	// The name is the same for every try, so that what a crash left is written over.
	temp := path.Join(folder, "."+path.Base(d.Path)+".part")
	if err := root.Remove(temp); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return diskError("remove what a crash left", err)
	}
	if err := write(ctx, root, temp, d); err != nil {
		root.Remove(temp)
		return err
	}
	err = root.Link(temp, d.Path)
	root.Remove(temp)
	if errors.Is(err, fs.ErrExist) {
		if same, err = compare(ctx, root, d); !same && err == nil {
			err = gantry.Errorf(gantry.Transient, "", "publish: the file came and went")
		}
		return err
	}
	if err != nil {
		return diskError("publish", err)
	}
	return syncFolders(root, folder)
}

// compare tells whether the file is there already with the right bytes; other bytes are a
// conflict.
func compare(ctx context.Context, root *os.Root, d gantry.Delivery) (bool, error) {
	f, err := root.Open(d.Path)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, diskError("look at the file that is there", err)
	}
	defer f.Close()
	h := sha256.New()
	if _, err := io.Copy(h, ctxReader{ctx, f}); err != nil {
		return false, diskError("read the file that is there", err)
	}
	if gantry.Digest(h.Sum(nil)) != d.SHA {
		return false, gantry.Errorf(gantry.Permanent, gantry.CodeConflict, "deliver: other bytes are there under this name")
	}
	// Whoever wrote it may have died before it was durable.
	if err := f.Sync(); err != nil {
		return false, diskError("sync", err)
	}
	return true, syncFolders(root, path.Dir(d.Path))
}

// write copies the delivery to a file that nobody else writes, checks it and syncs it.
func write(ctx context.Context, root *os.Root, name string, d gantry.Delivery) (err error) {
	r, err := d.Open(ctx)
	if err != nil {
		return err
	}
	defer r.Close()
	f, err := root.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
	if err != nil {
		return diskError("make file", err)
	}
	defer func() {
		if cerr := f.Close(); err == nil && cerr != nil {
			err = diskError("close", cerr)
		}
	}()
	h := sha256.New()
	src := &readError{r: ctxReader{ctx, r}}
	n, err := io.Copy(io.MultiWriter(f, h), src)
	switch {
	case src.err != nil:
		return src.err
	case err != nil:
		return diskError("write", err)
	case n != d.Size || gantry.Digest(h.Sum(nil)) != d.SHA:
		return gantry.Errorf(gantry.Transient, "digest_mismatch", "deliver: read %d bytes that are not the %d announced", n, d.Size)
	}
	if err := f.Sync(); err != nil {
		return diskError("sync", err)
	}
	return nil
}

// syncFolders makes names durable, from a folder up to the root.
func syncFolders(root *os.Root, folder string) error {
	for {
		f, err := root.Open(folder)
		if err != nil {
			return diskError("sync folder", err)
		}
		err = f.Sync()
		f.Close()
		if err != nil {
			return diskError("sync folder", err)
		}
		if folder == "." {
			return nil
		}
		folder = path.Dir(folder)
	}
}

// readError keeps what the reading side answered apart from what the disk did.
type readError struct {
	r   io.Reader
	err error
}

// Read passes bytes on.
func (r *readError) Read(p []byte) (int, error) {
	n, err := r.r.Read(p)
	if err != nil && err != io.EOF {
		r.err = err
	}
	return n, err
}

type ctxReader struct {
	ctx context.Context
	r   io.Reader
}

// Read stops when ctx ends.
func (c ctxReader) Read(p []byte) (int, error) {
	if c.ctx.Err() != nil {
		return 0, context.Cause(c.ctx)
	}
	return c.r.Read(p)
}

// diskError classifies an error of the file system. Its text leaves out the path, which may hold
// names.
func diskError(what string, err error) error {
	if e, ok := errors.AsType[*fs.PathError](err); ok {
		err = e.Err
	} else if e, ok := errors.AsType[*os.LinkError](err); ok {
		err = e.Err
	}
	switch {
	case errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		return err
	case errors.Is(err, syscall.ENOSPC), errors.Is(err, syscall.EDQUOT):
		return gantry.Errorf(gantry.Unavailable, CodeNoSpace, "%s: %w", what, err)
	case errors.Is(err, fs.ErrPermission), errors.Is(err, syscall.EROFS):
		return gantry.Errorf(gantry.Denied, "", "%s: %w", what, err)
	case errors.Is(err, fs.ErrNotExist):
		return gantry.Errorf(gantry.NotFound, gantry.CodeSourceGone, "%s: %w", what, err)
	}
	return fmt.Errorf("%s: %w", what, err)
}
