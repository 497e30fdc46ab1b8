package app_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/gantry-imaging/gantry/internal/api"
	"github.com/gantry-imaging/gantry/internal/driver/all"
	"github.com/gantry-imaging/gantry/internal/gantry"
	"github.com/gantry-imaging/gantry/internal/pipeline"
	"github.com/gantry-imaging/gantry/internal/postgres"
)

// front is a rig that serves, with its API.
type front struct {
	*rig
	url string
}

// newFront serves pipelines given as YAML until the test ends.
func newFront(t *testing.T, env map[string]string, sources ...string) front {
	t.Helper()
	return newRig(t, env).front(sources...)
}

// front serves pipelines until the test ends.
func (r *rig) front(sources ...string) front {
	t := r.t
	t.Helper()
	var list []*gantry.Pipeline
	for _, src := range sources {
		p, err := pipeline.Parse("test.yaml", []byte(strings.ReplaceAll(src, "@OUT@", r.out)), all.Drivers(), r.Lookup)
		if err != nil {
			t.Fatal(err)
		}
		if err := pipeline.Servable(p); err != nil {
			t.Fatal(err)
		}
		list = append(list, p)
	}
	server := httptest.NewServer(api.Tasks(http.NotFoundHandler(), r.App))
	ctx, stop := context.WithCancel(context.WithoutCancel(t.Context()))
	served := make(chan error, 1)
	go func() { served <- r.Serve(ctx, list) }()
	t.Cleanup(func() {
		stop()
		if err := <-served; err != nil {
			t.Errorf("serve: %v", err)
		}
		server.Close()
	})
	f := front{r, server.URL}
	for end := time.Now().Add(within); ; time.Sleep(10 * time.Millisecond) {
		if a := f.ask("GET", "/api/v1/tasks/none/outputs", nil); a.said.Code == "no_task" {
			return f
		}
		if time.Now().After(end) {
			t.Fatal("it does not serve")
		}
	}
}

// answered is an answer of the API.
type answered struct {
	status int
	header http.Header
	body   []byte
	said   struct {
		ID, State, Code, Kind, Detail string
		Status                        int
		Error                         *struct{ Code string }
		Manifest                      json.RawMessage
	}
}

// ask makes a request; headers are names and values by turns.
func (f front) ask(method, path string, body io.Reader, headers ...string) answered {
	f.t.Helper()
	req, err := http.NewRequest(method, f.url+path, body)
	if err != nil {
		f.t.Fatal(err)
	}
	for i := 0; i < len(headers); i += 2 {
		req.Header.Set(headers[i], headers[i+1])
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		f.t.Fatal(err)
	}
	defer resp.Body.Close()
	a := answered{status: resp.StatusCode, header: resp.Header}
	if a.body, err = io.ReadAll(resp.Body); err != nil {
		f.t.Fatal(err)
	}
	json.Unmarshal(a.body, &a.said)
	return a
}

func (f front) upload(query string, body []byte, headers ...string) answered {
	f.t.Helper()
	return f.ask("POST", "/api/v1/pipelines/up/tasks"+query, bytes.NewReader(body), headers...)
}

// up is a pipeline that takes uploads of up to 1 MiB and draws a picture of each.
func up(url string) string {
	return head("up") + `
sources: {door: {kind: http, max_mib: 1}}
stages: [{name: score, call: score}, {name: draw, call: draw}]
sinks: {out: {kind: dir, path: "@OUT@"}}
processors:
  score: {kind: http, url: "` + url + `/score"}
  draw: {kind: http, url: "` + url + `/draw"}
`
}

