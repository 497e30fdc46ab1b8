package app

import (
	"context"
	"io"
	"strings"
	"sync"
	"time"

	"github.com/gantry-imaging/gantry/internal/engine"
	"github.com/gantry-imaging/gantry/internal/fail"
	"github.com/gantry-imaging/gantry/internal/gantry"
	"github.com/gantry-imaging/gantry/internal/gate"
	"github.com/gantry-imaging/gantry/internal/scheduler"
)

// maxOriginal is the largest original that is copied, in bytes.
const maxOriginal = 1 << 40

// feed is one source, of one pipeline or shared, as tasks are made from it.
type feed struct {
	name    string // pipeline/source; the name alone of a shared source
	plan    *engine.Plan
	index   int16 // among the pipeline's sources
	limiter int32
	lane    int32
	local   bool
	uploads int64 // the largest upload; 0: objects come in another way
	source  gantry.Source
	ledger  *ledger         // nil: what comes is not watched for
	prefix  string          // of all refs
	collect *gantry.Collect // which objects of plan are one task together; nil: each is one of its own
	match   gantry.Match
	routes  []route // nil: everything goes to plan and lane
	layers  bool    // former versions of its objects may come to light
	repeats repeats // of what is sent to it
}

// offer is an object with a way to its bytes.
type offer struct {
	gantry.Object
	open  func(context.Context) (io.ReadCloser, error)
	limit int64         // bytes
	want  gantry.Digest // zero: not known
	came  *came         // it came with its bytes; nil: open reads them
}

// intake turns announced objects into tasks.
type intake struct {
	app   *App
	gate  *gate.Gate
	blobs gantry.Blobs
	made  *engine.Engine // of the same session
	wake  func(lanes ...int32)
	as    gantry.WorkerID // the process, as its receipts name it
	queue chan *admission

	collected *collected
	keepings  *keepings
	again     func() // returns once what is open of the sources that are watched was put off

	mu  sync.Mutex
	ids []int64 // numbers of arrivals taken from the database ahead
}

// admission is an arrival with all that is made of it, in one commit, or one that goes nowhere.
type admission struct {
	list []gantry.Admission
	away *gantry.Arrival // nil where list is not empty
	made int             // tasks that are new
	of   *gantry.Receipt // of the call that brought it; nil: there was none, or it is on record
	done chan error
}

func newIntake(a *App, g *gate.Gate, b gantry.Blobs, s *scheduler.Session) *intake {
	return &intake{app: a, gate: g, blobs: b, wake: s.Wake, as: s.Worker, queue: make(chan *admission, 256)}
}

// taken says what came of an object.
type taken struct {
	id  string        // of the first task that is of it alone; empty: there is none
	sha gantry.Digest // of the bytes, if they were copied
	new bool          // a task, a collection or a late end was made of it just now

	away gantry.Code // why it goes nowhere; empty: it goes somewhere
}

// accept makes one object's bytes and its tasks durable, or puts on record that no rule takes it; then the source may acknowledge it. run is
// empty for arrivals that are to be told apart from themselves, and names a run of its own otherwise.
func (in *intake) accept(ctx context.Context, f *feed, o gantry.Object, run string) (got taken, err error) {
	if away, err := in.turnAway(ctx, f, o); away || err != nil {
		return got, err
	}
	open := func(ctx context.Context) (io.ReadCloser, error) { return f.source.Open(ctx, o.Ref) }
	return in.take(ctx, f, offer{Object: o, open: open, limit: maxOriginal}, run)
}

// take is accept for an object whose bytes come in some way. Nothing comes of one that is known.
func (in *intake) take(ctx context.Context, f *feed, o offer, run string) (got taken, err error) {
	a := gantry.Arrival{Source: f.name, RefMAC: gantry.MAC(in.app.Key, "ref", f.name, o.Ref), Name: clean(o.Name), Version: o.Version, Sequencer: o.Sequencer,
		Event: o.Event, Via: f.plan.ID}
	if run == "" && o.Sequencer != "" && !o.New {
		decided, err := in.app.Store.Decided(ctx, a.Source, a.RefMAC, a.Version, a.Sequencer, a.Via)
		if decided || err != nil {
			return got, err
		}
	}
	if run == "" {
		if former, err := in.cameToLight(ctx, f, o.Object, a.RefMAC); former || err != nil {
			return got, err
		}
	}
	if a.ID, err = in.nextID(ctx); err != nil {
		return got, err
	}
	ways, reason, err := in.ways(ctx, f, o, a.ID)
	if err != nil {
		return got, err
	}
	if len(ways) == 0 {
		got.away = reason
		return got, in.unmatched(ctx, f, o, a, reason)
	}
	x, err := in.fateOf(ctx, ways, f, o, &a, run)
	if got.sha = a.SHA; err != nil || x.former {
		return got, err
	}
	status, err := in.write(ctx, f, x)
	if err != nil {
		return got, err
	}
	if len(x.list) > 0 {
		got.id = x.list[0].PublicID
	}
	if status != untold {
		in.app.Metrics.Arrived(f.name, status)
	}
	got.new = status == gantry.Accepted
	return got, in.matched(ctx, f, o, a)
}

