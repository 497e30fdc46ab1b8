package scheduler

import (
	"cmp"
	"context"
	"log/slog"
	"math"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/gantry-imaging/gantry/internal/gantry"
)

// desk does for the claimer what the database does: it holds ready tasks and gives them out by the same rules.
type desk struct {
	*books
	lanes   []gantry.Lane
	windows map[string]gantry.Windows
	ageless bool // the control: nothing goes to the oldest
	ready   []gantry.Task
	next    gantry.TaskID
	claims  int // that were asked for
}

func (d *desk) Lanes(context.Context, gantry.WorkerID, bool) ([]gantry.Lane, error) {
	return d.lanes, nil
}

func (d *desk) ReadyLanes(_ context.Context, lanes []int32) (out []int32, err error) {
	return d.lanesUpTo(lanes, 9), nil
}

func (d *desk) OffPeak(context.Context) (map[string]gantry.Windows, error) {
	return d.windows, nil
}

func (d *desk) UrgentLanes(_ context.Context, lanes []int32) (out []int32, err error) {
	return d.lanesUpTo(lanes, gantry.PriorityUrgent), nil
}

func (d *desk) lanesUpTo(lanes []int32, upto int16) (out []int32) {
	for _, l := range lanes {
		if slices.ContainsFunc(d.ready, func(t gantry.Task) bool { return t.Lane == l && t.Priority <= upto }) {
			out = append(out, l)
		}
	}
	return out
}

// add puts n tasks at the end of a lane's queue.
func (d *desk) add(lane int32, n int, priority int16) {
	for range n {
		d.next++
		d.ready = append(d.ready, gantry.Task{Lease: gantry.Lease{Task: d.next}, Lane: lane, Priority: priority})
	}
}

func (d *desk) Claim(_ context.Context, _ gantry.WorkerID, want []gantry.Want) (out []gantry.Task, err error) {
	d.claims++
	for _, w := range want {
		if d.ageless {
			w.Aged = 0
		}
		upto := w.Upto
		if upto == 0 {
			upto = 9
		}
		d.take(&out, w.Lane, w.Aged, upto, func(t gantry.Task) int { return 0 })
		d.take(&out, w.Lane, w.N-w.Aged, upto, func(t gantry.Task) int { return int(t.Priority) })
	}
	return out, nil
}

func (d *desk) Held(context.Context, gantry.WorkerID) ([]gantry.Task, error) { return nil, nil }

func (d *desk) take(out *[]gantry.Task, lane int32, n int, upto int16, by func(gantry.Task) int) {
	slices.SortFunc(d.ready, func(a, b gantry.Task) int {
		return cmp.Or(cmp.Compare(by(a), by(b)), cmp.Compare(a.Task, b.Task))
	})
	d.ready = slices.DeleteFunc(d.ready, func(t gantry.Task) bool {
		if n == 0 || t.Lane != lane || t.Priority > upto {
			return false
		}
		n--
		*out = append(*out, t)
		return true
	})
}

// shop is a claimer whose tasks end when the test says so.
type shop struct {
	*claimer
	*desk
	t    *testing.T
	here []gantry.Task // that run
	all  []gantry.Task // that were ever claimed
}

// newShop has lanes 1 and 2 share the pipeline limiter 1, and lane 3 have limiter 3 for itself.
func newShop(t *testing.T, tasks, inProgress int) *shop {
	d := &desk{books: newBooks(limited(inProgress)), lanes: []gantry.Lane{
		{ID: 1, Pipeline: "p", Source: "a", Limiter: 1}, {ID: 2, Pipeline: "p", Source: "b", Limiter: 1}, {ID: 3, Pipeline: "q", Limiter: 3}}}
	s := &Session{Worker: 1, store: d, opts: Options{Tasks: tasks, Log: slog.New(slog.DiscardHandler)}.withDefaults(), keeper: process(t, d.books, 1)}
	s.keeper.store, s.heart = d, newHeart(d, 1, 24*365*time.Hour, time.Now())
	return &shop{claimer: newClaimer(s), desk: d, t: t}
}

// claim lets the claimer look around until it finds no more.
func (s *shop) claim() {
	s.t.Helper()
	for quiet := 0; quiet < 4; quiet++ {
		time.Sleep(50 * time.Millisecond) // units come
		n, err := s.round(s.t.Context(), true, func(t gantry.Task) { s.here, s.all = append(s.here, t), append(s.all, t) })
		if err != nil {
			s.t.Fatal(err)
		}
		if n > 0 {
			quiet = 0
		}
	}
}

// end ends the first n of the tasks that run.
func (s *shop) end(n int) {
	for _, t := range s.here[:n] {
		s.finished(t)
	}
	s.here = s.here[n:]
}

func (s *shop) of(lane int32) (n int) {
	for _, t := range s.all {
		if t.Lane == lane {
			n++
		}
	}
	return n
}

