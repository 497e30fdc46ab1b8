package localpg

import (
	"archive/tar"
	"compress/gzip"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"
)

// Limits of one package. The real one has 1,029 files and 59 MB.
const (
	maxEntries  = 20_000
	maxUnpacked = 1 << 30
	maxLinks    = 512
	maxLinkList = 256 << 10
	maxName     = 512 // bytes, which bounds the depth too
)

// native is the part of the package that is kept: bin, lib, share. links lists, for files that npm
// cannot carry, the symbolic links which shared libraries need.
const (
	native = "package/native/"
	links  = native + "pg-symlinks.json"
)

// untar unpacks the native part of an npm package (gzip, tar) into the empty directory dir. Every
// write goes through an os.Root, so nothing leaves dir whatever the archive says; archives with
// odd names, links or devices are refused as a whole.
func untar(r io.Reader, dir string) error {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return err
	}
	defer root.Close()
	zr, err := gzip.NewReader(r)
	if err != nil {
		return err
	}
	var list []byte
	left := int64(maxUnpacked)
	plain := &capped{r: zr, left: maxUnpacked + 64<<20}
	tr := tar.NewReader(plain)
	for n := 1; ; n++ {
		h, err := tr.Next()
		if errors.Is(err, io.EOF) {
			if _, err := io.Copy(io.Discard, plain); err != nil { // to the checksum of gzip
				return err
			}
			return makeLinks(root, list)
		}
		if err != nil {
			return fmt.Errorf("entry %d: %w", n, err)
		}
		if n > maxEntries {
			return fmt.Errorf("more than %d entries", maxEntries)
		}
		if left -= h.Size; h.Size < 0 || left < 0 {
			return fmt.Errorf("entry %d: more than %d bytes in all", n, maxUnpacked)
		}
		if h.Name == links {
			if list, err = io.ReadAll(io.LimitReader(tr, maxLinkList+1)); err != nil {
				return fmt.Errorf("entry %d: %w", n, err)
			}
			continue
		}
		if err := putEntry(root, h, tr); err != nil {
			return fmt.Errorf("entry %d: %w", n, err)
		}
	}
}

// putEntry writes one entry. Modes are reduced to "program" and "file".
func putEntry(root *os.Root, h *tar.Header, r io.Reader) error {
	name := strings.TrimSuffix(h.Name, "/")
	if len(name) > maxName || !fs.ValidPath(name) || strings.ContainsAny(name, "\\\x00") {
		return errors.New("its name leads outside")
	}
	if h.Typeflag == tar.TypeDir {
		return nil
	}
	if h.Typeflag != tar.TypeReg {
		return fmt.Errorf("type %q is neither file nor directory", h.Typeflag)
	}
	name, kept := strings.CutPrefix(name, native)
	if !kept {
		return nil
	}
	if err := makeDirs(root, path.Dir(name)); err != nil {
		return err
	}
	mode := fs.FileMode(0o644)
	if h.FileInfo().Mode()&0o100 != 0 {
		mode = 0o755
	}
	f, err := root.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, mode)
	if err != nil {
		return err
	}
	defer f.Close()
	if _, err := io.Copy(f, r); err != nil {
		return err
	}
	if err := f.Chmod(mode); err != nil { // whatever the umask
		return err
	}
	return f.Close()
}

// makeDirs makes name and its parents enterable by everyone, whatever the umask.
func makeDirs(root *os.Root, name string) error {
	if name == "." {
		return nil
	}
	if _, err := root.Lstat(name); err == nil {
		return nil
	}
	if err := makeDirs(root, path.Dir(name)); err != nil {
		return err
	}
	if err := root.Mkdir(name, 0o755); err != nil {
		return err
	}
	return root.Chmod(name, 0o755)
}

// makeLinks creates the listed symbolic links, relative, each to a regular file of the package.
func makeLinks(root *os.Root, list []byte) error {
	if list == nil {
		return nil
	}
	if len(list) > maxLinkList {
		return errors.New("list of links: too long")
	}
	var all []struct{ Source, Target string }
	if err := json.Unmarshal(list, &all); err != nil {
		return fmt.Errorf("list of links: %w", err)
	}
	if len(all) > maxLinks {
		return fmt.Errorf("list of links: more than %d", maxLinks)
	}
	for i, l := range all {
		src, ok1 := strings.CutPrefix(l.Source, "native/")
		dst, ok2 := strings.CutPrefix(l.Target, "native/")
		if !ok1 || !ok2 || len(dst) > maxName || !fs.ValidPath(src) || !fs.ValidPath(dst) {
			return fmt.Errorf("link %d: leads outside", i)
		}
		if fi, err := root.Lstat(src); err != nil || !fi.Mode().IsRegular() {
			return fmt.Errorf("link %d: does not lead to a file of the package", i)
		}
		rel, err := filepath.Rel(path.Dir(dst), src)
		if err != nil {
			return err
		}
		if err := root.Symlink(rel, dst); err != nil {
			return fmt.Errorf("link %d: %w", i, err)
		}
	}
	return nil
}

// capped ends a stream with an error after left bytes: headers of a tar cost bytes too, and a
// gzip stream may hold a thousand times its size.
type capped struct {
	r    io.Reader
	left int64
}

func (c *capped) Read(b []byte) (int, error) {
	if c.left <= 0 {
		return 0, errors.New("unpacks to too much")
	}
	n, err := c.r.Read(b[:min(int64(len(b)), c.left)])
	c.left -= int64(n)
	return n, err
}
