package app_test

import (
	"archive/zip"
	"bytes"
	"net/http"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// TestModesAndConditions takes a study through a fanout, a condition on what was answered, and a report
// that sees each image with its mask; an object that the pipeline does not take leads to no call.
func TestModesAndConditions(t *testing.T) {
	t.Parallel()
	ct := study(t, 3)
	s := serve(t, func(w http.ResponseWriter, r *http.Request, body []byte, _ int) {
		switch {
		case r.URL.Path == "/mask":
			answerPNG(w, body)
		case r.URL.Path == "/score" && bytes.Equal(body, ct[1]):
			w.Header().Set("Content-Type", "application/json")
			w.Write([]byte(`{"score": 0.1}`))
		default:
			answerJSON(w, body)
		}
	})
	r := newRig(t, nil)
	src := head("modes") + `
when: 'dicom.Modality == "CT" and items.count == 3 and object.media == "application/zip"'
stages:
  - {name: models, mode: fanout, call: [score, mask], pass: both, keep_if: 'results.score.score > 0.4'}
  - {name: again, call: mask, when: 'dicom.Modality == "CT" and dicom.InstanceNumber != "0" and item.index == 2 and stages.models.score[0].ok'}
  - {name: report, mode: cumulative, each: task, call: report, when: 'all(stages.models.mask, .ok)'}
processors:
  score: {kind: http, url: "` + s.URL + `/score"}
  mask: {kind: http, url: "` + s.URL + `/mask", body: zip}
  report: {kind: http, url: "` + s.URL + `/report", body: zip}
`
	o := r.run(src, r.out, file(t, "study.zip", packed(t, entry{name: "a", body: ct[0]}, entry{name: "b", body: ct[1]}, entry{name: "c", body: ct[2]})))[0]
	mustBeDone(t, o)
	m, _ := manifestOf(t, r.out, o.ID)
	var paths []string
	for _, x := range m.Outputs {
		paths = append(paths, x.Path+" "+x.Parent)
	}
	// The last image's mask was replaced in the stage after; the second image went no further.
	want := []string{"models/score/000001.json input#0", "models/mask/000001.png input#0", "models/score/000002.json input#1",
		"models/mask/000002.png input#1", "models/score/000003.json input#2", "again/000003.png input#2", "report/task.json input"}
	if diff := cmp.Diff(want, paths); diff != "" || len(m.Errors) != 0 {
		t.Errorf("delivered (-want +got):\n%s%v", diff, m.Errors)
	}
	var report seen
	for _, x := range s.all() {
		if x.path == "/report" {
			report = x
		}
	}
	z, err := zip.NewReader(bytes.NewReader(report.body), report.size)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, f := range z.File {
		names = append(names, f.Name)
	}
	if diff := cmp.Diff([]string{"000001.dcm", "000002.dcm", "000003.json", "000004.json", "000005.png", "000006.png", "000007.png"}, names); diff != "" {
		t.Errorf("the report reads (-want +got):\n%s", diff)
	}
	calls := len(s.all())
	if calls != 8 {
		t.Errorf("%d calls", calls)
	}
	o = r.one(src, file(t, "x.png", noise(20, [32]byte{1})))
	mustBeDone(t, o)
	if files := delivered(t, r.out); len(s.all()) != calls || len(o.Outputs) != 0 || len(files) != len(paths)+1 {
		t.Errorf("of what is not taken: %d calls, outputs %v, %d files", len(s.all())-calls, o.Outputs, len(files))
	}
	task, err := r.Store.Task(t.Context(), o.ID)
	if err != nil {
		t.Fatal(err)
	}
	events, err := r.Store.Events(t.Context(), task.Key)
	if err != nil {
		t.Fatal(err)
	}
	if last := events[len(events)-1]; task.Error != nil || last.From != "ingesting" || last.To != "done" || last.Code != "filtered" {
		t.Errorf("it ended by %+v with error %+v", last, task.Error)
	}
}
