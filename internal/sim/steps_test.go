package sim

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/gantry-imaging/gantry/internal/gantry"
)

// answer is what a store said, in words: an error by its class alone, since texts differ.
func answer(err error, v ...any) string {
	if err == nil {
		return strings.TrimSuffix(fmt.Sprintln(v...), "\n")
	}
	e, ok := errors.AsType[interface {
		error
		SQLState() string
	}](err)
	if ok {
		return "error " + e.SQLState()
	}
	return "error"
}

// minutes rounds a time to what both clocks agree on.
func minutes(d time.Duration) string { return fmt.Sprintf("%dm", int(d.Round(time.Minute).Minutes())) }

func (a *actor) say(t gantry.Task) string {
	return fmt.Sprintf("%s seq %d %s/%d leg %d try %d deaths %d prio %d lane %d at %d for %s of %q %s %d begun %t", t.PublicID, t.Seq, t.State, t.Stage, t.Leg,
		t.Attempt, t.Crashes, t.Priority, slices.Index(a.lanes, t.Lane), t.Cursor, minutes(t.Remaining), a.names[t.Parent], t.Role, t.Ordinal, t.Begun)
}

func (a *actor) sayLanes(ids []int32) []int {
	out := make([]int, len(ids))
	for i, id := range ids {
		out[i] = slices.Index(a.lanes, id)
	}
	slices.Sort(out)
	return out
}

func register(ttl time.Duration) step {
	return step{fmt.Sprint("register ", ttl), func(ctx context.Context, a *actor) string {
		w, err := a.Register(ctx, "host", 1, ttl)
		a.workers = append(a.workers, w)
		return answer(err, "worker", len(a.workers)-1)
	}}
}

func beat(w int, ttl time.Duration) step {
	return step{fmt.Sprintf("worker %d beats for %s", w, ttl), func(ctx context.Context, a *actor) string {
		ok, err := a.Heartbeat(ctx, a.workers[w], ttl)
		return answer(err, ok)
	}}
}

func resign(w int) step {
	return step{fmt.Sprintf("worker %d resigns", w), func(ctx context.Context, a *actor) string {
		defer a.pass(time.Second) // a lease that ends now has not ended at this very moment
		return answer(a.Resign(ctx, a.workers[w]), "done")
	}}
}

func pass(d time.Duration) step {
	return step{fmt.Sprint("pass ", d), func(_ context.Context, a *actor) string { a.pass(d); return "" }}
}

// limit makes a limiter, or sets what it allows.
func limit(n int, key string, l gantry.LimiterSpec, declare bool) step {
	return step{fmt.Sprintf("limit %s %+v %t", key, l, declare), func(ctx context.Context, a *actor) string {
		id, err := a.EnsureLimiter(ctx, key, l, declare)
		if err != nil {
			return answer(err)
		}
		if n == len(a.limiters) {
			a.limiters = append(a.limiters, id)
		}
		return fmt.Sprint(slices.Index(a.limiters, id), " ", a.sayLimit(ctx, id))
	}}
}

// limitTo is limit for histories, which have a limiter of that name.
func limitTo(n int, key string, l gantry.LimiterSpec) step { return limit(n, key, l, true) }

// makeLane makes a lane; private is its only worker, or below 0.
func makeLane(source string, limiter, private int) step {
	return step{fmt.Sprintf("lane %s of limit %d, private %d", source, limiter, private), func(ctx context.Context, a *actor) string {
		var w gantry.WorkerID
		if private >= 0 {
			w = a.workers[private]
		}
		id, err := a.EnsureLane(ctx, "p", source, a.limiters[limiter], w)
		if !slices.Contains(a.lanes, id) {
			a.lanes = append(a.lanes, id)
		}
		return answer(err, "lane", slices.Index(a.lanes, id))
	}}
}

// arrive is an object of a source that becomes a task.
type arrive struct {
	id, source, version, sequencer, place string
	lane                                  int
	priority                              int16
	within                                time.Duration
}

