package app_test

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/gantry-imaging/gantry/internal/app"
	"github.com/gantry-imaging/gantry/internal/driver/all"
	"github.com/gantry-imaging/gantry/internal/gantry"
	"github.com/gantry-imaging/gantry/internal/pipeline"
	"github.com/gantry-imaging/gantry/internal/postgres"
)

// beside opens the same installation once more, as another process would.
func (r *rig) beside() *app.App {
	r.t.Helper()
	s := r.Settings
	s.DatabaseURL, s.Tasks = r.dsn, 3 // so that no session can take all
	db, err := app.OpenDatabase(r.t.Context(), s)
	if err != nil {
		r.t.Fatal(err)
	}
	r.t.Cleanup(func() { db.Close() })
	a, err := app.New(s, db)
	if err != nil {
		r.t.Fatal(err)
	}
	r.t.Cleanup(func() { a.Close() })
	return a
}

// pictures packs n different PNG files.
func pictures(t *testing.T, n int) []byte {
	t.Helper()
	var entries []entry
	for i := range n {
		entries = append(entries, entry{name: fmt.Sprintf("%04d.png", i), body: noise(8, [32]byte{byte(i), byte(i >> 8)}), stored: true})
	}
	return packed(t, entries...)
}

// TestShardsOverSessions sends 1,200 pictures of one archive through three sessions, and then in one piece:
// each is answered once on record, and what is delivered is the same.
func TestShardsOverSessions(t *testing.T) {
	t.Parallel()
	const n, size = 1200, 128
	s := serve(t, scoring)
	r := newRig(t, nil)
	in := t.TempDir()
	text := func(shard int, in, out string) string {
		return head("shards") + fmt.Sprintf(`
sources: {inbox: {kind: dir, path: %q, settle: 1ms}}
sinks: {out: {kind: dir, path: %q}}
extract: {shard: %d}
stages: [{name: score, call: score}, {name: report, mode: cumulative, each: task, call: report}]
processors:
  score: {kind: http, url: "%s/score", limits: {concurrency: 16}}
  report: {kind: http, url: "%s/report", body: zip, limits: {concurrency: 16}}
`, in, out, shard, s.URL, s.URL)
	}
	if err := os.WriteFile(filepath.Join(in, "all.zip"), pictures(t, n), 0o644); err != nil {
		t.Fatal(err)
	}
	id := r.serveOver(text(size, in, r.out), 3)
	got, _ := manifestOf(t, r.out, id)
	for i, x := range got.Items {
		if x.Path != fmt.Sprintf("input#%d", i) {
			t.Fatalf("item %d is %s", i, x.Path)
		}
	}
	r.holdParts(id, n, (n+size-1)/size, 2)
	if len(got.Outputs) != n+1 || len(got.Items) != n {
		t.Fatalf("%d outputs of %d items", len(got.Outputs), len(got.Items))
	}
	out := t.TempDir()
	whole := r.run(text(100_000, in, r.out), out, filepath.Join(in, "all.zip"))[0]
	mustBeDone(t, whole)
	want, _ := manifestOf(t, out, whole.ID)
	for _, m := range []*record{&got, &want} {
		m.Task, m.Version = "", ""
		for i := range m.Outputs {
			m.Outputs[i].Call = ""
		}
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("manifest (-in one piece +in shards):\n%s", diff)
	}
}

// serveOver runs a pipeline over sessions until its one task is done, holds its parts to one answer each, and
// gives its id.
func (r *rig) serveOver(text string, sessions int) string {
	r.t.Helper()
	p, err := pipeline.Parse("test.yaml", []byte(text), all.Drivers(), r.Lookup)
	if err != nil {
		r.t.Fatal(err)
	}
	ctx, stop := context.WithCancel(r.t.Context())
	defer stop()
	ended := make(chan error)
	for range sessions - 1 {
		a := r.beside()
		go func() { ended <- a.Work(ctx, nil) }()
	}
	for n := 0; n < sessions-1; time.Sleep(5 * time.Millisecond) {
		if err := r.Store.Pool().QueryRow(ctx, `select count(*) from worker`).Scan(&n); err != nil {
			r.t.Fatal(err)
		}
	}
	a := r.beside()
	go func() { ended <- a.Serve(ctx, []*gantry.Pipeline{p}) }()
	id := ""
	for deadline := time.Now().Add(90 * time.Second); id == "" && time.Now().Before(deadline); time.Sleep(20 * time.Millisecond) {
		for _, t := range r.tasks() {
			if t.Parent == "" && t.FinishedAt != nil {
				id = t.ID
			}
		}
	}
	stop()
	for range sessions {
		if err := <-ended; err != nil {
			r.t.Error(err)
		}
	}
	if id == "" {
		r.t.Fatalf("the task does not end\n%s", r.log.text())
	}
	return id
}

// holdParts wants each of n parts of the first stage to be answered once on record, by children that at least
// so many processes took.
func (r *rig) holdParts(id string, n, children, processes int) {
	r.t.Helper()
	answered, workers, tasks := map[string]int{}, map[int64]bool{}, map[string]bool{}
	for _, c := range r.calls(postgres.Filter{Task: id}) {
		if c.Stage == "score" && c.Outcome == "ok" {
			answered[fmt.Sprint(c.Task, c.Part)]++
			workers[c.Worker], tasks[c.Task] = true, true
		}
	}
	for part, times := range answered {
		if times != 1 {
			r.t.Errorf("part %s was answered %d times", part, times)
		}
	}
	if len(answered) != n || len(tasks) != children || len(workers) < processes || tasks[id] {
		r.t.Errorf("%d parts of %d tasks were answered, by %d processes", len(answered), len(tasks), len(workers))
	}
}

func readJSON(t *testing.T, path string, into any) {
	t.Helper()
	b, err := os.ReadFile(path)
	if err == nil {
		err = json.Unmarshal(b, into)
	}
	if err != nil {
		t.Fatal(err)
	}
}

func (r *rig) tasks() []postgres.TaskRow {
	r.t.Helper()
	list, err := r.Store.Tasks(r.t.Context(), postgres.Filter{})
	if err != nil {
		r.t.Fatal(err)
	}
	return list
}

// TestShardsOfOneAtATime ends where only one task may be in progress: a parent that waits is none.
func TestShardsOfOneAtATime(t *testing.T) {
	t.Parallel()
	s := serve(t, scoring)
	r := newRig(t, nil)
	var inputs []string
	for i := range 3 {
		inputs = append(inputs, file(t, fmt.Sprintf("%d.zip", i), pictures(t, 7+i)))
	}
	src := studies(s.URL, "limits: {in_progress: 1}")
	for i, o := range r.run(src, r.out, inputs...) {
		mustBeDone(t, o)
		if m, _ := manifestOf(t, r.out, o.ID); len(m.Outputs) != 7+i || len(o.Outputs) != 8+i {
			t.Errorf("task %d: %d outputs, %d files", i, len(m.Outputs), len(o.Outputs))
		}
	}
}
