package app_test

import (
	"bytes"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/gantry-imaging/gantry/internal/dicom"
	"github.com/gantry-imaging/gantry/internal/gantry"
)

// otherStudy gives a file of a study of its own, with the same length.
func otherStudy(t *testing.T, file []byte, digit byte) []byte {
	t.Helper()
	tags, err := dicom.Tags(bytes.NewReader(file), int64(len(file)))
	if err != nil {
		t.Fatal(err)
	}
	uid := []byte(tags["StudyInstanceUID"])
	other := slices.Clone(uid)
	other[len(other)-1] = digit
	out := bytes.ReplaceAll(file, uid, other)
	if bytes.Equal(out, file) {
		t.Fatal("the study's UID ends with that digit already")
	}
	return out
}

func studies(url, group string) string {
	return head("studies") + group + `
extract: {shard: 2}
when: 'dicom.Modality != "US"'
stages: [{name: score, call: score, on_error: fail}]
processors: {score: {kind: http, url: "` + url + `/score"}}
`
}

// TestStudiesBecomeTasks takes an archive of two studies and two pictures apart, each with a record of its own.
func TestStudiesBecomeTasks(t *testing.T) {
	t.Parallel()
	s := serve(t, scoring)
	r := newRig(t, nil)
	files := study(t, 5)
	archive := packed(t, entry{name: "a", body: files[0]}, entry{name: "p.png", body: noise(9, [32]byte{1})}, entry{name: "b", body: otherStudy(t, files[1], '4')},
		entry{name: "c", body: files[2]}, entry{name: "in.zip", body: packed(t, entry{name: "d", body: files[3]}, entry{name: "q.png", body: noise(9, [32]byte{2})})},
		entry{name: "e", body: otherStudy(t, files[4], '4')})
	o := r.one(studies(s.URL, "group: {by: study}"), file(t, "two.zip", archive))
	mustBeDone(t, o)
	type child struct {
		Task, State, Code string
		Items             int
	}
	var m struct {
		Outputs, Items []any
		Children       []child
	}
	readJSON(t, filepath.Join(r.out, o.ID, "_manifest.json"), &m)
	if len(m.Children) != 3 || len(m.Items)+len(m.Outputs) > 0 {
		t.Fatalf("manifest %+v", m)
	}
	want := [][]string{{"input#0", "input#3", "input#4#0"}, {"input#1", "input#4#1"}, {"input#2", "input#5"}}
	for i, c := range m.Children {
		if c.State != "done" || c.Items != len(want[i]) || c.Task != gantry.ChildID(o.ID, gantry.Member, i) {
			t.Errorf("child %d: %+v", i, c)
		}
		got, _ := manifestOf(t, r.out, c.Task)
		var paths []string
		for j, x := range got.Items {
			paths = append(paths, x.Path)
			if got.Outputs[j].Parent != x.Path {
				t.Errorf("output %d is of %s, not of %s", j, got.Outputs[j].Parent, x.Path)
			}
		}
		if diff := cmp.Diff(want[i], paths); diff != "" {
			t.Errorf("child %d (-want +got):\n%s", i, diff)
		}
		if got.Input.SHA256 != digest(archive) {
			t.Errorf("child %d is of another input", i)
		}
	}
	if n := len(s.all()); n != 7 {
		t.Errorf("the service saw %d requests, want 7", n)
	}
	// The first child has three files and was divided itself.
	roles := map[string]int{}
	for _, x := range r.tasks() {
		roles[x.Role]++
	}
	if diff := cmp.Diff(map[string]int{"": 1, "member": 3, "shard": 2}, roles); diff != "" {
		t.Errorf("tasks (-want +got):\n%s", diff)
	}
}

// TestOneStudyIsOneTask makes no child where there is nothing to divide.
func TestOneStudyIsOneTask(t *testing.T) {
	t.Parallel()
	s := serve(t, scoring)
	r := newRig(t, nil)
	files := study(t, 2)
	for _, group := range []string{"group: {by: study}", "group: {by: series}", "group: {by: patient}"} {
		o := r.one(studies(s.URL, group), file(t, "one.zip", packed(t, entry{name: "a", body: files[0]}, entry{name: "b", body: files[1]})))
		mustBeDone(t, o)
		if m, _ := manifestOf(t, r.out, o.ID); len(m.Outputs) != 2 {
			t.Errorf("%s: %d outputs", group, len(m.Outputs))
		}
	}
	mustBeDone(t, r.one(studies(s.URL, "group: {by: patient}"), file(t, "p.zip", packed(t, entry{name: "a", body: files[0]}, entry{name: "b", body: otherStudy(t, files[1], '4')}))))
	if n := len(r.tasks()); n != 4 {
		t.Errorf("%d tasks, want 4", n)
	}
}

// TestStudyThatFails leaves the other study delivered and the whole failed, with a manifest that says which.
func TestStudyThatFails(t *testing.T) {
	t.Parallel()
	files := study(t, 2)
	bad := otherStudy(t, files[1], '4')
	s := serve(t, func(w http.ResponseWriter, q *http.Request, body []byte, before int) {
		if bytes.Equal(body, bad) {
			w.WriteHeader(422)
			return
		}
		scoring(w, q, body, before)
	})
	r := newRig(t, nil)
	o := r.one(studies(s.URL, "group: {by: study}"), file(t, "two.zip", packed(t, entry{name: "a", body: files[0]}, entry{name: "b", body: bad})))
	mustFail(t, o, "http_422", gantry.Permanent)
	if !strings.HasPrefix(o.Error.Message, "member 1 is failed: stage score: ") {
		t.Errorf("it says %q", o.Error.Message)
	}
	var m struct {
		Children []struct{ Task, State, Code string }
	}
	readJSON(t, filepath.Join(r.out, o.ID, "_manifest.json"), &m)
	if len(m.Children) != 2 || m.Children[0].State != "done" || m.Children[1].State != "failed" || m.Children[1].Code != "http_422" {
		t.Fatalf("manifest %+v", m)
	}
	if got, _ := manifestOf(t, r.out, m.Children[0].Task); len(got.Outputs) != 1 {
		t.Errorf("the good study has %d outputs", len(got.Outputs))
	}
	if files := delivered(t, filepath.Join(r.out, m.Children[1].Task)); len(files) > 0 {
		t.Errorf("of the bad study were delivered %v", files)
	}
}

// TestShippedStudies runs the sample pipeline that divides.
func TestShippedStudies(t *testing.T) {
	t.Parallel()
	s := serve(t, func(w http.ResponseWriter, _ *http.Request, body []byte, _ int) { answerJSON(w, body) })
	r := newRig(t, nil)
	src, err := os.ReadFile("../../pipelines/studies.yaml")
	if err != nil {
		t.Fatal(err)
	}
	files := study(t, 2)
	o := r.one(strings.ReplaceAll(string(src), "http://127.0.0.1:8095", s.URL),
		file(t, "two.zip", packed(t, entry{name: "a", body: files[0]}, entry{name: "b", body: otherStudy(t, files[1], '4')})))
	mustBeDone(t, o)
	if want := 1 + 2*2; len(o.Outputs) != want {
		t.Errorf("%d files were delivered, want %d: %v", len(o.Outputs), want, o.Outputs)
	}
}
