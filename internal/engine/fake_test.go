package engine

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"io"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/gantry-imaging/gantry/internal/gantry"
)

// world stands for everything around the engine: store, session, gate and plans, as small as they
// can be.
type world struct {
	t     *testing.T
	plan  *Plan
	stop  chan struct{}
	blobs shelfOfBytes

	bucket  *bucket          // that keeps the original; nil: it was copied
	several []gantry.Arrival // members of a collection; nil: there is one original

	mu       sync.Mutex
	original error // what reading the original fails with
	away     error // what reading items fails with
	refuse   error // what every commit fails with
	items    []gantry.Item
	parts    map[gantry.PartKey]gantry.Part
	called   []string          // keys of requests, in order
	put      []string          // paths that the sink got
	sealed   map[string]string // manifests that the sink got
	kin      map[gantry.TaskID]*child
	scratch  string // of the last step
	hurries  bool   // calls end by their timeout
	process  func(ctx context.Context, r *gantry.Request) error
	tickets  Tickets // of a service that answers later
	units    int     // that parts may still go out with; below 0: any number
	confirms Confirmations
	scans    func(string) (gantry.Code, bool)          // nil: no file was scanned as it came
	came     func(string) (gantry.Arrival, bool)       // nil: this process made no task
	taken    func(sink int16) ([]gantry.Digest, error) // by the record; nil: nobody knows
}

// newWorld has one task of some stages that call one processor for each part.
func newWorld(t *testing.T, stages ...gantry.Stage) *world {
	t.Helper()
	w := &world{t: t, stop: make(chan struct{}), blobs: shelfOfBytes{}, parts: map[gantry.PartKey]gantry.Part{},
		units: -1, sealed: map[string]string{}, kin: map[gantry.TaskID]*child{}}
	w.process = answer1(gantry.MediaJSON, `{}`)
	w.plan = &Plan{ID: 1, Pipeline: &gantry.Pipeline{Name: "p", Stages: stages, OnError: gantry.OnErrorFail,
		Extract: gantry.Extract{Archives: []string{"zip"}, Depth: 3, MaxBytes: 1 << 20, MaxEntries: 100, MaxRatio: 100},
		Retry:   gantry.RetryPolicy{Attempts: 3, Initial: time.Second, Factor: 2, Max: time.Minute},
		Timeouts: gantry.Timeouts{Extracting: time.Minute, Ingesting: 2 * time.Minute, Inferring: 3 * time.Minute,
			Responding: 4 * time.Minute}}}
	for _, st := range stages {
		var calls []Call
		for i, name := range st.Call {
			calls = append(calls, Call{Name: name, Limiter: int32(i + 1), Timeout: time.Minute, Units: 1, Processor: processor{w}})
		}
		w.plan.Calls = append(w.plan.Calls, calls)
	}
	w.plan.Sinks = []Sink{{Name: "s", Limiter: 9, Sink: sink{w}}}
	return w
}

func each(name string, how gantry.Each, bad gantry.ErrorPolicy) gantry.Stage {
	return gantry.Stage{Name: name, Mode: gantry.Sequential, Each: how, Call: []string{"m"}, OnError: bad}
}

// leaves fills the store with an archive of n pictures, as if it had been extracted.
func (w *world) leaves(n int) {
	w.items = []gantry.Item{{ID: 0, Parent: gantry.NoItem, Stage: gantry.OriginalStage, Media: gantry.MediaZIP, Location: "in", Size: 9}}
	for i := range n {
		b := []byte{byte(i)}
		w.items = append(w.items, gantry.Item{ID: gantry.ItemID(i + 1), Origin: gantry.ItemID(i + 1), Parent: 0, Ordinal: int32(i),
			Stage: gantry.OriginalStage, Media: "image/jpeg", Size: 1, SHA: sha256.Sum256(b), Body: b})
	}
}

