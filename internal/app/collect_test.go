package app_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/gantry-imaging/gantry/internal/driver/all"
	"github.com/gantry-imaging/gantry/internal/gantry"
	"github.com/gantry-imaging/gantry/internal/pipeline"
)

// collecting is a pipeline whose arrivals are put together.
func collecting(url, group string) string {
	return head("collecting") + "group: " + group + `
stages: [{name: score, call: score, on_error: skip}]
processors: {score: {kind: http, url: "` + url + `/score"}}
`
}

// put lays a file down below a folder, with the folders above it.
func put(t *testing.T, folder, name string, body []byte) {
	t.Helper()
	file := filepath.Join(folder, filepath.FromSlash(name))
	tmp := filepath.Join(t.TempDir(), "new")
	if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(tmp, body, 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(tmp, file); err != nil {
		t.Fatal(err)
	}
}

// sets lists what each task was made from: the names of its originals. It waits for so many tasks.
func (r *rig) sets(n int) []string {
	r.t.Helper()
	for end := time.Now().Add(within); len(r.tasks()) < n; time.Sleep(20 * time.Millisecond) {
		if time.Now().After(end) {
			r.t.Fatalf("%d tasks of %d\n%s", len(r.tasks()), n, r.log.text())
		}
	}
	var out []string
	for _, x := range r.tasks() {
		list, err := r.Store.Originals(r.t.Context(), gantry.TaskID(x.Key))
		if err != nil {
			r.t.Fatal(err)
		}
		var names []string
		for _, a := range list {
			names = append(names, a.Name)
		}
		out = append(out, strings.Join(names, " "))
	}
	slices.Sort(out)
	return out
}

func (r *rig) wantSets(want ...string) {
	r.t.Helper()
	got := r.sets(len(want))
	slices.Sort(want)
	if diff := cmp.Diff(want, got); diff != "" {
		r.t.Errorf("tasks (-want +got):\n%s", diff)
	}
}

func (r *rig) number(q string) (n int) {
	r.t.Helper()
	if err := r.Store.Pool().QueryRow(r.t.Context(), q).Scan(&n); err != nil {
		r.t.Fatal(err)
	}
	return n
}

// arrived waits for so many arrivals.
func (r *rig) arrived(n int) {
	r.t.Helper()
	for end := time.Now().Add(within); r.number(`select count(*) from arrival`) < n; time.Sleep(10 * time.Millisecond) {
		if time.Now().After(end) {
			r.t.Fatalf("%d arrivals of %d\n%s", r.number(`select count(*) from arrival`), n, r.log.text())
		}
	}
}

// TestFoldersAreTasks: the files of each folder are one task; one in no folder is its own at once; names of folders and
// files stand in no log.
func TestFoldersAreTasks(t *testing.T) {
	t.Parallel()
	s := serve(t, scoring)
	r := newRig(t, nil)
	inbox, _ := r.serving(collecting(s.URL, "{by: prefix, quiet: 400ms}"))
	ct := study(t, 4)
	for i, b := range ct[:3] {
		put(t, inbox, fmt.Sprintf("mueller-hans/%d.dcm", i), b)
	}
	put(t, inbox, "mueller-hans/deep/0.dcm", ct[3])
	put(t, inbox, "alone.png", noise(30, [32]byte{1}))
	r.wantSets("0.dcm 1.dcm 2.dcm", "0.dcm", "alone.png")
	if text := r.log.text(); strings.Contains(text, "mueller") || strings.Contains(text, "alone") {
		t.Errorf("the log holds names:\n%s", text)
	}
	for _, x := range r.tasks() {
		if x.Source != "collecting/inbox" || len(x.ID) != 26 {
			t.Errorf("%+v", x)
		}
	}
}

// TestMarkerEnds: one that lies in a folder says that it is whole, long before its time is up, and is no member.
func TestMarkerEnds(t *testing.T) {
	t.Parallel()
	s := serve(t, scoring)
	r := newRig(t, nil)
	inbox, stop := r.serving(collecting(s.URL, "{by: prefix, depth: 1, marker: _done, quiet: 600ms, cap: 1h}"))
	put(t, inbox, "_done", nil) // of no folder
	put(t, inbox, "a/_done", nil)
	put(t, inbox, "b/1.png", noise(30, [32]byte{2}))
	r.arrived(3)
	put(t, inbox, "a/x/1.png", noise(30, [32]byte{3}))
	put(t, inbox, "a/y/1.png", noise(30, [32]byte{4}))
	r.wantSets("x/1.png y/1.png")
	if n := r.number(`select count(*) from arrival where reason = 'marker' and coalesce(location, '') = ''`); n != 2 {
		t.Errorf("%d markers", n)
	}
	put(t, inbox, "b/_done", []byte("x"))
	r.wantSets("x/1.png y/1.png", "1.png")
	stop()
	list, err := r.Sources(t.Context())
	if err != nil || len(list) != 1 || len(list[0].Channels) != 1 || list[0].Channels[0].Told != 5 || list[0].LastEvent == nil {
		t.Errorf("the source: %+v, %v", list, err) // three members and two ends were taken
	}
}

// TestStudiesAreTasks: files of one study are one task, wherever they lie; what is no DICOM, or has no study, is its own.
func TestStudiesAreTasks(t *testing.T) {
	t.Parallel()
	s := serve(t, scoring)
	r := newRig(t, nil)
	inbox, _ := r.serving(collecting(s.URL, "{by: study, count: 3, cap: 1h}"))
	files := study(t, 4)
	other := otherStudy(t, files[3], '4')
	for i, b := range files[:3] {
		put(t, inbox, fmt.Sprintf("%d/%d.dcm", i, i), b)
	}
	put(t, inbox, "other.dcm", other)
	put(t, inbox, "a/picture.png", noise(30, [32]byte{5}))
	put(t, inbox, "a/broken.dcm", append(make([]byte, 128), "DICM and no more"...))
	put(t, inbox, "a/empty.dcm", nil)
	r.arrived(7)
	r.wantSets("0/0.dcm 1/1.dcm 2/2.dcm", "picture.png", "broken.dcm", "empty.dcm")
	ms := r.number(`select (extract(epoch from t.created_at - c.last_at) * 1000)::int from task t join collection c on c.id = t.collection`)
	if t.Logf("from the last file to the task: %d ms", ms); ms > 2000 {
		t.Error("nobody was told that a collection is due")
	}
	if n := r.number(`select count(*) from collection where not closed and arrivals = 1`); n != 1 {
		t.Errorf("%d wait", n)
	}
}

// TestClosedByAnother: a process that takes nothing in closes what one that is gone took in.
func TestClosedByAnother(t *testing.T) {
	t.Parallel()
	s := serve(t, scoring)
	r := newRig(t, nil)
	inbox, stop := r.serving(collecting(s.URL, "{by: prefix, cap: 4s}"))
	put(t, inbox, "a/1.png", noise(30, [32]byte{6}))
	r.arrived(1)
	stop()
	if n := len(r.tasks()); n != 0 {
		t.Fatalf("%d tasks already", n)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- r.Work(ctx, nil) }()
	r.wantSets("1.png")
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
}

// TestLateFiles: a file that comes after the end, and one that replaces another, are one more task of all files; the first
// stays as it was.
func TestLateFiles(t *testing.T) {
	t.Parallel()
	s := serve(t, scoring)
	r := newRig(t, nil)
	inbox, _ := r.serving(collecting(s.URL, "{by: prefix, quiet: 500ms}"))
	put(t, inbox, "a/1.png", noise(30, [32]byte{7}))
	put(t, inbox, "a/2.png", noise(30, [32]byte{8}))
	r.wantSets("1.png 2.png")
	put(t, inbox, "a/2.png", noise(30, [32]byte{9}))
	put(t, inbox, "a/3.png", noise(30, [32]byte{10}))
	r.wantSets("1.png 2.png", "1.png 2.png 3.png")
	if n := r.number(`select count(*) from collection where closed and reason = 'quiet'`); n != 2 {
		t.Errorf("%d closed", n)
	}
}

// TestHeaderInPlace: where objects are read in their bucket, the study is read from their first bytes, on record.
func TestHeaderInPlace(t *testing.T) {
	t.Parallel()
	s := serve(t, scoring)
	env := map[string]string{}
	r := newRig(t, env)
	d := newDepot(t, env, true)
	files := study(t, 3)
	for i, b := range files {
		d.put(fmt.Sprintf("in/%d.dcm", i), b)
	}
	d.put("in/film.bin", noise(800, [32]byte{11}))
	p, err := pipeline.Parse("test.yaml", fmt.Appendf(nil, `gantry: v1
name: in-place
group: {by: series, quiet: 1s}
sources: {inbox: {kind: s3, bucket: inbox, prefix: in/, endpoint: %q, path_style: true, poll: 50ms, auth: gateway}}
sinks: {out: {kind: dir, path: %q}}
stages: [{name: score, call: model}]
processors: {model: {kind: http, url: %q}}
auth: {gateway: {kind: aws, access_key_id: "${env:ID}", secret_access_key: "${env:SECRET}"}}
`, d.front, r.out, s.URL+"/score"), all.Drivers(), r.Lookup)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- r.Serve(ctx, []*gantry.Pipeline{p}) }()
	r.wantSets("0.dcm 1.dcm 2.dcm", "film.bin")
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
	if n := r.copied(); n != 0 {
		t.Errorf("%d objects were copied", n)
	}
	if n := r.number(`select count(*) from call_intent i join call_outcome o using (task_id, id) join arrival a on a.id = i.arrival where i.task_id = 0 and o.result = 0 and o.resp_size <= 65536`); n != 4 {
		t.Errorf("%d reads of headers are on record", n)
	}
}
