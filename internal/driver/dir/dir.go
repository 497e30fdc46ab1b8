// Package dir takes objects from a folder and lays results into one. Read source.go (what a
// pipeline file may say, and reading an object), watch.go (the loop that announces), scan.go (how
// it looks at the folder), describe.go (parts of files), candidate.go (what waits to be announced), then sink.go (one delivery)
// and publish.go (how a file comes to lie there whole or not at all).
package dir

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"

	"github.com/gantry-imaging/gantry/internal/gantry"
)

// Codes of folders.
const (
	CodeFolderMissing    gantry.Code = "folder_missing"    // NotFound when it is opened, Unavailable later
	CodeNotAFolder       gantry.Code = "not_a_folder"      // Illegal
	CodeBadPath          gantry.Code = "bad_path"          // Illegal: a ref or path that is not below the folder
	CodeNoSpace          gantry.Code = "no_space"          // Unavailable
	CodeNameTooLong      gantry.Code = "name_too_long"     // Permanent
	CodeNoHardLinks      gantry.Code = "no_hard_links"     // Permanent: the file system cannot publish without overwriting
	CodeSizeMismatch     gantry.Code = "size_mismatch"     // Transient
	CodeChecksumMismatch gantry.Code = "checksum_mismatch" // Transient
)

// target is where calls to a folder go.
func target(path string) gantry.Target {
	return gantry.Target{Scheme: "dir", Host: filepath.ToSlash(filepath.Clean(path))}
}

// checkPath says what is wrong with the path of a config.
func checkPath(path string) []gantry.FieldProblem {
	if path == "" {
		return []gantry.FieldProblem{{Key: "path", Text: "names no folder"}}
	}
	return nil
}

// plain takes the paths out of an error of package os: they are names of inputs.
func plain(err error) error {
	if p, ok := errors.AsType[*fs.PathError](err); ok {
		return p.Err
	}
	if l, ok := errors.AsType[*os.LinkError](err); ok {
		return l.Err
	}
	return err
}

// classify gives an error of package os a kind. doing is the verb of its text.
func classify(doing string, err error) error {
	if own, ok := errors.AsType[*gantry.Error](err); ok {
		return own
	}
	if errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
		return err
	}
	kind, code := gantry.Transient, gantry.Code("")
	switch err = plain(err); {
	case errors.Is(err, syscall.ENOSPC), errors.Is(err, syscall.EDQUOT):
		kind, code = gantry.Unavailable, CodeNoSpace
	case errors.Is(err, syscall.EACCES), errors.Is(err, syscall.EPERM), errors.Is(err, syscall.EROFS):
		kind = gantry.Denied
	case errors.Is(err, syscall.ENAMETOOLONG):
		kind, code = gantry.Permanent, CodeNameTooLong
	}
	return gantry.Errorf(kind, code, "%s: %w", doing, err)
}

// openRoot opens a folder for one use. It is not kept open: a share may be mounted anew.
func openRoot(path string) (*os.Root, error) {
	root, err := os.OpenRoot(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, gantry.Errorf(gantry.Unavailable, CodeFolderMissing, "open folder: it is not there")
	}
	if err != nil {
		return nil, classify("open folder", err)
	}
	return root, nil
}

// wantFolder says why path is no folder that can be used.
func wantFolder(path string) error {
	info, err := os.Stat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return gantry.Errorf(gantry.NotFound, CodeFolderMissing, "open folder %s: it is not there", path)
	case err != nil:
		return classify("open folder "+path, err)
	case !info.IsDir():
		return gantry.Errorf(gantry.Illegal, CodeNotAFolder, "open folder %s: it is no folder", path)
	}
	return nil
}

// openFile opens a regular file that no link leads to. It does not wait for the other end of a
// pipe that took the file's place. What is not there, or is no such file, is fs.ErrNotExist.
func openFile(root *os.Root, name string) (*os.File, error) {
	was, err := root.Lstat(name)
	switch {
	case errors.Is(err, syscall.ENOTDIR):
		return nil, fs.ErrNotExist
	case err != nil:
		return nil, err
	case !was.Mode().IsRegular():
		return nil, fs.ErrNotExist
	}
	f, err := root.OpenFile(name, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	is, err := f.Stat()
	if err != nil || !os.SameFile(was, is) {
		f.Close()
		return nil, errors.Join(err, fs.ErrNotExist)
	}
	return f, nil
}
