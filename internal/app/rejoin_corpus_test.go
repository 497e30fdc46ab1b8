package app_test

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/gantry-imaging/gantry/internal/dicom"
	"github.com/gantry-imaging/gantry/internal/gantry"
)

// TestRejoinCorpus takes every sound multi-frame file and video of the corpus apart and together again
// under a service that answers what it was sent: not a value and not a time may differ.
func TestRejoinCorpus(t *testing.T) {
	root := os.Getenv("GANTRY_CORPUS")
	if root == "" {
		t.Skip("GANTRY_CORPUS names no folder with the corpus; TestRejoinMultiframe and its neighbours cover the same ground with generated files")
	}
	t.Parallel()
	b, err := os.ReadFile(filepath.Join(root, "manifest.json"))
	if err != nil {
		t.Fatal(err)
	}
	var entries []struct {
		Path, Kind, Expect string
		Frames             int
	}
	if err := json.Unmarshal(b, &entries); err != nil {
		t.Fatal(err)
	}
	s := serve(t, mirror(nil))
	r := newRig(t, nil)
	files, films := 0, 0
	for _, e := range entries {
		path := filepath.Join(root, filepath.FromSlash(e.Path))
		switch {
		case e.Expect == "reject":
		case e.Kind == "dicom" && e.Frames > 1 && decodable(t, path):
			files++
			rejoinFile(t, r, rejoined(s.URL), path)
		case e.Kind == "video":
			films++
			o := r.one(rejoined(s.URL), path)
			mustBeDone(t, o)
			was, is := shots(t, path), shots(t, firstOf(t, filepath.Join(r.out, o.ID, "same", "rejoined.*")))
			if strings.HasSuffix(firstOf(t, filepath.Join(r.out, o.ID, "same", "rejoined.*")), ".mp4") {
				was, is = times(was), times(is) // its coding loses detail
			}
			if diff := cmp.Diff(was, is); diff != "" {
				t.Errorf("%s (-was +is)\n%s", e.Path, diff)
			}
		}
	}
	if files < 5 || films < 2 {
		t.Fatalf("the corpus has %d multi-frame files and %d videos only", files, films)
	}
}

// times leaves the times of shots alone.
func times(shots []string) []string {
	out := make([]string, len(shots))
	for i, s := range shots {
		out[i], _, _ = strings.Cut(s, " ")
	}
	return out
}

func firstOf(t *testing.T, pattern string) string {
	t.Helper()
	found, err := filepath.Glob(pattern)
	if err != nil || len(found) != 1 {
		t.Fatalf("%d files like %s: %v", len(found), filepath.Base(pattern), err)
	}
	return found[0]
}

// decodable tells whether the frames of a file are in an encoding that is decoded here.
func decodable(t *testing.T, path string) bool {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	_, err = dicom.OpenFrames(bytes.NewReader(b), int64(len(b)), dicom.DefaultFrameLimits())
	if err != nil && gantry.KindOf(err) != gantry.Illegal {
		t.Fatal(err)
	}
	return err == nil
}

func rejoinFile(t *testing.T, r *rig, src, path string) {
	t.Helper()
	o := r.one(src, path)
	if layout := framesOf(t, path)[0]; layout.Bytes > 2 { // which no PNG holds unchanged
		mustFail(t, o, "unsupported_format", gantry.Illegal)
		return
	}
	if o.State != "done" {
		t.Errorf("%s: %s %+v", filepath.Base(path), o.State, o.Error)
		return
	}
	was, is := framesOf(t, path), framesOf(t, filepath.Join(r.out, o.ID, "same", "rejoined.dcm"))
	if len(was) != len(is) {
		t.Errorf("%s: %d frames of %d", filepath.Base(path), len(is), len(was))
		return
	}
	if was[0].Photometric == "YBR_FULL" && is[0].Photometric == "RGB" { // of 4:2:2, which is not written again
		if diff := cmp.Diff(shown(t, path), shown(t, filepath.Join(r.out, o.ID, "same", "rejoined.dcm"))); diff != "" {
			t.Errorf("%s is shown otherwise (-was +is)\n%s", filepath.Base(path), diff)
		}
		return
	}
	for i := range was {
		if !bytes.Equal(was[i].Values, is[i].Values) {
			t.Errorf("%s: frame %d differs (%s, %d bits of %d bytes)", filepath.Base(path), i, was[i].Photometric, was[i].BitsStored, was[i].Bytes)
			return
		}
	}
}

// shown gives the digest of each frame of a file as it is shown.
func shown(t *testing.T, path string) (out []string) {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	f, err := dicom.OpenFrames(bytes.NewReader(b), int64(len(b)), dicom.DefaultFrameLimits())
	if err != nil {
		t.Fatal(err)
	}
	window, err := dicom.ParseWindow("file")
	if err != nil {
		t.Fatal(err)
	}
	for i := range f.Len() {
		var p bytes.Buffer
		if err := f.Render(t.Context(), &p, i, gantry.RenderPNG, window); err != nil {
			t.Fatal(err)
		}
		out = append(out, digest(p.Bytes()))
	}
	return out
}
