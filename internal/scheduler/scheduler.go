package scheduler

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/gantry-imaging/gantry/internal/fail"
	"github.com/gantry-imaging/gantry/internal/gantry"
)

// ErrLeaseLost ends a session whose lease ran out: the process was stopped or cut off for too
// long and others have its tasks by now. A new session may be begun at once.
var ErrLeaseLost = errors.New("lease lost: this process was away for too long")

// ErrUnregistered ends a session that did not begin: the database did not take the process's registration.
var ErrUnregistered = errors.New("no lease")

// ErrStopping is the cause of contexts that end because the process is asked to stop.
var ErrStopping = errors.New("stopping")

// Step runs the effect of a task's state and says what comes of it. It returns a zero Transition
// if the task is no longer this process's.
type Step func(ctx context.Context, t gantry.Task) gantry.Transition

// Begin is called once for a task that was claimed. The Step is called for each state after, and
// end when the process lets go of the task.
type Begin func(t gantry.Task) (step Step, end func())

// DefaultTasks is how many tasks are in a process at once that is told no number.
const DefaultTasks = 64

// Options of a scheduler; the zero value is sane.
type Options struct {
	Tasks   int           // tasks in this process at once; 0: DefaultTasks
	TTL     time.Duration // how long the lease lasts without a heartbeat; 0: 15 s
	Grace   time.Duration // how long steps may go on after the process is asked to stop; 0: 10 s
	Private bool          // claim from this process's private lanes alone
	Log     *slog.Logger
	Rand    func() float64
	Now     func() time.Time // by which off-peak windows open; nil: time.Now
	// Ended is told of each task that reached a final state here.
	Ended func(gantry.Task, gantry.Transition)
	// Committed is told of each commit: how many writes, and how long it took.
	Committed func(writes int, took time.Duration)
}

func (o Options) withDefaults() Options {
	if o.Tasks <= 0 {
		o.Tasks = DefaultTasks
	}
	if o.TTL <= 0 {
		o.TTL = 15 * time.Second
	}
	if o.Grace <= 0 {
		o.Grace = 10 * time.Second
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Rand == nil {
		o.Rand = func() float64 { return 0.5 }
	}
	if o.Ended == nil {
		o.Ended = func(gantry.Task, gantry.Transition) {}
	}
	if o.Committed == nil {
		o.Committed = func(int, time.Duration) {}
	}
	return o
}

// Session is one lease of one process: the time between its registration and its end.
type Session struct {
	Worker gantry.WorkerID

	store   Store
	opts    Options
	stop    chan struct{} // closed when the process is asked to stop
	hurry   chan struct{}
	commits *committer
	keeper  *keeper
	heart   *heart
	claims  *claimer
	waker   *waker
	tasks   sync.WaitGroup

	mu   sync.Mutex
	held map[gantry.TaskID]*grip // the tasks that run here
}

// Run registers the process and works until ctx ends or the lease is lost. setUp is called once the
// worker id is known, and gives what runs the tasks.
func Run(ctx context.Context, store Store, opts Options, setUp func(context.Context, *Session) (Begin, error)) error {
	opts = opts.withDefaults()
	host, err := os.Hostname()
	if err != nil {
		host = "unknown"
	}
	beat := time.Now()
	w, err := store.Register(ctx, host, os.Getpid(), opts.TTL)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrUnregistered, err)
	}
	fail.Point("after_register")
	s := &Session{Worker: w, store: store, opts: opts, stop: make(chan struct{}), hurry: make(chan struct{}, 1), held: map[gantry.TaskID]*grip{}}
	// Loops outlive ctx: tasks still need them while they are handed back.
	loops, endLoops := context.WithCancelCause(context.WithoutCancel(ctx))
	defer endLoops(nil)
	g, gctx := errgroup.WithContext(loops)
	s.keeper = newKeeper(gctx, g, store, w, opts.Log)
	s.keeper.rand, s.keeper.notify = opts.Rand, func(limiter int32) { s.waker.tellLimit(limiter) }
	s.commits = newCommitter(store, w, opts.Log, s.keeper.load)
	s.commits.committed = opts.Committed
	s.heart = newHeart(store, w, opts.TTL, beat)
	s.heart.after = s.obey
	s.waker = newWaker(store, opts.Log)
	s.keeper.others = s.waker.pressFor
	s.claims = newClaimer(s)
	s.claims.asked = beat
	commitCtx, endCommits := context.WithCancel(context.WithoutCancel(ctx))
	committed := make(chan struct{})
	go func() { defer close(committed); s.commits.run(commitCtx) }()

	g.Go(func() error { return s.heart.run(gctx) })
	g.Go(func() error { s.keepHouse(gctx); return nil })
	g.Go(func() error { s.waker.run(gctx); return nil })
	g.Go(func() error { s.listen(gctx); return nil })
	err = s.work(ctx, gctx, setUp)
	endLoops(nil)
	if lost := g.Wait(); lost != nil {
		err = lost
	}
	endCommits()
	<-committed
	// No call of this process runs any more. Tasks that it still has by the books are rescued at once.
	rctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
	defer cancel()
	if rerr := store.Resign(rctx, w); rerr != nil && err == nil {
		err = rerr
	}
	return err
}

