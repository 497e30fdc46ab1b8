package engine

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/gantry-imaging/gantry/internal/gantry"
)

// child is a task that the world's own was divided into.
type child struct {
	gantry.ChildTask
	parent  gantry.TaskID
	members []gantry.Span
	items   []gantry.Item
	parts   map[gantry.PartKey]gantry.Part
}

// family runs a task with its children, each step in a process of its own, as the scheduler would.
type family struct {
	*world
	ended map[gantry.TaskID]gantry.Transition
}

// run takes a task from a state to its end, and its children between.
func (f *family) run(ctx context.Context, t gantry.Task) gantry.Transition {
	f.t.Helper()
	for range 50 {
		tr := f.stepOf(ctx, t)
		switch tr.Change {
		case gantry.Advance:
			t.State, t.Stage = tr.To, tr.Stage
		case gantry.Wait:
			if tr.Divide == nil {
				f.t.Fatalf("task %d waits again: %+v", t.Task, tr)
			}
			f.divide(ctx, t, tr.Divide)
		case gantry.End:
			if c := f.kin[t.Task]; c != nil {
				c.State, c.Kind, c.Code, c.Detail = tr.To, tr.Kind, tr.Code, tr.Detail
			}
			f.ended[t.Task] = tr
			return tr
		default:
			return tr
		}
	}
	f.t.Fatalf("task %d does not end", t.Task)
	return gantry.Transition{}
}

// divide makes children and runs them to their ends, the last first.
func (f *family) divide(ctx context.Context, parent gantry.Task, d *gantry.Division) {
	var made []*child
	for i, x := range d.Children {
		c := &child{parent: parent.Task, members: x.Members, parts: map[gantry.PartKey]gantry.Part{},
			ChildTask: gantry.ChildTask{ID: gantry.TaskID(100 + len(f.kin)), PublicID: x.PublicID, Role: d.Role, Ordinal: int32(i)}}
		for _, s := range x.Members {
			c.Members += int32(s.End - s.First)
		}
		f.mu.Lock()
		f.kin[c.ID] = c
		f.mu.Unlock()
		made = append(made, c)
	}
	for _, c := range slices.Backward(made) {
		f.run(ctx, gantry.Task{Lease: gantry.Lease{Task: c.ID, Seq: 1}, PublicID: c.PublicID, Parent: parent.Task, Role: c.Role, Ordinal: c.Ordinal, State: d.State})
	}
}

// Children lists the tasks that one was divided into.
func (w *world) Children(_ context.Context, parent gantry.TaskID) (out []gantry.ChildTask, err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for id := gantry.TaskID(100); w.kin[id] != nil; id++ {
		if w.kin[id].parent == parent {
			out = append(out, w.kin[id].ChildTask)
		}
	}
	return out, nil
}

// MemberItems gives a child the items that it is about, with those that they lie in.
func (w *world) MemberItems(_ context.Context, id gantry.TaskID) (owner gantry.TaskID, out []gantry.Item, err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	in := map[gantry.ItemID]bool{}
	for _, s := range w.kin[id].members {
		for x := s.First; x < s.End; x++ {
			for y := x; y != gantry.NoItem; {
				in[y] = true
				i, _ := slices.BinarySearchFunc(w.items, y, func(x gantry.Item, id gantry.ItemID) int { return int(x.ID) - int(id) })
				y = w.items[i].Parent
			}
		}
	}
	for _, x := range w.items {
		if in[x.ID] {
			out = append(out, x)
		}
	}
	return lease.Task, out, nil
}

// newFamily has a task of n pictures at a state.
func newFamily(t *testing.T, n, shard int, stages ...gantry.Stage) *family {
	t.Helper()
	w := newWorld(t, stages...)
	w.plan.Extract.Shard = shard
	w.leaves(n)
	return &family{world: w, ended: map[gantry.TaskID]gantry.Transition{}}
}

var top = gantry.Task{Lease: lease, PublicID: "id", State: gantry.Inferring}

