package app

import (
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"log/slog"
	mathrand "math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/gantry-imaging/gantry/internal/driver"
	dicomdriver "github.com/gantry-imaging/gantry/internal/driver/dicom"
	"github.com/gantry-imaging/gantry/internal/gantry"
	"github.com/gantry-imaging/gantry/internal/gate"
	"github.com/gantry-imaging/gantry/internal/localpg"
	"github.com/gantry-imaging/gantry/internal/metrics"
	"github.com/gantry-imaging/gantry/internal/postgres"
	"github.com/gantry-imaging/gantry/internal/scheduler"
	"github.com/gantry-imaging/gantry/internal/trace"
)

// Settings say where everything of one installation is.
type Settings struct {
	Home        string // everything that belongs to it; empty: localpg.DefaultHome
	DatabaseURL string // empty: a private cluster below Home
	Blobs       string // folder of the blob store, or s3://bucket/prefix; empty: Home/blobs
	Key         string // deployment key in hexadecimal; empty: the blob store's own
	Drivers     *driver.Register
	Log         *slog.Logger
	Lookup      func(string) (string, bool) // environment; nil: the process's

	Metrics *metrics.Metrics // nil: nobody counts
	Tracer  *trace.Tracer    // nil: nobody is told

	CallbackURL string     // where services reach this installation's /callbacks/; empty: they cannot
	Signatures  Signatures // of callbacks; nil: none can be checked, so that none are taken

	BlobBucket BlobBucket    // how the bucket is reached, if Blobs is s3://bucket/prefix
	BlobGrace  time.Duration // how long garbage of the blob store is kept; 0: blob.DefaultGrace

	Tasks int           // tasks in this process at once; 0: 64
	TTL   time.Duration // lease; 0: 15 s
	Grace time.Duration // for steps under way at a stop; 0: 10 s
}

func (s Settings) withDefaults() Settings {
	if s.Home == "" {
		s.Home = localpg.DefaultHome()
	}
	if s.Blobs == "" {
		s.Blobs = filepath.Join(s.Home, "blobs")
	}
	if s.Log == nil {
		s.Log = slog.New(slog.DiscardHandler)
	}
	if s.Lookup == nil {
		s.Lookup = os.LookupEnv
	}
	return s
}

// Database is an open store, and the private cluster that it runs on if it has one.
type Database struct {
	*postgres.Store
	DSN     string
	cluster *localpg.Cluster
}

// OpenDatabase finds or starts the database that the settings name and brings it to this version's
// schema.
func OpenDatabase(ctx context.Context, s Settings) (*Database, error) {
	s = s.withDefaults()
	d := &Database{DSN: s.DatabaseURL}
	if d.DSN == "" {
		c, err := localpg.Open(ctx, localpg.Options{Home: s.Home, Log: func(format string, args ...any) {
			s.Log.Info(fmt.Sprintf(format, args...))
		}})
		if err != nil {
			return nil, err
		}
		d.cluster, d.DSN = c, c.DSN()
	}
	var err error
	if _, err = postgres.Migrate(ctx, d.DSN); err == nil {
		d.Store, err = postgres.Open(ctx, d.DSN)
	}
	if err != nil {
		return nil, errors.Join(err, d.Close())
	}
	return d, nil
}

// Close leaves the database; the last to leave a private cluster stops it.
func (d *Database) Close() error {
	if d.Store != nil {
		d.Store.Close()
	}
	if d.cluster != nil {
		return d.cluster.Close()
	}
	return nil
}

// App is an installation that is open in this process.
type App struct {
	Settings
	Store  *postgres.Store
	Key    []byte
	plans  *plans
	rand   func() float64
	ids    *gantry.IDs
	desk   desk
	port   *dicomdriver.Port // on which peers call; nil: they do not
	care   care
	scans  scans
	recent recent

	control *gate.Control // what sources and polls ask without a call

	session  atomic.Pointer[scheduler.Session] // nil while there is no lease
	draining atomic.Bool

	mu    sync.Mutex
	blobs blobs // opened with the first worker id
}

// New opens an installation on a database that is open.
func New(s Settings, db *Database) (*App, error) {
	s = s.withDefaults()
	want, err := hex.DecodeString(strings.TrimSpace(s.Key))
	if err != nil {
		return nil, errors.New("deployment key: it is not hexadecimal")
	}
	key, err := s.deploymentKey(want)
	if err != nil {
		return nil, err
	}
	a := &App{Settings: s, Store: db.Store, Key: key, rand: mathrand.Float64, ids: gantry.NewIDs(time.Now, rand.Reader)}
	a.control = gate.NewControl(a.ids, time.Now)
	a.plans = newPlans(a)
	a.Metrics.Take(a.census())
	return a, nil
}

// Close gives back what the app opened itself, once nothing runs any more.
func (a *App) Close() error {
	a.plans.leave()
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.blobs == nil {
		return nil
	}
	return a.blobs.Close()
}

// segmentSize is reserved on disk by each process that keeps small blobs, in bytes.
const segmentSize = 64 << 20

// blobStore opens the blob store for this process. Its segment files are named by the first worker
// id of the process, which nobody else ever uses.
func (a *App) blobStore(ctx context.Context, w gantry.WorkerID) (blobs, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.blobs != nil {
		return a.blobs, nil
	}
	b, err := a.openBlobs(ctx, w)
	if err != nil {
		return nil, err
	}
	a.blobs = b
	return b, nil
}

// namespace is that of the UIDs of results: it follows from the deployment key and does not tell it.
func (a *App) namespace() (id [16]byte) {
	h := hmac.New(sha256.New, a.Key)
	io.WriteString(h, "uid namespace")
	copy(id[:], h.Sum(nil))
	return id
}

func randomText(r io.Reader) string {
	var b [16]byte
	io.ReadFull(r, b[:])
	return hex.EncodeToString(b[:])
}
