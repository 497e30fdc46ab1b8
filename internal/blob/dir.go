// Package blob keeps bytes that nobody else keeps, in a folder: small blobs packed into segment
// files, each by one writer, large ones as files named by their digest; or, for several machines, in a bucket, each
// as an object named by its digest. It promises that a location
// which Commit gave reads back after a crash. Read dir.go and identity.go first, then stage.go,
// memory.go and staged.go (the way in), segment.go and writer.go (the pack), location.go, read.go
// and handles.go (the way out). sys_linux.go and sys_other.go hold what differs between systems.
// Of a bucket, read bucket.go, bucketclient.go (where it is, and what its answers mean), bucketput.go and
// bucketread.go. ledger.go and collect.go are the collection of garbage, of both.
package blob

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/gantry-imaging/gantry/internal/gantry"
)

// Codes of this package's errors.
const (
	CodeNoSpace  gantry.Code = "no_space" // Unavailable: the disk or the quota is full
	CodeCorrupt              = gantry.CodeCorrupt
	CodeMissing  gantry.Code = "blob_missing" // NotFound: nothing lies there
	CodeWrongKey gantry.Code = "wrong_key"    // Illegal: the store belongs to another deployment key
	CodeClosed   gantry.Code = "closed"       // Unavailable: the store was closed
)

const (
	defaultSegment = 512 << 20
	defaultMemory  = 128 << 20
	orphanAge      = time.Hour
	shards         = 256
	tempPrefix     = "tmp-"
)

// Options say where a store lies and what it may use.
type Options struct {
	Dir    string          // made if it is not there, with mode 0700
	Worker gantry.WorkerID // names this process's segment files; above 0
	Key    []byte          // the deployment key, as DeploymentKey gives it
	// SegmentSize is the size of a segment file in bytes, reserved when the file is made; 0 means
	// 512 MiB. A record that is larger gets a segment of its own size.
	SegmentSize int64
	// MemoryLimit bounds the bytes that staged blobs over gantry.InlineLimit hold in memory; 0
	// means 128 MiB. What finds no room goes to a file.
	MemoryLimit int64
	Ledger      Ledger // nil: nothing is noted, and garbage must not be collected
	Database    string // as of BucketOptions
}

// Dir is a blob store in a folder, shared by any number of processes. It is safe for concurrent use.
type Dir struct {
	root     string
	id       string
	worker   gantry.WorkerID
	mem      *memory
	database string
	writers  [2]*writer // the second works while the first is at the disk
	handles  *handles
	ledger   Ledger
	env      env
	temps    atomic.Uint64
	kept     [shards]atomic.Bool // shards whose folder is durable
	stop     chan struct{}
	stopOnce sync.Once
}

var _ gantry.Blobs = (*Dir)(nil)

// env is what comes from outside: the clock, randomness, patience and the two calls that decide
// whether bytes are durable.
type env struct {
	now      func() time.Time
	rand     io.Reader
	patience time.Duration                                    // how long Stage waits for memory before it takes a file
	write    func(f *os.File, list [][]byte, off int64) error // one after another
	sync     func(f *os.File) error
}

func systemEnv() env {
	return env{now: time.Now, rand: rand.Reader, patience: time.Second, sync: syncData, write: writeAll}
}

// OpenDir opens the store, makes it if it is new, and removes temporary files and reserved space that
// were left over an hour ago. A store made under another key is refused with code wrong_key. Close it after use.
func OpenDir(ctx context.Context, o Options) (*Dir, error) {
	return open(ctx, o, systemEnv())
}

func open(ctx context.Context, o Options, e env) (*Dir, error) {
	if o.Dir == "" || o.Worker <= 0 || len(o.Key) < minKey || o.SegmentSize < 0 || o.MemoryLimit < 0 {
		return nil, gantry.Errorf(gantry.Illegal, "", "open blob store: it needs a folder, a worker above 0, a key of %d bytes or more, and no negative size", minKey)
	}
	if o.SegmentSize == 0 {
		o.SegmentSize = defaultSegment
	}
	if o.MemoryLimit == 0 {
		o.MemoryLimit = defaultMemory
	}
	root, err := filepath.Abs(o.Dir)
	if err != nil {
		return nil, diskError("open blob store", err)
	}
	if err := layOut(root); err != nil {
		return nil, diskError("lay out blob store", err)
	}
	id, err := openIdentity(root, o.Key, e)
	if err != nil {
		return nil, err
	}
	if o.Database != "" {
		if err := own(ctx, folder{root, e.rand}, id, o.Database, e.now); err != nil {
			return nil, err
		}
	}
	if err := sweep(ctx, root, e.now().Add(-orphanAge)); err != nil {
		return nil, diskError("remove orphans", err)
	}
	if err := reclaim(ctx, root, e.now().Add(-orphanAge)); err != nil {
		return nil, diskError("reclaim space of segments", err)
	}
	d := &Dir{
		root: root, id: id, database: o.Database, worker: o.Worker, ledger: o.Ledger, env: e, stop: make(chan struct{}),
		mem: newMemory(o.MemoryLimit, e.patience), handles: newHandles(openSegments, root, id),
	}
	for i := range d.writers {
		d.writers[i] = newWriter(d, o.SegmentSize)
		go d.writers[i].run()
	}
	return d, nil
}

