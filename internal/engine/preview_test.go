package engine

import (
	"bytes"
	"context"
	"fmt"
	"image"
	"image/png"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/gantry-imaging/gantry/internal/gantry"
	"github.com/gantry-imaging/gantry/internal/media"
	"github.com/gantry-imaging/gantry/internal/sample"
)

// previewOf previews bytes, and tells whose request was composed about how many items.
func previewOf(t *testing.T, p *gantry.Pipeline, b []byte, answers map[string]string) (*Preview, []string) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "in")
	if err := os.WriteFile(path, b, 0o600); err != nil {
		t.Fatal(err)
	}
	var composed []string
	v, err := NewPreview(t.Context(), PreviewOptions{Pipeline: p, Input: path, Answers: answers, Scratch: t.TempDir(),
		Compose: func(ctx context.Context, processor string, r *gantry.Request) Composed {
			composed = append(composed, fmt.Sprintf("%s %d", processor, len(r.Items)))
			for i := range r.Items {
				body, err := r.Open(ctx, i)
				if err != nil {
					t.Fatal(err)
				}
				body.Close()
			}
			return Composed{Method: "POST", Size: -1}
		}})
	if err != nil {
		t.Fatal(err)
	}
	return v, composed
}

// pipelineOf has the world's settings.
func pipelineOf(t *testing.T, stages ...gantry.Stage) *gantry.Pipeline {
	t.Helper()
	return newWorld(t, stages...).plan.Pipeline
}

// sent writes the parts of a preview as "stage/processor: path<from path …".
func sent(task PreviewTask) (out []string) {
	for _, st := range task.Stages {
		for _, c := range st.Calls {
			for _, p := range c.Parts {
				var items []string
				for _, x := range p.Items {
					items = append(items, strings.TrimSuffix(x.Path+"<"+x.From, "<"))
				}
				out = append(out, st.Name+"/"+c.Processor+": "+strings.Join(items, " "))
			}
		}
	}
	return out
}

// TestPreviewFollowsTheEngine plans stages of every mode for a zip, with answers of data and of media.
func TestPreviewFollowsTheEngine(t *testing.T) {
	t.Parallel()
	p := pipelineOf(t, gantry.Stage{Name: "a", Mode: gantry.Sequential, Each: gantry.EachPart, Call: []string{"m"}},
		gantry.Stage{Name: "f", Mode: gantry.Fanout, Each: gantry.EachBatch, Max: 2, Call: []string{"x", "y"}, Pass: gantry.PassInputs},
		gantry.Stage{Name: "r", Mode: gantry.Cumulative, Each: gantry.EachTask, Call: []string{"z"}})
	b := packed(t, media.ArchiveZip, tinyPNG(t), tinyPNG(t), tinyPNG(t))
	first := []string{"a/m: input#0", "a/m: input#1", "a/m: input#2"}
	for name, c := range map[string]struct {
		answers map[string]string
		later   []string
	}{
		"data": {nil, []string{"f/x: input#0 input#1", "f/x: input#2", "f/y: input#0 input#1", "f/y: input#2",
			"r/z: input#0 input#1 input#2 input#0<a/m input#1<a/m input#2<a/m input#0<f/x input#2<f/x input#0<f/y input#2<f/y"}},
		"media": {map[string]string{"m": gantry.MediaPNG}, []string{"f/x: input#0<a/m input#1<a/m", "f/x: input#2<a/m", "f/y: input#0<a/m input#1<a/m", "f/y: input#2<a/m",
			"r/z: input#0 input#1 input#2 input#0<a/m input#1<a/m input#2<a/m input#0<f/x input#2<f/x input#0<f/y input#2<f/y"}},
	} {
		v, composed := previewOf(t, p, b, c.answers)
		if len(v.Tasks) != 1 || v.Code != "" || v.Media != gantry.MediaZIP || len(v.Items) != 3 || v.Items[1].Path != "input#1" || v.Items[1].Size < 1 {
			t.Fatalf("%s: %+v", name, v)
		}
		if diff := cmp.Diff(append(first[:3:3], c.later...), sent(v.Tasks[0])); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
		if diff := cmp.Diff([]string{"m 1", "x 2", "y 2", "z 10"}, composed); diff != "" {
			t.Errorf("%s composed (-want +got):\n%s", name, diff)
		}
	}
}

