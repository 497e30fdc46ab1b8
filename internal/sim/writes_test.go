package sim

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/gantry-imaging/gantry/internal/gantry"
)

// hand makes a write of an actor's numbers, and says what is to be noted if it lands.
type hand struct {
	name string
	make func(a *actor) (w *gantry.Write, landed func())
}

// lease is the hold on a task as the actor believes to have it, off by some seqs.
func (a *actor) lease(task string, off int32) gantry.Lease {
	t := a.held[task]
	return gantry.Lease{Task: a.tasks[task], Seq: t.Seq + off}
}

// move is a transition. off is added to the seq that is true.
func move(task string, c gantry.Change, to gantry.State, stage int16, off int32, x gantry.Transition) hand {
	return hand{fmt.Sprintf("move %s by %d to %s/%d off %d", task, c, to, stage, off), func(a *actor) (*gantry.Write, func()) {
		t := a.held[task]
		tr := x
		tr.Lease, tr.From, tr.To, tr.Stage, tr.Change, tr.Parent = a.lease(task, off), t.State, to, stage, c, t.Parent
		return &gantry.Write{Lease: tr.Lease, Transition: &tr}, func() {
			t.Seq, t.State, t.Stage, t.Attempt, t.Cursor = t.Seq+1, to, stage, 0, 0
			a.held[task] = t
		}
	}}
}

// divide is a transition by which a task begins to wait for n children.
func divide(task string, role gantry.Role, state gantry.State, n int, within time.Duration) hand {
	d := &gantry.Division{Role: role, State: state, Within: within}
	for i := range n {
		first := gantry.ItemID(1 + 2*i)
		d.Children = append(d.Children, gantry.Child{PublicID: fmt.Sprintf("%s.%s%d", task, role, i), Members: []gantry.Span{{First: first, End: first + 2}}})
	}
	h := move(task, gantry.Wait, state, 0, 0, gantry.Transition{Divide: d, Within: within})
	h.name = fmt.Sprintf("divide %s into %d", task, n)
	return h
}

// results are items, marks, parts and a cursor.
func results(task string, off int32, x gantry.Write) hand {
	return hand{fmt.Sprintf("results of %s off %d: %d items %v plan %v parts %v at %d", task, off, len(x.Items), x.Marks, x.Plan, x.Parts, x.Cursor),
		func(a *actor) (*gantry.Write, func()) {
			w := x
			w.Lease = a.lease(task, off)
			return &w, func() {}
		}}
}

func intent(task string, off int32, id gantry.UUID, limiter int) hand {
	return hand{fmt.Sprintf("intent of %s off %d %s", task, off, id), func(a *actor) (*gantry.Write, func()) {
		in := &gantry.Intent{ID: id, Boundary: gantry.AtProcessor, Limiter: a.limiters[limiter], Pipeline: a.pipeline, Try: 1}
		if task != "" {
			in.Lease = a.lease(task, off)
		}
		return &gantry.Write{Intent: in}, func() {}
	}}
}

func outcome(task string, off int32, id gantry.UUID, limiter int, x gantry.Write) hand {
	return hand{fmt.Sprintf("outcome of %s off %d %s parts %v", task, off, id, x.Parts), func(a *actor) (*gantry.Write, func()) {
		w := x
		w.Outcome = &gantry.Outcome{ID: id, Limiter: a.limiters[limiter]}
		if task != "" {
			w.Lease = a.lease(task, off)
			w.Outcome.Task = w.Lease.Task
		}
		return &w, func() {}
	}}
}

// commit writes hands in one batch, and asks again whether they landed.
func commit(w int, hands ...hand) step {
	names := make([]string, len(hands))
	for i, h := range hands {
		names[i] = h.name
	}
	return step{fmt.Sprintf("worker %d commits %s", w, strings.Join(names, ", ")), func(ctx context.Context, a *actor) string {
		writes, noted := make([]*gantry.Write, len(hands)), make([]func(), len(hands))
		for i, h := range hands {
			writes[i], noted[i] = h.make(a)
		}
		landed, err := a.Commit(ctx, a.workers[w], writes)
		for i, yes := range landed {
			if yes {
				noted[i]()
			}
		}
		found, err2 := a.Landed(ctx, a.workers[w], writes)
		if err2 != nil {
			return answer(err2)
		}
		return answer(err, landed) + fmt.Sprint(" found ", found)
	}}
}

