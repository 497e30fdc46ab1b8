package engine

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/gantry-imaging/gantry/internal/gantry"
)

// redrive plans parts anew as the store does, and runs what is to be run: shards, then the task from the first stage that
// has such a part.
func (f *family) redrive(selected func(gantry.Part) bool) gantry.Transition {
	f.t.Helper()
	last := f.lastGeneration()
	from := int16(len(f.plan.Stages) - 1)
	plan := func(parts map[gantry.PartKey]gantry.Part) (n int, first int16) {
		first = from
		for _, p := range liveOf(parts) {
			if !selected(p) || p.Reason == codeNoGroup {
				continue
			}
			first = min(first, p.Stage)
			p.Generation = last + 1
			parts[p.PartKey] = gantry.Part{PartKey: p.PartKey, First: p.First, Count: p.Count, DueIn: -1, Reason: gantry.CodeRedriven}
			n++
		}
		return n, first
	}
	all, first := plan(f.parts)
	for id, c := range f.kin {
		n, stage := plan(c.parts)
		if all += n; n == 0 && c.State == gantry.Done {
			continue
		}
		first = min(first, stage)
		f.run(f.t.Context(), gantry.Task{Lease: gantry.Lease{Task: id, Seq: 9}, PublicID: c.PublicID, Parent: c.parent, Role: c.Role, Ordinal: c.Ordinal,
			State: gantry.Inferring, Stage: stage})
	}
	if all == 0 {
		f.t.Fatal("nothing is selected")
	}
	f.put = nil
	return f.run(f.t.Context(), gantry.Task{Lease: lease, PublicID: "id", State: gantry.Inferring, Stage: first, Delivery: last + 1})
}

func (f *family) lastGeneration() (n int16) {
	for k := range f.parts {
		n = max(n, k.Generation)
	}
	for _, c := range f.kin {
		for k := range c.parts {
			n = max(n, k.Generation)
		}
	}
	return n
}

// liveOf gives the newest generation of each part.
func liveOf(parts map[gantry.PartKey]gantry.Part) map[gantry.PartKey]gantry.Part {
	out := map[gantry.PartKey]gantry.Part{}
	for k, p := range parts {
		k.Generation = 0
		if q, known := out[k]; !known || q.Generation < p.Generation {
			out[k] = p
		}
	}
	return out
}

func failedPart(p gantry.Part) bool { return p.Status == gantry.PartFailed }

// counted notes what a service is asked: how often about the same, by key without generation and items. It is never sent
// what its own stage made.
type counted struct {
	f     *family
	asked map[string]int
	of    func(context.Context, *gantry.Request) error
}

// process answers, and counts what was answered.
func (c *counted) process(ctx context.Context, r *gantry.Request) error {
	err := c.of(ctx, r)
	if err == nil {
		var ids []gantry.ItemID
		key := strings.Split(r.Key, "/")
		c.f.mu.Lock()
		defer c.f.mu.Unlock()
		for _, x := range r.Items {
			if ids = append(ids, x.ID); x.Stage >= 0 && c.f.plan.Stages[x.Stage].Name == key[2] {
				c.f.t.Errorf("%s is sent what its own stage made: %+v", r.Key, x)
			}
		}
		c.asked[strings.Join(key[:len(key)-2], "/")+fmt.Sprint(ids)]++
	}
	return err
}

// refusing refuses what byBody does, but for one processor of a fanout all of that.
func refusing(t *testing.T, bytes ...byte) func(context.Context, *gantry.Request) error {
	some, all := byBody(t, bytes...), byBody(t)
	return func(ctx context.Context, r *gantry.Request) error {
		if strings.Contains(r.Key, "/f/a/") {
			return all(ctx, r)
		}
		return some(ctx, r)
	}
}