// TestPreviewIsWhatIsCalled holds a preview to the calls of the engine itself, whose processors
// answer what the preview assumes.
func TestPreviewIsWhatIsCalled(t *testing.T) {
	t.Parallel()
	stages := []gantry.Stage{each("a", gantry.EachPart, gantry.OnErrorFail), each("b", gantry.EachItem, gantry.OnErrorFail), each("c", gantry.EachTask, gantry.OnErrorFail)}
	stages[0].Pass = gantry.PassBoth
	w := newWorld(t, stages...)
	w.blobs["in"] = packed(t, media.ArchiveZip, tinyPNG(t), tinyPNG(t))
	counts := map[string]int{}
	w.process = func(ctx context.Context, r *gantry.Request) error {
		w.mu.Lock()
		counts[strings.Split(r.Key, "/")[2]] += len(r.Items)
		w.mu.Unlock()
		return answer1(gantry.MediaJSON, "{}")(ctx, r)
	}
	for _, s := range []struct {
		gantry.State
		stage int16
	}{{gantry.Extracting, 0}, {gantry.Ingesting, 0}, {gantry.Inferring, 0}, {gantry.Inferring, 1}, {gantry.Inferring, 2}} {
		if tr := w.step(t.Context(), s.State, s.stage); tr.Change != gantry.Advance {
			t.Fatalf("%v: %+v", s, tr)
		}
	}
	v, _ := previewOf(t, w.plan.Pipeline, w.blobs["in"], nil)
	want := map[string]int{}
	for _, st := range v.Tasks[0].Stages {
		for _, p := range st.Calls[0].Parts {
			want[st.Name] += len(p.Items)
		}
	}
	if diff := cmp.Diff(want, counts); diff != "" || counts["b"] != 4 {
		t.Errorf("(-previewed +sent):\n%s", diff)
	}
}

// TestPreviewConditions evaluates what is known and assumes what answers decide.
func TestPreviewConditions(t *testing.T) {
	t.Parallel()
	stages := []gantry.Stage{each("a", gantry.EachPart, gantry.OnErrorFail), each("b", gantry.EachPart, gantry.OnErrorFail)}
	stages[0].When = known{"item.index > 0", func(v map[string]any) bool { return v["item"].(map[string]any)["index"].(int) > 0 }}
	stages[0].KeepIf = known{"result.score > 1", nil}
	stages[1].When = known{"all(stages.a.m, .ok)", nil}
	p := pipelineOf(t, stages...)
	v, _ := previewOf(t, p, packed(t, media.ArchiveZip, tinyPNG(t), tinyPNG(t)), nil)
	a, b := v.Tasks[0].Stages[0], v.Tasks[0].Stages[1]
	if a.Calls[0].Skipped != 1 || len(a.Calls[0].Parts) != 1 || len(b.Calls[0].Parts) != 2 {
		t.Errorf("planned %+v and %+v", a, b)
	}
	if diff := cmp.Diff([][]string{{"keep_if"}, {"when"}}, [][]string{a.Depends, b.Depends}); diff != "" {
		t.Error(diff)
	}
	if p.Stages[0].KeepIf == nil || p.Stages[1].When == nil {
		t.Error("the preview changed the pipeline")
	}
	p.When = known{"items.count > 2", func(v map[string]any) bool { return v["items"].(map[string]any)["count"].(int) > 2 }}
	if v, composed := previewOf(t, p, packed(t, media.ArchiveZip, tinyPNG(t), tinyPNG(t)), nil); !v.Tasks[0].Filtered || len(v.Tasks[0].Stages)+len(composed) > 0 {
		t.Errorf("filtered: %+v, %v", v, composed)
	}
}

// known is one whose variables are looked at by the test.
type known struct {
	text  string
	holds func(map[string]any) bool
}

func (c known) String() string                          { return c.text }
func (c known) Holds(vars map[string]any) (bool, error) { return c.holds(vars), nil }

