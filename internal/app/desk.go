package app

import (
	"context"
	"io"
	"sync"
	"time"

	"github.com/gantry-imaging/gantry/internal/api"
	"github.com/gantry-imaging/gantry/internal/engine"
	"github.com/gantry-imaging/gantry/internal/gantry"
)

// Codes of uploads and of what is asked about tasks.
const (
	CodeNoPipeline gantry.Code = "no_pipeline" // NotFound: none of this name takes uploads here
	CodeNoResults  gantry.Code = "no_results"  // NotFound: the task is not done, or nothing was delivered
	CodeNoLease    gantry.Code = "no_lease"    // Unavailable: the process is between two leases
)

// keyed is the version of every upload that came with a key of its sender: whatever its bytes, it is the
// same arrival.
const keyed = "keyed"

// desk is where uploads come in: the feeds of the pipelines that take them, and the intake of the lease that
// the process holds.
type desk struct {
	mu     sync.Mutex
	feeds  map[string]*feed // by pipeline
	hooks  map[string]*feed // those that take notifications, by pipeline.source; nil: not known yet
	groups []string         // the sources whose objects are collected
	in     *intake          // nil between two leases
	living context.Context  // of the lease
}

// open says which feeds take uploads. A pipeline has one such source at most, since a request names the
// pipeline alone.
func (d *desk) open(feeds []*feed) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.feeds, d.hooks, d.groups = map[string]*feed{}, hooked(feeds), nil
	for _, f := range feeds {
		if len(f.collects()) > 0 {
			d.groups = append(d.groups, f.name)
		}
		if f.uploads == 0 {
			continue
		}
		if d.feeds[f.plan.Name] != nil {
			return gantry.Errorf(gantry.Illegal, "bad_pipeline", "pipeline %s has two sources of kind http", f.plan.Name)
		}
		d.feeds[f.plan.Name] = f
	}
	return nil
}

// collecting names the sources that the process watches whose objects are collected; none in one that only works.
func (d *desk) collecting() []string {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.groups
}

func (d *desk) begin(ctx context.Context, in *intake) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.in, d.living = in, ctx
}

func (d *desk) end(in *intake) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.in == in {
		d.in = nil
	}
}

// now gives the intake of the lease that the process holds, and a context that ends with it.
func (d *desk) now(ctx context.Context) (*intake, context.Context, context.CancelFunc, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.in == nil {
		return nil, nil, nil, noLease()
	}
	ctx, cancel := context.WithCancelCause(ctx)
	stop := context.AfterFunc(d.living, func() { cancel(noLease()) })
	return d.in, ctx, func() { stop(); cancel(nil) }, nil
}

func noLease() error {
	return gantry.Errorf(gantry.Unavailable, CodeNoLease, "the process begins or ends; ask again")
}

// Upload makes an object that was sent, and its task, durable and gives the task's id. The same bytes give
// the same id; so does the same key, under which other bytes are Illegal with code conflict.
func (a *App) Upload(ctx context.Context, u api.Upload) (string, error) {
	in, ctx, done, err := a.desk.now(ctx)
	if err != nil {
		return "", err
	}
	defer done()
	a.desk.mu.Lock()
	f := a.desk.feeds[u.Pipeline]
	a.desk.mu.Unlock()
	if f == nil {
		return "", gantry.Errorf(gantry.NotFound, CodeNoPipeline, "no pipeline of this name takes uploads here")
	}
	if u.Size > f.uploads {
		return "", gantry.Errorf(gantry.Illegal, gantry.CodeTooLarge, "the upload is over the limit of %d bytes", f.uploads)
	}
	o := offer{Object: gantry.Object{Ref: u.Key, Name: u.Name, Size: u.Size}, limit: f.uploads, want: u.SHA,
		open: func(context.Context) (io.ReadCloser, error) { return io.NopCloser(u.Body), nil }}
	if u.Key != "" {
		o.Version = keyed
	}
	got, err := in.take(ctx, f, o, "")
	if err != nil {
		return "", uploadFault(ctx, err)
	}
	f.ledger.took("upload", o.Object, time.Now())
	a.Log.Info("accepted", "source", f.name, "task", got.id)
	if u.Key == "" {
		return got.id, nil
	}
	return got.id, a.sameBytes(ctx, got.id, got.sha)
}

// uploadFault says whose fault an error is: what the store may not do is none of the sender's.
func uploadFault(ctx context.Context, err error) error {
	if cause := context.Cause(ctx); cause != nil && gantry.CodeOf(cause) == CodeNoLease {
		return cause
	}
	if gantry.KindOf(err) == gantry.Denied {
		return gantry.Errorf(gantry.Unavailable, gantry.CodeOf(err), "keep upload: %w", err)
	}
	return err
}

// sameBytes holds an upload to the bytes that came first under its key.
func (a *App) sameBytes(ctx context.Context, id string, sha gantry.Digest) error {
	t, err := a.Store.TaskByID(ctx, id)
	if err != nil {
		return err
	}
	first, err := a.Store.Originals(ctx, gantry.TaskID(t.Key))
	if err == nil && first[0].SHA != sha {
		return gantry.Errorf(gantry.Illegal, gantry.CodeConflict, "other bytes came under this key before")
	}
	return err
}

// Task says how a task is. One that nobody knows is NotFound with code no_task.
func (a *App) Task(ctx context.Context, id string) (api.Task, error) {
	t, err := a.Store.TaskByID(ctx, id)
	if err != nil {
		return api.Task{}, err
	}
	x := api.Task{ID: t.ID, State: t.State, Pipeline: t.Pipeline, Version: t.Version, CreatedAt: &t.CreatedAt, FinishedAt: t.FinishedAt,
		Originals: t.Originals, Bytes: t.Bytes}
	if t.Error != nil {
		x.Error = &api.Failure{Code: t.Error.Code, Kind: t.Error.Kind, Message: t.Error.Message}
	}
	return x, nil
}

// Results gives what a task that is done delivered.
func (a *App) Results(ctx context.Context, id string) (api.Results, error) {
	in, ctx, done, err := a.desk.now(ctx)
	if err != nil {
		return nil, err
	}
	defer done()
	t, ok, err := a.Store.Delivered(ctx, id)
	if err != nil {
		return nil, err
	}
	if !ok {
		return nil, gantry.Errorf(gantry.NotFound, CodeNoResults, "the task is not done, or nothing was delivered")
	}
	r, err := in.made.Results(ctx, t)
	if err != nil {
		return nil, ours(err)
	}
	return results{r}, nil
}

// results are those of one task, open.
type results struct{ r *engine.Results }

// Manifest is the manifest as it was delivered.
func (r results) Manifest() []byte { return r.r.Manifest }

// Open opens an output by its path in the manifest.
func (r results) Open(ctx context.Context, path string) (api.Output, error) {
	x, b, err := r.r.Open(ctx, path)
	if gantry.CodeOf(err) == engine.CodeNoOutput {
		return api.Output{}, err
	}
	if err != nil {
		return api.Output{}, ours(err)
	}
	return api.Output{Media: x.Media, Size: x.Size, SHA: x.SHA, Body: b}, nil
}

// Close gives back what reading them held.
func (r results) Close() { r.r.Close() }

// ours turns what is wrong with rows or blobs into a fault of ours: whoever asked can do nothing about it.
func ours(err error) error {
	if gantry.KindOf(err).Retryable() {
		return err
	}
	return gantry.Errorf(gantry.Permanent, gantry.CodeOf(err), "read results: %w", err)
}
