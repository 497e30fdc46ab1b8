package app_test

import (
	"archive/tar"
	"archive/zip"
	"bytes"
	"compress/gzip"
	"errors"
	"image"
	"image/draw"
	"image/png"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/gantry-imaging/gantry/internal/audit"
	"github.com/gantry-imaging/gantry/internal/dicom"
	"github.com/gantry-imaging/gantry/internal/gantry"
	"github.com/gantry-imaging/gantry/internal/media"
	"github.com/gantry-imaging/gantry/internal/postgres"
	"github.com/gantry-imaging/gantry/internal/sample"
)

// rejoined takes a file apart, sends every piece to a service and puts the answers together again.
func rejoined(url string) string {
	return head("rejoined") + `
extract: {frames: png, window: stored, video: png}
on_error: skip
stages:
  - {name: same, call: same, on_error: skip}
processors:
  same: {kind: http, url: "` + url + `/same", limits: {concurrency: 8}}
sinks:
  results: {kind: dir, path: ./nowhere, rejoin: original}
`
}

// mirror answers what it was sent, but for the requests that refuse picks.
func mirror(refuse func(key string) bool) func(http.ResponseWriter, *http.Request, []byte, int) {
	return func(w http.ResponseWriter, r *http.Request, body []byte, _ int) {
		if refuse != nil && refuse(r.Header.Get("Idempotency-Key")) {
			w.WriteHeader(http.StatusUnprocessableEntity)
			return
		}
		w.Header().Set("Content-Type", r.Header.Get("Content-Type"))
		w.Write(body)
	}
}

// part picks requests about a part by its ordinal.
func part(n string) func(string) bool {
	return func(key string) bool { return strings.HasSuffix(key, "/same/"+n+"/0") }
}

// framesOf gives the stored values of every frame of a DICOM file.
func framesOf(t *testing.T, path string) (out []*dicom.Picture) {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	f, err := dicom.OpenFrames(bytes.NewReader(b), int64(len(b)), dicom.DefaultFrameLimits())
	if err != nil {
		t.Fatal(err)
	}
	for i := range f.Len() {
		p, err := f.Picture(t.Context(), i)
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, p)
	}
	return out
}