// TestUpload sends a study and reads what became of it, as the examples of docs/api.md do.
func TestUpload(t *testing.T) {
	t.Parallel()
	f := newFront(t, nil, up(serve(t, scoring).URL))
	ct := study(t, 3)
	zip := packed(t, entry{name: "DOE^JANE/a", body: ct[0]}, entry{name: "b", body: ct[1]})
	a := f.upload("?wait=20s", zip, "Content-Disposition", `attachment; filename="DOE^JANE.zip"`)
	if a.status != 201 || a.said.State != "done" || a.header.Get("Location") != "/api/v1/tasks/"+a.said.ID {
		t.Fatalf("%d, %s", a.status, a.body)
	}
	m, raw := manifestOf(t, f.out, a.said.ID)
	if len(m.Outputs) == 0 {
		t.Fatal("no outputs")
	}
	var compact bytes.Buffer
	if err := json.Compact(&compact, raw); err != nil || !bytes.Equal(compact.Bytes(), a.said.Manifest) {
		t.Errorf("the answer's manifest is %s and not %s", a.said.Manifest, compact.Bytes())
	}
	if got := f.ask("GET", a.header.Get("Location")+"/outputs", nil); got.status != 200 || !bytes.Equal(got.body, raw) {
		t.Errorf("outputs: %d, %s", got.status, got.body)
	}
	for _, o := range m.Outputs {
		want, err := os.ReadFile(filepath.Join(f.out, a.said.ID, filepath.FromSlash(o.Path)))
		if err != nil {
			t.Fatal(err)
		}
		got := f.ask("GET", a.header.Get("Location")+"/outputs/"+o.Path, nil)
		if got.status != 200 || !bytes.Equal(got.body, want) || got.header.Get("Content-Type") != o.Media || got.header.Get("Repr-Digest") == "" {
			t.Errorf("%s: %d, %d bytes, %v", o.Path, got.status, len(got.body), got.header)
		}
	}
	for _, path := range []string{"/outputs/none", "/outputs/..%2f..%2fetc", "/outputs/_manifest.json"} {
		if got := f.ask("GET", a.header.Get("Location")+path, nil); got.status != 404 || got.said.Code != "no_output" {
			t.Errorf("%s: %d, %s", path, got.status, got.body)
		}
	}
	if got := f.ask("GET", a.header.Get("Location"), nil); got.status != 200 || got.said.State != "done" || bytes.Contains(got.body, []byte("DOE")) {
		t.Errorf("task: %d, %s", got.status, got.body)
	}
	if strings.Contains(f.log.text(), "DOE") {
		t.Error("a name is in the log")
	}
	calls, err := f.Store.Calls(t.Context(), postgres.Filter{Boundary: "source"})
	if err != nil || len(calls) != 1 || calls[0].Outcome != "ok" || calls[0].Target != "upload://api" || calls[0].ResponseSHA256 != digest(zip) || calls[0].ResponseBytes != int64(len(zip)) {
		t.Errorf("the record says %+v, %v", calls, err)
	}
}

// TestUploadTwice sends the same again, and under keys, at once and one after another.
func TestUploadTwice(t *testing.T) {
	t.Parallel()
	f := newFront(t, nil, up(serve(t, scoring).URL))
	one, two := noise(10, [32]byte{1}), noise(10, [32]byte{2})
	first := f.upload("", one).said.ID
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			if a := f.upload("?name=x.png", one); a.status != 201 || a.said.ID != first {
				t.Errorf("again: %d, %s", a.status, a.body)
			}
		})
	}
	wg.Wait()
	if a := f.upload("", two); a.status != 201 || a.said.ID == first {
		t.Errorf("other bytes: %d, %s", a.status, a.body)
	}
	key := f.upload("", one, "Idempotency-Key", "k1").said.ID
	for _, c := range []struct {
		key  string
		body []byte
		same bool
		want int
	}{{"k1", one, true, 201}, {"k1", two, true, 422}, {"k2", one, false, 201}, {"k1", one, true, 201}} {
		a := f.upload("", c.body, "Idempotency-Key", c.key)
		if a.status != c.want || a.status == 201 && (a.said.ID == key) != c.same || a.status == 422 && a.said.Code != "conflict" {
			t.Errorf("%s: %d, %s", c.key, a.status, a.body)
		}
	}
	rows, err := f.Store.Tasks(t.Context(), postgres.Filter{})
	if err != nil || len(rows) != 4 {
		t.Errorf("%d tasks, %v; want one for each of two files and two keys", len(rows), err)
	}
}

// TestUploadsThatAreNotTaken leaves neither task nor arrival behind.
func TestUploadsThatAreNotTaken(t *testing.T) {
	t.Parallel()
	f := newFront(t, nil, up(serve(t, scoring).URL), strings.Replace(strings.Replace(up("http://127.0.0.1:1"), "name: up", "name: closed", 1), "kind: http, max_mib: 1", "kind: dir, path: "+t.TempDir(), 1))
	large := bytes.Repeat([]byte("x"), 1<<20+1)
	for what, c := range map[string]struct {
		path, code string
		body       io.Reader
		status     int
		header     []string
	}{
		"no pipeline":        {"none/tasks", "no_pipeline", strings.NewReader("x"), 404, nil},
		"one of a folder":    {"closed/tasks", "no_pipeline", strings.NewReader("x"), 404, nil},
		"too large":          {"up/tasks", "too_large", bytes.NewReader(large), 413, nil},
		"too large, chunked": {"up/tasks", "too_large", struct{ io.Reader }{bytes.NewReader(large)}, 413, nil},
		"empty":              {"up/tasks", "empty", http.NoBody, 400, nil},
		"empty, chunked":     {"up/tasks", "empty", struct{ io.Reader }{strings.NewReader("")}, 400, nil},
		"of another digest":  {"up/tasks", "checksum_mismatch", strings.NewReader("hellO"), 400, []string{"Content-Digest", "sha-256=:LPJNul+wow4m6DsqxbninhsWHlwfp0JecwQzYpOLmCQ=:"}},
	} {
		a := f.ask("POST", "/api/v1/pipelines/"+c.path, c.body, c.header...)
		if a.status != c.status || a.said.Code != c.code || a.said.Status != c.status || a.header.Get("Content-Type") != "application/problem+json" {
			t.Errorf("%s: %d, %s", what, a.status, a.body)
		}
	}
	rows, err := f.Store.Tasks(t.Context(), postgres.Filter{})
	if err != nil || len(rows) != 0 {
		t.Errorf("%d tasks, %v", len(rows), err)
	}
	if a := f.upload("", []byte("hello"), "Content-Digest", "sha-256=:LPJNul+wow4m6DsqxbninhsWHlwfp0JecwQzYpOLmCQ=:"); a.status != 201 {
		t.Errorf("of its own digest: %d, %s", a.status, a.body)
	}
}

