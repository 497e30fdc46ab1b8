package chaos

import (
	"archive/zip"
	"bytes"
	"crypto/sha256"
	"fmt"
	"image"
	"image/png"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/jackc/pgx/v5"

	"github.com/gantry-imaging/gantry/internal/models"
	"github.com/gantry-imaging/gantry/internal/sample"
)

// pipelines are one of each mode, for single images, archives that are divided into shards, and files of
// several frames, and those that a shared source feeds. A dead process's units are held for the timeout, which paces the kills.
const pipelines = `gantry: v1
name: sequential
sources: {inbox: {kind: dir, path: %[1]s/in/sequential, settle: 20ms}}
sinks: {results: {kind: dir, path: %[1]s/out/sequential}}
stages:
  - {name: quality, call: score}
  - {name: enhance, call: enhance}
processors:
  score: {kind: http, url: "%[2]s/v1/quality", timeout: 2s, limits: {concurrency: 64}}
  enhance: {kind: http, url: "%[2]s/v1/enhance", timeout: 2s, limits: {concurrency: 64}}
retry: {attempts: 30, initial: 20ms, max: 100ms}
---
gantry: v1
name: cumulative
sources: {inbox: {kind: dir, path: %[1]s/in/cumulative, settle: 20ms}}
sinks: {results: {kind: dir, path: %[1]s/out/cumulative}}
extract: {shard: 2}
stages:
  - {name: quality, call: score}
  - {name: mask, call: mask, pass: both, when: 'item.index != 1'}
  - {name: report, mode: cumulative, each: task, call: reporter}
processors:
  score: {kind: http, url: "%[2]s/v1/quality", timeout: 2s, limits: {concurrency: 64}}
  mask: {kind: http, url: "%[2]s/v1/mask", timeout: 2s, limits: {concurrency: 64}}
  reporter: {kind: http, url: "%[2]s/v1/report", body: zip, timeout: 2s, limits: {concurrency: 64}}
retry: {attempts: 30, initial: 20ms, max: 100ms}
---
gantry: v1
name: fanout
sources: {inbox: {kind: dir, path: %[1]s/in/fanout, settle: 20ms}}
sinks: {results: {kind: dir, path: %[1]s/out/fanout}}
extract: {frames: png}
stages:
  - {name: models, mode: fanout, call: [score, mask]}
  - {name: report, mode: cumulative, each: task, call: reporter}
processors:
  score: {kind: http, url: "%[2]s/v1/quality", timeout: 2s, limits: {concurrency: 64}}
  mask: {kind: http, url: "%[2]s/v1/mask", timeout: 2s, limits: {concurrency: 64}}
  reporter: {kind: http, url: "%[2]s/v1/report", body: zip, timeout: 2s, limits: {concurrency: 64}}
retry: {attempts: 30, initial: 20ms, max: 100ms}
---
` + collectedPipelines

// modes names the pipelines; each input that is dropped makes one task in each.
var modes = []string{"sequential", "cumulative", "fanout", "collected", "alone"}

// field is what all runs share: folders and the service's address are part of a pipeline's version, which
// stands in manifests.
type field struct {
	dir     string
	service *service
}