// TestPreviewFrames lists frames, and says in how many shards they would go.
func TestPreviewFrames(t *testing.T) {
	t.Parallel()
	p := pipelineOf(t, each("a", gantry.EachPart, gantry.OnErrorFail))
	p.Extract.Frames, p.Extract.Shard, p.Extract.Window = gantry.RenderPNG, 2, "file"
	v, _ := previewOf(t, p, sample.Ultrasound(5, 16, 16), nil)
	task := v.Tasks[0]
	if v.Media != gantry.MediaDICOM || task.Origins != 5 || task.Shards != 3 {
		t.Fatalf("%+v", v)
	}
	got := task.Stages[0].Calls[0].Parts[4].Items[0]
	if diff := cmp.Diff(PreviewItem{Path: "input#4", Media: gantry.MediaPNG, Size: got.Size, Frame: 5}, got); diff != "" || got.Size < 67 {
		t.Error(got, diff)
	}
}

// TestPreviewGroups makes a way of its own for each study.
func TestPreviewGroups(t *testing.T) {
	t.Parallel()
	p := pipelineOf(t, each("a", gantry.EachPart, gantry.OnErrorFail))
	p.Group = gantry.GroupStudy
	v, _ := previewOf(t, p, packed(t, media.ArchiveZip, sample.Ultrasound(1, 8, 8), tinyPNG(t), sample.Ultrasound(2, 8, 8), tinyPNG(t)), nil)
	var got [][]string
	for _, task := range v.Tasks {
		got = append(got, sent(task))
	}
	if diff := cmp.Diff([][]string{{"a/m: input#0"}, {"a/m: input#1", "a/m: input#3"}, {"a/m: input#2"}}, got); diff != "" {
		t.Error(diff)
	}
}

// TestPreviewRefuses gives bad files their reasons, by the policy of the pipeline.
func TestPreviewRefuses(t *testing.T) {
	t.Parallel()
	p := pipelineOf(t, each("a", gantry.EachPart, gantry.OnErrorFail))
	for name, c := range map[string]struct {
		body []byte
		code gantry.Code
	}{"nothing": {nil, gantry.CodeEmpty}, "text": {[]byte("no picture"), gantry.CodeUnsupportedFormat}, "half": {tinyPNG(t)[:20], gantry.CodeTruncated}} {
		v, composed := previewOf(t, p, c.body, nil)
		if v.Code != c.code || v.Reason == "" || len(v.Tasks)+len(composed) > 0 || len(v.Items) != 1 || !v.Items[0].Refuse {
			t.Errorf("%s: %+v", name, v)
		}
	}
	b := packed(t, media.ArchiveZip, tinyPNG(t), []byte("no picture"))
	if v, _ := previewOf(t, p, b, nil); v.Code != gantry.CodeUnsupportedFormat || !v.Items[1].Refuse || v.Items[0].Refuse {
		t.Errorf("fail: %+v", v)
	}
	p.OnError = gantry.OnErrorSkip
	if v, _ := previewOf(t, p, b, nil); v.Code != "" || len(sent(v.Tasks[0])) != 1 || v.Items[1].Reason != gantry.CodeUnsupportedFormat {
		t.Errorf("skip: %+v", v)
	}
	// What shows only when it is read to the end is a part that cannot be sent, by the policy of its stage.
	m := image.NewGray(image.Rect(0, 0, 64, 64))
	rand.NewChaCha8([32]byte{1}).Read(m.Pix)
	var z bytes.Buffer
	if err := png.Encode(&z, m); err != nil {
		t.Fatal(err)
	}
	broken := z.Bytes()
	broken[2000] ^= 1
	b = packed(t, media.ArchiveZip, broken, tinyPNG(t))
	if v, composed := previewOf(t, p, b, nil); v.Code != "checksum_mismatch" || v.Tasks[0].Stages[0].Calls[0].Parts[0].Code != v.Code || len(composed) != 1 {
		t.Errorf("fail: %+v", v)
	}
	p.Stages = []gantry.Stage{each("a", gantry.EachPart, gantry.OnErrorSkip), each("b", gantry.EachPart, gantry.OnErrorSkip)}
	v, _ := previewOf(t, p, b, nil)
	if diff := cmp.Diff([]string{"a/m: input#0", "a/m: input#1", "b/m: input#1"}, sent(v.Tasks[0])); diff != "" || v.Code != "" {
		t.Errorf("skip: %s %s", v.Code, diff)
	}
	if _, err := NewPreview(t.Context(), PreviewOptions{Pipeline: p, Input: t.TempDir()}); err == nil {
		t.Error("took a folder")
	}
	if _, err := NewPreview(t.Context(), PreviewOptions{Pipeline: p, Input: "/nowhere"}); err == nil {
		t.Error("took what is not there")
	}
}
