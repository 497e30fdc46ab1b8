package engine

import (
	"bytes"
	"compress/gzip"
	"context"
	"encoding/json"
	"image"
	"image/jpeg"
	"image/png"
	"io"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/gantry-imaging/gantry/internal/gantry"
	"github.com/gantry-imaging/gantry/internal/media"
)

func tinyJPEG(t *testing.T) []byte {
	t.Helper()
	var b bytes.Buffer
	if err := jpeg.Encode(&b, image.NewGray(image.Rect(0, 0, 4, 4)), nil); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// packed makes an archive of bodies, named by their places.
func packed(t *testing.T, kind media.ArchiveKind, bodies ...[]byte) []byte {
	t.Helper()
	var b bytes.Buffer
	a, err := media.NewArchiveWriter(kind, &b)
	if err != nil {
		t.Fatal(err)
	}
	for i, body := range bodies {
		if err := a.Add(string(rune('a'+i)), int64(len(body)), bytes.NewReader(body)); err != nil {
			t.Fatal(err)
		}
	}
	if err := a.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func gzipped(t *testing.T, body []byte) []byte {
	t.Helper()
	var b bytes.Buffer
	z := gzip.NewWriter(&b)
	if _, err := z.Write(body); err != nil {
		t.Fatal(err)
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// through extracts and ingests in two processes, and gives the leaves as path and media or reason, or
// why the task ended.
func through(t *testing.T, w *world) (leaves []string, code gantry.Code) {
	t.Helper()
	for _, s := range []gantry.State{gantry.Extracting, gantry.Ingesting} {
		if tr := w.step(t.Context(), s, 0); tr.Change == gantry.End {
			return nil, tr.Code
		}
	}
	x := &work{items: w.items}
	for _, l := range x.leaves() {
		what := l.Media
		if l.Rejected {
			what = string(l.Reason)
		}
		leaves = append(leaves, x.path(l)+" "+what)
	}
	return leaves, ""
}

// TestArchives takes archives of every kind apart, whatever lies in what.
func TestArchives(t *testing.T) {
	t.Parallel()
	p, j := tinyPNG(t), tinyJPEG(t)
	in := packed(t, media.ArchiveTarZstd, p, j)
	flat := []string{"input#0 image/png", "input#1 image/jpeg"}
	for name, c := range map[string]struct {
		body     []byte
		archives string
		want     []string
		code     gantry.Code
	}{
		"a JPEG":                 {body: j, want: []string{"input image/jpeg"}},
		"a JPEG, cut":            {body: j[:3], code: gantry.CodeTruncated},
		"zip":                    {body: packed(t, media.ArchiveZip, p, j), want: flat},
		"tar":                    {body: packed(t, media.ArchiveTar, p, j), want: flat},
		"tar.gz":                 {body: packed(t, media.ArchiveTarGzip, p, j), want: flat},
		"tar.zst":                {body: in, want: flat},
		"in one zip":             {body: packed(t, media.ArchiveZip, p, in, j), want: []string{"input#0 image/png", "input#1#0 image/png", "input#1#1 image/jpeg", "input#2 image/jpeg"}},
		"in one tar.gz":          {body: packed(t, media.ArchiveTarGzip, in, packed(t, media.ArchiveZip, packed(t, media.ArchiveTar, j))), want: []string{"input#0#0 image/png", "input#0#1 image/jpeg", "input#1#0#0 image/jpeg"}},
		"too deep":               {body: packed(t, media.ArchiveTar, packed(t, media.ArchiveTarGzip, packed(t, media.ArchiveZip, in))), code: media.CodeTooDeep},
		"a gzip of no tar":       {body: gzipped(t, p), code: gantry.CodeUnsupportedFormat},
		"that among others":      {body: packed(t, media.ArchiveTar, gzipped(t, p), j), want: []string{"input#0 unsupported_format", "input#1 image/jpeg"}},
		"a cut one among others": {body: packed(t, media.ArchiveZip, packed(t, media.ArchiveTarGzip, p)[:60], j), want: []string{"input#0 truncated", "input#1 image/jpeg"}},
		"a bomb":                 {body: packed(t, media.ArchiveTarGzip, make([]byte, 2<<20)), code: media.CodeArchiveBomb},
		"a bomb within":          {body: packed(t, media.ArchiveZip, p, packed(t, media.ArchiveTarZstd, make([]byte, 2<<20))), code: media.CodeArchiveBomb},
		"zip alone":              {body: in, archives: "zip", code: gantry.CodeUnsupportedFormat},
		"tar.gz alone":           {body: packed(t, media.ArchiveTarGzip, in, p), archives: "tar.gz", want: []string{"input#0 unsupported_format", "input#1 image/png"}},
		"a video":                {body: append([]byte("\x00\x00\x00\x14ftypisom\x00\x00\x02\x00isom"), make([]byte, 600)...), code: gantry.CodeUnsupportedFormat},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, each("a", gantry.EachPart, gantry.OnErrorFail))
			w.plan.OnError, w.plan.Extract.Archives = gantry.OnErrorSkip, []string{"zip", "tar", "tar.gz", "tar.zst"}
			if c.archives != "" {
				w.plan.Extract.Archives = strings.Fields(c.archives)
			}
			w.blobs["in"] = c.body
			leaves, code := through(t, w)
			if diff := cmp.Diff(c.want, leaves); diff != "" || code != c.code {
				t.Errorf("ended with %q, want %q; leaves (-want +got):\n%s", code, c.code, diff)
			}
		})
	}
}

// TestReadFromArchives sends entries of nested archives in a process that opens them anew.
func TestReadFromArchives(t *testing.T) {
	t.Parallel()
	w := newWorld(t, each("a", gantry.EachPart, gantry.OnErrorFail))
	w.plan.Extract.Archives = []string{"zip", "tar", "tar.gz", "tar.zst"}
	p, j := tinyPNG(t), tinyJPEG(t)
	w.blobs["in"] = packed(t, media.ArchiveTarGzip, packed(t, media.ArchiveTarZstd, p, j), packed(t, media.ArchiveZip, j))
	if _, code := through(t, w); code != "" {
		t.Fatal(code)
	}
	got := map[string][]byte{}
	w.process = sends(w, got)
	if tr := w.step(t.Context(), gantry.Inferring, 0); tr.To != gantry.Responding {
		t.Fatalf("left with %+v", tr)
	}
	want := map[string][]byte{"id/0/a/m/0/0": p, "id/0/a/m/1/0": j, "id/0/a/m/2/0": j}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("sent (-want +got):\n%s", diff)
	}
}

