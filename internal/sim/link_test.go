package sim

import (
	"context"
	"fmt"
	"strconv"
	"time"

	"github.com/gantry-imaging/gantry/internal/gantry"
)

// link is a process's connection to the store.
type link struct{ p *proc }

// query is a statement by its name; name tells it from others of the same moment.
func query(kind, name string, o odds) op {
	return op{kind: kind, name: name, odds: o, lo: 200 * time.Microsecond, hi: 2 * time.Millisecond}
}

// once is for what a task's effect reads.
func (o op) once() op {
	o.bounded = true
	return o
}

// ask runs a statement that gives a value.
func ask[T any](ctx context.Context, l *link, o op, land func() (T, error)) (v T, err error) {
	err = l.p.call(ctx, o, func() error {
		got, err := land()
		if err == nil {
			v = got
		}
		return err
	})
	if err != nil {
		var none T
		return none, err
	}
	return v, nil
}

func id32(n int32) string { return strconv.Itoa(int(n)) }

func idOf(t gantry.TaskID) string { return strconv.FormatInt(int64(t), 10) }

// Register and the others are the store's.
func (l *link) Register(ctx context.Context, host string, pid int, ttl time.Duration) (gantry.WorkerID, error) {
	return ask(ctx, l, query("register", "", seldom), func() (gantry.WorkerID, error) {
		w, err := l.p.run.db.Register(ctx, host, pid, ttl)
		l.p.run.check.register(w, l.p)
		return w, err
	})
}

func (l *link) Heartbeat(ctx context.Context, w gantry.WorkerID, ttl time.Duration) (bool, error) {
	if l.p.isDead() {
		return false, nil // its goroutines end like this
	}
	return ask(ctx, l, query("heartbeat", "", seldom), func() (bool, error) { return l.p.run.db.Heartbeat(ctx, w, ttl) })
}

func (l *link) Obey(ctx context.Context, w gantry.WorkerID) ([]gantry.Command, error) {
	return ask(ctx, l, query("obey", "", seldom), func() ([]gantry.Command, error) {
		list, err := l.p.run.db.Obey(ctx, w)
		l.p.run.check.moved()
		return list, err
	})
}

func (l *link) Resign(ctx context.Context, w gantry.WorkerID) error {
	return l.p.call(ctx, query("resign", "", often), func() error { return l.p.run.db.Resign(ctx, w) })
}

func (l *link) Lanes(ctx context.Context, w gantry.WorkerID, private bool) ([]gantry.Lane, error) {
	return ask(ctx, l, query("lanes", "", idle), func() ([]gantry.Lane, error) { return l.p.run.db.Lanes(ctx, w, private) })
}

func (l *link) ReadyLanes(ctx context.Context, lanes []int32) ([]int32, error) {
	return ask(ctx, l, query("ready", "", idle), func() ([]int32, error) { return l.p.run.db.ReadyLanes(ctx, lanes) })
}

func (l *link) UrgentLanes(ctx context.Context, lanes []int32) ([]int32, error) {
	return ask(ctx, l, query("urgent", "", idle), func() ([]int32, error) { return l.p.run.db.UrgentLanes(ctx, lanes) })
}

func (l *link) OffPeak(ctx context.Context) (map[string]gantry.Windows, error) {
	return ask(ctx, l, query("offpeak", "", idle), func() (map[string]gantry.Windows, error) { return l.p.run.db.OffPeak(ctx) })
}

func (l *link) Alone(ctx context.Context, w gantry.WorkerID, lease gantry.Lease) (bool, error) {
	return ask(ctx, l, query("alone", idOf(lease.Task), often), func() (bool, error) { return l.p.run.db.Alone(ctx, w, lease) })
}

func (l *link) Claim(ctx context.Context, w gantry.WorkerID, want []gantry.Want) ([]gantry.Task, error) {
	return ask(ctx, l, query("claim", "", often), func() ([]gantry.Task, error) {
		tasks, err := l.p.run.db.Claim(ctx, w, want)
		for _, t := range tasks {
			l.p.run.note(l.p, op{kind: "  claimed", name: fmt.Sprintf("task %d seq %d", t.Task, t.Seq), odds: often}, "", nil)
		}
		l.p.run.check.claimed()
		return tasks, err
	})
}

func (l *link) Held(ctx context.Context, w gantry.WorkerID) ([]gantry.Task, error) {
	return ask(ctx, l, query("held", "", often), func() ([]gantry.Task, error) { return l.p.run.db.Held(ctx, w) })
}

func (l *link) Commit(ctx context.Context, w gantry.WorkerID, writes []*gantry.Write) ([]bool, error) {
	o := query("commit", "", often)
	o.late = true
	return ask(ctx, l, o, func() ([]bool, error) {
		before := l.p.run.check.answered(writes)
		landed, err := l.p.run.db.Commit(ctx, w, writes)
		l.p.run.check.committed(writes, landed, before)
		return landed, err
	})
}

func (l *link) Landed(ctx context.Context, w gantry.WorkerID, writes []*gantry.Write) ([]bool, error) {
	return ask(ctx, l, query("landed", "", seldom), func() ([]bool, error) { return l.p.run.db.Landed(ctx, w, writes) })
}

func (l *link) Reap(ctx context.Context) ([]int32, error) {
	return ask(ctx, l, query("reap", "", seldom), func() ([]int32, error) {
		lanes, err := l.p.run.db.Reap(ctx)
		l.p.run.check.moved()
		return lanes, err
	})
}

