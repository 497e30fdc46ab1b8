package engine

import (
	"archive/zip"
	"bytes"
	"context"
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/gantry-imaging/gantry/internal/gantry"
	"github.com/gantry-imaging/gantry/internal/media"
	"github.com/gantry-imaging/gantry/internal/sample"
)

// TestRejoinOfShards: a task in shards leads to the same container, to the byte, as one that is not divided.
func TestRejoinOfShards(t *testing.T) {
	t.Parallel()
	loop, p := sample.Ultrasound(9, 16, 16), tinyPNG(t)
	film, err := sample.AVI(sample.Loop(9, 32, 32), 10)
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		in     []byte
		stages []gantry.Stage
	}{
		"frames":         {loop, []gantry.Stage{each("a", gantry.EachPart, gantry.OnErrorFail), each("b", gantry.EachPart, gantry.OnErrorFail)}},
		"an archive":     {packed(t, media.ArchiveZip, p, loop, packed(t, media.ArchiveTar, p, p)), []gantry.Stage{each("a", gantry.EachPart, gantry.OnErrorSkip)}},
		"a video":        {film, []gantry.Stage{each("a", gantry.EachPart, gantry.OnErrorFail)}},
		"batches":        {loop, []gantry.Stage{staged(gantry.Sequential, gantry.EachBatch, "")}},
		"a fanout":       {loop, []gantry.Stage{fan("f", gantry.EachPart)}},
		"the last alone": {loop, []gantry.Stage{each("a", gantry.EachPart, gantry.OnErrorFail), staged(gantry.Cumulative, gantry.EachTask, gantry.PassBoth)}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var got [2]map[string][]byte
			for i, shard := range []int{0, 4} {
				f, k := apart(t, c.in, c.stages...)
				f.plan.Extract.Shard, f.plan.Extract.Video = shard, gantry.RenderPNG
				f.process = func(ctx context.Context, r *gantry.Request) error {
					if strings.Contains(r.Key, "/s/m/0/") && len(r.Items) > 2 {
						return answer1(gantry.MediaJSON, fmt.Sprint(len(r.Items)))(ctx, r)
					}
					if c.stages[0].OnError == gantry.OnErrorSkip && r.Items[0].Media == gantry.MediaPNG && r.Items[0].Locator == "4" {
						return gantry.Errorf(gantry.Permanent, "http_422", "no")
					}
					return echo(ctx, r)
				}
				f.finish()
				if want := []int{0, 3}[i]; len(f.kin) != want {
					t.Errorf("%d shards, want %d", len(f.kin), want)
				}
				got[i] = k.files
				if len(f.containers()) == 0 {
					t.Error("no container on record")
				}
			}
			for path, b := range got[0] {
				if path != "id/_manifest.json" && !bytes.Equal(b, got[1][path]) {
					t.Errorf("%s differs in shards", path)
				}
			}
			if len(got[0]) != len(got[1]) || len(got[0]) < 2 {
				t.Errorf("%d files, %d in shards", len(got[0]), len(got[1]))
			}
		})
	}
}

// TestRejoinOfBatches puts answers of batches that line up in their places.
func TestRejoinOfBatches(t *testing.T) {
	t.Parallel()
	loop := sample.Ultrasound(5, 16, 16)
	f, k := apart(t, loop, staged(gantry.Sequential, gantry.EachBatch, ""))
	f.finish()
	if len(f.called) != 3 {
		t.Errorf("%d calls for 5 frames in twos", len(f.called))
	}
	sameFrames(t, loop, k.files["id/s/rejoined.dcm"])
}

// TestRejoinLeavesBatchesApart delivers as files of their own what was answered about batches as wholes, the last batch
// too, which may hold one frame, and what was made of that: no frame's place is filled with a picture of several.
func TestRejoinLeavesBatchesApart(t *testing.T) {
	t.Parallel()
	p, seq, fail := tinyPNG(t), gantry.Sequential, gantry.OnErrorFail
	frames, archive := sample.Ultrasound(5, 16, 16), packed(t, media.ArchiveZip, p, p, p, p, p)
	files := func(stage string) []string {
		return []string{"id/" + stage + "/000001.png", "id/" + stage + "/000003.png", "id/" + stage + "/000005.png"}
	}
	data := []string{"id/s/000001.json", "id/s/000003.json", "id/s/000005.json"}
	for name, c := range map[string]struct {
		in     []byte
		media  string // of the batches' answers
		stages []gantry.Stage
		want   []string
	}{
		"frames":             {frames, pn, []gantry.Stage{staged(seq, gantry.EachBatch, "")}, files("s")},
		"an archive":         {archive, pn, []gantry.Stage{staged(seq, gantry.EachBatch, "")}, files("s")},
		"and what follows":   {frames, pn, []gantry.Stage{staged(seq, gantry.EachBatch, ""), each("z", gantry.EachPart, fail)}, files("z")},
		"of data":            {frames, js, []gantry.Stage{staged(seq, gantry.EachBatch, gantry.PassOutputs), each("z", gantry.EachPart, fail)}, append(data, files("z")...)},
		"but of data beside": {frames, js, []gantry.Stage{staged(seq, gantry.EachBatch, ""), each("z", gantry.EachPart, fail)}, append(data, "id/z/rejoined.dcm")},
		"but kept back":      {frames, pn, []gantry.Stage{staged(seq, gantry.EachBatch, gantry.PassInputs), each("z", gantry.EachPart, fail)}, append(files("s"), "id/z/rejoined.dcm")},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f, k := apart(t, c.in, c.stages...)
			f.process = func(ctx context.Context, r *gantry.Request) error {
				text := map[bool]string{true: string(p), false: `1`}
				if strings.Contains(r.Key, "/s/") {
					return answer1(c.media, text[c.media == pn])(ctx, r)
				}
				return answer1(pn, text[true])(ctx, r)
			}
			f.finish()
			if diff := cmp.Diff(append([]string{"id/_manifest.json"}, c.want...), k.names()); diff != "" {
				t.Errorf("delivered (-want +got):\n%s", diff)
			}
		})
	}
}

// TestRejoinKeepsNames keeps the names of entries, adds a suffix where the kind is another, and passes on no name of
// an entry that was refused.
func TestRejoinKeepsNames(t *testing.T) {
	t.Parallel()
	var b bytes.Buffer
	z := zip.NewWriter(&b)
	for _, name := range []string{"z/1.png", "../up.png", "a.jpg", "1.png"} {
		e, err := z.Create(name)
		if err == nil {
			body := tinyPNG(t)
			if name == "a.jpg" {
				body = tinyJPEG(t)
			}
			_, err = e.Write(body)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	f, k := apart(t, b.Bytes(), each("a", gantry.EachPart, gantry.OnErrorFail))
	f.plan.OnError = gantry.OnErrorSkip
	f.process = answer1(gantry.MediaPNG, string(tinyPNG(t)))
	f.finish()
	made := k.files["id/a/rejoined.zip"]
	r, err := zip.NewReader(bytes.NewReader(made), int64(len(made)))
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, e := range r.File {
		names = append(names, e.Name)
	}
	if diff := cmp.Diff([]string{"z/1.png", "entry-000002.missing", "a.jpg.png", "1.png"}, names); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}
