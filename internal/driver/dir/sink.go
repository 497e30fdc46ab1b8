package dir

import (
	"cmp"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"

	"github.com/gantry-imaging/gantry/internal/gantry"
)

// SinkConfig is what a pipeline file says about a sink of kind dir.
type SinkConfig struct {
	Path string `yaml:"path" required:"true" path:"true" doc:"The folder for the results; it is made if it is not there."`
	Key  string `yaml:"key" default:"{task}/{path}" doc:"Where results lie below it, with {pipeline}, {source}, {task}, {date}, {year}, {month}, {day}, {leg}, {delivery}; it ends in /{path}."`
}

// Target is the folder.
func (c SinkConfig) Target() gantry.Target { return target(c.Path) }

// Check lists what is wrong with the config.
func (c SinkConfig) Check() []gantry.FieldProblem {
	found := checkPath(c.Path)
	if _, err := gantry.ParseKey(c.key()); err != nil {
		found = append(found, gantry.FieldProblem{Key: "key", Text: err.Error()})
	}
	return found
}

// Lays are the paths that results get, wherever links lead.
func (c SinkConfig) Lays() gantry.Keys { return gantry.ResultKeys(onDisk, below(c.Path), c.key()) }

func (c SinkConfig) key() string { return cmp.Or(c.Key, gantry.DefaultKey) }

// sink is a folder for results.
type sink struct {
	path string
	key  gantry.Template // empty: as deliveries say
}

// NewSink makes a sink of a folder, and the folder if it is not there. Something else in its place
// is Illegal with code not_a_folder. It makes no calls, so egress is not used.
func NewSink(_ context.Context, c SinkConfig, _ gantry.Egress) (gantry.Sink, error) {
	for _, p := range c.Check() {
		return nil, gantry.Errorf(gantry.Illegal, "bad_config", "open sink: %s: %s", p.Key, p.Text)
	}
	if err := makeFolder(filepath.Clean(c.Path)); err != nil {
		return nil, err
	}
	s := &sink{path: filepath.Clean(c.Path)}
	if c.key() != gantry.DefaultKey {
		s.key, _ = gantry.ParseKey(c.Key) // it was checked
	}
	return s, nil
}

// makeFolder makes a folder and what is above it, durably.
func makeFolder(name string) error {
	err := wantFolder(name)
	if err == nil || gantry.CodeOf(err) != CodeFolderMissing {
		return err
	}
	above := filepath.Dir(name)
	if above != name {
		if err := makeFolder(above); err != nil {
			return err
		}
	}
	if err := os.Mkdir(name, 0o755); err != nil && !errors.Is(err, fs.ErrExist) {
		return classify("make folder "+name, err)
	}
	root, err := openRoot(above)
	if err != nil {
		return err
	}
	defer root.Close()
	return syncFolder(root, ".")
}

// Deliver copies one file to its path below the folder. It comes to lie there whole and durable, or
// not at all, and never in the place of another: the same bytes under the path are success, others
// are Permanent with code conflict. A source of bytes that fails gives its own error; one that gives
// other bytes than announced is Transient. Several processes may deliver the same path at once.
func (s *sink) Deliver(ctx context.Context, out gantry.Delivery) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if !s.key.Empty() {
		path, err := s.key.Fill(ctx, out)
		if err != nil {
			return err
		}
		out.Path = path
	}
	name := filepath.FromSlash(out.Path)
	if !fs.ValidPath(out.Path) || out.Path == "." || !filepath.IsLocal(name) {
		return gantry.Errorf(gantry.Illegal, CodeBadPath, "deliver: the path is not below the folder")
	}
	root, err := openRoot(s.path)
	if err != nil {
		return err
	}
	defer root.Close()
	folder := filepath.Dir(name)
	if err := root.MkdirAll(folder, 0o755); err != nil {
		return place("make folder", err)
	}
	if err := s.deliver(ctx, root, name, out); err != nil {
		return err
	}
	// Also for a file that was there: whoever laid it may have died before its folders were safe.
	for ; ; folder = filepath.Dir(folder) {
		if err := syncFolder(root, folder); err != nil || folder == "." {
			return err
		}
	}
}

// deliver sees to it that name holds the bytes.
func (s *sink) deliver(ctx context.Context, root *os.Root, name string, out gantry.Delivery) error {
	d, err := claimDraft(root, name)
	if err != nil {
		return err
	}
	defer d.discard()
	if !out.SHA.IsZero() {
		if there, err := compare(ctx, root, name, out.Size, out.SHA); there || err != nil {
			return err
		}
	}
	size, sha, err := d.fill(ctx, out)
	if err != nil {
		return err
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	if err := d.publish(); err == nil || !errors.Is(err, fs.ErrExist) {
		return err
	}
	there, err := compare(ctx, root, name, size, sha)
	if err == nil && !there {
		err = gantry.Errorf(gantry.Transient, "", "publish: the file that was there is gone")
	}
	return err
}

// compare tells whether name is there with these bytes, and syncs it. With others it is a
// conflict. size is -1 if not known.
func compare(ctx context.Context, root *os.Root, name string, size int64, sha gantry.Digest) (bool, error) {
	conflict := gantry.Errorf(gantry.Permanent, gantry.CodeConflict, "deliver: something else is there already")
	info, err := root.Lstat(name)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, place("look at what is there", err)
	}
	if !info.Mode().IsRegular() || size >= 0 && info.Size() != size {
		return false, conflict
	}
	f, err := openFile(root, name)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, classify("look at what is there", err)
	}
	defer f.Close()
	h := sha256.New()
	if _, err := io.Copy(h, bounded{ctx, f}); err != nil {
		return false, classify("read what is there", err)
	}
	if gantry.Digest(h.Sum(nil)) != sha {
		return false, conflict
	}
	if err := f.Sync(); err != nil {
		return false, classify("sync what is there", err)
	}
	return true, nil
}

// place classifies an error about the way to a path. A file where a folder should be is a conflict.
func place(doing string, err error) error {
	if errors.Is(err, syscall.ENOTDIR) || errors.Is(err, fs.ErrExist) {
		return gantry.Errorf(gantry.Permanent, gantry.CodeConflict, "%s: a file is in its place", doing)
	}
	return classify(doing, err)
}

// syncFolder makes the names in a folder durable, where the file system can.
func syncFolder(root *os.Root, folder string) error {
	f, err := root.Open(folder)
	if err != nil {
		return classify("open folder", err)
	}
	defer f.Close()
	if err := f.Sync(); err != nil && !errors.Is(err, syscall.EINVAL) && !errors.Is(err, syscall.ENOTSUP) {
		return classify("sync folder", err)
	}
	return nil
}

// bounded reads until ctx ends.
type bounded struct {
	ctx context.Context
	r   io.Reader
}

// Read reads on.
func (b bounded) Read(p []byte) (int, error) {
	if err := b.ctx.Err(); err != nil {
		return 0, err
	}
	return b.r.Read(p)
}

// draftName is the hidden name in name's folder under which try number slot writes. It depends on
// the path alone, so that the next try finds what a crash left.
func draftName(name string, slot int) string {
	sum := gantry.Digest(sha256.Sum256([]byte(filepath.ToSlash(name)))).String()
	return filepath.Join(filepath.Dir(name), fmt.Sprintf(".gantry-%s-%d.tmp", sum[:24], slot))
}