func enqueue(x arrive) step {
	return step{fmt.Sprintf("enqueue %+v", x), func(ctx context.Context, a *actor) string {
		ids, err := a.ArrivalIDs(ctx, 1)
		if err != nil {
			return answer(err)
		}
		arrival := gantry.Arrival{ID: ids[0], Source: "p/" + x.source, RefMAC: gantry.MAC([]byte("k"), x.id), Version: x.version, Name: "n", Size: 3,
			Sequencer: x.sequencer, Place: x.place}
		was, err1 := a.Known(ctx, arrival.Source, arrival.RefMAC, x.sequencer)
		made, err2 := a.Enqueue(ctx, []gantry.Admission{{Arrival: arrival, PublicID: x.id + x.version, Pipeline: a.pipeline, Lane: a.lanes[x.lane],
			Priority: x.priority, Within: x.within}})
		now, err3 := a.Known(ctx, arrival.Source, arrival.RefMAC, x.sequencer)
		return answer(errors.Join(err1, err2, err3), was, made, now)
	}}
}

// collect makes one task of objects that came under one prefix, by their names.
func collect(x arrive, names ...string) step {
	return step{fmt.Sprintf("collect %v as %+v", names, x), func(ctx context.Context, a *actor) string {
		ids, err := a.ArrivalIDs(ctx, len(names))
		if err != nil {
			return answer(err)
		}
		var list []gantry.Arrival
		for i, n := range names {
			list = append(list, gantry.Arrival{ID: ids[i], Source: "p/" + x.source, RefMAC: gantry.MAC([]byte("k"), x.id, n), Version: x.version, Name: n,
				Size: int64(len(n)), Sequencer: x.sequencer, Place: x.place})
		}
		made, err := a.collect(ctx, gantry.Admission{PublicID: x.id + x.version, Pipeline: a.pipeline, Lane: a.lanes[x.lane], Priority: x.priority, Within: x.within}, list)
		return answer(err, made)
	}}
}

func claim(w int, n int, lanes ...int) step { return claimSome(w, gantry.Want{N: n}, lanes...) }

// claimSome claims the same of some lanes.
func claimSome(w int, x gantry.Want, lanes ...int) step {
	return step{fmt.Sprintf("worker %d claims %+v of %v", w, x, lanes), func(ctx context.Context, a *actor) string {
		var want []gantry.Want
		for _, l := range lanes {
			x.Lane = a.lanes[l]
			want = append(want, x)
		}
		tasks, err := a.Claim(ctx, a.workers[w], want)
		// Two stores may number tasks of one moment otherwise, but never those of one lane.
		for _, t := range tasks {
			a.tasks[t.PublicID], a.names[t.Task], a.held[t.PublicID] = t.Task, t.PublicID, t
		}
		out := make([]string, len(tasks))
		for i, t := range tasks {
			out[i] = a.say(t)
		}
		return answer(err, strings.Join(out, "; "))
	}}
}

func held(w int) step {
	return step{fmt.Sprintf("tasks of worker %d", w), func(ctx context.Context, a *actor) string {
		tasks, err := a.Held(ctx, a.workers[w])
		var out []string
		for _, t := range tasks {
			out = append(out, a.say(t))
		}
		return answer(err, strings.Join(out, "; "))
	}}
}

func reap() step {
	return step{"reap", func(ctx context.Context, a *actor) string {
		lanes, err := a.Reap(ctx)
		return answer(err, a.sayLanes(lanes))
	}}
}

func promote(n int) step {
	return step{fmt.Sprint("promote ", n), func(ctx context.Context, a *actor) string {
		lanes, next, err := a.Promote(ctx, n)
		if next >= 0 {
			return answer(err, a.sayLanes(lanes), minutes(next))
		}
		return answer(err, a.sayLanes(lanes), "none")
	}}
}

// look lists a worker's lanes, those from one on, and which of them are ready.
func look(w, from int) step {
	return step{fmt.Sprintf("lanes of worker %d", w), func(ctx context.Context, a *actor) string {
		var out []string
		var ids []int32
		for _, private := range []bool{false, true} {
			lanes, err := a.Lanes(ctx, a.workers[w], private)
			if err != nil {
				return answer(err)
			}
			for _, l := range lanes {
				if index(a.lanes, l.ID) < from {
					continue
				}
				ids = append(ids, l.ID)
				out = append(out, fmt.Sprintf("%d %s/%s %d", slices.Index(a.lanes, l.ID), l.Pipeline, l.Source, slices.Index(a.limiters, l.Limiter)))
			}
		}
		ready, err := a.ReadyLanes(ctx, ids)
		urgent, err2 := a.UrgentLanes(ctx, ids)
		return answer(errors.Join(err, err2), strings.Join(out, "; "), a.sayLanes(ready), a.sayLanes(urgent))
	}}
}

