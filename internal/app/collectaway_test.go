package app_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"regexp"
	"sync"
	"testing"
	"time"

	"github.com/gantry-imaging/gantry/internal/driver/all"
	"github.com/gantry-imaging/gantry/internal/gantry"
	"github.com/gantry-imaging/gantry/internal/pipeline"
)

// modified is when an object of a listing was written.
var modified = regexp.MustCompile(`<LastModified>[^<]*</LastModified>`)

// serveUntil serves a pipeline until it is stopped, which it may be more than once.
func (r *rig) serveUntil(p *gantry.Pipeline) (stop func()) {
	ctx, cancel := context.WithCancel(context.WithoutCancel(r.t.Context()))
	done := make(chan error, 1)
	go func() { done <- r.Serve(ctx, []*gantry.Pipeline{p}) }()
	return sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			r.t.Errorf("serve: %v", err)
		}
	})
}

// minuteLater lets a minute pass for what is collected.
func (r *rig) minuteLater() {
	r.t.Helper()
	r.exec(`update gantry.source_state set at = at - interval '1 min', watched_at = watched_at - interval '1 min'`)
	r.exec(`update gantry.collection set due = due - interval '1 min', cap = cap - interval '1 min', last_at = last_at - interval '1 min'`)
}

// longAgo is the depot as one whose objects are years old.
func (d *depot) longAgo() string {
	behind, _ := url.Parse(d.front)
	old := httptest.NewServer(&httputil.ReverseProxy{
		Rewrite: func(q *httputil.ProxyRequest) { q.SetURL(behind); q.Out.Host = q.In.Host },
		ModifyResponse: func(resp *http.Response) error {
			if resp.Request.URL.Query().Get("list-type") == "" {
				return nil
			}
			b, err := io.ReadAll(resp.Body)
			b = modified.ReplaceAll(b, []byte("<LastModified>2020-01-01T00:00:00Z</LastModified>"))
			resp.Body, resp.ContentLength = io.NopCloser(bytes.NewReader(b)), int64(len(b))
			resp.Header.Set("Content-Length", fmt.Sprint(len(b)))
			return err
		}})
	d.t.Cleanup(old.Close)
	return old.URL
}

// TestTakeUpDividesNoFolder: the take-up of what was there before waits while many tasks are queued; the folder in whose middle that happens is one task all the same.
func TestTakeUpDividesNoFolder(t *testing.T) {
	t.Parallel()
	const n = 1100
	s := serve(t, scoring)
	env := map[string]string{}
	r := newRig(t, env)
	d := newDepot(t, env, false)
	var wg sync.WaitGroup
	for w := range 8 {
		wg.Go(func() {
			for i := w; i < n; i += 8 {
				d.put(fmt.Sprintf("in/study/%04d.png", i), fmt.Appendf(nil, "slice %d", i))
			}
		})
	}
	wg.Wait()
	p, err := pipeline.Parse("test.yaml", fmt.Appendf(nil, `gantry: v1
name: ward
sources: {inbox: {kind: s3, bucket: inbox, prefix: in/, endpoint: %q, path_style: true, auth: gateway, poll: 100ms, copy: never}}
sinks: {out: {kind: dir, path: %q}}
group: {by: prefix, quiet: 3s, late: ignore}
stages: [{name: score, call: model}]
processors: {model: {kind: http, url: %q, timeout: 5s}}
auth: {gateway: {kind: aws, access_key_id: "${env:ID}", secret_access_key: "${env:SECRET}"}}
`, d.longAgo(), r.out, s.URL), all.Drivers(), r.Lookup)
	if err != nil {
		t.Fatal(err)
	}
	// 10,000 tasks of the source are queued, as in the middle of the take-up of a large bucket.
	limiter, err := r.Store.EnsureLimiter(t.Context(), "pipeline:ward", gantry.LimiterSpec{MaxUnits: -1}, true)
	if err != nil {
		t.Fatal(err)
	}
	lane, err := r.Store.EnsureLane(t.Context(), "ward", "inbox", limiter, 0)
	if err != nil {
		t.Fatal(err)
	}
	r.hold("ward")
	r.exec(fmt.Sprintf(`insert into gantry.task_hot(id, lane, state_until) select 1000000000 + n, %d, now() + interval '1 h' from generate_series(1, 10000) n`, lane))
	defer r.serveUntil(p)()
	r.eventually("the first are not taken", func() bool { return r.count(`select count(*) from arrival`) >= 1000 })
	r.eventually("it is not closed", func() bool { return r.count(`select count(*) from collection where closed`) == 1 })
	r.exec(`delete from gantry.task_hot where id > 1000000000`) // they are done: there is room again
	r.eventually("the others are not taken", func() bool { return r.count(`select count(*) from arrival`) == n })
	time.Sleep(time.Second)
	members := r.count(`select coalesce(max(arrivals), 0) from collection`)
	if ignored := r.count(`select count(*) from arrival where status <> 0`); members != n {
		t.Errorf("the task is of %d of %d objects that had been there for years; %d came late, since gantry let them wait", members, n, ignored)
	}
}