func (l *link) Promote(ctx context.Context, limit int) ([]int32, time.Duration, error) {
	type answer struct {
		lanes []int32
		next  time.Duration
	}
	a, err := ask(ctx, l, query("promote", "", idle), func() (a answer, err error) {
		a.lanes, a.next, err = l.p.run.db.Promote(ctx, limit)
		return a, err
	})
	return a.lanes, a.next, err
}

func (l *link) Limit(ctx context.Context, id int32) (gantry.LimiterSpec, error) {
	var read time.Time
	spec, err := ask(ctx, l, query("limit", id32(id), idle), func() (gantry.LimiterSpec, error) {
		read = time.Now()
		return l.p.run.db.Limit(ctx, id)
	})
	if err == nil {
		l.p.knowsOf(id, read.Add(spec.Rest))
	}
	return spec, err
}

func (l *link) Grant(ctx context.Context, w gantry.WorkerID, limiter int32, want, inUse int) (int, error) {
	return ask(ctx, l, query("grant", id32(limiter), often), func() (int, error) {
		n, err := l.p.run.db.Grant(ctx, w, limiter, want, inUse)
		l.p.run.note(l.p, op{kind: "  granted", name: fmt.Sprintf("%d: %d of %d, %d in use", limiter, n, want, inUse), odds: often}, "", err)
		return n, err
	})
}

func (l *link) Share(ctx context.Context, w gantry.WorkerID, limiter int32, want int) (int, error) {
	return ask(ctx, l, query("share", id32(limiter), idle), func() (int, error) { return l.p.run.db.Share(ctx, w, limiter, want) })
}

func (l *link) Reserve(ctx context.Context, limiter int32, n int) (first, step time.Duration, err error) {
	type answer struct{ first, step time.Duration }
	a, err := ask(ctx, l, query("reserve", id32(limiter), often), func() (a answer, err error) {
		a.first, a.step, err = l.p.run.db.Reserve(ctx, limiter, n)
		l.p.run.note(l.p, op{kind: "  reserved", name: fmt.Sprintf("%d of limit %d, the first at %s", n, limiter, time.Since(l.p.run.began)+a.first), odds: often}, "", err)
		return a, err
	})
	return a.first, a.step, err
}

func (l *link) Urge(ctx context.Context, w gantry.WorkerID, limiter int32, urgent int) error {
	return l.p.call(ctx, query("urge", id32(limiter), seldom), func() error { return l.p.run.db.Urge(ctx, w, limiter, urgent) })
}

func (l *link) Rest(ctx context.Context, limiter int32, d time.Duration) error {
	return l.p.call(ctx, query("rest", id32(limiter), often), func() error {
		l.p.run.check.rest(limiter, d)
		return l.p.run.db.Rest(ctx, limiter, d)
	})
}

func (l *link) Breaker(ctx context.Context, w gantry.WorkerID, limiter int32, news gantry.BreakerNews) (bool, error) {
	return ask(ctx, l, query("breaker", fmt.Sprint(limiter, " ", news), often), func() (bool, error) { return l.p.run.db.Breaker(ctx, w, limiter, news) })
}

func (l *link) MakePartitions(context.Context) error { return nil }

func (l *link) Notify(ctx context.Context, lanes string) error {
	return l.p.call(ctx, query("notify", lanes, seldom), func() error { return l.p.run.db.Notify(ctx, lanes) })
}

// Listen loses some of what it should hear, and breaks now and then.
func (l *link) Listen(ctx context.Context, wake func(string)) error {
	if err := l.p.call(ctx, query("listen", "", seldom), func() error { return nil }); err != nil {
		return err
	}
	line := l.p.dice.of("line", "", l.p.count("line", ""))
	ctx, cancel := context.WithTimeoutCause(ctx, line.between(time.Second, time.Hour), errNet)
	defer cancel()
	err := l.p.run.db.Listen(ctx, func(lanes string) {
		d := l.p.dice.of("heard", lanes, l.p.count("heard", lanes))
		if d.hits(l.p.run.faults.deaf) || l.p.travel(ctx, d.more(1).between(100*time.Microsecond, time.Millisecond), d.more(2)) != nil {
			return
		}
		wake(lanes)
	})
	if err := l.p.thaw(line); err != nil {
		return err
	}
	return err
}

func (l *link) Originals(ctx context.Context, t gantry.TaskID) ([]gantry.Arrival, error) {
	return ask(ctx, l, query("original", idOf(t), often).once(), func() ([]gantry.Arrival, error) { return l.p.run.db.Originals(ctx, t) })
}

func (l *link) Items(ctx context.Context, t gantry.TaskID) ([]gantry.Item, error) {
	return ask(ctx, l, query("items", idOf(t), often).once(), func() ([]gantry.Item, error) { return l.p.run.db.Items(ctx, t) })
}

func (l *link) Parts(ctx context.Context, t gantry.TaskID, leg int16) ([]gantry.Part, error) {
	return ask(ctx, l, query("parts", idOf(t), often).once(), func() ([]gantry.Part, error) { return l.p.run.db.Parts(ctx, t, leg) })
}

func (l *link) Children(ctx context.Context, t gantry.TaskID) ([]gantry.ChildTask, error) {
	return ask(ctx, l, query("children", idOf(t), often).once(), func() ([]gantry.ChildTask, error) { return l.p.run.db.Children(ctx, t) })
}

func (l *link) MemberItems(ctx context.Context, t gantry.TaskID) (gantry.TaskID, []gantry.Item, error) {
	type answer struct {
		owner gantry.TaskID
		items []gantry.Item
	}
	a, err := ask(ctx, l, query("members", idOf(t), often).once(), func() (a answer, err error) {
		a.owner, a.items, err = l.p.run.db.MemberItems(ctx, t)
		return a, err
	})
	return a.owner, a.items, err
}
