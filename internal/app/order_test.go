package app_test

import (
	"bytes"
	"context"
	"encoding/hex"
	"io"
	"maps"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/gantry-imaging/gantry/internal/postgres"
)

// crowdedOrder is a pipeline of one model that takes two calls at once; rules say which tasks go first.
func crowdedOrder(url, rules string) string {
	return head("up") + rules + `
sources: {door: {kind: http, max_mib: 4}}
stages: [{name: score, call: score}]
sinks: {out: {kind: dir, path: "@OUT@"}}
processors:
  score: {kind: http, url: "` + url + `/score", limits: {concurrency: 2}}
`
}

// slowly answers each picture after a while.
func slowly(d time.Duration) func(http.ResponseWriter, *http.Request, []byte, int) {
	return func(w http.ResponseWriter, _ *http.Request, _ []byte, _ int) {
		time.Sleep(d)
		w.Header().Set("Content-Type", "application/json")
		io.WriteString(w, `{"score": 0.5}`)
	}
}

// madeAt is when a call's intent was made, by the time in its id (RFC 9562, section 5.7).
func madeAt(t *testing.T, c postgres.CallRow) time.Time {
	t.Helper()
	b, err := hex.DecodeString(strings.ReplaceAll(c.ID, "-", "")[:12])
	if err != nil {
		t.Fatal(err)
	}
	ms := int64(0)
	for _, x := range b {
		ms = ms<<8 | int64(x)
	}
	return time.UnixMilli(ms)
}

// behind sends a task of 300 parts and, once it is under way, one of one part. It says how many calls of the first
// began between the moment at which the second could make its call, or had its intent made, and that call.
func behind(t *testing.T, rules string, processes int, call time.Duration) (sinceReady, sinceIntent int) {
	t.Helper()
	s := serve(t, slowly(call))
	r := newRig(t, nil)
	if processes > 1 {
		r.Tasks = 1 // the large task fills it: another process has the small one
	}
	f := r.front(crowdedOrder(s.URL, rules))
	big := f.upload("", pictures(t, 300))
	if big.status != 201 {
		t.Fatalf("%d, %s", big.status, big.body)
	}
	for end := time.Now().Add(within); len(s.all()) < 8; time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("the large task does not begin")
		}
	}
	if processes > 1 {
		other := r.beside()
		ctx, stop := context.WithCancel(context.WithoutCancel(t.Context()))
		ended := make(chan error, 1)
		go func() { ended <- other.Work(ctx, nil) }()
		defer func() {
			stop()
			if err := <-ended; err != nil {
				t.Error(err)
			}
		}()
	}
	one := f.upload("?wait=30s", noise(8, [32]byte{7, 7, 7}))
	if one.said.State != "done" {
		t.Fatalf("%d, %s", one.status, one.body)
	}
	return f.overtaken(one.said.ID, processes)
}

// overtaken says how many calls of other tasks began between the moment at which a task could make its only call, or had
// its intent made, and that call.
func (f front) overtaken(id string, processes int) (sinceReady, sinceIntent int) {
	t := f.t
	t.Helper()
	row, err := f.Store.Task(t.Context(), id)
	if err != nil {
		t.Fatal(err)
	}
	events, err := f.Store.Events(t.Context(), row.Key)
	if err != nil {
		t.Fatal(err)
	}
	workers := map[int64]bool{}
	var ready, intent, began time.Time
	for _, e := range events {
		if e.From == "ingesting" && e.To == "inferring" {
			ready = e.At
		}
	}
	calls := f.calls(postgres.Filter{})
	for _, c := range calls {
		workers[c.Worker] = true
		if c.Task == id {
			intent, began = madeAt(t, c), c.StartedAt
		}
	}
	if ready.IsZero() || began.IsZero() {
		t.Fatalf("no call of the task is on record: %+v", events)
	}
	for _, c := range calls {
		if c.Task != id && c.StartedAt.Before(began) {
			if c.StartedAt.After(ready) {
				sinceReady++
			}
			if c.StartedAt.After(intent) {
				sinceIntent++
			}
		}
	}
	if len(workers) != processes {
		t.Errorf("calls of %d processes, want %d", len(workers), processes)
	}
	return sinceReady, sinceIntent
}