// TestAbsenceIsNoQuiet: while gantry is away nothing can come, so that is no quiet: what was put meanwhile belongs to the collection that was open.
func TestAbsenceIsNoQuiet(t *testing.T) {
	t.Parallel()
	s := serve(t, scoring)
	env := map[string]string{}
	r := newRig(t, env)
	d := newDepot(t, env, false)
	p, err := pipeline.Parse("test.yaml", fmt.Appendf(nil, `gantry: v1
name: ward
sources: {inbox: {kind: s3, bucket: inbox, prefix: in/, endpoint: %q, path_style: true, auth: gateway, poll: 100ms}}
sinks: {out: {kind: dir, path: %q}}
group: {by: prefix, quiet: 4s, late: ignore}
stages: [{name: score, call: model}]
processors: {model: {kind: http, url: %q, timeout: 5s}}
auth: {gateway: {kind: aws, access_key_id: "${env:ID}", secret_access_key: "${env:SECRET}"}}
`, d.front, r.out, s.URL), all.Drivers(), r.Lookup)
	if err != nil {
		t.Fatal(err)
	}
	stop := r.serveUntil(p)
	for i := range 2 {
		d.put(fmt.Sprintf("in/study/%d.png", i), noise(9, [32]byte{byte(i)}))
	}
	r.eventually("two are not taken", func() bool { return r.count(`select count(*) from collection_member`) == 2 })
	stop() // an upgrade
	for i := range 2 {
		time.Sleep(2500 * time.Millisecond) // never longer than quiet
		d.put(fmt.Sprintf("in/study/%d.png", 2+i), noise(9, [32]byte{byte(2 + i)}))
	}
	defer r.serveUntil(p)()
	r.eventually("it is not closed", func() bool { return r.count(`select count(*) from collection where closed`) == 1 })
	r.eventually("not all are on record", func() bool { return r.count(`select count(*) from arrival`) == 4 })
	if n := r.count(`select arrivals from collection`); n != 4 {
		t.Errorf("the task is of %d of 4 files; %d were ignored", n, r.count(`select count(*) from arrival where status <> 0`))
	}
}

// TestWorkerAlone: what is quiet while nothing but a worker runs waits until its source is watched again, and is closed then with what came meanwhile.
func TestWorkerAlone(t *testing.T) {
	t.Parallel()
	s := serve(t, scoring)
	r := newRig(t, nil)
	inbox := t.TempDir()
	p, err := pipeline.Parse("test.yaml", fmt.Appendf(nil, "%ssources: {inbox: {kind: dir, path: %q}}\nsinks: {out: {kind: dir, path: %q}}\n",
		collecting(s.URL, "{by: prefix, quiet: 4s, late: ignore}"), inbox, r.out), all.Drivers(), r.Lookup)
	if err != nil {
		t.Fatal(err)
	}
	stop := r.serveUntil(p)
	put(t, inbox, "a/1.png", noise(9, [32]byte{1}))
	r.eventually("it is not taken", func() bool { return r.count(`select count(*) from collection_member`) == 1 })
	stop()
	worker := r.beside()
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- worker.Work(ctx, nil) }()
	put(t, inbox, "a/2.png", noise(9, [32]byte{2}))
	// One of a source that nobody ever reported is due a moment later.
	r.exec(`insert into gantry.collection(pipeline, key_mac, source, version, lane, due, cap, reason)
		select pipeline, '\x01', 'elsewhere', version, lane, due + interval '1 ms', cap, reason from gantry.collection`)
	r.eventually("the worker closes nothing", func() bool {
		return r.count(`select count(*) from collection where closed and source = 'elsewhere'`) == 1
	})
	if n := r.count(`select count(*) from collection where closed`); n != 1 {
		t.Error("a collection was closed for quiet though nobody watched its source")
	}
	defer r.serveUntil(p)()
	r.wantSets("1.png 2.png")
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
}

// TestAwayAtTheEnd: what was put while gantry was away has time to be found, though nearly nothing of quiet was left.
func TestAwayAtTheEnd(t *testing.T) {
	t.Parallel()
	s := serve(t, scoring)
	r := newRig(t, nil)
	inbox := t.TempDir()
	p, err := pipeline.Parse("test.yaml", fmt.Appendf(nil, "%ssources: {inbox: {kind: dir, path: %q}}\nsinks: {out: {kind: dir, path: %q}}\n",
		collecting(s.URL, "{by: prefix, quiet: 4s, late: ignore}"), inbox, r.out), all.Drivers(), r.Lookup)
	if err != nil {
		t.Fatal(err)
	}
	stop := r.serveUntil(p)
	put(t, inbox, "a/1.png", noise(9, [32]byte{1}))
	r.eventually("it is not taken", func() bool { return r.count(`select count(*) from collection_member`) == 1 })
	r.eventually("its end is not near", func() bool {
		return r.count(`select count(*) from collection where due < clock_timestamp() + interval '700 ms'`) == 1
	})
	stop()
	put(t, inbox, "a/2.png", noise(9, [32]byte{2}))
	r.minuteLater()
	defer r.serveUntil(p)()
	r.wantSets("1.png 2.png")
}