// TestLanesShareFairly has two lanes with queues of ten to one: while both have work they get the same, within a
// tenth, whether they share the units of one pipeline or the room of the process alone. Both queues in one lane are
// the control.
func TestLanesShareFairly(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		other int32
		units int
	}{"one pipeline": {2, 4}, "two pipelines": {3, -1}} {
		synctest.Test(t, func(t *testing.T) {
			s := newShop(t, 10, c.units)
			s.add(1, 2000, 5)
			s.add(c.other, 200, 5)
			s.claim()
			for s.of(c.other) < 190 {
				s.end(1 + len(s.here)/3)
				s.claim()
			}
			if ratio := float64(s.of(1)) / float64(s.of(c.other)); math.Abs(ratio-1) > 0.1 {
				t.Errorf("%s: %d tasks of the long queue, %d of the short one", name, s.of(1), s.of(c.other))
			}
		})
	}
	synctest.Test(t, func(t *testing.T) {
		s := newShop(t, 10, 4)
		s.add(1, 2000, 5)
		s.add(1, 200, 6)
		for s.claim(); len(s.all) < 400; s.claim() {
			s.end(1)
		}
		if i := slices.IndexFunc(s.all, func(t gantry.Task) bool { return t.Task > 2000 }); i >= 0 {
			t.Errorf("the control is fair: task %d is the other queue's", i)
		}
	})
}

// TestOneTaskOfAQuietLane comes when the noisy lane has every place and a hundred thousand tasks more: it has the next
// place that comes free, or the one after where units of another pipeline have to be asked for first.
func TestOneTaskOfAQuietLane(t *testing.T) {
	t.Parallel()
	for quiet, ends := range map[int32]int{2: 1, 3: 2} {
		synctest.Test(t, func(t *testing.T) {
			s := newShop(t, 8, 8)
			s.add(1, 100_000, 5)
			s.claim()
			if len(s.here) != 8 {
				t.Fatalf("%d tasks run", len(s.here))
			}
			s.add(quiet, 1, 5)
			s.claim()
			if s.of(quiet) != 0 {
				t.Fatal("a process took more tasks than it has places for")
			}
			for range ends {
				s.end(1)
				s.claim()
			}
			if s.of(quiet) != 1 || len(s.here) != 8 {
				t.Errorf("lane %d: %d of its one task claimed, %d run", quiet, s.of(quiet), len(s.here))
			}
		})
	}
}

// TestUrgentTaskInAFullProcess: a process that is full takes a few urgent tasks more, and no others.
func TestUrgentTaskInAFullProcess(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := newShop(t, 16, -1)
		s.add(1, 100, 5)
		s.claim()
		s.add(3, 5, 2)
		s.claim()
		if len(s.here) != 16 {
			t.Fatalf("%d tasks run in 16 places", len(s.here))
		}
		s.add(1, 1, gantry.PriorityUrgent)
		s.claim()
		if n := len(s.all); n != 17 || s.all[16].Priority != gantry.PriorityUrgent {
			t.Fatalf("%d tasks run; the urgent one waits", n)
		}
		s.add(2, 5, 0)
		s.claim()
		if n := len(s.all); n != 18 || s.running() != 18 {
			t.Errorf("%d tasks run, want two more than 16", n)
		}
		s.end(17)
		s.claim()
		if s.running() != 16 || s.of(2) != 5 || s.of(3) == 0 {
			t.Errorf("%d tasks run afterwards, %d and %d of the other lanes", s.running(), s.of(2), s.of(3))
		}
	})
}

// TestOldestTaskOfALane has urgent tasks come as fast as they are taken: one task in eight is the oldest all the same.
// Without that, as the control shows, old tasks are never taken.
func TestOldestTaskOfALane(t *testing.T) {
	t.Parallel()
	for _, batch := range []int{1, 3, 8} {
		for _, ageless := range []bool{false, true} {
			synctest.Test(t, func(t *testing.T) {
				s := newShop(t, batch, -1)
				s.ageless = ageless
				s.add(1, 10, 8)
				for range 160 / batch {
					s.add(1, batch, gantry.PriorityUrgent)
					s.claim()
					s.end(len(s.here))
				}
				aged := 0
				for _, x := range s.all {
					if x.Priority == 8 {
						aged++
					}
				}
				if want := map[bool]int{false: 10, true: 0}[ageless]; aged != want {
					t.Errorf("%d at a time, control %t: %d of 10 old tasks in %d claims, want %d", batch, ageless, aged, len(s.all), want)
				}
			})
		}
	}
}

// TestOffPeakWindows: outside of its pipeline's windows an off-peak task stays where it is, even as the oldest, and all
// others go on; another pipeline's go on too.
func TestOffPeakWindows(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := newShop(t, 100, -1)
		night, err := gantry.ParseWindows("22:00-06:00 UTC")
		if err != nil {
			t.Fatal(err)
		}
		s.desk.windows = map[string]gantry.Windows{"p": night}
		now := time.Date(2026, 11, 26, 21, 0, 0, 0, time.UTC)
		s.claimer.s.opts.Now = func() time.Time { return now }
		s.add(1, 9, 8)
		s.add(1, 20, 5)
		s.add(3, 4, 8)
		s.claim()
		if s.of(1) != 20 || s.of(3) != 4 || slices.ContainsFunc(s.all, func(t gantry.Task) bool { return t.Lane == 1 && t.Priority == 8 }) {
			t.Fatalf("by day %d and %d tasks were begun, want 20 and 4", s.of(1), s.of(3))
		}
		now = now.Add(2 * time.Hour)
		s.claim()
		if s.of(1) != 29 {
			t.Errorf("by night %d tasks were begun in all, want 29", s.of(1))
		}
		now = now.Add(8 * time.Hour)
		s.add(1, 1, 9)
		s.add(1, 1, gantry.Begun)
		s.claim()
		if s.of(1) != 30 {
			t.Errorf("the next day %d tasks were begun in all, want one more: what was begun before goes on", s.of(1))
		}
	})
}
