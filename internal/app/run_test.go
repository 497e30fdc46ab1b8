package app_test

import (
	"archive/zip"
	"bytes"
	"io"
	"net/http"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/gantry-imaging/gantry/internal/gantry"
	"github.com/gantry-imaging/gantry/internal/postgres"
)

// twoStages scores every image and then draws another in its place.
func twoStages(url string) string {
	return head("two-stages") + `
stages:
  - {name: score, call: score}
  - {name: draw, call: draw}
processors:
  score: {kind: http, url: "` + url + `/score"}
  draw: {kind: http, url: "` + url + `/draw"}
`
}

// scoring answers /score with JSON and everything else with a PNG.
func scoring(w http.ResponseWriter, r *http.Request, body []byte, _ int) {
	if r.URL.Path == "/score" {
		answerJSON(w, body)
		return
	}
	answerPNG(w, body)
}

// package of one task: two slices and two pictures, half of them in an archive within.
func nestedStudy(t *testing.T) (archive []byte, leaves [][]byte) {
	t.Helper()
	ct := study(t, 2)
	a, b := noise(40, [32]byte{1}), noise(50, [32]byte{2})
	inner := packed(t, entry{name: "b.dcm", body: ct[1]}, entry{name: "b.png", body: b, stored: true})
	return packed(t, entry{name: "x/a.dcm", body: ct[0]}, entry{name: "inner.zip", body: inner}, entry{name: "x/a.png", body: a}),
		[][]byte{ct[0], ct[1], b, a}
}

// TestRecordIsWhatTheServiceSaw compares three independent accounts of one task: what the service
// saw and said, what the record holds, and what was delivered.
func TestRecordIsWhatTheServiceSaw(t *testing.T) {
	t.Parallel()
	s := serve(t, scoring)
	r := newRig(t, nil)
	archive, leaves := nestedStudy(t)
	o := r.one(twoStages(s.URL), file(t, "study.zip", archive))
	mustBeDone(t, o)
	var saw, said, recorded, answered, delivers []string
	for _, x := range s.all() {
		saw = append(saw, x.path+" "+x.sum)
		said = append(said, x.path+" "+x.answer)
	}
	for _, c := range r.calls(postgres.Filter{}) {
		if c.Outcome != "ok" || c.Status != 200 || c.Attempt != 1 || c.Task != o.ID || c.Stage != c.Processor {
			t.Errorf("recorded %+v", c)
		}
		recorded = append(recorded, "/"+c.Processor+" "+c.RequestSHA256)
		answered = append(answered, "/"+c.Processor+" "+c.ResponseSHA256)
	}
	var want []string
	for _, x := range leaves {
		want = append(want, "/score "+digest(x), "/draw "+digest(x)) // data of the first stage replace nothing
	}
	m, _ := manifestOf(t, r.out, o.ID)
	for _, x := range m.Outputs {
		delivers = append(delivers, "/"+x.Stage+" "+x.SHA256)
	}
	for name, got := range map[string][]string{"the service saw": saw, "the record of requests": recorded} {
		if diff := cmp.Diff(sorted(want), sorted(got)); diff != "" {
			t.Errorf("%s (-leaves +got):\n%s", name, diff)
		}
	}
	for name, got := range map[string][]string{"the record of answers": answered, "delivered": delivers} {
		if diff := cmp.Diff(sorted(said), sorted(got)); diff != "" {
			t.Errorf("%s (-said +got):\n%s", name, diff)
		}
	}
}

// TestManifestIsComplete holds every field of the manifest to what is known from outside.
func TestManifestIsComplete(t *testing.T) {
	t.Parallel()
	s := serve(t, scoring)
	r := newRig(t, nil)
	archive, leaves := nestedStudy(t)
	input := file(t, "study.zip", archive)
	first := r.one(twoStages(s.URL), input)
	mustBeDone(t, first)
	m, text := manifestOf(t, r.out, first.ID)
	if m.Gantry != "manifest/v1" || m.Task != first.ID || m.Pipeline != "two-stages" || len(m.Version) != 64 {
		t.Errorf("head %+v", m)
	}
	if m.Input.SHA256 != digest(archive) || m.Input.Size != int64(len(archive)) || m.Input.Media != gantry.MediaZIP {
		t.Errorf("input %+v", m.Input)
	}
	paths := []string{"input#0", "input#1#0", "input#1#1", "input#2"}
	kinds := []string{gantry.MediaDICOM, gantry.MediaDICOM, gantry.MediaPNG, gantry.MediaPNG}
	if len(m.Items) != len(leaves) || len(m.Outputs) != 2*len(leaves) || len(m.Errors) != 0 {
		t.Fatalf("%d items, %d outputs, %d errors", len(m.Items), len(m.Outputs), len(m.Errors))
	}
	for i, x := range m.Items {
		if x.Path != paths[i] || x.SHA256 != digest(leaves[i]) || x.Bytes != int64(len(leaves[i])) || x.Media != kinds[i] || x.Remark != "" {
			t.Errorf("item %d: %+v", i, x)
		}
	}
	sent := map[string]seen{}
	for _, x := range s.all() {
		sent[x.key] = x
	}
	for i, x := range m.Outputs {
		call, ok := sent[x.Call]
		if !ok || call.answer != x.SHA256 || call.path != "/"+x.Processor || x.Stage != x.Processor || x.Parent != paths[i%len(paths)] {
			t.Errorf("output %d: %+v", i, x)
		}
	}
	if bytes.Contains(text, []byte("a.dcm")) || bytes.Contains(text, []byte("study.zip")) {
		t.Error("the manifest holds names of files")
	}
	again := r.run(twoStages(s.URL), t.TempDir(), input)[0]
	mustBeDone(t, again)
	out := t.TempDir()
	third := r.run(twoStages(s.URL), out, input)[0]
	_, other := manifestOf(t, out, third.ID)
	if third.ID == first.ID {
		t.Error("two runs share a task")
	}
	if diff := cmp.Diff(strings.ReplaceAll(string(text), first.ID, "TASK"), strings.ReplaceAll(string(other), third.ID, "TASK")); diff != "" {
		t.Errorf("two runs differ (-first +other):\n%s", diff)
	}
}