func newField(t *testing.T) *field {
	t.Helper()
	f := &field{dir: folder(t), service: newService(t)}
	if err := os.Mkdir(filepath.Join(f.dir, "pipelines"), 0o755); err != nil {
		t.Fatal(err)
	}
	for i, text := range strings.Split(fmt.Sprintf(pipelines, f.dir, f.service.url), "---\n") {
		if err := os.WriteFile(filepath.Join(f.dir, "pipelines", modes[i]+".yaml"), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(f.config(), fmt.Appendf(nil, deployment, f.dir), 0o644); err != nil {
		t.Fatal(err)
	}
	return f
}

func (f *field) config() string { return filepath.Join(f.dir, "gantry.yaml") }

// clean empties the folders and the service's memory for another run.
func (f *field) clean(t *testing.T) {
	t.Helper()
	for _, m := range slices.Concat(modes, []string{"ward", "moved"}) {
		for _, dir := range []string{"in", "out"} {
			dir = filepath.Join(f.dir, dir, m)
			if err := os.RemoveAll(dir); err != nil {
				t.Fatal(err)
			}
			if err := os.MkdirAll(dir, 0o755); err != nil {
				t.Fatal(err)
			}
		}
	}
	f.service.forget()
}

// serve and worker begin processes that hold few tasks, so that there is work for all.
func (f *field) serve(t *testing.T, i *installation, env ...string) *process {
	return i.start(t, env, "serve", "--config", f.config(), "--listen", "127.0.0.1:0", "--lease", lease.String(), "--tasks", "6")
}

func (f *field) worker(t *testing.T, i *installation, env ...string) *process {
	return i.start(t, env, "worker", "--lease", lease.String(), "--tasks", "6")
}

// drop gives every pipeline the inputs from number first to before number end. All are different, and the same
// in every run.
func (f *field) drop(t *testing.T, first, end int) {
	t.Helper()
	for i := first; i < end; i++ {
		f.write(t, "sequential", fmt.Sprintf("%04d.png", i), picture(i))
		f.write(t, "cumulative", fmt.Sprintf("%04d.zip", i), archive(t, i))
		f.write(t, "fanout", fmt.Sprintf("%04d.dcm", i), sample.Ultrasound(3, 32+i%64, 32+i/64))
		f.dropFolder(t, i)
	}
}

// write gives the file its name when it is whole.
func (f *field) write(t *testing.T, mode, name string, b []byte) {
	t.Helper()
	tmp := filepath.Join(f.dir, "tmp-"+filepath.Base(name))
	err := os.WriteFile(tmp, b, 0o644)
	if err == nil {
		err = os.Rename(tmp, filepath.Join(f.dir, "in", mode, name))
	}
	if err != nil {
		t.Fatal(err)
	}
}

// picture makes a grey PNG that differs from those of other numbers, of more bytes than a row holds.
func picture(n int) []byte {
	sum := sha256.Sum256(fmt.Appendf(nil, "picture %d", n))
	m := image.NewGray(image.Rect(0, 0, 160, 160))
	for i := range m.Pix {
		if i%32 == 0 {
			sum = sha256.Sum256(sum[:])
		}
		m.Pix[i] = sum[i%32]
	}
	var b bytes.Buffer
	if err := png.Encode(&b, m); err != nil {
		panic(err) // a buffer takes everything
	}
	return b.Bytes()
}

// archive makes a ZIP of two pictures and a DICOM file, which are two shards.
func archive(t *testing.T, n int) []byte {
	t.Helper()
	var b bytes.Buffer
	z := zip.NewWriter(&b)
	for i, b := range [][]byte{picture(100000 + n), picture(200000 + n), sample.Ultrasound(1, 32+n%64, 32+n/64)} {
		w, err := z.Create(strconv.Itoa(i))
		if err == nil {
			_, err = w.Write(b)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// service is the reference models, some of whose calls fail, with a log of what they were sent.
type service struct {
	url  string
	mu   sync.Mutex
	keys map[string]int // requests by Idempotency-Key
}

func newService(t *testing.T) *service {
	t.Helper()
	s := &service{keys: map[string]int{}}
	h := models.Handler(models.Options{Latency: 5 * time.Millisecond, Fail: 0.05})
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s.mu.Lock()
		s.keys[r.Header.Get("Idempotency-Key")]++
		s.mu.Unlock()
		h.ServeHTTP(w, r)
	}))
	t.Cleanup(func() { server.CloseClientConnections(); server.Close() })
	s.url = server.URL
	return s
}

func (s *service) forget() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.keys = map[string]int{}
}

// tree gives the SHA-256 of every result by its path.
func (f *field) tree(t *testing.T) map[string]string {
	t.Helper()
	files := map[string]string{}
	root := filepath.Join(f.dir, "out")
	err := filepath.WalkDir(root, func(path string, e os.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			return err
		}
		b, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(root, path)
		files[rel] = fmt.Sprintf("%x", sha256.Sum256(b))
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return files
}

// drained waits until every input that was dropped is done, n for each pipeline.
func (f *field) drained(t *testing.T, i *installation, n int, within time.Duration) {
	t.Helper()
	want := n * len(modes)
	deadline := time.Now().Add(within)
	for {
		f.mark(t, i)
		if bad := i.count(t, `select count(*) from task where final_state <> 5`); bad > 0 {
			var why string
			i.scan(t, &why, `select string_agg(distinct public_id || ' ' || coalesce(error_code, '') || ': ' || coalesce(error, ''), '; ') from task where final_state <> 5`)
			t.Fatalf("%d tasks ended otherwise: %.2000s", bad, why)
		}
		done := i.count(t, `select count(*) from task where final_state = 5 and parent is null`)
		if done == want {
			break
		}
		if time.Now().After(deadline) {
			var stuck string
			i.scan(t, &stuck, `select coalesce(string_agg(concat_ws(' ', t.public_id, 'state', h.state, 'phase', h.phase, 'owner', h.owner, 'seq', h.seq, 'open', h.open_children, 'run_at', h.run_at), E'\n'), 'none')
				from task_hot h join task t using (id)`)
			var workers string
			i.scan(t, &workers, `select coalesce(string_agg(id || ' until ' || expires_at - now(), ', '), 'none') from worker`)
			t.Fatalf("%d of %d are done; the others stand so:\n%s\nprocesses: %s", done, want, stuck, workers)
		}
		time.Sleep(50 * time.Millisecond)
	}
	if all := i.count(t, `select count(*) from task where parent is null`); all != want {
		t.Errorf("%d tasks were made of %d inputs", all, want)
	}
	f.tidy(t, i, n)
}

// undisturbed gives the results of n inputs for each pipeline on processes that nothing happens to.
func (f *field) undisturbed(t *testing.T, c *cluster, n int) map[string]string {
	t.Helper()
	f.clean(t)
	i := c.install(t)
	f.drop(t, 0, n)
	p, q := f.serve(t, i), f.worker(t, i)
	f.drained(t, i, n, 6*time.Minute)
	p.stop(t)
	q.stop(t)
	f.sound(t, i)
	return f.tree(t)
}

// same holds the results of a disturbed run to those without.
func same(t *testing.T, want, got map[string]string) {
	t.Helper()
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("the results are not as without disturbance (-without +with):\n%.4000s", diff)
	}
}

// callsSQL counts the calls of every part that may have left, by its Idempotency-Key.
const callsSQL = `
select t.public_id || '/' || i.leg || '/' || (r.doc -> 'stages' -> i.stage::int ->> 'name') || '/' ||
  (r.doc -> 'stages' -> i.stage::int -> 'call' ->> i.processor::int) || '/' || i.part || '/' || i.generation, count(*)
from call_intent i join task t on t.id = i.task_id join pipeline_version pv on pv.id = i.pipeline
cross join lateral (select pv.resolved::json as doc) r
left join call_outcome o on o.task_id = i.task_id and o.id = i.id
where i.boundary = 1 and o.result is distinct from 2
group by 1`

// sound holds the record to what the service saw, and to its own rules, as an operator does.
func (f *field) sound(t *testing.T, i *installation) {
	t.Helper()
	rows, err := i.db.Query(t.Context(), callsSQL)
	if err != nil {
		t.Fatal(err)
	}
	calls := map[string]int{}
	var key string
	var n int
	if _, err := pgx.ForEachRow(rows, []any{&key, &n}, func() error { calls[key] = n; return nil }); err != nil {
		t.Fatal(err)
	}
	f.service.mu.Lock()
	defer f.service.mu.Unlock()
	requests := 0
	for key, n := range f.service.keys {
		requests += n
		if calls[key] < n {
			t.Errorf("the service saw %d requests for %s, and %d calls are on record", n, key, calls[key])
		}
	}
	if requests == 0 {
		t.Error("the service saw nothing")
	}
	for _, what := range []string{"history", "limits"} {
		out, err := i.command(nil, "verify", what).CombinedOutput()
		if err != nil {
			t.Errorf("verify %s: %v\n%.3000s", what, err, out)
		}
		t.Logf("verify %s:\n%s", what, out)
	}
	if n := i.count(t, `select count(*) from task_hot`); n > 0 {
		t.Errorf("%d tasks are still there", n)
	}
}
