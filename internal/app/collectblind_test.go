package app_test

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"

	"github.com/gantry-imaging/gantry/internal/driver/all"
	"github.com/gantry-imaging/gantry/internal/pipeline"
)

// TestBlindIsNoQuiet: while the bucket cannot be looked at nothing that comes is seen, so that is no quiet, though gantry runs on.
func TestBlindIsNoQuiet(t *testing.T) {
	t.Parallel()
	s := serve(t, scoring)
	env := map[string]string{}
	r := newRig(t, env)
	d := newDepot(t, env, false)
	behind, _ := url.Parse(d.front)
	pass := &httputil.ReverseProxy{Rewrite: func(q *httputil.ProxyRequest) { q.SetURL(behind); q.Out.Host = q.In.Host }}
	var away atomic.Bool
	front := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) {
		if away.Load() {
			w.WriteHeader(http.StatusServiceUnavailable)
			return
		}
		pass.ServeHTTP(w, q)
	}))
	t.Cleanup(front.Close)
	p, err := pipeline.Parse("test.yaml", fmt.Appendf(nil, `%ssources: {inbox: {kind: s3, bucket: inbox, prefix: in/, endpoint: %q, path_style: true, auth: gateway, poll: 100ms}}
sinks: {out: {kind: dir, path: %q}}
auth: {gateway: {kind: aws, access_key_id: "${env:ID}", secret_access_key: "${env:SECRET}"}}
`, collecting(s.URL, "{by: prefix, quiet: 4s, late: ignore}"), front.URL, r.out), all.Drivers(), r.Lookup)
	if err != nil {
		t.Fatal(err)
	}
	defer r.serveUntil(p)()
	d.put("in/a/1.png", noise(9, [32]byte{1}))
	r.eventually("it is not taken", func() bool { return r.count(`select count(*) from collection_member`) == 1 })
	away.Store(true)
	r.eventually("nobody notices", func() bool {
		return r.count(`select count(*) from source_state where error_over is null and error_code is not null`) == 1
	})
	d.put("in/a/2.png", noise(9, [32]byte{2}))
	r.eventually("it is not due", func() bool {
		return r.count(`select count(*) from collection where due < clock_timestamp() - interval '2 s'`) == 1
	})
	if n := r.count(`select count(*) from collection where closed`); n != 0 {
		t.Error("it was closed for quiet though nobody could look")
	}
	away.Store(false)
	r.wantSets("1.png 2.png")
}

// TestFolderAwayIsNoQuiet: while a folder is away nothing that comes is seen, though gantry runs on.
func TestFolderAwayIsNoQuiet(t *testing.T) {
	t.Parallel()
	s := serve(t, scoring)
	r := newRig(t, nil)
	share := filepath.Join(t.TempDir(), "share")
	if err := os.Mkdir(share, 0o755); err != nil {
		t.Fatal(err)
	}
	p, err := pipeline.Parse("test.yaml", fmt.Appendf(nil, "%ssources: {inbox: {kind: dir, path: %q}}\nsinks: {out: {kind: dir, path: %q}}\n",
		collecting(s.URL, "{by: prefix, quiet: 6s, late: ignore}"), share, r.out), all.Drivers(), r.Lookup)
	if err != nil {
		t.Fatal(err)
	}
	defer r.serveUntil(p)()
	put(t, share, "a/1.png", noise(9, [32]byte{1}))
	r.eventually("it is not taken", func() bool { return r.count(`select count(*) from collection_member`) == 1 })
	if err := os.Rename(share, share+"-away"); err != nil {
		t.Fatal(err)
	}
	put(t, share+"-away", "a/2.png", noise(9, [32]byte{2}))
	r.eventually("it is not due", func() bool {
		return r.count(`select count(*) from collection where due < clock_timestamp() - interval '2 s'`) == 1
	})
	if n := r.count(`select count(*) from collection where closed`); n != 0 {
		t.Error("it was closed for quiet though nobody could look")
	}
	if err := os.Rename(share+"-away", share); err != nil {
		t.Fatal(err)
	}
	r.wantSets("1.png 2.png")
}

// TestHungIsNoQuiet: nor is anything seen of a bucket that does not answer from when gantry begins on, though that is told of later.
func TestHungIsNoQuiet(t *testing.T) {
	t.Parallel()
	s := serve(t, scoring)
	env := map[string]string{}
	r := newRig(t, env)
	d := newDepot(t, env, false)
	behind, _ := url.Parse(d.front)
	pass := &httputil.ReverseProxy{Rewrite: func(q *httputil.ProxyRequest) { q.SetURL(behind); q.Out.Host = q.In.Host }}
	var hung atomic.Bool
	answer := make(chan struct{})
	front := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) {
		if hung.Load() {
			select {
			case <-answer:
			case <-q.Context().Done():
				return
			}
		}
		pass.ServeHTTP(w, q)
	}))
	t.Cleanup(front.Close)
	p, err := pipeline.Parse("test.yaml", fmt.Appendf(nil, `%ssources: {inbox: {kind: s3, bucket: inbox, prefix: in/, endpoint: %q, path_style: true, auth: gateway, poll: 100ms}}
sinks: {out: {kind: dir, path: %q}}
auth: {gateway: {kind: aws, access_key_id: "${env:ID}", secret_access_key: "${env:SECRET}"}}
`, collecting(s.URL, "{by: prefix, quiet: 4s, late: ignore}"), front.URL, r.out), all.Drivers(), r.Lookup)
	if err != nil {
		t.Fatal(err)
	}
	stop := r.serveUntil(p)
	d.put("in/a/1.png", noise(9, [32]byte{1}))
	r.eventually("it is not taken", func() bool { return r.count(`select count(*) from collection_member`) == 1 })
	r.eventually("its end is not near", func() bool {
		return r.count(`select count(*) from collection where due < clock_timestamp() + interval '700 ms'`) == 1
	})
	stop()
	d.put("in/a/2.png", noise(9, [32]byte{2}))
	r.minuteLater()
	hung.Store(true)
	defer r.serveUntil(p)()
	r.eventually("it is not due", func() bool {
		return r.count(`select count(*) from collection, source_state where watched_at > clock_timestamp() - interval '40 s' and due < clock_timestamp() - interval '2 s'`) == 1
	})
	if n := r.count(`select count(*) from collection where closed`); n != 0 {
		t.Error("it was closed for quiet though nobody could look")
	}
	close(answer)
	r.wantSets("1.png 2.png")
}