// work claims and runs tasks until ctx ends or the lease is lost, then waits for the tasks.
func (s *Session) work(ctx, loops context.Context, setUp func(context.Context, *Session) (Begin, error)) error {
	begin, err := setUp(loops, s)
	if err != nil {
		return err
	}
	tasks, cancelTasks := context.WithCancelCause(context.WithoutCancel(ctx))
	defer cancelTasks(nil)
	claiming, endClaiming := context.WithCancel(loops)
	defer endClaiming()
	stopAfter := context.AfterFunc(ctx, func() { close(s.stop); endClaiming() })
	defer stopAfter()
	fence := context.AfterFunc(loops, func() { cancelTasks(gantry.ErrFenced) })
	defer fence()

	s.claims.run(claiming, func(t gantry.Task) { s.start(tasks, t, begin) })
	s.claims.handBack(loops, func(gantry.TaskID) bool { return true })
	grace := time.AfterFunc(s.opts.Grace, func() { cancelTasks(ErrStopping) })
	defer grace.Stop()
	s.tasks.Wait()
	return nil
}

// Commit makes a write durable; ErrFenced if the lease on its task is lost.
func (s *Session) Commit(ctx context.Context, w *gantry.Write) error {
	if w.Intent != nil {
		defer s.keeper.expect(w.Intent.Limiter)()
	}
	return s.commits.Commit(ctx, w)
}

// Acquire waits for a unit and a start of a limiter. release may be called more than once.
func (s *Session) Acquire(ctx context.Context, limiter int32, priority int16) (release func(), err error) {
	return s.keeper.Acquire(ctx, limiter, priority)
}

// Units says how many units a limiter has now, below 0 without a limit; ok is false for one that was not met.
func (s *Session) Units(limiter int32) (units int, ok bool) { return s.keeper.units(limiter) }

// Saw tells what a call showed of its target: a request to come back later, an answer, a failure.
func (s *Session) Saw(limiter int32, x gantry.Showing) { s.keeper.saw(limiter, x) }

// Alive tells whether the lease surely still runs: no call may begin once it does not.
func (s *Session) Alive() bool { return s.heart.alive() }

// Waiting counts the calls of this process that wait for a unit of a limit, and for a start of one.
func (s *Session) Waiting() (units, starts int) { return s.keeper.waiting() }

// Await lets Run not end, nor the lease, before wait returns: what it waits for makes calls, and must be able to
// put on record how they ended. It is called while Run sets up, or by what is waited for.
func (s *Session) Await(wait func()) { s.tasks.Go(wait) }

// Stopping is closed when the process is asked to stop: effects begin nothing new then.
func (s *Session) Stopping() <-chan struct{} { return s.stop }

// Wake says that there is work in a lane, to this process and to the others.
func (s *Session) Wake(lanes ...int32) {
	s.claims.wake(lanes...)
	s.waker.tell(lanes...)
}

// Commits says how many commits were made for how many writes.
func (s *Session) Commits() (flushes, writes int64) {
	s.commits.mu.Lock()
	defer s.commits.mu.Unlock()
	return s.commits.flushes, s.commits.rows
}

func (s *Session) start(ctx context.Context, t gantry.Task, begin Begin) {
	ctx, cancel := context.WithCancelCause(ctx)
	letGo := s.hold(t.Lease, cancel)
	s.tasks.Go(func() {
		defer s.claims.finished(t)
		defer cancel(nil)
		ctx = s.claims.underHold(ctx, t.Lane)
		defer letGo()
		step, end := begin(t)
		defer end()
		s.run(ctx, t, step)
	})
}

// run takes one task from state to state for as long as the lease on it holds.
func (s *Session) run(ctx context.Context, t gantry.Task, step Step) {
	until := time.Now().Add(t.Remaining)
	for {
		sctx, cancel := context.WithDeadline(ctx, until)
		tr := step(sctx, t)
		cancel()
		if tr.Task == 0 {
			return // if the lease holds after all, the claimer finds out
		}
		tr.Parent = t.Parent
		if err := s.land(ctx, &tr); err != nil {
			if !errors.Is(err, gantry.ErrFenced) {
				s.opts.Log.Error("commit transition", "task", t.PublicID, "to", tr.To.String(), "err", err)
			}
			return
		}
		if tr.Change == gantry.End {
			fail.Point("after_end")
			s.opts.Ended(t, tr)
		}
		if tr.Change == gantry.Wait || tr.Change == gantry.End && t.Parent != 0 {
			fail.Point("before_family_wakes")
			s.Wake(t.Lane) // the children, or the parent if this was the last
		}
		if tr.Change == gantry.Move {
			s.Wake(tr.Passage.Lane)
		}
		if tr.Change != gantry.Advance {
			return
		}
		t.Seq, t.State, t.Stage, t.Attempt, t.Cursor, t.Begun = t.Seq+1, tr.To, tr.Stage, 0, 0, false
		s.stillHolds(t.Lease)
		if tr.Priority != nil {
			t.Priority = *tr.Priority
		}
		if tr.Within > 0 {
			until = time.Now().Add(tr.Within)
		}
	}
}

// land commits a transition. If the database refuses its text or its values, the task fails without
// them: a task that nobody can move would be owned for ever.
func (s *Session) land(ctx context.Context, tr *gantry.Transition) error {
	ctx = context.WithoutCancel(ctx)
	fail.Point("before_transition")
	w := &gantry.Write{Lease: tr.Lease, Transition: tr}
	if tr.Found != nil {
		w.Items = tr.Found.Items
	}
	err := s.commits.Commit(ctx, w)
	fail.Point("after_transition")
	if !errors.Is(err, errRefused) { // also where the database was away for too long: the task stays as it is
		return err
	}
	plain := gantry.Transition{Lease: tr.Lease, From: tr.From, To: gantry.Failed, Stage: tr.Stage, Change: gantry.End,
		Parent: tr.Parent, Code: "commit_refused", Kind: gantry.Illegal, Detail: "the database refused the task's transition"}
	if again := s.commits.Commit(ctx, &gantry.Write{Lease: tr.Lease, Transition: &plain}); again != nil {
		return again
	}
	*tr = plain
	return fmt.Errorf("task failed: %w", err)
}