// step runs the effect of one state in a process of its own.
func (w *world) step(ctx context.Context, state gantry.State, stage int16) gantry.Transition {
	w.t.Helper()
	return w.stepOf(ctx, gantry.Task{Lease: gantry.Lease{Task: 7, Seq: 3}, PublicID: "id", State: state, Stage: stage})
}

// stepOf is step for any task.
func (w *world) stepOf(ctx context.Context, task gantry.Task) gantry.Transition {
	w.t.Helper()
	w.scratch = w.t.TempDir()
	o := Options{Store: w, Session: w, Caller: w, Blobs: w.blobs, Plans: w, Tickets: w.tickets, Rand: func() float64 { return 0.5 }, Scratch: w.scratch, Confirmations: w.confirms, Scanned: w.scans, Arrived: w.came}
	if w.taken != nil {
		o.Delivered = func(_ context.Context, _ gantry.TaskID, _, _, sink int16) ([]gantry.Digest, error) {
			return w.taken(sink)
		}
	}
	e := New(o)
	step, end := e.Begin(task)
	defer end()
	return w.land(step(ctx, task))
}

// land commits what goes with a transition, as the scheduler does; under a lease that is lost neither lands.
func (w *world) land(tr gantry.Transition) gantry.Transition {
	if tr.Found == nil {
		return tr
	}
	err := w.Commit(w.t.Context(), &gantry.Write{Lease: tr.Lease, Items: tr.Found.Items})
	if errors.Is(err, gantry.ErrFenced) {
		return gantry.Transition{}
	}
	if err != nil {
		w.t.Error(err)
	}
	tr.Found = nil
	return tr
}

// calledKeys gives the keys that the processor was called with, sorted.
func (w *world) calledKeys() []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.Sorted(slices.Values(w.called))
}

func (w *world) Plan(context.Context, int32) (*Plan, error) { return w.plan, nil }
func (w *world) Stopping() <-chan struct{}                  { return w.stop }

func (w *world) Originals(context.Context, gantry.TaskID) ([]gantry.Arrival, error) {
	switch {
	case w.several != nil:
		return w.several, w.original
	case w.bucket != nil:
		return []gantry.Arrival{{Place: "at", Version: "e", Size: int64(len(w.bucket.body)), Name: "x", Source: "p/inbox"}}, w.original
	}
	b := w.blobs["in"]
	return []gantry.Arrival{{Location: "in", Size: int64(len(b)), SHA: sha256.Sum256(b), Name: "x", Source: "p/inbox"}}, w.original
}

// rows gives what the store holds of a task; mu is held.
func (w *world) rows(id gantry.TaskID) (*[]gantry.Item, map[gantry.PartKey]gantry.Part) {
	if c := w.kin[id]; c != nil {
		return &c.items, c.parts
	}
	return &w.items, w.parts
}

func (w *world) Items(_ context.Context, id gantry.TaskID) ([]gantry.Item, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	items, _ := w.rows(id)
	return slices.Clone(*items), w.away
}

func (w *world) Parts(_ context.Context, id gantry.TaskID, _ int16) (out []gantry.Part, err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	_, parts := w.rows(id)
	for _, p := range parts {
		out = append(out, p)
	}
	return out, nil
}

func (w *world) Commit(_ context.Context, x *gantry.Write) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.refuse != nil {
		return w.refuse
	}
	items, parts := w.rows(x.Lease.Task)
	for _, it := range x.Items {
		*items = append(slices.DeleteFunc(*items, func(y gantry.Item) bool { return y.ID == it.ID }), it)
	}
	slices.SortFunc(*items, byID)
	if x.Of != 0 {
		items, _ = w.rows(x.Of)
	}
	for _, m := range x.Marks {
		for i := range *items {
			if y := &(*items)[i]; y.ID == m.ID {
				y.Reason, y.Rejected, y.Size = m.Reason, m.Rejected, m.Size
				if y.SHA.IsZero() {
					y.SHA = m.SHA
				}
			}
		}
	}
	for _, p := range x.Plan {
		if _, known := parts[p.PartKey]; !known {
			parts[p.PartKey] = p
		}
	}
	for _, p := range x.Parts {
		parts[p.PartKey] = p
	}
	return nil
}

