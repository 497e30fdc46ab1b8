package app

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"

	"golang.org/x/sync/errgroup"

	"github.com/gantry-imaging/gantry/internal/driver/dir"
	"github.com/gantry-imaging/gantry/internal/engine"
	"github.com/gantry-imaging/gantry/internal/gantry"
	"github.com/gantry-imaging/gantry/internal/scheduler"
)

// RunOptions are those of a one-shot run.
type RunOptions struct {
	Pipeline *gantry.Pipeline
	Inputs   []string // files; each becomes a task, or a member of one if the pipeline collects
	Out      string   // folder for the results, in place of the pipeline's sinks
	Rejoin   bool     // put together what was taken apart; so it is too if a sink of the pipeline asks for it
	Progress func(Progress)

	Instead map[string]gantry.Processor // called in place of the pipeline's own, by their names
	Called  func(processor string)      // told of every call that left; it may be called concurrently
}

// Progress says how far a run is.
type Progress struct {
	Tasks, Ended int
	Task         *Outcome // the one that just ended
}

// Outcome is what became of one input.
type Outcome struct {
	ID      string   `json:"id"`
	Input   string   `json:"input"`
	State   string   `json:"state"`
	Error   *Failure `json:"error"`
	Outputs []string `json:"outputs"`
}

// Failure says why.
type Failure struct {
	Code    string `json:"code"`
	Kind    string `json:"kind"`
	Message string `json:"message"`
}

// RunOnce takes the inputs through the pipeline in this process alone and returns when every task has
// ended. If the process dies, its tasks are cancelled; the inputs are where they were. While other processes work,
// the limits that they work by hold, whatever the pipeline's file says.
func (a *App) RunOnce(ctx context.Context, o RunOptions) ([]Outcome, error) {
	if o.Out != "" {
		sink, err := a.outFolder(o.Out)
		if err != nil {
			return nil, err
		}
		asked := func(e gantry.Endpoint) bool { return e.Rejoin == gantry.RejoinOriginal }
		if o.Rejoin || slices.ContainsFunc(o.Pipeline.Sinks, asked) {
			sink.Rejoin = gantry.RejoinOriginal
		}
		a.plans.sinks = []gantry.Endpoint{sink}
	}
	a.plans.instead, a.plans.called = o.Instead, o.Called
	var err error
	if a.plans.keep, err = a.Store.Staffed(ctx); err != nil {
		return nil, err
	}
	a.openPort()
	defer a.pace()()
	plan, err := a.plans.Declare(ctx, atOnce(o.Pipeline))
	if err != nil {
		return nil, err
	}
	r := &run{app: a, opts: o, plan: plan, ended: map[string]Outcome{}, made: map[gantry.TaskID][]string{}, all: make(chan struct{}), token: randomText(rand.Reader)}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	err = a.work(ctx, scheduler.Options{Private: true, Ended: r.note}, func(ctx context.Context, s *scheduler.Session, in *intake) error {
		defer cancel()
		return a.reachable(ctx, in, func(ctx context.Context) error { return r.drive(ctx, s, in) })
	})
	if err == nil && ctx.Err() != nil && !r.complete() {
		err = errors.New("interrupted: tasks that had not ended are cancelled, inputs are kept")
	}
	return r.outcomes(), err
}

// outFolder is a dir sink made from the command line.
func (a *App) outFolder(path string) (gantry.Endpoint, error) {
	abs, err := filepath.Abs(path)
	if err != nil {
		return gantry.Endpoint{}, err
	}
	return gantry.Endpoint{Name: "out", Kind: "dir", Config: dir.SinkConfig{Path: abs}}, nil
}

// run is one RunOnce under way.
type run struct {
	app   *App
	opts  RunOptions
	plan  *engine.Plan
	token string

	mu    sync.Mutex
	ids   []string // of the tasks, in the order of the inputs
	ended map[string]Outcome
	made  map[gantry.TaskID][]string // outputs of children, by parent
	total int
	all   chan struct{}
}

