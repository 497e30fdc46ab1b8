package engine

import (
	"bytes"
	"context"
	"image"
	"image/png"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/gantry-imaging/gantry/internal/dicom"
	"github.com/gantry-imaging/gantry/internal/gantry"
	"github.com/gantry-imaging/gantry/internal/media"
	"github.com/gantry-imaging/gantry/internal/sample"
)

// clip is a video of n frames.
func clip(t *testing.T, n int) []byte {
	t.Helper()
	b, err := sample.AVI(sample.Loop(n, 32, 32), 10)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// TestFramesCount holds frames of files and videos, wherever they lie, to the budget of the whole task.
func TestFramesCount(t *testing.T) {
	t.Parallel()
	loop := sample.Ultrasound(4, 16, 16)
	for name, c := range map[string]struct {
		in   []byte
		code gantry.Code
	}{
		"as many as may be":         {packed(t, media.ArchiveZip, loop, loop), ""},
		"one more in another entry": {packed(t, media.ArchiveZip, loop, loop, tinyPNG(t)), media.CodeTooManyEntries},
		"in archives within":        {packed(t, media.ArchiveZip, loop, packed(t, media.ArchiveTarGzip, loop)), media.CodeTooManyEntries},
		"in one file":               {sample.Ultrasound(11, 16, 16), gantry.CodeTooLarge},
		"in a video":                {clip(t, 11), gantry.CodeTooLarge},
		"in a video behind a file":  {packed(t, media.ArchiveZip, loop, clip(t, 8)), gantry.CodeTooLarge},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f, _ := apart(t, c.in, each("a", gantry.EachPart, gantry.OnErrorFail))
			f.plan.Extract.MaxEntries, f.plan.Extract.Video = 10, gantry.RenderPNG
			if _, code := through(t, f.world); code != c.code {
				t.Errorf("ended with %q, want %q", code, c.code)
			}
		})
	}
}

// picture is a PNG of a size.
func picture(t *testing.T, side int) string {
	t.Helper()
	var b bytes.Buffer
	if err := png.Encode(&b, image.NewGray(image.Rect(0, 0, side, side))); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

// TestRejoinRefuses fails a task whose answers do not fit together, and delivers nothing of it.
func TestRejoinRefuses(t *testing.T) {
	t.Parallel()
	array := "\x93NUMPY\x01\x00\x46\x00" + "{'descr': '|u1', 'fortran_order': False, 'shape': (32, 32), }"
	array += strings.Repeat(" ", 79-len(array)) + "\n" + strings.Repeat("\x00", 32*32)
	odd := func(media, text string) func(context.Context, *gantry.Request) error {
		return func(ctx context.Context, r *gantry.Request) error {
			if strings.Contains(r.Key, "/a/m/2/") {
				return answer1(media, text)(ctx, r)
			}
			return echo(ctx, r)
		}
	}
	loop := sample.Ultrasound(3, 32, 32)
	for name, c := range map[string]struct {
		in      []byte
		process func(context.Context, *gantry.Request) error
		code    gantry.Code
	}{
		"frames of two sizes":      {loop, odd(pn, picture(t, 16)), dicom.CodeMismatchedFrames},
		"a video of two sizes":     {clip(t, 3), odd(pn, picture(t, 16)), media.CodeBadValue},
		"a video of arrays":        {clip(t, 3), answer1(gantry.MediaNPY, array), CodeCannotRejoin},
		"frames of two kinds":      {loop, odd(gantry.MediaDICOM, string(loop)), gantry.CodeUnsupportedFormat},
		"frames of files":          {loop, answer1(gantry.MediaDICOM, string(loop)), gantry.CodeUnsupportedFormat},
		"in an archive among good": {packed(t, media.ArchiveZip, tinyPNG(t), loop), odd(pn, picture(t, 16)), dicom.CodeMismatchedFrames},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f, k := apart(t, c.in, each("a", gantry.EachPart, gantry.OnErrorFail))
			f.plan.Extract.Video = gantry.RenderPNG
			f.process = c.process
			tr := f.run(t.Context(), begin)
			if tr.To != gantry.Failed || tr.Code != c.code || tr.Kind != gantry.Illegal || tr.From != gantry.Responding {
				t.Errorf("ended with %+v, want %s", tr, c.code)
			}
			if len(k.files) > 0 || len(f.containers()) > 0 {
				t.Errorf("delivered %v, %d containers", k.names(), len(f.containers()))
			}
		})
	}
}

// TestRejoinOfNothing puts a reason in the place of a file none of whose frames was answered, and nothing in that of
// one that a condition left out.
func TestRejoinOfNothing(t *testing.T) {
	t.Parallel()
	loop, p := sample.Ultrasound(2, 16, 16), tinyPNG(t)
	in := packed(t, media.ArchiveZip, packed(t, media.ArchiveTar, loop), p, p)
	f, k := apart(t, in, gantry.Stage{Name: "a", Call: []string{"m"}, OnError: gantry.OnErrorSkip,
		KeepIf: rule(func(v map[string]any) (bool, error) { return v["item"].(map[string]any)["index"].(int) != 2, nil })},
		each("b", gantry.EachPart, gantry.OnErrorSkip))
	f.process = func(ctx context.Context, r *gantry.Request) error {
		if isFrame(r.Items[0]) {
			return gantry.Errorf(gantry.Permanent, "http_422", "no")
		}
		return echo(ctx, r)
	}
	f.finish()
	got := entries(t, gantry.MediaZIP, k.files["id/b/rejoined.zip"])
	if diff := cmp.Diff([][]byte{[]byte("http_422"), p}, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// TestRejoinStops makes nothing in a process that is asked to stop, and delivers nothing in one that lost its lease.
func TestRejoinStops(t *testing.T) {
	t.Parallel()
	f, k := apart(t, sample.Ultrasound(2, 16, 16), each("a", gantry.EachPart, gantry.OnErrorFail))
	if _, code := through(t, f.world); code != "" {
		t.Fatal(code)
	}
	f.step(t.Context(), gantry.Inferring, 0)
	f.refuse = gantry.ErrFenced
	if tr := f.step(t.Context(), gantry.Responding, 0); tr != (gantry.Transition{}) || len(k.files) > 0 {
		t.Errorf("without its lease it left with %+v and delivered %v", tr, k.names())
	}
	f.refuse = nil
	close(f.stop)
	if tr := f.step(t.Context(), gantry.Responding, 0); tr.Change != gantry.Release || len(k.files) > 0 || len(f.containers()) > 0 {
		t.Errorf("asked to stop it left with %+v, delivered %v", tr, k.names())
	}
	f.stop = make(chan struct{})
	if tr := f.step(t.Context(), gantry.Responding, 0); tr.To != gantry.Done || len(k.files) != 2 {
		t.Errorf("then it left with %+v, delivered %v", tr, k.names())
	}
}
