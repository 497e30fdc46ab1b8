package engine

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/gantry-imaging/gantry/internal/gantry"
)

// rule is a condition that a test writes in Go. Its text names every variable.
type rule func(vars map[string]any) (bool, error)

func (r rule) Holds(vars map[string]any) (bool, error) { return r(vars) }
func (rule) String() string                            { return "dicom stages result s f Modality" }

// holds makes a rule that notes what it was given.
func holds(seen *[]map[string]any, is func(map[string]any) bool) rule {
	return func(vars map[string]any) (bool, error) {
		*seen = append(*seen, vars)
		return is(vars), nil
	}
}

func scoreOf(t *testing.T, v any) float64 {
	t.Helper()
	m, _ := v.(map[string]any)
	f, ok := m["score"].(float64)
	if !ok {
		t.Errorf("no score in %v", v)
	}
	return f
}

// TestWhenAndKeepIf sends what a stage's when lets through and lets on what its keep_if keeps, and
// decides alike in a process that knows committed rows alone.
func TestWhenAndKeepIf(t *testing.T) {
	t.Parallel()
	w := newWorld(t, each("s", gantry.EachPart, gantry.OnErrorFail), each("f", gantry.EachPart, gantry.OnErrorFail))
	w.leaves(4)
	var kept, asked []map[string]any
	w.plan.Stages[0].When = rule(func(v map[string]any) (bool, error) { return v["item"].(map[string]any)["index"] != 3, nil })
	w.plan.Stages[0].KeepIf = holds(&kept, func(v map[string]any) bool { return v["result"] != nil && scoreOf(t, v["result"]) > 1 })
	w.plan.Stages[1].When = holds(&asked, func(v map[string]any) bool { return v["item"].(map[string]any)["index"] == 2 })
	w.process = func(ctx context.Context, r *gantry.Request) error {
		return answer1(gantry.MediaJSON, fmt.Sprintf(`{"score": %d}`, r.Items[0].ID))(ctx, r)
	}
	if tr := w.step(t.Context(), gantry.Inferring, 0); tr.To != gantry.Inferring || tr.Stage != 1 {
		t.Fatalf("left with %+v", tr)
	}
	if p := w.parts[gantry.PartKey{Ordinal: 3}]; len(w.called) != 3 || p.Status != gantry.PartSkipped || p.Attempt != 0 {
		t.Errorf("called %v, the last part is %+v", w.called, p)
	}
	w.called = nil
	for range 2 {
		if tr := w.step(t.Context(), gantry.Inferring, 1); tr.To != gantry.Responding {
			t.Fatalf("left with %+v", tr)
		}
		if diff := cmp.Diff([]string{"id/0/f/m/1/0"}, w.calledKeys()); diff != "" {
			t.Errorf("called (-want +got):\n%s", diff)
		}
	}
	if len(kept) != 8 || len(asked) != 2 {
		t.Fatalf("keep_if was asked %d times, when %d times", len(kept), len(asked))
	}
	want := map[string]any{"item": map[string]any{"media": "image/jpeg", "size": int64(1), "frame": 0, "index": 1}, "dicom": nil,
		"stages": map[string]any{"s": map[string]any{"m": []any{map[string]any{"ok": true, "result": map[string]any{"score": 2.0}}}}}}
	if diff := cmp.Diff(want, asked[0]); diff != "" {
		t.Errorf("when knows (-want +got):\n%s", diff)
	}
	if v := kept[3]; v["result"] != nil || len(v["results"].(map[string]any)) != 0 {
		t.Errorf("keep_if of what was not sent knows %v", v)
	}
	if tr := w.step(t.Context(), gantry.Responding, 1); tr.To != gantry.Done {
		t.Fatalf("left with %+v", tr)
	}
	if len(w.put) != 5 { // data are delivered, those of what was left out too
		t.Errorf("delivered %v", w.put)
	}
}

// TestWholeTaskKnowsGaps: a stage about the whole task knows of the origins that were left out.
func TestWholeTaskKnowsGaps(t *testing.T) {
	t.Parallel()
	w := newWorld(t, fan("f", gantry.EachPart), each("s", gantry.EachTask, gantry.OnErrorFail))
	w.leaves(2)
	var asked []map[string]any
	w.plan.Stages[1].When = holds(&asked, func(map[string]any) bool { return false })
	w.process = func(ctx context.Context, r *gantry.Request) error {
		if strings.Contains(r.Key, "/b/0/") {
			return gantry.Errorf(gantry.Permanent, "http_422", "no")
		}
		return answer1(gantry.MediaJSON, `1`)(ctx, r)
	}
	w.step(t.Context(), gantry.Inferring, 0)
	w.called = nil
	if tr := w.step(t.Context(), gantry.Inferring, 1); tr.To != gantry.Responding || len(w.called) != 0 {
		t.Fatalf("left with %+v after %v", tr, w.called)
	}
	yes, no := map[string]any{"ok": true, "result": 1.0}, map[string]any{"ok": false, "result": nil}
	want := map[string]any{"f": map[string]any{"a": []any{yes, yes}, "b": []any{no, yes}}}
	if diff := cmp.Diff(want, asked[0]["stages"]); diff != "" {
		t.Errorf("knows (-want +got):\n%s", diff)
	}
}