// drive enqueues every input and waits for the tasks.
func (r *run) drive(ctx context.Context, s *scheduler.Session, in *intake) error {
	admit, err := r.app.Store.EnsureLimiter(ctx, "pipeline:"+r.plan.Name, inProgress(r.plan.Pipeline), !r.app.plans.keep)
	if err != nil {
		return err
	}
	lane, err := r.app.Store.EnsureLane(ctx, r.plan.Name, "run", admit, s.Worker)
	if err != nil {
		return err
	}
	r.mu.Lock()
	r.ids, r.total = make([]string, len(r.opts.Inputs)), len(r.opts.Inputs)
	r.mu.Unlock()
	feeds, err := r.feeds(ctx, lane)
	if err != nil {
		return err
	}
	put := r.each
	if r.plan.Collect != nil {
		put = r.together
	}
	if err := put(ctx, in, feeds); err != nil {
		return err
	}
	select {
	case <-r.all:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// each makes a task of every input.
func (r *run) each(ctx context.Context, in *intake, feeds map[string]*feed) error {
	g, gctx := errgroup.WithContext(ctx)
	g.SetLimit(8)
	for i, input := range r.opts.Inputs {
		g.Go(func() error {
			f := feeds[filepath.Dir(input)]
			info, err := os.Stat(input)
			if err != nil {
				return err
			}
			o := gantry.Object{Ref: filepath.Base(input), Name: filepath.Base(input), Size: info.Size()}
			got, err := in.accept(gctx, f, o, fmt.Sprintf("%s/%d", r.token, i))
			if err != nil {
				return fmt.Errorf("read input %d: %w", i+1, err)
			}
			r.enqueued(i, got.id)
			return nil
		})
	}
	return g.Wait()
}

// runTarget stands on record for every folder that inputs lie in: their names may be those of patients.
const runTarget = "dir:run"

// feeds opens one dir source for each folder that inputs lie in.
func (r *run) feeds(ctx context.Context, lane int32) (map[string]*feed, error) {
	feeds := map[string]*feed{}
	for _, input := range r.opts.Inputs {
		folder := filepath.Dir(input)
		if feeds[folder] != nil {
			continue
		}
		f := &feed{name: r.plan.Name + "/run", plan: r.plan, lane: lane, local: true}
		var err error
		f.source, f.limiter, err = r.app.plans.source(ctx, gantry.Endpoint{Name: "run", Kind: "dir", Config: dir.SourceConfig{Path: folder}}, runTarget, true)
		if err != nil {
			return nil, err
		}
		feeds[folder] = f
	}
	return feeds, nil
}

// enqueued notes an input's task, which may have ended already.
func (r *run) enqueued(i int, id string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.ids[i] = id
	if o, ok := r.ended[id]; ok {
		o.Input = r.opts.Inputs[i]
		r.ended[id] = o
	}
	r.check()
}

// note is told of every task that ends in this process. What was delivered of children counts as their parent's.
func (r *run) note(t gantry.Task, tr gantry.Transition) {
	o := Outcome{ID: t.PublicID, State: tr.To.String(), Outputs: []string{}}
	if tr.To != gantry.Done {
		o.Error = &Failure{Code: string(tr.Code), Kind: tr.Kind.String(), Message: tr.Detail}
	} else if r.opts.Out != "" {
		o.Outputs = listFiles(r.opts.Out, t.PublicID)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if t.Role != gantry.NoRole {
		r.made[t.Parent] = append(r.made[t.Parent], o.Outputs...)
		return
	}
	o.Outputs = append(o.Outputs, r.made[t.Task]...)
	if i := slices.Index(r.ids, t.PublicID); i >= 0 {
		o.Input = r.opts.Inputs[i]
	}
	r.ended[t.PublicID] = o
	r.check()
	if r.opts.Progress != nil {
		r.opts.Progress(Progress{Tasks: r.total, Ended: len(r.ended), Task: &o})
	}
}

// check closes all once every input has an outcome; mu is held.
func (r *run) check() {
	for _, id := range r.ids {
		if _, ok := r.ended[id]; !ok {
			return
		}
	}
	select {
	case <-r.all:
	default:
		close(r.all)
	}
}

func (r *run) complete() bool {
	select {
	case <-r.all:
		return true
	default:
		return false
	}
}

func (r *run) outcomes() []Outcome {
	r.mu.Lock()
	defer r.mu.Unlock()
	var out []Outcome
	for i, id := range r.ids {
		o, ok := r.ended[id]
		if !ok {
			o = Outcome{ID: id, State: gantry.Cancelled.String(), Outputs: []string{},
				Error: &Failure{Code: string(gantry.CodeRunnerGone), Kind: gantry.Transient.String(), Message: "the run was interrupted"}}
		}
		o.Input = r.opts.Inputs[i]
		out = append(out, o)
	}
	return out
}

// listFiles gives the files below root/dir as paths below root, slash-separated.
func listFiles(root, folder string) []string {
	out := []string{}
	filepath.WalkDir(filepath.Join(root, folder), func(path string, e fs.DirEntry, err error) error {
		if err == nil && e.Type().IsRegular() {
			if rel, err := filepath.Rel(root, path); err == nil && !strings.HasPrefix(filepath.Base(rel), ".") {
				out = append(out, filepath.ToSlash(rel))
			}
		}
		return nil
	})
	return out
}
