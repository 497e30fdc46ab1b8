package engine

import (
	"context"
	"slices"

	"github.com/gantry-imaging/gantry/internal/gantry"
)

// shard is a child that takes a range of the task's origins through the first stages. What it made is
// read as if the task had made it: the items under ids of the task's, in the order of the shards, and
// the parts under the ordinals that they would have in a task that is not divided.
type shard struct {
	gantry.ChildTask
	first gantry.ItemID // of its items, as they are read
	parts []int32       // by stage: how many groups the shards before it have
}

// shardable says how many stages, from the first, may run in shards, and how many origins a shard has. A
// stage may where what it does about an origin is the same whatever else is in the task: never with one
// call for all, and with batches only while every origin is still there, so that no batch crosses
// from one shard to the next.
func (p *Plan) shardable() (stages, size int) {
	size = p.Extract.Shard
	complete := true
	for _, st := range p.Stages {
		switch {
		case size < 1, st.Each == gantry.EachTask, st.Each == gantry.EachBatch && (!complete || st.Max > size):
			return stages, size
		case st.Each == gantry.EachBatch:
			size -= size % max(1, st.Max)
		}
		complete = complete && st.Each != gantry.EachBatch && st.KeepIf == nil && st.OnError != gantry.OnErrorSkip && st.Pass != gantry.PassOutputs
		stages++
	}
	return stages, size
}

// sharded tells whether the task is divided by its origins.
func (w *work) sharded() bool {
	if w.task.Role == gantry.Shard {
		return false
	}
	stages, _ := w.plan.shardable()
	return stages > 0 && len(w.ownIDs()) > w.plan.Extract.Shard
}

// stages is how many stages the task runs itself.
func (w *work) stages() int {
	if w.task.Role == gantry.Shard {
		stages, _ := w.plan.shardable()
		return stages
	}
	return len(w.plan.Stages)
}

// before is how many of the whole task's origins come before those of this one.
func (w *work) before() int {
	if w.task.Role != gantry.Shard {
		return 0
	}
	_, size := w.plan.shardable()
	return int(w.task.Ordinal) * size
}

// awaitShards divides a task that is too large, and lets it go on once its shards are done: it then finds
// that the parts of their stages have ended, and passes through them.
func (w *work) awaitShards() error {
	if !w.sharded() {
		return nil
	}
	if len(w.shards) == 0 {
		_, size := w.plan.shardable()
		return waits{divide: w.division(gantry.Shard, gantry.Inferring, slices.Collect(slices.Chunk(w.ownIDs(), size)))}
	}
	list := w.shardTasks()
	if slices.ContainsFunc(list, open) {
		return waits{}
	}
	return childFailure(list)
}

func (w *work) shardTasks() (list []gantry.ChildTask) {
	for _, s := range w.shards {
		list = append(list, s.ChildTask)
	}
	return list
}

// gather reads what the shards made, once all have ended.
func (w *work) gather(ctx context.Context) error {
	if slices.ContainsFunc(w.shardTasks(), open) {
		return nil
	}
	next := adopted
	groups := make([]int32, len(w.plan.Stages)) // so far, by stage
	for i := range w.shards {
		s := &w.shards[i]
		s.first, s.parts = next, slices.Clone(groups)
		items, err := w.e.Store.Items(ctx, s.ID)
		if err != nil {
			return err
		}
		parts, err := w.e.Store.Parts(ctx, s.ID, w.task.Leg)
		if err != nil {
			return err
		}
		for _, x := range items {
			next = max(next, w.adopt(s, &x)+1)
			w.items = append(w.items, x)
		}
		for _, p := range parts {
			p.Ordinal += s.parts[p.Stage]
			groups[p.Stage] = max(groups[p.Stage], p.Ordinal+1)
			w.setPart(p)
		}
	}
	slices.SortFunc(w.items, byID)
	return nil
}

// adopt gives an item of a shard its id and part in this task.
func (w *work) adopt(s *shard, x *gantry.Item) gantry.ItemID {
	x.ID += s.first - ownItems
	if x.Parent >= ownItems {
		x.Parent += s.first - ownItems
	}
	x.Part += s.parts[x.Stage]
	return x.ID
}

// keyOf is the Idempotency-Key of the call that an item is an answer to.
func (w *work) keyOf(x gantry.Item) string {
	k := gantry.PartKey{Leg: x.Leg, Stage: x.Stage, Processor: x.Processor, Ordinal: x.Part, Generation: x.Generation}
	stages, _ := w.plan.shardable()
	if len(w.shards) == 0 || int(x.Stage) >= stages {
		return w.keyUnder(w.task.PublicID, k)
	}
	i := len(w.shards) - 1
	for i > 0 && w.shards[i].first > x.ID {
		i--
	}
	k.Ordinal -= w.shards[i].parts[x.Stage]
	return w.keyUnder(w.shards[i].PublicID, k)
}