// manifests gives what was delivered: the manifest of the task at the top without its keys of calls, and the paths.
func (f *family) manifests() (string, []string) {
	lines := strings.Split(f.sealed["id/_manifest.json"], "\n")
	lines = slices.DeleteFunc(lines, func(l string) bool { return strings.Contains(l, `"call": `) })
	return strings.Join(lines, "\n"), slices.Sorted(slices.Values(f.put))
}

// byBody answers with a picture for even bodies and data for the others, and refuses some for good.
func byBody(t *testing.T, refuse ...byte) func(context.Context, *gantry.Request) error {
	picture := string(tinyPNG(t))
	return func(ctx context.Context, r *gantry.Request) error {
		first := r.Items[0]
		switch b := first.SHA[0]; {
		case len(first.Body) == 1 && slices.Contains(refuse, first.Body[0]):
			return gantry.Errorf(gantry.Permanent, "http_422", "no")
		case b%2 == 0:
			return answer1(gantry.MediaPNG, picture)(ctx, r)
		default:
			return answer1(gantry.MediaJSON, fmt.Sprintf(`{"score": %d}`, b))(ctx, r)
		}
	}
}

// evenIndex holds for every other origin of a task.
func evenIndex(v map[string]any) (bool, error) {
	return v["item"].(map[string]any)["index"].(int)%2 == 0, nil
}

// TestShardsAreAsOne runs pipelines with and without shards: the sink gets the same, and the services as many calls.
func TestShardsAreAsOne(t *testing.T) {
	t.Parallel()
	seq, cum, skip := gantry.Sequential, gantry.Cumulative, gantry.OnErrorSkip
	for _, c := range []struct {
		name   string
		stages []gantry.Stage
		refuse []byte
		shards int
	}{
		{name: "one stage", stages: []gantry.Stage{each("a", gantry.EachPart, gantry.OnErrorFail)}, shards: 4},
		{name: "two stages and gaps", stages: []gantry.Stage{each("a", gantry.EachPart, skip), each("b", gantry.EachItem, skip)}, refuse: []byte{0, 1, 2, 3, 9}, shards: 4},
		{name: "a fanout", stages: []gantry.Stage{fan("f", gantry.EachPart), staged(cum, gantry.EachPart, gantry.PassBoth)}, refuse: []byte{5}, shards: 4},
		{name: "a report at the end", stages: []gantry.Stage{each("a", gantry.EachPart, skip), staged(cum, gantry.EachTask, "")}, refuse: []byte{5}, shards: 4},
		{name: "batches", stages: []gantry.Stage{staged(seq, gantry.EachBatch, "")}, shards: 7},
		{name: "batches after a stage that leaves gaps", stages: []gantry.Stage{each("a", gantry.EachPart, skip), staged(seq, gantry.EachBatch, "")}, refuse: []byte{1}, shards: 4},
		{name: "a choice by place", stages: []gantry.Stage{{Name: "a", Call: []string{"m"}, KeepIf: rule(evenIndex)}, each("b", gantry.EachPart, skip)}, shards: 4},
		{name: "a report at the beginning", stages: []gantry.Stage{staged(seq, gantry.EachTask, ""), each("a", gantry.EachPart, skip)}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			var manifest [2]string
			var paths [2][]string
			var calls [2]int
			for i, shard := range []int{100, 4} {
				if c.name == "batches" && shard == 4 {
					shard = 3 // of which two make a batch
				}
				f := newFamily(t, 14, shard, c.stages...)
				f.process = byBody(t, c.refuse...)
				if tr := f.run(t.Context(), top); tr.To != gantry.Done {
					t.Fatalf("shards of %d: ended with %+v", shard, tr)
				}
				manifest[i], paths[i] = f.manifests()
				calls[i] = len(f.called)
				if want := []int{0, c.shards}[i]; len(f.kin) != want {
					t.Errorf("%d children, want %d", len(f.kin), want)
				}
				f.holdKeys()
			}
			if diff := cmp.Diff(manifest[0], manifest[1]); diff != "" {
				t.Errorf("manifest (-whole +in shards):\n%s", diff)
			}
			if diff := cmp.Diff(paths[0], paths[1]); diff != "" {
				t.Errorf("paths (-whole +in shards):\n%s", diff)
			}
			if calls[0] != calls[1] {
				t.Errorf("%d calls in shards, %d without", calls[1], calls[0])
			}
		})
	}
}