// TestOffPeakTasksWait serves pipelines whose windows are closed: what is off-peak by its name waits in the queue, what
// is so by its tags once these are read, and others go on. When the windows are gone both are done.
func TestOffPeakTasksWait(t *testing.T) {
	t.Parallel()
	s := serve(t, slowly(0))
	closed := time.Now().UTC().Add(3 * time.Hour)
	window := "offpeak: " + closed.Format("15:04") + "-" + closed.Add(time.Hour).Format("15:04") + " UTC\n"
	named := strings.Replace(crowdedOrder(s.URL, "priority: offpeak\n"+window), "name: up", "name: night", 1)
	tagged := strings.NewReplacer("kind: http, max_mib: 4", "kind: dir, settle: 1ms, path: @IN@", "name: up", "name: tagged").Replace(
		crowdedOrder(s.URL, `priority: 'items.count > 1 ? "offpeak" : "normal"'`+"\n"+window))
	in := t.TempDir()
	f := newFront(t, nil, strings.Replace(named, "@OUT@", t.TempDir(), 1), strings.Replace(tagged, "@IN@", in, 1))
	if a := f.ask("POST", "/api/v1/pipelines/night/tasks", bytes.NewReader(noise(8, [32]byte{1}))); a.status != 201 {
		t.Fatalf("%d, %s", a.status, a.body)
	}
	for name, body := range map[string][]byte{"two.zip": pictures(t, 2), "one.png": noise(8, [32]byte{9})} {
		if err := os.WriteFile(filepath.Join(in, name), body, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	f.await(map[string]int{"queued": 1, "ingesting": 1, "done": 1})
	time.Sleep(time.Second)
	f.await(map[string]int{"queued": 1, "ingesting": 1, "done": 1})
	if n := len(s.all()); n != 1 {
		t.Errorf("%d calls by day, want that of the task which is not off-peak", n)
	}
	for _, name := range []string{"night", "tagged"} {
		if err := f.Store.SetOrder(t.Context(), name, "{}", nil); err != nil {
			t.Fatal(err)
		}
	}
	f.await(map[string]int{"done": 3})
	if n := len(s.all()); n != 4 {
		t.Errorf("%d calls in all, want 4", n)
	}
}

// await waits until the tasks are in these states.
func (f front) await(want map[string]int) {
	f.t.Helper()
	var got map[string]int
	for end := time.Now().Add(within); time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
		got = map[string]int{}
		for _, x := range f.tasks() {
			got[x.State]++
		}
		if maps.Equal(got, want) {
			return
		}
	}
	f.t.Fatalf("tasks are %v, want %v", got, want)
}

// TestUrgentByItsSource is urgent from its arrival on.
func TestUrgentByItsSource(t *testing.T) {
	t.Parallel()
	s := serve(t, slowly(50*time.Millisecond))
	src := strings.Replace(crowdedOrder(s.URL, `priority: 'object.source == "door" ? "urgent" : "normal"'`), "max_mib: 4}", "max_mib: 4}, side: {kind: dir, path: "+t.TempDir()+"}", 1)
	f := newFront(t, nil, src)
	a := f.upload("?wait=20s", noise(8, [32]byte{3}))
	if a.said.State != "done" {
		t.Fatalf("%d, %s", a.status, a.body)
	}
	b := f.upload("", pictures(t, 100))
	var priority int16
	if err := f.Store.Pool().QueryRow(t.Context(), `select h.priority from task_hot h join task t using (id) where t.public_id = $1`, b.said.ID).Scan(&priority); err != nil || priority != 1 {
		t.Errorf("its priority is %d (%v)", priority, err)
	}
}

// TestUrgentBehindALargeTask: an urgent task waits for one call of the large one before it, at most as many begin
// meanwhile as there are units. Another process has to be told first, which on a busy machine may take longer than a call:
// package scheduler counts exactly. The control is a task that is not urgent: the large one keeps it waiting.
func TestUrgentBehindALargeTask(t *testing.T) {
	t.Parallel()
	const units = 2
	t.Run("urgent", func(t *testing.T) {
		t.Parallel()
		if ready, intent := behind(t, `priority: 'items.count == 1 ? "urgent" : "normal"'`, 1, 300*time.Millisecond); ready > units || intent > units {
			t.Errorf("%d calls of the large task began while the urgent one was ready, %d after its intent; want at most %d", ready, intent, units)
		}
	})
	t.Run("urgent in another process", func(t *testing.T) {
		t.Parallel()
		if ready, intent := behind(t, `priority: 'items.count == 1 ? "urgent" : "normal"'`, 2, 600*time.Millisecond); ready > 2*units || intent > 2*units {
			t.Errorf("%d calls of the large task began while the urgent one was ready, %d after its intent; want at most %d", ready, intent, 2*units)
		}
	})
	t.Run("control", func(t *testing.T) {
		t.Parallel()
		if ready, _ := behind(t, "", 1, 150*time.Millisecond); ready < 20 {
			t.Errorf("%d calls of the large task began before that of a task that is no more urgent: the test shows nothing", ready)
		}
	})
}