// TestRedriveIsAsIfNothingFailed runs pipelines in which some parts fail, then redrives these against a service that is
// well: what is delivered is what a task would deliver in which nothing ever failed, and nothing is asked twice
// that was answered. In one piece and in shards.
func TestRedriveIsAsIfNothingFailed(t *testing.T) {
	t.Parallel()
	seq, cum, skip, fail := gantry.Sequential, gantry.Cumulative, gantry.OnErrorSkip, gantry.OnErrorFail
	for _, c := range []struct {
		name   string
		stages []gantry.Stage
		refuse []byte
	}{
		{"one stage", []gantry.Stage{each("a", gantry.EachPart, skip)}, []byte{0, 5}},
		{"one stage that must not fail", []gantry.Stage{each("a", gantry.EachPart, fail), each("b", gantry.EachPart, fail)}, []byte{3}},
		{"two stages and gaps", []gantry.Stage{each("a", gantry.EachPart, skip), each("b", gantry.EachItem, skip)}, []byte{0, 1, 2, 3, 9}},
		{"a fanout of which one failed", []gantry.Stage{anyOf(fan("f", gantry.EachPart)), staged(cum, gantry.EachPart, gantry.PassBoth)}, []byte{5, 6}},
		{"a fanout, each item", []gantry.Stage{anyOf(fan("f", gantry.EachPart)), each("b", gantry.EachItem, skip), staged(cum, gantry.EachItem, "")}, []byte{5, 6}},
		{"a report at the end", []gantry.Stage{each("a", gantry.EachPart, skip), staged(cum, gantry.EachTask, "")}, []byte{5}},
		{"batches", []gantry.Stage{each("a", gantry.EachPart, skip), staged(seq, gantry.EachBatch, ""), each("c", gantry.EachPart, skip)}, []byte{1, 4, 5}},
		{"outputs alone go on", []gantry.Stage{passing(each("a", gantry.EachPart, skip), gantry.PassOutputs), passing(each("b", gantry.EachPart, skip), gantry.PassInputs), staged(cum, gantry.EachTask, "")}, []byte{2, 7}},
		{"a choice by place", []gantry.Stage{{Name: "a", Call: []string{"m"}, KeepIf: rule(evenIndex), OnError: skip}, each("b", gantry.EachPart, skip)}, []byte{4, 8}},
	} {
		for _, shard := range []int{100, 4} {
			t.Run(fmt.Sprintf("%s, %d", c.name, shard), func(t *testing.T) {
				t.Parallel()
				well := newFamily(t, 14, shard, c.stages...)
				well.process = byBody(t)
				if tr := well.run(t.Context(), top); tr.To != gantry.Done {
					t.Fatalf("ended with %+v", tr)
				}
				f := newFamily(t, 14, shard, c.stages...)
				n := counted{f, map[string]int{}, refusing(t, c.refuse...)}
				f.process = n.process
				first := f.run(t.Context(), top)
				n.of = byBody(t)
				if tr := f.redrive(failedPart); tr.To != gantry.Done {
					t.Fatalf("the first time it ended with %+v, then with %+v", first, tr)
				}
				want, _ := well.manifests()
				f.sealed["id/_manifest.json"] = f.sealed["id/r1/_manifest.json"]
				got, _ := f.manifests()
				if diff := cmp.Diff(want, got); diff != "" {
					t.Errorf("manifest (-without failures +after the redrive):\n%s", diff)
				}
				for what, times := range n.asked {
					if times > 1 {
						t.Errorf("%s was answered %d times", what, times)
					}
				}
				f.holdKeys()
			})
		}
	}
}

func anyOf(st gantry.Stage) gantry.Stage {
	st.Need = 1
	return st
}

func passing(st gantry.Stage, how gantry.Pass) gantry.Stage {
	st.Pass = how
	return st
}

// chooser answers with scores that the test may change: stage a keeps what has one above 0.
type chooser struct {
	kept  map[byte]bool
	draws string
}

func (c *chooser) process(ctx context.Context, r *gantry.Request) error {
	if strings.Contains(r.Key, "/a/") {
		return answer1(gantry.MediaJSON, fmt.Sprintf(`{"kept": %t}`, c.kept[r.Items[0].Body[0]]))(ctx, r)
	}
	return answer1(gantry.MediaPNG, c.draws)(ctx, r)
}

func isKept(v map[string]any) (bool, error) {
	r, _ := v["result"].(map[string]any)
	return r["kept"] == true, nil
}

