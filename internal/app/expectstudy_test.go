package app_test

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strconv"
	"testing"
	"time"

	"github.com/gantry-imaging/gantry/internal/dimse/dimsetest"
	"github.com/gantry-imaging/gantry/internal/postgres"
)

// TestExpectedStudySent has an archive send a study of 324 images, and asks it how many there are: over DICOM, and over DICOMweb. The model is
// called about all of them, once, a moment after the last.
func TestExpectedStudySent(t *testing.T) {
	t.Parallel()
	const slices = 324
	for _, kind := range []string{"dicom", "dicomweb"} {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			called := make(chan time.Time, 10)
			model := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				called <- time.Now()
				io.Copy(io.Discard, r.Body)
				w.Header().Set("Content-Type", "application/json")
				fmt.Fprint(w, `{"score": 1}`)
			}))
			defer model.Close()
			listen := freeAddress(t)
			_, text, _ := net.SplitHostPort(listen)
			port, _ := strconv.Atoi(text)
			o := dimsetest.Orthanc(t, dimsetest.Settings{DICOMweb: kind == "dicomweb", Modalities: map[string]dimsetest.Modality{"gantry": {AET: "GANTRY", Port: port}}})
			for _, f := range dimsetest.NewStudy(t, slices, 32).Files {
				o.Load(t, f)
			}
			expect := fmt.Sprintf("kind: dicom, host: 127.0.0.1, port: %d, aet: %s", o.Port, o.AET)
			if kind == "dicomweb" {
				expect = fmt.Sprintf("kind: dicomweb, url: %q", o.URL+"/dicom-web")
			}
			f := newFront(t, nil, head("ct")+fmt.Sprintf(`
sources: {modality: {kind: dicom, aet: GANTRY, listen: %q}}
group: {by: study, quiet: 1h, cap: 2h, expect: {%s, steady: 100ms}}
stages: [{name: volume, call: model, each: task}]
sinks: {out: {kind: dir, path: "@OUT@"}}
processors: {model: {kind: http, url: "%s/volume", body: zip}}
`, listen, expect, model.URL))
			o.Send(t, "gantry", o.Studies(t)...)
			task := f.until("done", func(x postgres.TaskRow) bool { return x.State == "done" })
			var last time.Time
			var reason string
			if err := f.Store.Pool().QueryRow(t.Context(), `select last_at, reason from collection`).Scan(&last, &reason); err != nil || reason != "expected" {
				t.Fatalf("closed by %s: %v", reason, err)
			}
			took := (<-called).Sub(last)
			if t.Logf("from the last image's commit to the model: %s", took.Round(time.Millisecond)); took > 20*time.Second {
				t.Error("somebody waited for something else than the last image")
			}
			if len(called) > 0 || task.Originals != slices {
				t.Errorf("%d more calls, %d originals", len(called), task.Originals)
			}
		})
	}
}