// shots gives the time of every frame of a video and the digest of its pixels, whatever their coding.
func shots(t *testing.T, path string) (out []string) {
	t.Helper()
	o := media.SplitOptions{Format: gantry.RenderPNG, MaxFrames: 10000, MaxBytes: 4 << 30}
	err := media.SplitVideo(t.Context(), path, o, func(_ int, at time.Duration, picture []byte) error {
		m, err := png.Decode(bytes.NewReader(picture))
		if err != nil {
			return err
		}
		plain := image.NewNRGBA(m.Bounds())
		draw.Draw(plain, plain.Rect, m, image.Point{}, draw.Src)
		out = append(out, at.Round(time.Millisecond).String()+" "+digest(plain.Pix))
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func TestRejoinMultiframe(t *testing.T) {
	t.Parallel()
	in := file(t, "loop.dcm", sample.Ultrasound(12, 64, 48))
	s := serve(t, mirror(part("7")))
	r := newRig(t, nil)
	o := r.one(rejoined(s.URL), in)
	mustBeDone(t, o)
	if n := len(s.all()); n != 12 {
		t.Fatalf("%d requests for 12 frames", n)
	}
	was, is := framesOf(t, in), framesOf(t, filepath.Join(r.out, o.ID, "same", "rejoined.dcm"))
	if len(is) != len(was) {
		t.Fatalf("%d frames, want %d", len(is), len(was))
	}
	for i := range was {
		black := !slices.ContainsFunc(is[i].Values, func(v byte) bool { return v != 0 })
		if same := bytes.Equal(was[i].Values, is[i].Values); same == (i == 7) || black != (i == 7) {
			t.Errorf("frame %d: same %v, black %v", i, same, black)
		}
	}
	m, _ := manifestOf(t, r.out, o.ID)
	if len(m.Items) != 12 || m.Items[3].Path != "input#3" || m.Items[3].Media != gantry.MediaPNG || m.Items[3].SHA256 != s.by("same/3/0").sum {
		t.Errorf("%d items, the fourth %+v", len(m.Items), m.Items[3])
	}
	if len(m.Errors) != 1 || m.Errors[0].Item != "input#7" || m.Errors[0].Code != "http_422" {
		t.Errorf("errors %+v", m.Errors)
	}
	if len(m.Outputs) != 1 || len(m.Outputs[0].Joined) != 11 || m.Outputs[0].Call != "" {
		t.Fatalf("%+v", m.Outputs)
	}
	if j := m.Outputs[0].Joined[7]; j.Parent != "input#8" || j.SHA256 != s.by("same/8/0").answer || !strings.HasSuffix(j.Call, "same/8/0") {
		t.Errorf("in the place of the eighth %+v", j)
	}
	sum, err := audit.History(t.Context(), r.Store, postgres.Filter{}, func(v audit.Violation) error { t.Errorf("%+v", v); return nil })
	if err != nil || sum.Tasks != 1 {
		t.Errorf("the record of what was put together: %+v: %v", sum, err)
	}
}

// TestRejoinFollowsTheInput: the same file gives the same bytes in another run; another file another UID.
func TestRejoinFollowsTheInput(t *testing.T) {
	t.Parallel()
	s := serve(t, mirror(nil))
	r := newRig(t, nil)
	in := file(t, "loop.dcm", sample.Ultrasound(3, 32, 32))
	var got []string
	for _, path := range []string{in, in, file(t, "other.dcm", sample.Ultrasound(3, 40, 32))} {
		o := r.one(rejoined(s.URL), path)
		mustBeDone(t, o)
		b, err := os.ReadFile(filepath.Join(r.out, o.ID, "same", "rejoined.dcm"))
		if err != nil {
			t.Fatal(err)
		}
		info, err := dicom.Scan(bytes.NewReader(b), int64(len(b)), dicom.DefaultLimits())
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, digest(b), info.SOPInstance)
	}
	if got[0] != got[2] || got[1] != got[3] || got[0] == got[4] || got[1] == got[5] {
		t.Errorf("digests and UIDs %v", got)
	}
}

func TestRejoinVideo(t *testing.T) {
	t.Parallel()
	avi, err := sample.AVI(sample.Loop(10, 64, 48), 10)
	if err != nil {
		t.Fatal(err)
	}
	in := file(t, "loop.avi", avi)
	s := serve(t, mirror(part("4")))
	r := newRig(t, nil)
	o := r.one(rejoined(s.URL), in)
	mustBeDone(t, o)
	was, is := shots(t, in), shots(t, filepath.Join(r.out, o.ID, "same", "rejoined.mkv"))
	if len(was) != 10 || len(is) != 10 {
		t.Fatalf("%d frames of %d", len(is), len(was))
	}
	for i := range was {
		if (was[i] == is[i]) == (i == 4) || was[i][:5] != is[i][:5] && i != 4 {
			t.Errorf("frame %d: %s, was %s", i, is[i], was[i])
		}
	}
}

// bundle is a zip with an archive, a loop and pictures in it, and one entry that is nothing.
func bundle(t *testing.T) (body []byte, names []string) {
	t.Helper()
	var tgz bytes.Buffer
	gz := gzip.NewWriter(&tgz)
	tw := tar.NewWriter(gz)
	for _, name := range []string{"deep/1.png", "deep/2.png"} {
		b := noise(16, [32]byte{name[5]})
		if err := errors.Join(tw.WriteHeader(&tar.Header{Name: name, Size: int64(len(b)), Mode: 0o600}), second(tw.Write(b))); err != nil {
			t.Fatal(err)
		}
	}
	if err := errors.Join(tw.Close(), gz.Close()); err != nil {
		t.Fatal(err)
	}
	return packed(t, entry{name: "z.png", body: noise(20, [32]byte{9})}, entry{name: "pack.tar.gz", body: tgz.Bytes()},
		entry{name: "loop.dcm", body: sample.Ultrasound(4, 32, 32)}, entry{name: "junk.bin", body: []byte("junk")},
		entry{name: "a.png", body: noise(20, [32]byte{8})}), []string{"z.png", "pack.tar.gz", "loop.dcm", "junk.bin.missing", "a.png"}
}

func second(_ int, err error) error { return err }

func TestRejoinArchive(t *testing.T) {
	t.Parallel()
	body, names := bundle(t)
	s := serve(t, mirror(part("0"))) // z.png
	r := newRig(t, nil)
	o := r.one(rejoined(s.URL), file(t, "bundle.zip", body))
	mustBeDone(t, o)
	names[0] = "z.png.missing"
	got, content := unzipped(t, filepath.Join(r.out, o.ID, "same", "rejoined.zip"))
	if diff := cmp.Diff(names, got); diff != "" {
		t.Fatalf("-want +got\n%s", diff)
	}
	_, was := unzipped(t, file(t, "bundle.zip", body))
	if string(content[0]) != "http_422" || string(content[3]) != "unsupported_format" || !bytes.Equal(content[4], was[4]) {
		t.Errorf("missing %q, %q; a.png the same: %v", content[0], content[3], bytes.Equal(content[4], was[4]))
	}
	if diff := cmp.Diff(untarred(t, was[1]), untarred(t, content[1])); diff != "" {
		t.Errorf("the archive in it (-was +is)\n%s", diff)
	}
	a, b := framesOf(t, file(t, "a.dcm", was[2])), framesOf(t, file(t, "b.dcm", content[2]))
	if len(a) != 4 || len(b) != 4 || !bytes.Equal(a[3].Values, b[3].Values) {
		t.Errorf("the loop in it: %d frames of %d", len(b), len(a))
	}
}

func unzipped(t *testing.T, path string) (names []string, content [][]byte) {
	t.Helper()
	z, err := zip.OpenReader(path)
	if err != nil {
		t.Fatal(err)
	}
	defer z.Close()
	for _, f := range z.File {
		r, err := f.Open()
		if err != nil {
			t.Fatal(err)
		}
		b, err := io.ReadAll(r)
		if err != nil {
			t.Fatal(err)
		}
		names, content = append(names, f.Name), append(content, b)
	}
	return names, content
}

// untarred gives the names and digests of a compressed tar's entries.
func untarred(t *testing.T, b []byte) (out []string) {
	t.Helper()
	gz, err := gzip.NewReader(bytes.NewReader(b))
	if err != nil {
		t.Fatal(err)
	}
	for tr := tar.NewReader(gz); ; {
		h, err := tr.Next()
		if err == io.EOF {
			return out
		}
		body, rerr := io.ReadAll(tr)
		if err := errors.Join(err, rerr); err != nil {
			t.Fatal(err)
		}
		out = append(out, h.Name+" "+digest(body))
	}
}

// TestRejoinedSeries: what was made of files of two studies is of two series, and the same object is of the
// same series whatever else lay in the archive.
func TestRejoinedSeries(t *testing.T) {
	t.Parallel()
	s := serve(t, mirror(nil))
	r := newRig(t, nil)
	one, two := entry{name: "1.dcm", body: sample.Ultrasound(3, 32, 32)}, entry{name: "2.dcm", body: sample.Ultrasound(3, 40, 32)}
	var got []*dicom.Info
	for _, entries := range [][]entry{{one, two}, {one}} {
		o := r.one(rejoined(s.URL), file(t, "x.zip", packed(t, entries...)))
		mustBeDone(t, o)
		_, content := unzipped(t, filepath.Join(r.out, o.ID, "same", "rejoined.zip"))
		for _, b := range content {
			info, err := dicom.Scan(bytes.NewReader(b), int64(len(b)), dicom.DefaultLimits())
			if err != nil {
				t.Fatal(err)
			}
			got = append(got, info)
		}
	}
	a, b, again := got[0], got[1], got[2]
	if a.StudyInstance == b.StudyInstance || a.SOPInstance == b.SOPInstance {
		t.Fatalf("the two are of the studies %s and %s", a.StudyInstance, b.StudyInstance)
	}
	if a.SeriesInstance == b.SeriesInstance {
		t.Error("one series in two studies")
	}
	if a.SOPInstance == again.SOPInstance && a.SeriesInstance != again.SeriesInstance {
		t.Error("one object in two series")
	}
}