// Call does what the gate does, in its order: intent, send, within the timeout if wanted, seal, outcome.
func (w *world) Call(ctx context.Context, spec gantry.CallSpec, send func(context.Context) error, seal func(context.Context, error) (*gantry.Write, error)) error {
	if spec.Unit == gantry.UnitKept && !w.unit() {
		return gantry.ErrNoUnit
	}
	if err := w.Commit(ctx, &gantry.Write{Lease: spec.Intent.Lease, Intent: &spec.Intent, Plan: spec.Plan}); err != nil {
		return err
	}
	timeout := spec.Timeout
	if !w.hurries {
		timeout = 0
	}
	err := within(ctx, timeout, send)
	x := &gantry.Write{}
	if seal != nil {
		sealed, serr := seal(ctx, err)
		if err == nil {
			err = serr
		}
		if sealed != nil {
			x = sealed
		}
	}
	x.Lease = spec.Intent.Lease
	return errors.Join(err, w.Commit(ctx, x))
}

// unit takes a unit for a part that goes out.
func (w *world) unit() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.units != 0 {
		w.units--
		return true
	}
	return false
}

// within sends under a timeout of its own, if there is one.
func within(ctx context.Context, timeout time.Duration, send func(context.Context) error) error {
	if timeout == 0 {
		return send(ctx)
	}
	sending, end := context.WithTimeout(ctx, timeout)
	defer end()
	err := send(sending)
	if err != nil && sending.Err() != nil && ctx.Err() == nil {
		return gantry.Errorf(gantry.Timeout, "timeout", "%w", err)
	}
	return err
}

type processor struct{ w *world }

// Process notes the call and does what the test says.
func (p processor) Process(ctx context.Context, r *gantry.Request) error {
	p.w.mu.Lock()
	p.w.called = append(p.w.called, r.Key)
	p.w.mu.Unlock()
	return p.w.process(ctx, r)
}

// answer1 answers every request alike.
func answer1(media, text string) func(context.Context, *gantry.Request) error {
	return func(ctx context.Context, r *gantry.Request) error {
		return r.Receive(ctx, media, int64(len(text)), bytes.NewReader([]byte(text)))
	}
}

type sink struct{ w *world }

// Deliver notes the path, and the text of a manifest.
func (s sink) Deliver(ctx context.Context, d gantry.Delivery) error {
	s.w.mu.Lock()
	defer s.w.mu.Unlock()
	s.w.put = append(s.w.put, d.Path)
	if !d.Manifest {
		return nil
	}
	r, err := d.Open(ctx)
	if err != nil {
		return err
	}
	defer r.Close()
	b, err := io.ReadAll(r)
	s.w.sealed[d.Path] = string(b)
	return err
}

// shelfOfBytes is a blob store that reads from memory; what is staged stays inline.
type shelfOfBytes map[string][]byte

func (b shelfOfBytes) Stage(_ context.Context, r io.Reader, _, _ int64) (gantry.Staged, error) {
	all, err := io.ReadAll(r)
	return inline(all), err
}

func (b shelfOfBytes) Open(_ context.Context, location string) (gantry.Blob, error) {
	return blob{bytes.NewReader(b[location])}, nil
}

type blob struct{ *bytes.Reader }

func (blob) Close() error { return nil }

type inline []byte

func (b inline) Size() int64                            { return int64(len(b)) }
func (b inline) SHA() gantry.Digest                     { return sha256.Sum256(b) }
func (b inline) Inline() []byte                         { return b }
func (b inline) Commit(context.Context) (string, error) { return "", errors.New("it is inline") }
func (b inline) Discard()                               {}