// ID is the identity that the store got when it was made. A worker that knew the store under
// another one must not use it.
func (d *Dir) ID() string { return d.id }

// Close stops the writers after the commits that they hold, gives the unused ends of their segments back
// to the filesystem and closes the files. Later calls answer with code closed. Blobs that are open
// stay readable until they are closed themselves.
func (d *Dir) Close() error {
	d.stopOnce.Do(func() { close(d.stop) })
	for _, w := range d.writers {
		<-w.ended
	}
	d.handles.close()
	return nil
}

func (d *Dir) checkOpen() error {
	select {
	case <-d.stop:
		return errClosed()
	default:
		return nil
	}
}

func errClosed() error {
	return gantry.Errorf(gantry.Unavailable, CodeClosed, "blob store is closed")
}

// layOut makes the folders of a store; those that are there stay as they are.
func layOut(root string) error {
	for _, dir := range []string{root, filepath.Join(root, "seg"), filepath.Join(root, "sha")} {
		if err := makeDir(dir); err != nil {
			return err
		}
	}
	return syncDir(root)
}

// keepShard makes a shard's folder and its name durable, once for each shard in this process.
// That it is there is not enough: whoever made it may not have synced it yet.
func (d *Dir) keepShard(b byte) error {
	if d.kept[b].Load() {
		return nil
	}
	if err := os.Mkdir(shardDir(d.root, b), 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	if err := syncDir(filepath.Join(d.root, "sha")); err != nil {
		return err
	}
	d.kept[b].Store(true)
	return nil
}

func shardDir(root string, b byte) string {
	return filepath.Join(root, "sha", fmt.Sprintf("%02x", b))
}

// makeDir makes a folder and those above it, and makes their names durable.
func makeDir(dir string) error {
	if fi, err := os.Stat(dir); err == nil && fi.IsDir() {
		return nil
	}
	parent := filepath.Dir(dir)
	if parent != dir {
		if err := makeDir(parent); err != nil {
			return err
		}
	}
	if err := os.Mkdir(dir, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	return syncDir(parent)
}

func syncDir(dir string) error {
	f, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}

// sweep removes temporary files that were last written before the cutoff: their process is gone.
func sweep(ctx context.Context, root string, cutoff time.Time) error {
	if err := sweepDir(root, cutoff); err != nil {
		return err
	}
	for i := range shards {
		if err := ctx.Err(); err != nil {
			return err
		}
		if err := sweepDir(shardDir(root, byte(i)), cutoff); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return nil
}

func sweepDir(dir string, cutoff time.Time) error {
	f, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer f.Close()
	for {
		entries, err := f.ReadDir(1024)
		for _, e := range entries {
			if !strings.HasPrefix(e.Name(), tempPrefix) {
				continue
			}
			// Another process may sweep the same file: one that is gone is what was wanted.
			fi, err := e.Info()
			if err == nil && fi.Mode().IsRegular() && fi.ModTime().Before(cutoff) {
				err = os.Remove(filepath.Join(dir, e.Name()))
			}
			if err != nil && !errors.Is(err, fs.ErrNotExist) {
				return err
			}
		}
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
	}
}

// diskError classifies what the filesystem said; errors that carry a meaning and those of a
// context stay as they are.
func diskError(op string, err error) error {
	if e, ok := errors.AsType[*gantry.Error](err); ok {
		return e
	}
	if errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
		return err
	}
	if errors.Is(err, fs.ErrPermission) {
		return gantry.Errorf(gantry.Denied, "", "%s: %w", op, err)
	}
	for _, full := range []error{syscall.ENOSPC, syscall.EDQUOT, syscall.EFBIG} {
		if errors.Is(err, full) {
			return gantry.Errorf(gantry.Unavailable, CodeNoSpace, "%s: %w", op, err)
		}
	}
	return gantry.Errorf(gantry.Transient, "", "%s: %w", op, err)
}