// settle makes sure of the object's bytes: they stay where they are and are read there, or are copied, or came with it.
func (in *intake) settle(ctx context.Context, f *feed, o offer, a *gantry.Arrival, gathered bool) (err error) {
	if o.came != nil {
		return o.came.settle(ctx, in, f, a, gathered)
	}
	if s, ok := f.source.(gantry.InPlace); ok && a.Version != "" && o.Size > 0 && o.Size <= o.limit {
		if a.Place, err = s.Locate(ctx, o.Object); err != nil {
			return err
		}
	}
	if a.Place != "" {
		a.Size = o.Size
		return nil
	}
	return in.copyIn(ctx, f, o, a)
}

// copyIn reads the object through the gate into the blob store.
func (in *intake) copyIn(ctx context.Context, f *feed, o offer, a *gantry.Arrival) error {
	var staged gantry.Staged
	spec := gantry.CallSpec{Intent: gantry.Intent{Boundary: gantry.AtSource, Op: gantry.OpGet, Limiter: f.limiter, Arrival: a.ID,
		Pipeline: f.plan.ID, Part: gantry.PartKey{Processor: f.index}, Try: 1}}
	return in.gate.Call(ctx, spec,
		func(ctx context.Context) error {
			r, err := o.open(ctx)
			if err != nil {
				return err
			}
			if f.local {
				r = gate.Local(ctx, r, false)
			}
			defer r.Close()
			if staged, err = in.blobs.Stage(ctx, r, o.Size, o.limit); err != nil {
				return err
			}
			if o.Size >= 0 && staged.Size() != o.Size { // some servers say that half an object is all of it
				staged.Discard()
				return gantry.Errorf(gantry.Transient, "size_mismatch", "read object: %d bytes came of %d that were announced", staged.Size(), o.Size)
			}
			return nil
		},
		func(ctx context.Context, err error) (*gantry.Write, error) {
			if err != nil {
				return nil, err
			}
			defer staged.Discard()
			a.SHA, a.Size = staged.SHA(), staged.Size()
			if !o.want.IsZero() && a.SHA != o.want {
				return nil, gantry.Errorf(gantry.Illegal, "checksum_mismatch", "read object: it is not the bytes that its digest speaks of")
			}
			a.Location, err = staged.Commit(ctx)
			return nil, err
		})
}

func (in *intake) nextID(ctx context.Context) (int64, error) {
	in.mu.Lock()
	defer in.mu.Unlock()
	if len(in.ids) == 0 {
		ids, err := in.app.Store.ArrivalIDs(ctx, 64)
		if err != nil {
			return 0, err
		}
		in.ids = ids
	}
	id := in.ids[0]
	in.ids = in.ids[1:]
	return id, nil
}

// admit makes the tasks of an arrival durable, or that it has none, together with whatever else arrives at that moment.
func (in *intake) admit(ctx context.Context, a *admission) error {
	a.done = make(chan error, 1)
	select {
	case in.queue <- a:
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	select {
	case err := <-a.done:
		return err
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// run writes admissions in batches until ctx ends.
func (in *intake) run(ctx context.Context) {
	for batch := together(ctx, in.queue); batch != nil; batch = together(ctx, in.queue) {
		in.flush(context.WithoutCancel(ctx), batch)
	}
}

func (in *intake) flush(ctx context.Context, batch []*admission) {
	// One statement cannot make the same task twice.
	rows := make([]gantry.Admission, 0, len(batch))
	seen := map[string]bool{}
	receipts := make([]*gantry.Receipt, len(batch))
	for i, a := range batch {
		receipts[i] = a.of
		for _, x := range a.list {
			if !seen[x.PublicID] {
				seen[x.PublicID] = true
				rows = append(rows, x)
			}
		}
	}
	fail.Point("before_arrival")
	err := in.flushAway(ctx, batch)
	var made map[string]int64
	if err == nil && len(rows) > 0 {
		made, err = in.app.Store.Admit(ctx, rows, receipts...)
	}
	fail.Point("after_arrival")
	if err != nil && len(batch) > 1 {
		half := len(batch) / 2
		in.flush(ctx, batch[:half])
		in.flush(ctx, batch[half:])
		return
	}
	for _, a := range batch {
		for _, x := range a.list {
			if of, ok := made[x.PublicID]; ok {
				delete(made, x.PublicID)
				a.made++
				in.app.recent.came(x.PublicID, of, x.Arrival, time.Now())
			}
		}
		a.done <- err
	}
}

// clean makes a name fit for a text column.
func clean(s string) string {
	return strings.ReplaceAll(strings.ToValidUTF8(s, "?"), "\x00", "?")
}