// TestKeepIfOfMedia delivers what the stage itself drew of an origin that it leaves out.
func TestKeepIfOfMedia(t *testing.T) {
	t.Parallel()
	w := newWorld(t, each("s", gantry.EachPart, gantry.OnErrorFail), each("f", gantry.EachPart, gantry.OnErrorFail))
	w.leaves(1)
	w.plan.Stages[0].KeepIf = rule(func(map[string]any) (bool, error) { return false, nil })
	w.process = answer1(gantry.MediaPNG, string(tinyPNG(t)))
	w.step(t.Context(), gantry.Inferring, 0)
	w.step(t.Context(), gantry.Inferring, 1)
	w.step(t.Context(), gantry.Responding, 1)
	if diff := cmp.Diff([]string{"id/s/000001.png", "id/_manifest.json"}, w.put); diff != "" || len(w.called) != 1 {
		t.Errorf("after %v delivered (-want +got):\n%s", w.called, diff)
	}
}

// TestConditionsFail ends a task whose condition cannot be judged.
func TestConditionsFail(t *testing.T) {
	t.Parallel()
	bad := rule(func(map[string]any) (bool, error) {
		return false, &gantry.Error{Kind: gantry.Illegal, Code: "bad_expression", Err: errors.New("no")}
	})
	w := newWorld(t, each("s", gantry.EachPart, gantry.OnErrorFail), each("f", gantry.EachPart, gantry.OnErrorFail))
	w.leaves(1)
	w.plan.Stages[0].When = bad
	if tr := w.step(t.Context(), gantry.Inferring, 0); tr.To != gantry.Failed || tr.Code != "bad_expression" || len(w.called) != 0 {
		t.Errorf("left with %+v", tr)
	}
	w.plan.Stages[0].When, w.plan.Stages[0].KeepIf = nil, rule(func(map[string]any) (bool, error) { return true, nil })
	w.process = answer1(gantry.MediaJSON, `"`+strings.Repeat("x", maxResult)+`"`)
	w.step(t.Context(), gantry.Inferring, 0)
	if tr := w.step(t.Context(), gantry.Inferring, 1); tr.To != gantry.Failed || tr.Code != gantry.CodeTooLarge || tr.Kind != gantry.Illegal {
		t.Errorf("left with %+v", tr)
	}
}

// TestFilter ends a task that the pipeline's when does not take, without a call or a file.
func TestFilter(t *testing.T) {
	t.Parallel()
	for _, takes := range []bool{true, false} {
		w := newWorld(t, each("s", gantry.EachPart, gantry.OnErrorFail))
		w.blobs["in"] = tinyPNG(t)
		w.step(t.Context(), gantry.Extracting, 0)
		var seen []map[string]any
		w.plan.When = holds(&seen, func(map[string]any) bool { return takes })
		want := gantry.Transition{Lease: lease, From: gantry.Ingesting, To: gantry.Inferring, Within: w.plan.Timeouts.Inferring}
		if !takes {
			want = gantry.Transition{Lease: lease, From: gantry.Ingesting, To: gantry.Done, Change: gantry.End, Code: gantry.CodeFiltered,
				Kind: gantry.Illegal, Detail: "the pipeline's when does not hold"}
		}
		if diff := cmp.Diff(want, w.step(t.Context(), gantry.Ingesting, 0)); diff != "" {
			t.Errorf("left with (-want +got):\n%s", diff)
		}
		vars := map[string]any{"object": map[string]any{"size": int64(len(w.blobs["in"])), "media": gantry.MediaPNG, "source": "inbox"}, "items": map[string]any{"count": 1}}
		if diff := cmp.Diff(vars, seen[0]); diff != "" {
			t.Errorf("knows (-want +got):\n%s", diff)
		}
	}
}

// TestSizeOfFrames: how many bytes the picture of a frame has is known once it was made. A condition does not
// see that, or it would hold in one process and not in another.
func TestSizeOfFrames(t *testing.T) {
	t.Parallel()
	w := newWorld(t, each("s", gantry.EachPart, gantry.OnErrorFail))
	w.leaves(1)
	w.items[1].Transform, w.items[1].Size, w.items[1].SHA = dicomFrame, -1, gantry.Digest{}
	var seen []any
	note := rule(func(v map[string]any) (bool, error) {
		seen = append(seen, v["item"].(map[string]any)["size"])
		return true, nil
	})
	w.plan.Stages[0].KeepIf = note
	for _, size := range []int64{-1, 70} {
		w.items[1].Size = size
		x := &work{e: New(Options{Store: w, Session: w, Blobs: w.blobs, Plans: w}), plan: w.plan, items: w.items, task: gantry.Task{Lease: lease},
			parts: map[gantry.PartKey]gantry.Part{{}: {Status: gantry.PartOK}}}
		if _, err := x.passed(t.Context(), 0); err != nil {
			t.Fatal(err)
		}
	}
	if diff := cmp.Diff([]any{int64(0), int64(0)}, seen); diff != "" {
		t.Errorf("saw (-want +got):\n%s", diff)
	}
}