// sends keeps the bytes of the only item of each request, and answers.
func sends(w *world, got map[string][]byte) func(context.Context, *gantry.Request) error {
	return func(ctx context.Context, r *gantry.Request) error {
		body, err := r.Open(ctx, 0)
		if err != nil {
			return err
		}
		defer body.Close()
		b, err := io.ReadAll(body)
		if err != nil {
			return err
		}
		w.mu.Lock()
		got[r.Key] = b
		w.mu.Unlock()
		return answer1(gantry.MediaJSON, `1`)(ctx, r)
	}
}

// TestBrokenBehindItsHead delivers the rest of a task in which a picture turns out broken only as it is sent:
// the stage leaves it out, and the manifest says so and has no digest of it.
func TestBrokenBehindItsHead(t *testing.T) {
	t.Parallel()
	noisy := image.NewGray(image.Rect(0, 0, 64, 64))
	for i := range noisy.Pix {
		noisy.Pix[i] = byte(i * i >> 3)
	}
	var b bytes.Buffer
	if err := png.Encode(&b, noisy); err != nil {
		t.Fatal(err)
	}
	broken := bytes.Clone(b.Bytes())
	broken[len(broken)-20] ^= 1 // the checksum of its last chunk of pixels
	w := newWorld(t, each("a", gantry.EachPart, gantry.OnErrorSkip))
	w.plan.OnError = gantry.OnErrorSkip
	w.blobs["in"] = packed(t, media.ArchiveZip, b.Bytes(), broken)
	if _, code := through(t, w); code != "" {
		t.Fatal(code)
	}
	w.process = sends(w, map[string][]byte{})
	if tr := w.step(t.Context(), gantry.Inferring, 0); tr.To != gantry.Responding || w.parts[gantry.PartKey{Ordinal: 1}].Status != gantry.PartFailed {
		t.Fatalf("left with %+v, parts %+v", tr, w.parts)
	}
	for range 2 { // the second time as after a crash
		if tr := w.step(t.Context(), gantry.Responding, 0); tr.To != gantry.Done {
			t.Fatalf("left with %+v", tr)
		}
		var m manifest
		if err := json.Unmarshal([]byte(w.sealed["id/_manifest.json"]), &m); err != nil {
			t.Fatal(err)
		}
		if len(m.Items) != 1 || len(m.Outputs) != 1 || len(m.Errors) == 0 || m.Errors[0].Item != "input#1" {
			t.Errorf("manifest %+v", m)
		}
		clear(w.sealed)
	}
}