func grant(w, limiter, want, inUse int) step {
	return step{fmt.Sprintf("worker %d wants %d of limit %d, uses %d", w, want, limiter, inUse), func(ctx context.Context, a *actor) string {
		n, err := a.Grant(ctx, a.workers[w], a.limiters[limiter], want, inUse)
		share, err2 := a.Share(ctx, a.workers[w], a.limiters[limiter], want)
		if err2 != nil {
			return answer(err2)
		}
		return answer(err, n) + fmt.Sprint(" share ", share)
	}}
}

func reserve(limiter, n int) step {
	return step{fmt.Sprintf("reserve %d of limit %d", n, limiter), func(ctx context.Context, a *actor) string {
		first, every, err := a.Reserve(ctx, a.limiters[limiter], n)
		return answer(err, minutes(first), minutes(every))
	}}
}

func cancel(task string) step {
	return step{"cancel " + task, func(ctx context.Context, a *actor) string {
		return answer(a.Cancel(ctx, a.tasks[task], "me"), "done")
	}}
}

func obey(w int) step {
	return step{fmt.Sprintf("worker %d obeys", w), func(ctx context.Context, a *actor) string {
		list, err := a.Obey(ctx, a.workers[w])
		var names []string
		for _, c := range list {
			names = append(names, fmt.Sprintf("%s %s by %s to %d within %s", a.names[c.Task], c.Verb, c.By, index(a.lanes, c.To.Lane), minutes(c.To.Within)))
		}
		slices.Sort(names)
		return answer(err, names)
	}}
}

// hour is as long as a task may stay in each state.
var hour = gantry.Timeouts{Queued: time.Hour, Extracting: time.Hour, Ingesting: time.Hour, Inferring: time.Hour, Responding: time.Hour}

func reopen(task string, priority int16) step {
	return step{"reopen " + task, func(ctx context.Context, a *actor) string {
		ok, err := a.Reopen(ctx, a.tasks[task], hour, priority, "why")
		return answer(err, ok)
	}}
}

// read asks all that an engine asks about a task.
func read(task string) step {
	return step{"read " + task, func(ctx context.Context, a *actor) string {
		id := a.tasks[task]
		list, err1 := a.Originals(ctx, id)
		items, err2 := a.Items(ctx, id)
		parts, err3 := a.Parts(ctx, id, 0)
		children, err4 := a.Children(ctx, id)
		owner, members, err5 := a.MemberItems(ctx, id)
		out := []string{answer(err1)}
		for _, o := range list {
			out = append(out, fmt.Sprint(o.Source, o.RefMAC, o.Version, o.Name, o.Size, o.Place, o.Collection > 0))
		}
		for _, x := range append(items, members...) {
			out = append(out, fmt.Sprintf("%d<%d %s %d %t %s", x.ID, x.Parent, x.SHA, x.Size, x.Rejected, x.Reason))
		}
		for _, x := range parts {
			out = append(out, fmt.Sprintf("%v %s %d %d %s %s submits %d %q of %d for %s of %s", x.PartKey, x.Status, x.Attempt, x.Asked, due(x.DueIn), x.Reason,
				x.Submits, x.Out.Ticket, index(a.limiters, x.Out.Limiter), minutes(time.Duration(x.Out.For)*time.Microsecond), minutes(time.Duration(x.Out.Left)*time.Microsecond)))
		}
		for _, c := range children {
			a.tasks[c.PublicID], a.names[c.ID] = c.ID, c.PublicID
			out = append(out, fmt.Sprintf("%s %s %d %s %d %d %s %s", c.PublicID, c.Role, c.Ordinal, c.State, c.Members, c.Kind, c.Code, c.Detail))
		}
		return answer(errors.Join(err2, err3, err4), strings.Join(out, "; "), answer(err5, a.names[owner]))
	}}
}

func due(us int64) string {
	if us == -1 {
		return "never"
	}
	return minutes(time.Duration(us) * time.Microsecond)
}