// TestUploadsThatFail: what was taken is a task, and its end is told.
func TestUploadsThatFail(t *testing.T) {
	t.Parallel()
	f := newFront(t, nil, up(serve(t, scoring).URL))
	a := f.upload("?wait=20s", []byte("neither picture nor study"))
	if a.status != 201 || a.said.State != "failed" || a.said.Error == nil || a.said.Error.Code != "unsupported_format" || a.said.Manifest != nil {
		t.Fatalf("%d, %s", a.status, a.body)
	}
	if got := f.ask("GET", a.header.Get("Location")+"/outputs", nil); got.status != 404 || got.said.Code != "no_results" {
		t.Errorf("outputs: %d, %s", got.status, got.body)
	}
	if got := f.ask("GET", "/api/v1/tasks/"+a.said.ID[:10], nil); got.status != 404 || got.said.Code != "no_task" {
		t.Errorf("the beginning of an id: %d, %s", got.status, got.body)
	}
}

// TestUploadsThatCannotBeKept: without its table, or its folder, the process refuses, and takes the same
// upload once they are back.
func TestUploadsThatCannotBeKept(t *testing.T) {
	t.Parallel()
	f := newFront(t, nil, up(serve(t, scoring).URL))
	c, err := pgx.Connect(t.Context(), f.dsn)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close(context.WithoutCancel(t.Context()))
	exec := func(sql string) {
		if _, err := c.Exec(t.Context(), sql); err != nil {
			t.Fatal(err)
		}
	}
	body := noise(200, [32]byte{7})
	refused := func(what string) {
		t.Helper()
		a := f.upload("", body)
		if a.status != 503 || a.header.Get("Retry-After") == "" || strings.Contains(string(a.body), "relation") || strings.Contains(string(a.body), f.Home) {
			t.Errorf("%s: %d, %v, %s", what, a.status, a.header, a.body)
		}
	}
	exec(`alter table gantry.arrival rename to gone`)
	refused("no table")
	exec(`alter table gantry.gone rename to arrival`)
	blobs := filepath.Join(f.Home, "blobs")
	if err := os.Rename(blobs, blobs+".gone"); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(blobs, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	large := f.upload("", make([]byte, 1<<20)) // more than is kept in memory
	if err := os.Remove(blobs); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(blobs+".gone", blobs); err != nil {
		t.Fatal(err)
	}
	if large.status != 503 || large.header.Get("Retry-After") == "" {
		t.Errorf("without a folder: %d, %s", large.status, large.body)
	}
	if a := f.upload("?wait=20s", noise(200, [32]byte{7})); a.status != 201 || a.said.State != "done" {
		t.Errorf("afterwards: %d, %s", a.status, a.body)
	}
}

// TestTwoSourcesOfUploads: a request could not say which it means.
func TestTwoSourcesOfUploads(t *testing.T) {
	t.Parallel()
	r := newRig(t, nil)
	src := strings.Replace(up("http://127.0.0.1:1"), "{door: {kind: http, max_mib: 1}}", "{a: {kind: http}, b: {kind: http}}", 1)
	p, err := pipeline.Parse("test.yaml", []byte(strings.ReplaceAll(src, "@OUT@", r.out)), all.Drivers(), r.Lookup)
	if err != nil {
		t.Fatal(err)
	}
	if err := r.Serve(t.Context(), []*gantry.Pipeline{p}); gantry.KindOf(err) != gantry.Illegal || !strings.Contains(fmt.Sprint(err), "two sources") {
		t.Errorf("%v", err)
	}
	if _, err := r.Upload(t.Context(), api.Upload{Pipeline: "up", Body: strings.NewReader("x")}); gantry.KindOf(err) != gantry.Unavailable {
		t.Errorf("an upload before it serves: %v", err)
	}
}
