package dir

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/fsnotify/fsnotify"
	"github.com/google/go-cmp/cmp"

	"github.com/gantry-imaging/gantry/internal/gantry"
)

// bench runs a Watch on a real folder under the clock of synctest. What the system tells is said
// by the test, since a goroutine that waits for the kernel would stop that clock.
type bench struct {
	t      *testing.T
	folder string
	source *source
	events chan fsnotify.Event
	errors chan error
	cancel context.CancelFunc
	done   chan error
	began  time.Time

	mu      sync.Mutex
	added   []string
	closed  int
	fail    map[string]error // what to answer, by ref
	hold    chan struct{}    // if not nil, announcements wait for it
	running int
	most    int
	got     []string // "seconds ref" of each announcement
	objects []gantry.Object
}

// onBench runs f with a Watch that is not started.
func onBench(t *testing.T, c SourceConfig, f func(b *bench)) {
	t.Parallel()
	folder := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		c.Path = folder
		s, err := NewSource(t.Context(), c, nil)
		if err != nil {
			t.Fatal(err)
		}
		b := &bench{t: t, folder: folder, source: s.(*source), done: make(chan error, 1), fail: map[string]error{}, began: time.Now()}
		b.events, b.errors = make(chan fsnotify.Event), make(chan error)
		b.source.listen = func() (notes, error) {
			return notes{b.events, b.errors, b.add, func() error { b.closed++; return nil }}, nil
		}
		f(b)
		if b.cancel == nil {
			return
		}
		b.cancel()
		if err := <-b.done; err != nil {
			t.Errorf("a cancelled Watch gave %v", err)
		}
		if b.closed != 1 || b.running != 0 {
			t.Errorf("%d times closed, %d announcements run", b.closed, b.running)
		}
	})
}

func (b *bench) add(folder string) error {
	rel, err := filepath.Rel(b.folder, folder)
	b.added = append(b.added, rel)
	return err
}

func (b *bench) start() {
	ctx, cancel := context.WithCancel(b.t.Context())
	b.cancel = cancel
	go func() { b.done <- b.source.Watch(ctx, b.announce) }()
	synctest.Wait()
}

func (b *bench) announce(ctx context.Context, o gantry.Object) error {
	b.mu.Lock()
	b.got = append(b.got, fmt.Sprintf("%g %s", time.Since(b.began).Seconds(), o.Ref))
	b.objects = append(b.objects, o)
	b.running++
	b.most = max(b.most, b.running)
	err, hold := b.fail[o.Ref], b.hold
	b.mu.Unlock()
	if hold != nil {
		select {
		case <-hold:
		case <-ctx.Done():
			err = ctx.Err()
		}
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.running--
	return err
}

// write writes a file in place; each content gets its own time.
func (b *bench) write(name, body string) {
	b.t.Helper()
	file := filepath.Join(b.folder, filepath.FromSlash(name))
	at := time.Unix(1_700_000_000+int64(len(body)), 0)
	err := errors.Join(os.MkdirAll(filepath.Dir(file), 0o755), os.WriteFile(file, []byte(body), 0o600), os.Chtimes(file, at, at))
	if err != nil {
		b.t.Fatal(err)
	}
}

func (b *bench) remove(name string) {
	b.t.Helper()
	if err := os.RemoveAll(filepath.Join(b.folder, name)); err != nil {
		b.t.Fatal(err)
	}
}

func (b *bench) setFail(ref string, err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.fail[ref] = err
}

// tell says that something happened to a name.
func (b *bench) tell(name string, op fsnotify.Op) {
	b.events <- fsnotify.Event{Name: filepath.Join(b.folder, name), Op: op}
	synctest.Wait()
}

// until moves the clock to a number of seconds after the beginning.
func (b *bench) until(seconds float64) {
	time.Sleep(time.Until(b.began.Add(time.Duration(seconds * float64(time.Second)))))
	synctest.Wait()
}

// want compares the announcements so far, in any order of those of one moment.
func (b *bench) want(want ...string) {
	b.t.Helper()
	b.mu.Lock()
	defer b.mu.Unlock()
	got := slices.Clone(b.got)
	slices.Sort(got)
	slices.Sort(want)
	if diff := cmp.Diff(want, got, cmp.Transformer("nil", func(s []string) []string { return append([]string{}, s...) })); diff != "" {
		b.t.Errorf("announcements at %g s (-want +got):\n%s", time.Since(b.began).Seconds(), diff)
	}
}
