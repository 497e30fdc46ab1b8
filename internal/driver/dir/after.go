package dir

import (
	"context"
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"unicode/utf8"

	"golang.org/x/sys/unix"

	"github.com/gantry-imaging/gantry/internal/fail"
	"github.com/gantry-imaging/gantry/internal/gantry"
)

// CodeOtherDisk says, Permanent, that a file cannot be moved to where it is to go: that is on another file system.
const CodeOtherDisk gantry.Code = "other_disk"

// after is what becomes of files.
type after struct {
	op gantry.Op
	to string // of a move: the folder
}

func (c SourceConfig) afters() map[gantry.State]after {
	all := map[gantry.State]after{}
	for _, x := range []struct {
		ended   gantry.State
		way, to string
	}{{gantry.Done, c.After, c.MoveTo}, {gantry.Failed, c.AfterFailed, c.FailedTo}} {
		switch x.way {
		case "move":
			all[x.ended] = after{gantry.OpMove, x.to}
		case "delete":
			all[x.ended] = after{gantry.OpDelete, ""}
		}
	}
	return all
}

// checkAfter lists what is wrong with what becomes of files. What is moved must not be announced again.
func (c SourceConfig) checkAfter() (found []gantry.FieldProblem) {
	bad := func(key, text string) { found = append(found, gantry.FieldProblem{Key: key, Text: text}) }
	if !slices.Contains([]string{"", "keep", "move", "delete"}, c.After) {
		bad("after", "is neither keep, move nor delete")
	}
	if !slices.Contains([]string{"", "keep", "move"}, c.AfterFailed) {
		bad("after_failed", "is neither keep nor move: an input that failed is never deleted")
	}
	for _, x := range []struct{ way, is, key, to string }{{"after", c.After, "move_to", c.MoveTo}, {"after_failed", c.AfterFailed, "failed_to", c.FailedTo}} {
		switch {
		case x.is == "move" && x.to == "":
			bad(x.way, "move wants "+x.key+", where to")
		case x.is != "move" && x.to != "":
			bad(x.key, "goes with "+x.way+": move")
		case x.to != "" && gantry.TakesMoved(c, c, below(x.to)):
			bad(x.key, "lies in the folder that is watched: what is moved there would be taken again; a folder whose name begins with a dot is not")
		}
	}
	return found
}

// After says what becomes of files whose tasks ended so.
func (s *source) After(ended gantry.State) (gantry.Op, bool) {
	x, ok := s.after[ended]
	return x.op, ok
}

// mark says which file it is, and what of its content costs nothing to tell.
type mark struct {
	Ref   string `json:"ref"`
	Stamp string `json:"stamp"`
}

// Mark gives the file's path, and its size, time and inode.
func (s *source) Mark(o gantry.Object) string {
	if o.Sequencer == "" || !utf8.ValidString(o.Ref) {
		return ""
	}
	b, _ := json.Marshal(mark{o.Ref, o.Sequencer}) // two texts
	return string(b)
}

// Tidy moves or deletes the file that was read, if it is still the same by size, time and inode. One that changed is
// NotFound with code source_gone. A file is moved within its file system, and never in the place of another. Under a file lies no former one.
func (s *source) Tidy(_ context.Context, text string, ended gantry.State, _ func(context.Context, gantry.Object) error) error {
	var m mark
	x, ok := s.after[ended]
	if err := json.Unmarshal([]byte(text), &m); err != nil || !ok || !filepath.IsLocal(filepath.FromSlash(m.Ref)) || m.Stamp == "" {
		return gantry.Errorf(gantry.Illegal, CodeBadPath, "tidy file: its mark can be none")
	}
	name := filepath.FromSlash(m.Ref)
	root, err := openRoot(s.path)
	if err != nil {
		return err
	}
	defer root.Close()
	f, err := openFile(root, name)
	if errors.Is(err, fs.ErrNotExist) {
		return gantry.Errorf(gantry.NotFound, gantry.CodeSourceGone, "tidy file: it is gone")
	}
	if err != nil {
		return classify("tidy file", err)
	}
	defer f.Close()
	is, err := f.Stat()
	if err != nil {
		return classify("tidy file", err)
	}
	if stampOf(is).String() != m.Stamp {
		return gantry.Errorf(gantry.NotFound, gantry.CodeSourceGone, "tidy file: it is another than was read")
	}
	if x.op == gantry.OpMove {
		if err := moveFile(root, name, is, x.to); err != nil {
			return err
		}
		fail.Point("after_link")
	}
	return removeFile(root, name)
}

func removeFile(root *os.Root, name string) error {
	if err := root.Remove(name); err != nil {
		return classify("remove file", err)
	}
	return syncFolder(root, filepath.Dir(name))
}

// moveFile gives a file a second name below another folder, durably. A name that is taken by another gets a number of the
// file's own in addition.
func moveFile(root *os.Root, name string, is fs.FileInfo, folder string) error {
	if err := makeFolder(folder); err != nil {
		return err
	}
	to, err := openRoot(folder)
	if err != nil {
		return err
	}
	defer to.Close()
	if err := to.MkdirAll(filepath.Dir(name), 0o755); err != nil {
		return place("make folder", err)
	}
	base := filepath.Base(name)
	end := path.Ext(base)
	beside := filepath.Join(filepath.Dir(name), strings.TrimSuffix(base, end)+"~"+stampOf(is).String()+end)
	for _, as := range []string{name, beside} {
		err := link(root, name, to, as)
		if errors.Is(err, fs.ErrExist) {
			if there, serr := to.Lstat(as); serr != nil || !os.SameFile(there, is) {
				continue
			}
			err = nil // a try before this one
		}
		if errors.Is(err, unix.EXDEV) {
			return gantry.Errorf(gantry.Permanent, CodeOtherDisk, "move file: it would go to another file system")
		}
		if err != nil {
			return classify("move file", err)
		}
		return syncAbove(to, filepath.Dir(as))
	}
	return gantry.Errorf(gantry.Permanent, gantry.CodeConflict, "move file: something else is there already")
}

// syncAbove makes a folder's names durable, and those that lead to it.
func syncAbove(root *os.Root, folder string) error {
	for ; ; folder = filepath.Dir(folder) {
		if err := syncFolder(root, folder); err != nil || folder == "." {
			return err
		}
	}
}

// link gives a file another name in another root. No link is followed out of either.
func link(from *os.Root, name string, to *os.Root, as string) error {
	was, err := from.Open(filepath.Dir(name))
	if err != nil {
		return err
	}
	defer was.Close()
	will, err := to.Open(filepath.Dir(as))
	if err != nil {
		return err
	}
	defer will.Close()
	return unix.Linkat(int(was.Fd()), filepath.Base(name), int(will.Fd()), filepath.Base(as), 0)
}
