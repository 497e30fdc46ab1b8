package app_test

import (
	"bytes"
	"cmp"
	"encoding/json"
	"image"
	"image/png"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	gocmp "github.com/google/go-cmp/cmp"

	"github.com/gantry-imaging/gantry/internal/models"
	"github.com/gantry-imaging/gantry/internal/sample"
)

// shippedInput is an archive of two slices, a radiograph and a picture of one grey, which the
// quality score gives 0.
func shippedInput(t *testing.T) string {
	t.Helper()
	ct, err := sample.CT(2, 128)
	if err != nil {
		t.Fatal(err)
	}
	// Its grey is 90, since one of black alone would pass for a mask.
	flat := image.NewGray(image.Rect(0, 0, 40, 30))
	for i := range flat.Pix {
		flat.Pix[i] = 90
	}
	return file(t, "study.zip", packed(t, entry{name: "a", body: ct[0]}, entry{name: "b", body: ct[1]},
		entry{name: "c", body: pngOf(t, sample.XRay(128)), stored: true}, entry{name: "d", body: pngOf(t, flat), stored: true}))
}

// TestShippedPipelines takes images through the sample pipelines of every mode, against the services
// of gantry models serve, and holds what is delivered to what each file promises.
func TestShippedPipelines(t *testing.T) {
	t.Parallel()
	s := httptest.NewServer(models.Handler(models.Options{}))
	t.Cleanup(s.Close)
	r := newRig(t, nil)
	input := shippedInput(t)
	loops, err := sample.WriteLoops(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	inputs := map[string]string{"multiframe": loops[0], "video": loops[1]}
	for name, want := range map[string][]string{
		"first-light": {"quality/000001.json", "quality/000002.json", "quality/000003.json", "quality/000004.json",
			"enhance/000001.png", "enhance/000002.png", "enhance/000003.png", "enhance/000004.png"},
		"batch": {"report/000001.json"}, // one answer for the batch
		"fanout": {"models/score/000001.json", "models/mask/000001.png", "models/score/000002.json", "models/mask/000002.png",
			"models/score/000003.json", "models/mask/000003.png", "models/score/000004.json", "models/mask/000004.png", "report/task.json"},
		"multiframe": {"mask/rejoined.dcm"},
		"video":      {"enhance/rejoined.mkv"},
		"cumulative": {"quality/000001.json", "quality/000002.json", "quality/000003.json", "quality/000004.json", // the last goes no further
			"mask/000001.png", "mask/000002.png", "mask/000003.png", "report/000001.json", "report/000002.json", "report/000003.json"},
	} {
		src, err := os.ReadFile("../../pipelines/" + name + ".yaml")
		if err != nil {
			t.Fatal(err)
		}
		o := r.one(strings.ReplaceAll(string(src), "http://127.0.0.1:8095", s.URL), cmp.Or(inputs[name], input))
		mustBeDone(t, o)
		m, _ := manifestOf(t, r.out, o.ID)
		var paths []string
		for _, x := range m.Outputs {
			paths = append(paths, x.Path)
		}
		if diff := gocmp.Diff(want, paths); diff != "" || len(m.Errors) != 0 {
			t.Errorf("%s delivered (-want +got):\n%s%v", name, diff, m.Errors)
		}
		shippedReports(t, name, filepath.Join(r.out, o.ID))
	}
}

// shippedReports holds the reports of a sample pipeline to the files delivered beside them.
func shippedReports(t *testing.T, name, out string) {
	t.Helper()
	switch name {
	case "batch":
		if r := reportAt(t, out, "report/000001.json"); r.Images != 4 || r.Masks != 0 || r.Scores != 0 || r.Rows[2].Width != 128 {
			t.Errorf("batch: %+v", r)
		}
	case "multiframe":
		loopAccepted(t, filepath.Join(out, "mask", "rejoined.dcm"))
	case "video":
		videoAccepted(t, filepath.Join(out, "enhance", "rejoined.mkv"))
	case "fanout":
		r := reportAt(t, out, "report/task.json")
		if r.Scores != 4 || r.Images != 4 || r.Masks != 4 || r.Others != 0 || r.MeanScore == nil || *r.MeanScore <= 0.1 {
			t.Errorf("fanout: %+v", r)
		}
	case "cumulative":
		for _, n := range []string{"000001", "000002", "000003"} {
			r := reportAt(t, out, "report/"+n+".json")
			if r.Images != 1 || r.Masks != 1 || r.Scores != 1 || r.Others != 0 || r.MaskPixels == 0 {
				t.Fatalf("cumulative %s: %+v", n, r)
			}
			var q models.Quality
			read(t, filepath.Join(out, "quality", n+".json"), &q)
			if row := r.Rows[0]; *row.Score != q.Score || row.Width != q.Width || row.Mask.Pixels != r.MaskPixels {
				t.Errorf("cumulative %s: %+v beside %+v", n, row, q)
			}
		}
	}
}

// loopAccepted shows masks of 30 frames to two validators, where they are installed, and counts.
func loopAccepted(t *testing.T, path string) {
	t.Helper()
	masks := framesOf(t, path)
	if len(masks) != 30 || masks[0].Rows != 120 || masks[0].Columns != 160 {
		t.Fatalf("%d masks, the first of %d x %d", len(masks), masks[0].Columns, masks[0].Rows)
	}
	for i, m := range masks {
		if n := bytes.Count(m.Values, []byte{255}); n == 0 || n+bytes.Count(m.Values, []byte{0}) != len(m.Values) {
			t.Errorf("mask %d: %d of %d pixels", i+1, n, len(m.Values))
		}
	}
	for name, bad := range map[string]string{"dciodvfy": "Error", "dcmdump": "E: "} {
		if said := told(t, name, path); strings.Contains(said, bad) {
			t.Errorf("%s: %s", name, said)
		}
	}
}

// videoAccepted counts frames with ffprobe, and holds their times to those of ten a second.
func videoAccepted(t *testing.T, path string) {
	t.Helper()
	said := told(t, "ffprobe", "-v", "error", "-count_frames", "-show_entries", "stream=codec_name,width,height,nb_read_frames", "-of", "csv=p=0", path)
	if said != "" && strings.TrimSpace(said) != "ffv1,320,240,30" {
		t.Errorf("ffprobe: %s", said)
	}
	if all := times(shots(t, path)); len(all) != 30 || all[0] != "0s" || all[29] != "2.9s" {
		t.Errorf("%d frames: %v", len(all), all)
	}
}

// told runs a program, if this machine has it, and gives what it says.
func told(t *testing.T, name string, args ...string) string {
	t.Helper()
	program, err := exec.LookPath(name)
	if err != nil {
		t.Logf("%s is not installed", name)
		return ""
	}
	out, err := exec.Command(program, args...).CombinedOutput()
	if err != nil {
		t.Errorf("%s: %v\n%s", name, err, out)
	}
	return string(out)
}

func reportAt(t *testing.T, out, path string) (r models.Report) {
	t.Helper()
	read(t, filepath.Join(out, filepath.FromSlash(path)), &r)
	return r
}

func read(t *testing.T, path string, v any) {
	t.Helper()
	b, err := os.ReadFile(path)
	if err == nil {
		err = json.Unmarshal(b, v)
	}
	if err != nil {
		t.Fatal(err)
	}
}

func pngOf(t *testing.T, m image.Image) []byte {
	t.Helper()
	var b bytes.Buffer
	if err := png.Encode(&b, m); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}