func item(id, parent gantry.ItemID) gantry.Item {
	return gantry.Item{ID: id, Parent: parent, Origin: id, Stage: gantry.OriginalStage, Media: gantry.MediaPNG, Size: int64(id), Body: []byte("x")}
}

func partOf(stage int16, ordinal int32, s gantry.PartStatus, dueIn time.Duration) gantry.Part {
	p := gantry.Part{PartKey: gantry.PartKey{Stage: stage, Ordinal: ordinal}, Status: s, Attempt: 1, Count: 1, DueIn: -1}
	if dueIn > 0 {
		p.DueIn = dueIn.Microseconds()
	}
	return p
}

// begin makes what a random history is about: workers, limits, lanes.
func (y *story) begin() []step {
	l := y.own.limiters
	return []step{
		register(time.Hour), register(10 * time.Minute), register(time.Hour),
		limit(l, "pipeline:"+y.prefix, gantry.LimiterSpec{MaxUnits: 4}, true),
		limit(l+1, "http://"+y.prefix, gantry.LimiterSpec{MaxUnits: 3, Rate: 1.0 / 300, Burst: 2, Hold: 20 * time.Minute,
			Breaker: gantry.Breaker{Failures: 3, Open: 8 * time.Minute}}, true),
		makeLane(y.prefix+"a", l, -1), makeLane(y.prefix+"b", l, -1), makeLane(y.prefix+"c", l, y.own.workers),
	}
}

func (y *story) worker() int  { return y.own.workers + y.IntN(len(y.a.workers)-y.own.workers) }
func (y *story) lane() int    { return y.own.lanes + y.IntN(len(y.a.lanes)-y.own.lanes) }
func (y *story) limiter() int { return y.own.limiters + y.IntN(2) }

// task picks a task that was claimed once; "" if there is none.
func (y *story) task() string {
	var known []string
	for id := range y.a.held {
		if strings.HasPrefix(id, y.prefix) {
			known = append(known, id)
		}
	}
	if len(known) == 0 {
		return ""
	}
	slices.Sort(known)
	return known[y.IntN(len(known))]
}

// next makes one more step.
func (y *story) next() step {
	task := y.task()
	switch n := y.IntN(100); {
	case y.IntN(5) == 0:
		return y.more(task)
	case n < 12:
		return enqueue(arrive{id: fmt.Sprintf("%s%d", y.prefix, y.IntN(6)), source: y.prefix + "a", version: fmt.Sprint("v", y.IntN(2)),
			sequencer: fmt.Sprint("s", y.IntN(2)), place: []string{"", "x", "y"}[y.IntN(3)], lane: y.lane(), priority: int16(y.IntN(10)), within: time.Hour})
	case n < 28:
		lanes := []int{y.lane()}
		if l := y.lane(); l != lanes[0] {
			lanes = append(lanes, l)
		}
		return claim(y.worker(), 1+y.IntN(3), lanes...)
	case n < 31:
		return pass(time.Duration(1+y.IntN(20))*3*time.Minute + time.Second) // never to the very end of a lease
	case n < 34:
		return beat(y.worker(), time.Duration(10*(1+y.IntN(6)))*time.Minute)
	case n < 35:
		return register(30 * time.Minute)
	case n < 36:
		return resign(y.worker())
	case n < 40:
		return reap()
	case n < 44:
		return promote(1 + y.IntN(3))
	case n < 46:
		return look(y.worker(), y.own.lanes)
	case n < 52:
		want := y.IntN(6)
		return grant(y.worker(), y.limiter(), want, y.IntN(want+1))
	case n < 54:
		return reserve(y.own.limiters+1, 1+y.IntN(3))
	case n < 55:
		return limit(y.own.limiters, "pipeline:"+y.prefix, gantry.LimiterSpec{MaxUnits: y.IntN(6) - 1, Hold: time.Minute}, y.IntN(2) == 0)
	case task == "":
		return claim(y.worker(), 2, y.lane())
	case n < 57:
		return held(y.worker())
	case n < 58:
		return obey(y.worker())
	case n < 60:
		return cancel(task)
	case n < 62:
		return reopen(task, int16(y.IntN(10)))
	case n < 66:
		return read(task)
	}
	return y.commit()
}

