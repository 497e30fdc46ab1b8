package sim

import (
	"time"

	"github.com/gantry-imaging/gantry/internal/gantry"
)

// histories are those that were thought of: one for each rule of the store that the simulation leans on.
var histories = []struct {
	name  string
	about func(y *story, w, limit, lane int, id string) []step
}{
	{"a zombie writes its outcome alone", func(y *story, w, limit, lane int, id string) []step {
		call, later := y.uuid(), y.uuid()
		return []step{enqueue(arrive{id: id, source: y.prefix + "a", lane: lane, priority: 5, within: time.Hour}), claim(w+1, 1, lane),
			commit(w+1, intent(id, 0, call, limit+1)), grant(w+1, limit+1, 2, 1), grant(w+1, limit, 2, 1), pass(11 * time.Minute), reap(), claim(w, 1, lane),
			commit(w+1, outcome(id, -2, call, limit+1, gantry.Write{Parts: []gantry.Part{partOf(0, 0, gantry.PartOK, 0)}}), intent(id, 0, later, limit+1)),
			commit(w+1, move(id, gantry.Advance, gantry.Extracting, 0, -2, gantry.Transition{})), grant(w+1, limit+1, 2, 1), beat(w+1, time.Hour),
			grant(w, limit+1, 3, 0), pass(21 * time.Minute), grant(w, limit+1, 3, 0), reap(), read(id), obey(w)}
	}},
	{"every change", func(y *story, w, limit, lane int, id string) []step {
		s := []step{enqueue(arrive{id: id, source: y.prefix + "a", lane: lane, priority: 5, within: time.Hour}), claim(w, 1, lane)}
		for _, c := range []gantry.Change{gantry.Advance, gantry.Retry, gantry.Park, gantry.Release, gantry.Wait, gantry.End} {
			to := gantry.Extracting
			if c == gantry.End {
				to = gantry.Failed
			}
			x := gantry.Transition{After: 10 * time.Minute, Within: 30 * time.Minute, Code: "x", Detail: "d", Kind: gantry.Timeout}
			s = append(s, commit(w, move(id, c, to, 1, 0, x)), commit(w, move(id, c, to, 1, -1, x)), promote(9), pass(15*time.Minute), promote(9), beat(w, time.Hour), claim(w, 1, lane))
		}
		return append(s, read(id), reopen(id, 2), claim(w, 1, lane), reopen(id, 2))
	}},
	{"the same object twice and again", func(y *story, w, limit, lane int, id string) []step {
		x := arrive{id: id, source: y.prefix + "a", version: "1", sequencer: "s1", place: "here", lane: lane, priority: 5, within: time.Hour}
		again, moved, next := x, x, x
		again.sequencer, moved.place, next.version = "s2", "there", "2"
		return []step{enqueue(x), enqueue(x), enqueue(again), enqueue(moved), enqueue(next), claim(w, 9, lane), read(id + "1"), read(id + "2"), look(w, lane)}
	}},
	{"a collection, its children, its redrive and its next leg", func(y *story, w, limit, lane int, id string) []step {
		x := arrive{id: id, source: y.prefix + "a", place: "here", lane: lane, priority: 5, within: time.Hour}
		again, a, b := x, id+".shard0", id+".shard1"
		again.id, again.place = id+"again", "there"
		end := func(task string, s gantry.State) hand {
			return move(task, gantry.End, s, 0, 0, gantry.Transition{Code: "x"})
		}
		return []step{collect(x, "c", "B", "a", "a/b"), collect(x, "c"), claim(w, 9, lane), read(id),
			commit(w, results(id, 0, gantry.Write{Items: []gantry.Item{item(1, -1), item(2, -1), item(3, -1), item(4, 3), item(5, -1)}})),
			commit(w, move(id, gantry.Advance, gantry.Inferring, 0, 0, gantry.Transition{})), commit(w, divide(id, gantry.Shard, gantry.Inferring, 2, 0)), claim(w, 9, lane), read(id), read(a), read(b),
			commit(w, end(a, gantry.Done), end(b, gantry.Failed)), claim(w, 9, lane), commit(w, end(id, gantry.Failed)), reopen(id, 3), claim(w, 9, lane), read(b),
			commit(w, end(b, gantry.Done)), claim(w, 9, lane), moveTask(id, lane+1), commit(w, depart(id, lane+1, 0)), claim(w, 9, lane+1), read(id), look(w, lane), collect(again, "c"), claim(w, 9, lane), read(again.id)}
	}},
	{"what was answered stays", func(y *story, w, limit, lane int, id string) []step {
		part := func(s gantry.PartStatus) gantry.Part { return partOf(0, 0, s, 0) }
		plan := gantry.Write{Plan: []gantry.Part{part(0)}, Items: []gantry.Item{item(0, -1), item(1, 0)}, Cursor: 2}
		mark := gantry.Write{Marks: []gantry.ItemMark{{ID: 1, SHA: gantry.Digest{1}, Size: 9}}}
		other := gantry.Write{Marks: []gantry.ItemMark{{ID: 1, SHA: gantry.Digest{2}, Size: 8, Reason: "x", Rejected: true}}}
		call, second := y.uuid(), y.uuid()
		return []step{enqueue(arrive{id: id, source: y.prefix + "a", lane: lane, priority: 5, within: time.Hour}), claim(w, 1, lane), commit(w, results(id, 0, plan)),
			commit(w, results(id, 0, mark)), commit(w, intent(id, 0, call, limit)), commit(w, intent(id, 0, call, limit)),
			commit(w, outcome(id, 0, call, limit, gantry.Write{Parts: []gantry.Part{part(gantry.PartOK)}})), commit(w, outcome(id, 0, call, limit, gantry.Write{})),
			commit(w, results(id, 0, gantry.Write{Parts: []gantry.Part{part(gantry.PartFailed)}})), commit(w, results(id, 0, other), intent("", 0, second, limit)),
			commit(w, outcome("", 0, second, limit, gantry.Write{})), commit(w, results(id, 0, plan)), read(id)}
	}},
	{"children", func(y *story, w, limit, lane int, id string) []step {
		a, b, c := id+".shard0", id+".shard1", id+".shard2"
		end := func(task string, s gantry.State) hand {
			return move(task, gantry.End, s, 0, 0, gantry.Transition{Code: "x"})
		}
		return []step{enqueue(arrive{id: id, source: y.prefix + "a", lane: lane, priority: 5, within: time.Hour}), claim(w, 1, lane),
			commit(w, results(id, 0, gantry.Write{Items: []gantry.Item{item(0, -1), item(1, 0), item(2, 0), item(3, 0), item(4, 1)}})),
			commit(w, move(id, gantry.Advance, gantry.Inferring, 0, 0, gantry.Transition{})), commit(w, divide(id, gantry.Shard, gantry.Inferring, 3, 0)),
			claim(w, 9, lane), claim(w, 9, lane), claim(w, 9, lane), read(id), read(b), commit(w, end(a, gantry.Failed), end(b, gantry.Done)), commit(w, end(b, gantry.Done)),
			commit(w, end(c, gantry.Failed)), claim(w, 9, lane), commit(w, end(id, gantry.Failed)), reopen(id, 3), read(id), claim(w, 9, lane), claim(w, 9, lane),
			commit(w, end(a, gantry.Done), end(c, gantry.Done)), claim(w, 9, lane)}
	}},
	{"a cancel reaches children that come later", func(y *story, w, limit, lane int, id string) []step {
		return []step{enqueue(arrive{id: id, source: y.prefix + "a", lane: lane, priority: 5, within: time.Hour}), claim(w, 1, lane),
			commit(w, move(id, gantry.Advance, gantry.Inferring, 0, 0, gantry.Transition{})), cancel(id), cancel(id), obey(w), obey(w + 1),
			commit(w, divide(id, gantry.Shard, gantry.Inferring, 2, 0)), claim(w, 1, lane), obey(w), obey(w + 1), held(w), held(w + 1), read(id),
			commit(w, move(id+".shard0", gantry.End, gantry.Cancelled, 0, 0, gantry.Transition{})), obey(w), read(id)}
	}},
	{"a private lane ends with its process", func(y *story, w, limit, lane int, id string) []step {
		return []step{enqueue(arrive{id: id, source: y.prefix + "a", lane: lane + 2, priority: 5, within: time.Hour}), claim(w, 1, lane+2), cancel(id), obey(w), obey(w + 1),
			commit(w, move(id, gantry.Release, 0, 0, 0, gantry.Transition{})), obey(w + 1), look(w, lane), resign(w), reap(), read(id), reap()}
	}},
	{"a process that resigns leaves its tasks to the reaper", func(y *story, w, limit, lane int, id string) []step {
		return []step{enqueue(arrive{id: id, source: y.prefix + "a", lane: lane, priority: 5, within: time.Hour}), claim(w, 1, lane), grant(w, limit, 1, 1), grant(w, limit+1, 1, 1),
			resign(w), pass(time.Second), beat(w, time.Hour), reap(), resign(w + 1), beat(w+1, time.Hour), claim(w+2, 1, lane), held(w + 2)}
	}},
	{"starts", func(y *story, w, limit, lane int, id string) []step {
		return []step{reserve(limit+1, 1), reserve(limit+1, 1), reserve(limit+1, 3), pass(9 * time.Minute), reserve(limit+1, 1), pass(3 * time.Hour), reserve(limit+1, 2),
			reserve(limit+1, 1), reserve(limit, 1)}
	}},
	{"a limit of none", func(y *story, w, limit, lane int, id string) []step {
		paused := gantry.LimiterSpec{MaxUnits: 0}
		return []step{grant(w, limit, 3, 0), grant(w+2, limit, 9, 0), limitTo(limit, "pipeline:"+y.prefix, paused), grant(w+1, limit, 2, 0), grant(w, limit, 3, 1),
			grant(w+2, limit, 9, 0), grant(w, limit, 3, 0)}
	}},
	{"a target rests", func(y *story, w, limit, lane int, id string) []step {
		return []step{restFor(limit+1, 6*time.Minute), restFor(limit+1, 2*time.Minute), reserve(limit+1, 1), pass(3 * time.Minute), readLimit(limit + 1), restFor(limit+1, time.Hour),
			pass(9 * time.Minute), readLimit(limit + 1), holdLimit("http://"+y.prefix, true), grant(w, limit+1, 2, 0), readLimit(limit + 1), holdLimit("http://"+y.prefix, false),
			grant(w, limit+1, 2, 0), readLimit(limit + 1), reserve(limit+1, 1), reserve(limit, 1)}
	}},
	{"a breaker", func(y *story, w, limit, lane int, id string) []step {
		l := limit + 1
		return []step{breaker(w, limit, gantry.BreakerTrip), breaker(w, l, gantry.BreakerAnswered), breaker(w, l, gantry.BreakerTrip), breaker(w+1, l, gantry.BreakerTrip),
			breaker(w, l, gantry.BreakerProbe), pass(9 * time.Minute), restFor(l, 2*time.Minute), breaker(w, l, gantry.BreakerProbe), pass(3 * time.Minute), breaker(w, l, gantry.BreakerProbe),
			breaker(w+1, l, gantry.BreakerProbe), breaker(w+1, l, gantry.BreakerAnswered), breaker(w, l, gantry.BreakerFailed), pass(9 * time.Minute), breaker(w+1, l, gantry.BreakerProbe),
			pass(30 * time.Minute), readLimit(l), breaker(w, l, gantry.BreakerProbe), breaker(w+1, l, gantry.BreakerAnswered), breaker(w, l, gantry.BreakerForgone),
			pass(time.Second), breaker(w+2, l, gantry.BreakerProbe), breaker(w+2, l, gantry.BreakerAnswered)}
	}},
	{"the fifth death", func(y *story, w, limit, lane int, id string) []step {
		s := []step{enqueue(arrive{id: id, source: y.prefix + "a", lane: lane, priority: 5, within: 100 * time.Hour}), enqueue(arrive{id: id + "x", source: y.prefix + "a", lane: lane, priority: 5, within: 100 * time.Hour})}
		for i := range 7 {
			s = append(s, register(10*time.Minute), claim(w+3+i, 9, lane))
			if i != 3 {
				s = append(s, alone(w+3+i, id, 0), alone(w+3+i, id, -1))
			}
			s = append(s, pass(11*time.Minute), reap())
		}
		return append(s, read(id), read(id+"x"), reopen(id, 4), claim(w, 9, lane))
	}},
	{"urgent calls and tasks", func(y *story, w, limit, lane int, id string) []step {
		s := []step{urge(w, limit, 1), grant(w, limit, 9, 0), grant(w+1, limit, 3, 0), urge(w+1, limit, 2), grant(w, limit, 9, 2), grant(w+2, limit, 2, 0), grant(w+1, limit, 3, 0),
			urge(w, limit, 1), grant(w, limit, 9, 2), urge(w+1, limit, 0), grant(w, limit, 9, 2)}
		for i, p := range []int16{5, 8, 2, 7, 0, 5, 9} {
			s = append(s, enqueue(arrive{id: id + string(rune('a'+i)), source: y.prefix + "a", lane: lane + i%2, priority: p, within: time.Hour}))
		}
		return append(s, look(w, lane), claimSome(w, gantry.Want{N: 9, Upto: 1}, lane, lane+1), look(w, lane), claimSome(w, gantry.Want{N: 2, Aged: 1}, lane, lane+1), claimSome(w, gantry.Want{N: 9, Aged: 9, Upto: 7}, lane, lane+1))
	}},
	{"tasks that their claim begins", func(y *story, w, limit, lane int, id string) []step {
		begin := gantry.Want{N: 9, Begin: true}
		var s []step
		for i, p := range []int16{5, 8, 1, 5} {
			s = append(s, enqueue(arrive{id: id + string(rune('a'+i)), source: y.prefix + "a", lane: lane, priority: p, within: time.Duration(1+i) * 10 * time.Minute}))
		}
		s = append(s, pass(11*time.Minute), claimSome(w, begin, lane), read(id+"a"), read(id+"c"), held(w), commit(w, move(id+"c", gantry.Advance, gantry.Ingesting, 0, -1, gantry.Transition{})),
			commit(w, move(id+"c", gantry.Advance, gantry.Ingesting, 0, 0, gantry.Transition{Within: time.Hour})), commit(w, move(id+"b", gantry.Advance, gantry.Extracting, 0, 0, gantry.Transition{})),
			commit(w, move(id+"d", gantry.Retry, gantry.Extracting, 0, 0, gantry.Transition{})), claimSome(w, begin, lane), read(id+"d"), pass(12*time.Minute), reap(),
			claimSome(w+1, begin, lane), read(id+"d"), held(w+1))
		return s
	}},
	{"parts that are out", func(y *story, w, limit, lane int, id string) []step {
		plan := gantry.Write{Plan: []gantry.Part{partOf(0, 0, 0, 0), partOf(0, 1, 0, 0), partOf(0, 2, gantry.PartSkipped, 0)}}
		return []step{enqueue(arrive{id: id, source: y.prefix + "a", lane: lane, priority: 5, within: time.Hour}), claim(w, 1, lane), commit(w, results(id, 0, plan)),
			commit(w, outs(id, 0, limit+1, outFor(0, 1, 10*time.Minute, 30*time.Minute))), commit(w, outs(id, 0, limit+1, outFor(1, 1, 50*time.Minute, 30*time.Minute))), grant(w, limit+1, 3, 0), grant(w+1, limit+1, 3, 0), read(id),
			pass(6 * time.Minute), commit(w, outs(id, 0, limit+1, outFor(0, 1, 10*time.Minute, 99*time.Minute))), commit(w, outs(id, -1, limit+1, outFor(1, 2, time.Minute, time.Minute))), read(id),
			pass(14 * time.Minute), grant(w, limit+1, 3, 0), commit(w, results(id, 0, gantry.Write{Parts: []gantry.Part{partOf(0, 1, gantry.PartOK, 0)}})), grant(w, limit+1, 3, 0), read(id),
			commit(w, outs(id, 0, limit+1, outFor(1, 2, time.Minute, time.Minute)), outs(id, 0, limit+1, outFor(0, 2, 30*time.Minute, time.Hour))), read(id)}
	}},
	{"a pause", func(y *story, w, limit, lane int, id string) []step {
		return []step{enqueue(arrive{id: id, source: y.prefix + "a", lane: lane, priority: 5, within: time.Hour}), claim(w, 1, lane), pauseTask(id), pauseTask(id), obey(w), obey(w + 1),
			commit(w, move(id, gantry.Pause, gantry.Queued, 0, 0, gantry.Transition{})), claim(w, 1, lane), pass(30 * time.Minute), pauseTask(id), resumeTask(id), resumeTask(id), claim(w, 1, lane),
			commit(w, move(id, gantry.Pause, gantry.Queued, 0, 0, gantry.Transition{})), claim(w, 1, lane), commit(w, move(id, gantry.Advance, gantry.Inferring, 0, 0, gantry.Transition{})),
			pauseTask(id), commit(w, divide(id, gantry.Shard, gantry.Inferring, 2, 0)), claim(w, 9, lane), read(id), obey(w), claim(w, 9, lane), resumeTask(id), claim(w, 1, lane), obey(w), pauseTask(id), obey(w),
			cancel(id), obey(w), commit(w, move(id+".shard0", gantry.End, gantry.Cancelled, 0, 0, gantry.Transition{})), obey(w), read(id)}
	}},
	{"a move", func(y *story, w, limit, lane int, id string) []step {
		return []step{enqueue(arrive{id: id, source: y.prefix + "a", lane: lane, priority: 5, within: time.Hour}), claim(w, 1, lane),
			commit(w, results(id, 0, gantry.Write{Items: []gantry.Item{item(0, -1), item(1, 0)}})), moveTask(id, lane+1), obey(w), commit(w, depart(id, lane+1, -1)), commit(w, depart(id, lane+1, 0)), obey(w), read(id),
			claim(w, 1, lane), claim(w, 1, lane+1), read(id), commit(w, move(id, gantry.Advance, gantry.Inferring, 1, 0, gantry.Transition{})), commit(w, divide(id, gantry.Shard, gantry.Inferring, 2, 0)),
			claim(w, 1, lane+1), moveTask(id, lane), read(id), obey(w), commit(w, move(id+".shard0", gantry.End, gantry.Cancelled, 0, 0, gantry.Transition{})), obey(w), read(id), claim(w, 1, lane),
			commit(w, move(id, gantry.Park, gantry.Queued, 0, 0, gantry.Transition{After: 10 * time.Minute})), pauseTask(id), moveTask(id, lane+1), claim(w, 1, lane+1), resumeTask(id), claim(w, 1, lane+1)}
	}},
	{"shares", func(y *story, w, limit, lane int, id string) []step {
		return []step{grant(w, limit, 9, 0), grant(w+1, limit, 9, 0), grant(w, limit, 9, 3), grant(w, limit, 9, 0), grant(w+1, limit, 9, 0), grant(w+2, limit, 1, 0),
			grant(w+1, limit, 9, 1), grant(w+2, limit, 1, 0), grant(w, limit, 0, 0), grant(w+1, limit, 9, 1), resign(w + 1), grant(w+2, limit, 9, 1), grant(w+1, limit, 1, 0)}
	}},
}

// steps gives a history's steps in the world of a story.
func (y *story) steps(about func(y *story, w, limit, lane int, id string) []step) func(func(step) bool) {
	return func(yield func(step) bool) {
		for _, s := range append(y.begin(), about(y, y.own.workers, y.own.limiters, y.own.lanes, y.prefix+"t")...) {
			if !yield(s) {
				return
			}
		}
	}
}