// holdKeys wants each key in the manifest to be that of a call that was made.
func (f *family) holdKeys() {
	f.t.Helper()
	n := 0
	for _, l := range strings.Split(f.sealed["id/_manifest.json"], "\n") {
		if _, key, ok := strings.Cut(l, `"call": "`); ok {
			n++
			if key = strings.TrimRight(key, `"`); !slices.Contains(f.called, key) {
				f.t.Errorf("no call has the key %s of the manifest", key)
			}
		}
	}
	if n == 0 {
		f.t.Error("the manifest names no call")
	}
}

// TestShardThatFails fails the task with the reason; nothing is delivered, and the parent calls nothing itself.
func TestShardThatFails(t *testing.T) {
	t.Parallel()
	f := newFamily(t, 10, 4, each("a", gantry.EachPart, gantry.OnErrorFail), each("b", gantry.EachPart, gantry.OnErrorFail))
	f.process = byBody(t, 5)
	tr := f.run(t.Context(), top)
	if tr.To != gantry.Failed || tr.Code != "http_422" || tr.Kind != gantry.Permanent || !strings.HasPrefix(tr.Detail, "shard 1 is failed: stage a: part 1 ") {
		t.Errorf("ended with %+v", tr)
	}
	for _, k := range f.called {
		if strings.HasPrefix(k, "id/") {
			t.Errorf("the parent called %s", k)
		}
	}
	if len(f.put) > 0 || len(f.kin) != 3 {
		t.Errorf("%d children, delivered %v", len(f.kin), f.put)
	}
}

// TestAllShardsEmpty ends as an undivided task would whose every part failed.
func TestAllShardsEmpty(t *testing.T) {
	t.Parallel()
	var all []byte
	for i := range byte(10) {
		all = append(all, i)
	}
	for _, shard := range []int{100, 4} {
		f := newFamily(t, 10, shard, each("a", gantry.EachPart, gantry.OnErrorSkip))
		f.process = byBody(t, all...)
		if tr := f.run(t.Context(), top); tr.To != gantry.Failed || tr.Code != "http_422" || !strings.HasPrefix(tr.Detail, "stage a: part 0 ") {
			t.Errorf("shards of %d: ended with %+v", shard, tr)
		}
	}
}

// TestShardResumes kills a process in the middle of a shard: what was answered is not asked again, and the items
// that another makes have ids of their own.
func TestShardResumes(t *testing.T) {
	t.Parallel()
	f := newFamily(t, 9, 8, each("a", gantry.EachPart, gantry.OnErrorFail))
	tr := f.stepOf(t.Context(), top)
	f.kin[100] = &child{parent: lease.Task, members: tr.Divide.Children[0].Members, parts: map[gantry.PartKey]gantry.Part{},
		ChildTask: gantry.ChildTask{ID: 100, PublicID: "s", Role: gantry.Shard}}
	task := gantry.Task{Lease: gantry.Lease{Task: 100, Seq: 1}, PublicID: "s", Role: gantry.Shard, Parent: lease.Task, State: gantry.Inferring}
	ctx, die := context.WithCancelCause(t.Context())
	answered := byBody(t)
	f.process = func(ctx context.Context, r *gantry.Request) error {
		if len(f.calledKeys()) > 3 {
			die(errors.New("killed"))
			return ctx.Err()
		}
		return answered(ctx, r)
	}
	if tr := f.stepOf(ctx, task); tr.Change != gantry.Release {
		t.Fatalf("the first process left with %+v", tr)
	}
	kept := len(f.kin[100].items)
	f.called, f.process = nil, answered
	if tr := f.run(t.Context(), task); tr.To != gantry.Done {
		t.Fatalf("the second process left with %+v", tr)
	}
	if kept == 0 || kept+len(f.called) != 8 || len(f.kin[100].items) != 8 {
		t.Errorf("%d answers of the first process, %d calls of the second, %d items", kept, len(f.called), len(f.kin[100].items))
	}
}

