package dir

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"
	"time"

	"github.com/fsnotify/fsnotify"

	"github.com/gantry-imaging/gantry/internal/gantry"
)

// SourceConfig is what a pipeline file says about a source of kind dir.
type SourceConfig struct {
	Path    string        `yaml:"path" required:"true" path:"true" doc:"The folder to watch, with its subfolders. It must be there."`
	Pattern string        `yaml:"pattern" default:"*" doc:"Which names of files are taken, as in a shell: *.dcm, [0-9]*.zip."`
	Settle  time.Duration `yaml:"settle" default:"1s" doc:"How long a file must not change before it is taken."`

	After       string `yaml:"after" default:"keep" one:"keep move delete" doc:"What becomes of a file once all its tasks are done: keep; move, it goes to move_to; delete."`
	AfterFailed string `yaml:"after_failed" default:"keep" one:"keep move" doc:"What becomes of it if one of them failed: keep; move, it goes to failed_to."`
	MoveTo      string `yaml:"move_to" path:"true" doc:"The folder that files are moved to with their subfolders, on the same file system; it is made if it is not there."`
	FailedTo    string `yaml:"failed_to" path:"true" doc:"The same for after_failed."`
}

const (
	defaultSettle = time.Second
	maxSettle     = time.Hour
)

// Target is the folder.
func (c SourceConfig) Target() gantry.Target { return target(c.Path) }

// Check lists what is wrong with the config. Whether the folder is there is seen when it is opened.
func (c SourceConfig) Check() []gantry.FieldProblem {
	found := checkPath(c.Path)
	if _, err := path.Match(c.Pattern, ""); err != nil {
		found = append(found, gantry.FieldProblem{Key: "pattern", Text: "is no pattern of names"})
	} else if filepath.Base(c.Pattern) != c.Pattern && c.Pattern != "" {
		found = append(found, gantry.FieldProblem{Key: "pattern", Text: "is about names alone and holds no slash"})
	}
	if c.Settle < 0 || c.Settle > maxSettle {
		found = append(found, gantry.FieldProblem{Key: "settle", Text: fmt.Sprintf("is not from 0 to %s", maxSettle)})
	}
	return append(found, c.checkAfter()...)
}

// onDisk is the place of all paths.
const onDisk = "files"

// Takes are the paths of the files that are announced, wherever links lead. What is below a hidden folder is not.
func (c SourceConfig) Takes() gantry.Keys {
	return gantry.Keys{Place: onDisk, Prefix: below(c.Path), Skips: ignored, Patterns: []string{cmp.Or(c.Pattern, "*")}}
}

// Moves are move_to and failed_to.
func (c SourceConfig) Moves() (all []string) {
	for _, to := range []string{c.MoveTo, c.FailedTo} {
		if to != "" {
			all = append(all, below(to))
		}
	}
	return all
}

// below is what the paths of all files in a folder begin with.
func below(folder string) string {
	return strings.TrimSuffix(filepath.ToSlash(resolved(folder)), "/") + "/"
}

// resolved is where a folder is, without links on the way to it, as far as it is there.
func resolved(folder string) string {
	if abs, err := filepath.Abs(folder); err == nil {
		folder = abs
	}
	for at, rest := filepath.Clean(folder), ""; ; at, rest = filepath.Dir(at), filepath.Join(filepath.Base(at), rest) {
		if real, err := filepath.EvalSymlinks(at); err == nil {
			return filepath.Join(real, rest)
		}
		if at == filepath.Dir(at) {
			return filepath.Clean(folder)
		}
	}
}

// source is a folder. Its durations are fields for the tests.
type source struct {
	path    string
	pattern string
	settle  time.Duration
	rescan  time.Duration // between two looks at everything
	poll    time.Duration // the same where the system tells nothing
	pause   time.Duration // after the first failed announcement; doubles up to rescan
	now     func() time.Time
	listen  func() (notes, error)
	tell    func(context.Context, gantry.Notice) error // whether the folder can be looked at; nil: nobody wants to know
	after   map[gantry.State]after
}

// NewSource makes a source of a folder that is there: else it is NotFound with code
// folder_missing, or Illegal with code not_a_folder. It makes no calls, so egress is not used.
func NewSource(_ context.Context, c SourceConfig, _ gantry.Egress) (gantry.Source, error) {
	for _, p := range c.Check() {
		return nil, gantry.Errorf(gantry.Illegal, "bad_config", "open source: %s: %s", p.Key, p.Text)
	}
	if err := wantFolder(c.Path); err != nil {
		return nil, err
	}
	return &source{
		path: filepath.Clean(c.Path), pattern: cmp.Or(c.Pattern, "*"), settle: cmp.Or(c.Settle, defaultSettle),
		rescan: 30 * time.Second, poll: 5 * time.Second, pause: time.Second, now: time.Now, listen: listen,
		after: c.afters(),
	}, nil
}

// Open reads the file that was announced as ref, a slash-separated path below the folder. One that
// is gone, or that something else took the place of, is NotFound with code source_gone; a folder
// that is gone as a whole is Unavailable with code folder_missing, since a share may come back.
func (s *source) Open(ctx context.Context, ref string) (io.ReadCloser, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	name := filepath.FromSlash(ref)
	if !filepath.IsLocal(name) {
		return nil, gantry.Errorf(gantry.Illegal, CodeBadPath, "open object: its ref is not below the folder")
	}
	root, err := openRoot(s.path)
	if err != nil {
		return nil, err
	}
	defer root.Close()
	f, err := openFile(root, name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, gantry.Errorf(gantry.NotFound, gantry.CodeSourceGone, "open object: it is gone")
	}
	if err != nil {
		return nil, classify("open object", err)
	}
	return object{f}, nil
}

// object is an open file whose errors do not name it.
type object struct{ file *os.File }

// Read reads the file.
func (o object) Read(p []byte) (int, error) {
	n, err := o.file.Read(p)
	if err != nil && err != io.EOF {
		err = classify("read object", err)
	}
	return n, err
}

// Close closes the file.
func (o object) Close() error { return o.file.Close() }

// notes is what the system tells about folders.
type notes struct {
	events <-chan fsnotify.Event
	errors <-chan error
	add    func(folder string) error
	close  func() error
}

// listen asks the system to tell.
func listen() (notes, error) {
	w, err := fsnotify.NewWatcher()
	if err != nil {
		return notes{}, err
	}
	return notes{w.Events, w.Errors, w.Add, w.Close}, nil
}