// commit makes a batch of writes of different tasks.
func (y *story) commit() step {
	var hands []hand
	seen := map[string]bool{}
	for range 1 + y.IntN(3) {
		task := y.task()
		if !seen[task] {
			seen[task] = true
			hands = append(hands, y.hand(task))
		}
	}
	w := y.worker()
	if y.IntN(4) > 0 { // whoever holds it
		w = y.own.workers
	}
	return commit(w, hands...)
}

// hand makes a write of a task.
func (y *story) hand(task string) hand {
	off := int32(0)
	if y.IntN(6) == 0 {
		off = int32(y.IntN(3) - 1)
	}
	switch n := y.IntN(10); {
	case n < 5:
		return y.move(task, off)
	case n < 7:
		x := gantry.Write{Cursor: int64(y.IntN(3))}
		for range y.IntN(3) {
			x.Items = append(x.Items, item(gantry.ItemID(y.IntN(9)), gantry.ItemID(y.IntN(3)-1)))
		}
		slices.SortFunc(x.Items, func(a, b gantry.Item) int { return int(a.ID - b.ID) })
		x.Items = slices.CompactFunc(x.Items, func(a, b gantry.Item) bool { return a.ID == b.ID })
		x.Marks = []gantry.ItemMark{{ID: gantry.ItemID(y.IntN(9)), SHA: gantry.Digest{byte(1 + y.IntN(3))}, Size: int64(y.IntN(5)), Rejected: y.IntN(2) == 0}}
		x.Plan = []gantry.Part{partOf(int16(y.IntN(2)), int32(y.IntN(3)), gantry.PartPlanned, 0)}
		x.Parts = []gantry.Part{partOf(int16(y.IntN(2)), int32(y.IntN(3)), []gantry.PartStatus{gantry.PartPlanned, gantry.PartOK, gantry.PartSkipped, gantry.PartFailed}[y.IntN(4)], time.Duration(y.IntN(3))*10*time.Minute)}
		if y.IntN(4) == 0 {
			return outs(task, off, y.limiter(), outFor(int32(y.IntN(3)), int16(y.IntN(3)), time.Duration(1+y.IntN(4))*10*time.Minute, 35*time.Minute))
		}
		return results(task, off, x)
	case n < 9 || len(y.calls) == 0:
		id := y.uuid()
		y.calls = append(y.calls, id)
		if y.IntN(8) == 0 {
			task = ""
		}
		return intent(task, off, id, y.own.limiters+1)
	}
	id := y.calls[y.IntN(len(y.calls))]
	return outcome(task, off, id, y.own.limiters+1, gantry.Write{Parts: []gantry.Part{partOf(0, int32(y.IntN(3)), gantry.PartOK, 0)}})
}

func (y *story) move(task string, off int32) hand {
	t := y.a.held[task]
	y.pauses += time.Millisecond // no two end at the same moment
	within := time.Duration(y.IntN(3)) * 20 * time.Minute
	var priority *int16
	if n := int16(y.IntN(10)); y.IntN(4) == 0 {
		priority = &n
	}
	switch y.IntN(11) {
	case 9:
		return depart(task, y.own.lanes+y.IntN(2), off)
	case 10:
		return move(task, gantry.Pause, t.State, t.Stage, off, gantry.Transition{})
	case 0, 1, 2:
		return move(task, gantry.Advance, min(t.State+1, gantry.Responding), int16(y.IntN(2)), off, gantry.Transition{Within: within, Priority: priority})
	case 3:
		return move(task, gantry.Retry, t.State, t.Stage, off, gantry.Transition{After: 20*time.Minute + y.pauses, Code: "x", Kind: gantry.Timeout, Detail: "why"})
	case 4:
		return move(task, gantry.Park, t.State, t.Stage, off, gantry.Transition{After: 10*time.Minute + y.pauses, Heard: int32(y.IntN(3)), Priority: priority})
	case 5:
		return move(task, gantry.Release, t.State, t.Stage, off, gantry.Transition{})
	case 6:
		if t.Parent == 0 {
			return divide(task, gantry.Role(1+y.IntN(2)), gantry.Inferring, 1+y.IntN(3), within)
		}
	}
	final := gantry.Done + gantry.State(y.IntN(3))
	return move(task, gantry.End, final, t.Stage, off, gantry.Transition{Code: gantry.Code([]string{"", "x"}[y.IntN(2)]), Kind: gantry.Permanent, Detail: "why"})
}