// TestRedriveChangesWhatGoesOn lets a choice come out otherwise: what comes now is called, what does not come any more is
// neither delivered nor waited for nor redriven, and what still comes keeps its part and its answer.
func TestRedriveChangesWhatGoesOn(t *testing.T) {
	t.Parallel()
	keep := each("a", gantry.EachPart, gantry.OnErrorFail)
	keep.KeepIf = rule(isKept)
	f := newFamily(t, 5, 0, keep, each("b", gantry.EachPart, gantry.OnErrorFail), staged(gantry.Cumulative, gantry.EachTask, ""))
	c := &chooser{map[byte]bool{0: true, 2: true, 3: true}, string(tinyPNG(t))}
	f.process = c.process
	if tr := f.run(t.Context(), top); tr.To != gantry.Done {
		t.Fatalf("ended with %+v", tr)
	}
	f.called = nil
	c.kept = map[byte]bool{0: true, 1: true, 3: true}
	if tr := f.redrive(func(p gantry.Part) bool { return p.Stage == 0 }); tr.To != gantry.Done {
		t.Fatalf("ended with %+v", tr)
	}
	want := []string{"id/0/a/m/0/1", "id/0/a/m/1/1", "id/0/a/m/2/1", "id/0/a/m/3/1", "id/0/a/m/4/1", "id/0/b/m/3/1", "id/0/s/m/0/1"}
	if diff := cmp.Diff(want, f.calledKeys()); diff != "" {
		t.Errorf("called (-want +got):\n%s", diff)
	}
	paths := slices.Sorted(slices.Values(f.put))
	if diff := cmp.Diff([]string{"id/r1/_manifest.json", "id/r1/a/000001.json", "id/r1/a/000002.json", "id/r1/a/000003.json", "id/r1/a/000004.json",
		"id/r1/a/000005.json", "id/r1/s/task.png"}, slices.DeleteFunc(paths, func(p string) bool { return strings.Contains(p, "/b/") })); diff != "" {
		t.Errorf("delivered (-want +got):\n%s", diff)
	}
	if p := f.parts[gantry.PartKey{Stage: 1, Ordinal: 1, Generation: 1}]; p.Status != gantry.PartSkipped || p.Reason != codeNoGroup || p.First != 3 {
		t.Errorf("the part of what does not come any more is %+v", p)
	}
	for i, origin := range map[int32]gantry.ItemID{0: 1, 2: 4, 3: 2} {
		if p := f.live(1, i); p.First != origin || p.Status != gantry.PartOK {
			t.Errorf("part %d is %+v, want it about %d", i, p, origin)
		}
	}
	f.called = nil
	if tr := f.redrive(func(p gantry.Part) bool { return p.Stage == 1 }); tr.To != gantry.Done {
		t.Fatalf("ended with %+v", tr)
	}
	if diff := cmp.Diff([]string{"id/0/b/m/0/2", "id/0/b/m/2/2", "id/0/b/m/3/2", "id/0/s/m/0/2"}, f.calledKeys()); diff != "" {
		t.Errorf("called (-want +got):\n%s", diff)
	}
	// What left comes back: its part is planned under the generation that it comes in.
	f.called = nil
	c.kept = map[byte]bool{2: true}
	if tr := f.redrive(func(p gantry.Part) bool { return p.Stage == 0 && p.Ordinal > 0 }); tr.To != gantry.Done {
		t.Fatalf("ended with %+v", tr)
	}
	if keys := f.calledKeys(); !slices.Contains(keys, "id/0/b/m/1/3") || slices.Contains(keys, "id/0/b/m/0/3") || len(keys) != 4+1+1 {
		t.Errorf("called %v", keys)
	}
}

func (f *family) live(stage int16, ordinal int32) gantry.Part {
	return liveOf(f.parts)[gantry.PartKey{Stage: stage, Ordinal: ordinal}]
}

// TestRedriveAsksWhenAgain asks a condition again of parts whose stage is redriven together with one that it speaks
// of: it may say no now, and what it left out it may let in.
func TestRedriveAsksWhenAgain(t *testing.T) {
	t.Parallel()
	gated := each("b", gantry.EachPart, gantry.OnErrorFail)
	c := &chooser{map[byte]bool{0: true, 1: true}, string(tinyPNG(t))}
	gated.When = rule(func(v map[string]any) (bool, error) {
		r, _ := v["stages"].(map[string]any)["a"].(map[string]any)["m"].([]any)[0].(map[string]any)["result"].(map[string]any)
		return r["kept"] == true, nil
	})
	f := newFamily(t, 3, 0, each("a", gantry.EachPart, gantry.OnErrorFail), gated)
	f.process = c.process
	if tr := f.run(t.Context(), top); tr.To != gantry.Done || f.live(1, 2).Status != gantry.PartSkipped {
		t.Fatalf("ended with %+v", tr)
	}
	f.called = nil
	c.kept = map[byte]bool{1: true, 2: true}
	if tr := f.redrive(func(p gantry.Part) bool { return p.Status == gantry.PartOK }); tr.To != gantry.Done {
		t.Fatalf("ended with %+v", tr)
	}
	if diff := cmp.Diff([]string{"id/0/a/m/0/1", "id/0/a/m/1/1", "id/0/a/m/2/0", "id/0/b/m/1/1"}, f.calledKeys()); diff == "" {
		t.Error("a part kept its generation")
	}
	want := []string{"id/0/a/m/0/1", "id/0/a/m/1/1", "id/0/a/m/2/1", "id/0/b/m/1/1", "id/0/b/m/2/1"}
	if diff := cmp.Diff(want, f.calledKeys()); diff != "" {
		t.Errorf("called (-want +got):\n%s", diff)
	}
	if p := f.live(1, 0); p.Status != gantry.PartSkipped || p.Generation != 1 {
		t.Errorf("the part that is left out now is %+v", p)
	}
	if slices.Contains(f.put, "id/r1/b/000001.png") || !slices.Contains(f.put, "id/r1/b/000003.png") {
		t.Errorf("delivered %v", f.put)
	}
}