// TestOneCallForTheWholeTask sends all images in one archive.
func TestOneCallForTheWholeTask(t *testing.T) {
	t.Parallel()
	s := serve(t, func(w http.ResponseWriter, _ *http.Request, body []byte, _ int) { answerPNG(w, body) })
	r := newRig(t, nil)
	archive, leaves := nestedStudy(t)
	o := r.one(head("whole")+`
stages: [{name: whole, each: task, call: model}]
processors: {model: {kind: http, url: "`+s.URL+`", body: zip}}
`, file(t, "study.zip", archive))
	mustBeDone(t, o)
	all := s.all()
	if len(all) != 1 || all[0].media != gantry.MediaZIP {
		t.Fatalf("%d requests, the first of %s", len(all), all[0].media)
	}
	z, err := zip.NewReader(bytes.NewReader(all[0].body), all[0].size)
	if err != nil {
		t.Fatal(err)
	}
	var got, want []string
	for _, f := range z.File {
		rd, err := f.Open()
		if err != nil {
			t.Fatal(err)
		}
		b, err := io.ReadAll(rd)
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, f.Name+" "+digest(b))
	}
	for i, x := range leaves {
		want = append(want, []string{"000001.dcm ", "000002.dcm ", "000003.png ", "000004.png "}[i]+digest(x))
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("entries (-want +got):\n%s", diff)
	}
	calls := r.calls(postgres.Filter{})
	if len(calls) != 1 || calls[0].RequestSHA256 != all[0].sum || calls[0].ResponseSHA256 != all[0].answer {
		t.Errorf("recorded %+v", calls)
	}
	m, _ := manifestOf(t, r.out, o.ID)
	if len(m.Outputs) != 1 || m.Outputs[0].Path != "whole/task.png" || m.Outputs[0].Parent != "input" || m.Outputs[0].SHA256 != all[0].answer {
		t.Errorf("outputs %+v", m.Outputs)
	}
}

// TestMediaReplaceAndDataDoNot follows one image through three stages.
func TestMediaReplaceAndDataDoNot(t *testing.T) {
	t.Parallel()
	s := serve(t, func(w http.ResponseWriter, r *http.Request, body []byte, n int) {
		if r.URL.Path == "/first" || r.URL.Path == "/third" {
			answerPNG(w, body)
			return
		}
		answerJSON(w, body)
	})
	r := newRig(t, nil)
	in := noise(30, [32]byte{9})
	o := r.one(head("chain")+`
stages:
  - {name: zero, call: zero}
  - {name: first, call: first}
  - {name: second, call: second}
  - {name: third, call: third}
processors:
  zero: {kind: http, url: "`+s.URL+`/zero"}
  first: {kind: http, url: "`+s.URL+`/first"}
  second: {kind: http, url: "`+s.URL+`/second"}
  third: {kind: http, url: "`+s.URL+`/third"}
`, file(t, "x.png", in))
	mustBeDone(t, o)
	all := s.all()
	if len(all) != 4 {
		t.Fatalf("%d requests", len(all))
	}
	want := []string{digest(in), digest(in), all[1].answer, all[1].answer}
	for i, x := range all {
		if x.sum != want[i] || x.media != gantry.MediaPNG {
			t.Errorf("stage %d got %s, %s", i, x.sum, x.media)
		}
	}
	m, _ := manifestOf(t, r.out, o.ID)
	var paths []string
	for _, x := range m.Outputs {
		paths = append(paths, x.Path)
	}
	if diff := cmp.Diff([]string{"zero/000001.json", "second/000001.json", "third/000001.png"}, paths); diff != "" {
		t.Errorf("delivered (-want +got):\n%s", diff)
	}
}

// TestSkipLeavesAGap takes what is sound of a task whose second image no service takes.
func TestSkipLeavesAGap(t *testing.T) {
	t.Parallel()
	bad := noise(20, [32]byte{66})
	s := serve(t, func(w http.ResponseWriter, r *http.Request, body []byte, _ int) {
		if bytes.Equal(body, bad) {
			w.WriteHeader(http.StatusUnprocessableEntity)
			return
		}
		scoring(w, r, body, 0)
	})
	src := strings.Replace(twoStages(s.URL), "call: score}", "call: score, on_error: skip}", 1)
	r := newRig(t, nil)
	good := []entry{{name: "1.png", body: noise(20, [32]byte{1})}, {name: "2.png", body: bad}, {name: "3.png", body: noise(20, [32]byte{3})}}
	o := r.one(src, file(t, "three.zip", packed(t, good...)))
	mustBeDone(t, o)
	m, _ := manifestOf(t, r.out, o.ID)
	if len(m.Outputs) != 4 || len(m.Errors) != 1 || m.Errors[0] != struct{ Item, Stage, Code string }{"input#1", "score", "http_422"} {
		t.Errorf("%d outputs, errors %+v", len(m.Outputs), m.Errors)
	}
	if n := len(s.all()); n != 5 {
		t.Errorf("%d requests, want 3 to the first stage and 2 to the second", n)
	}
	// With nothing left, there is nothing to deliver.
	o = r.one(src, file(t, "bad.png", bad))
	mustFail(t, o, "http_422", gantry.Permanent)
	if files := delivered(t, filepath.Join(r.out, o.ID)); len(files) != 0 {
		t.Errorf("delivered %v", files)
	}
}