// TestStoreAway tries again later where the items of a task, or of its shards, cannot be read.
func TestStoreAway(t *testing.T) {
	t.Parallel()
	f := newFamily(t, 9, 8, each("a", gantry.EachPart, gantry.OnErrorFail))
	f.away = errors.New("the line is cut")
	if tr := f.stepOf(t.Context(), top); tr.Change != gantry.Retry || tr.Kind != gantry.Transient {
		t.Errorf("left with %+v", tr)
	}
}

// TestShardable says which stages run in shards, and of what size they are.
func TestShardable(t *testing.T) {
	t.Parallel()
	part := each("s", gantry.EachPart, gantry.OnErrorFail)
	gaps := each("s", gantry.EachPart, gantry.OnErrorSkip)
	batch := func(n int) gantry.Stage { st := part; st.Each, st.Max = gantry.EachBatch, n; return st }
	whole := each("s", gantry.EachTask, gantry.OnErrorFail)
	outputs := part
	outputs.Pass = gantry.PassOutputs
	some := part
	some.KeepIf = rule(evenIndex)
	for _, c := range []struct {
		name         string
		stages       []gantry.Stage
		shard        int
		runs, origin int
	}{
		{"parts", []gantry.Stage{part, gaps, part}, 10, 3, 10},
		{"up to the whole", []gantry.Stage{part, whole, part}, 10, 1, 10},
		{"none before the whole", []gantry.Stage{whole, part}, 10, 0, 10},
		{"a batch", []gantry.Stage{part, batch(4), part}, 10, 3, 8},
		{"a batch larger than a shard", []gantry.Stage{part, batch(11)}, 10, 1, 10},
		{"a batch after a gap", []gantry.Stage{gaps, batch(4)}, 10, 1, 10},
		{"a batch after answers alone", []gantry.Stage{outputs, batch(4)}, 10, 1, 10},
		{"a batch after a choice", []gantry.Stage{some, batch(4)}, 10, 1, 10},
		{"a batch after a batch", []gantry.Stage{batch(3), batch(4)}, 10, 1, 9},
		{"never", []gantry.Stage{part}, 0, 0, 0},
	} {
		p := &Plan{Pipeline: &gantry.Pipeline{Stages: c.stages, Extract: gantry.Extract{Shard: c.shard}}}
		if runs, origins := p.shardable(); runs != c.runs || origins != c.origin {
			t.Errorf("%s: %d stages with %d origins, want %d with %d", c.name, runs, origins, c.runs, c.origin)
		}
	}
}

// TestWaitOfAParent divides at the first stage and waits again while a child is open, for as long as it had.
func TestWaitOfAParent(t *testing.T) {
	t.Parallel()
	f := newFamily(t, 5, 2, each("a", gantry.EachPart, gantry.OnErrorFail))
	tr := f.stepOf(t.Context(), top)
	want := &gantry.Division{Role: gantry.Shard, State: gantry.Inferring, Children: []gantry.Child{
		{PublicID: gantry.ChildID("id", gantry.Shard, 0), Members: []gantry.Span{{First: 1, End: 3}}},
		{PublicID: gantry.ChildID("id", gantry.Shard, 1), Members: []gantry.Span{{First: 3, End: 5}}},
		{PublicID: gantry.ChildID("id", gantry.Shard, 2), Members: []gantry.Span{{First: 5, End: 6}}}}}
	if diff := cmp.Diff(gantry.Transition{Lease: lease, From: gantry.Inferring, To: gantry.Inferring, Change: gantry.Wait, Divide: want}, tr); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	f.kin[100] = &child{parent: lease.Task, ChildTask: gantry.ChildTask{ID: 100, State: gantry.Inferring, Role: gantry.Shard}}
	if tr := f.stepOf(t.Context(), top); tr.Change != gantry.Wait || tr.Divide != nil || tr.Within != 0 || len(f.called) > 0 {
		t.Errorf("with a child open: %+v, called %v", tr, f.called)
	}
}
