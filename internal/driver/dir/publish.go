package dir

import (
	"context"
	"crypto/sha256"
	"errors"
	"io"
	"io/fs"
	"os"
	"syscall"

	"github.com/gantry-imaging/gantry/internal/gantry"
)

// slots is how many tries may write drafts of one path at once.
const slots = 8

// draft is a file under a hidden name that its writer has locked. The lock goes with the process,
// so a draft that can be locked was left by a crash.
type draft struct {
	root *os.Root
	name string // where it is to be
	temp string
	file *os.File
}

// claimDraft makes an empty draft and removes those that crashed tries left.
func claimDraft(root *os.Root, name string) (*draft, error) {
	var mine *draft
	for slot := range slots {
		temp := draftName(name, slot)
		err := removeLeft(root, temp)
		if err == nil && mine == nil {
			mine, err = makeDraft(root, name, temp)
		}
		if err != nil && !errors.Is(err, errTaken) {
			mine.discard()
			return nil, place("make draft", err)
		}
	}
	if mine == nil {
		return nil, gantry.Errorf(gantry.Transient, "", "make draft: %d others are at it", slots)
	}
	return mine, nil
}

// errTaken says that somebody else has the slot.
var errTaken = errors.New("another try writes there")

// removeLeft removes a draft that nobody writes any more.
func removeLeft(root *os.Root, temp string) error {
	info, err := root.Lstat(temp)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	if !info.Mode().IsRegular() {
		return errTaken
	}
	f, err := root.OpenFile(temp, os.O_RDWR|syscall.O_NONBLOCK, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer f.Close()
	if lock(f) != nil || !isStill(root, temp, f) {
		return errTaken
	}
	// Only the holder of the lock removes the name, so it is still this file's.
	return root.Remove(temp)
}

// makeDraft makes and locks a draft. Between the two somebody may take it for a left one.
func makeDraft(root *os.Root, name, temp string) (*draft, error) {
	f, err := root.OpenFile(temp, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
	if errors.Is(err, fs.ErrExist) {
		return nil, errTaken
	}
	if err != nil {
		return nil, err
	}
	if errors.Is(lock(f), syscall.EWOULDBLOCK) || !isStill(root, temp, f) {
		f.Close()
		return nil, errTaken
	}
	return &draft{root: root, name: name, temp: temp, file: f}, nil
}

// lock takes the file's lock unless somebody has it. A file system without locks gives another
// error: there a draft is written all the same, and none is ever taken for a left one.
func lock(f *os.File) error {
	raw, err := f.SyscallConn()
	if err != nil {
		return err
	}
	var held error
	err = raw.Control(func(fd uintptr) { held = syscall.Flock(int(fd), syscall.LOCK_EX|syscall.LOCK_NB) })
	return errors.Join(err, held)
}

// isStill tells whether a name still leads to a file.
func isStill(root *os.Root, name string, f *os.File) bool {
	is, err := f.Stat()
	if err != nil {
		return false
	}
	at, err := root.Lstat(name)
	return err == nil && os.SameFile(is, at)
}

// fill writes the delivery into the draft, checks it, and syncs it.
func (d *draft) fill(ctx context.Context, out gantry.Delivery) (int64, gantry.Digest, error) {
	none := gantry.Digest{}
	r, err := out.Open(ctx)
	if err != nil {
		return 0, none, err
	}
	defer r.Close()
	h := sha256.New()
	in := &keeper{r: bounded{ctx, r}}
	var from io.Reader = in
	if out.Size >= 0 {
		from = io.LimitReader(in, out.Size+1) // one more, to see whether there is more
	}
	n, err := io.Copy(io.MultiWriter(d.file, h), from)
	sha := gantry.Digest(h.Sum(nil))
	switch {
	case in.err != nil:
		return 0, none, in.err
	case err != nil:
		return 0, none, classify("write draft", err)
	case out.Size >= 0 && n != out.Size:
		return 0, none, gantry.Errorf(gantry.Transient, CodeSizeMismatch, "read output: it is not the %d bytes that it should be", out.Size)
	case !out.SHA.IsZero() && sha != out.SHA:
		return 0, none, gantry.Errorf(gantry.Transient, CodeChecksumMismatch, "read output: not the bytes that it should be")
	}
	if err := d.file.Sync(); err != nil {
		return 0, none, classify("sync draft", err)
	}
	return n, sha, nil
}

// publish gives the draft its name, which fails with fs.ErrExist if that is taken.
func (d *draft) publish() error {
	if !isStill(d.root, d.temp, d.file) { // somebody cleaned up by hand
		return gantry.Errorf(gantry.Transient, "", "publish: the draft is gone")
	}
	err := d.root.Link(d.temp, d.name)
	switch {
	case err == nil, errors.Is(err, fs.ErrExist):
		return err
	case errors.Is(err, fs.ErrNotExist):
		return gantry.Errorf(gantry.Transient, "", "publish: the draft is gone")
	case errors.Is(err, syscall.EPERM), errors.Is(err, syscall.EOPNOTSUPP), errors.Is(err, syscall.ENOSYS):
		return gantry.Errorf(gantry.Permanent, CodeNoHardLinks, "publish: the folder's file system has no hard links")
	}
	return classify("publish", err)
}

// discard removes the draft's hidden name and unlocks it, in this order. It is safe for nil.
func (d *draft) discard() {
	if d == nil {
		return
	}
	if isStill(d.root, d.temp, d.file) {
		d.root.Remove(d.temp)
	}
	d.file.Close()
}

// keeper keeps the error of the side that is read, which io.Copy mixes with that of the other.
type keeper struct {
	r   io.Reader
	err error
}

// Read reads on.
func (k *keeper) Read(p []byte) (int, error) {
	n, err := k.r.Read(p)
	if err != nil && err != io.EOF {
		k.err = err
	}
	return n, err
}
