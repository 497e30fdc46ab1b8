package app_test

import (
	"bytes"
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/s3"

	"github.com/gantry-imaging/gantry/internal/driver/all"
	"github.com/gantry-imaging/gantry/internal/driver/s3/s3test"
	"github.com/gantry-imaging/gantry/internal/gantry"
	"github.com/gantry-imaging/gantry/internal/pipeline"
)

// inbox is a bucket on a real server, behind a proxy that can deny objects and counts what is read.
type inbox struct {
	*s3.Client
	t      *testing.T
	server *s3test.Server
	url    string

	mu    sync.Mutex
	gone  map[string]bool // keys that are not there, though listings show them
	reads map[string]int
}

func newInbox(t *testing.T) *inbox {
	t.Helper()
	b := &inbox{t: t, server: s3test.Start(t), gone: map[string]bool{}, reads: map[string]int{}}
	behind, _ := url.Parse(b.server.Endpoint)
	proxy := &httputil.ReverseProxy{Rewrite: func(r *httputil.ProxyRequest) {
		r.SetURL(behind)
		r.Out.Host = r.In.Host // it is signed
	}}
	front := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		key := strings.TrimPrefix(r.URL.Path, "/inbox/")
		b.mu.Lock()
		gone := b.gone[key]
		if r.Method == http.MethodGet && !r.URL.Query().Has("list-type") {
			b.reads[key]++
		}
		b.mu.Unlock()
		if gone {
			w.WriteHeader(http.StatusNotFound)
			return
		}
		proxy.ServeHTTP(w, r)
	}))
	t.Cleanup(front.Close)
	b.url = front.URL
	b.Client = s3.New(s3.Options{BaseEndpoint: &b.server.Endpoint, Region: "us-east-1", UsePathStyle: true,
		Credentials: credentials.NewStaticCredentialsProvider(b.server.AccessKey, b.server.SecretKey, "")})
	for _, name := range []string{"inbox", "results"} {
		if _, err := b.CreateBucket(t.Context(), &s3.CreateBucketInput{Bucket: aws.String(name)}); err != nil {
			t.Fatal(err)
		}
	}
	return b
}

func (b *inbox) put(key string, n byte) {
	b.t.Helper()
	if _, err := b.PutObject(b.t.Context(), &s3.PutObjectInput{Bucket: aws.String("inbox"), Key: &key, Body: bytes.NewReader(noise(20, [32]byte{n}))}); err != nil {
		b.t.Fatal(err)
	}
}

// set says whether a key is there.
func (b *inbox) set(key string, gone bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.gone[key] = gone
}

func (b *inbox) read(key string) int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.reads[key]
}

// pipeline takes what comes into the bucket, and into a folder.
func (b *inbox) pipeline(r *rig, folder string) *gantry.Pipeline {
	b.t.Helper()
	model := serve(b.t, func(w http.ResponseWriter, _ *http.Request, body []byte, _ int) { answerPNG(w, body) })
	p, err := pipeline.Parse("test.yaml", fmt.Appendf(nil, `gantry: v1
name: p
sources:
  in: {kind: s3, bucket: inbox, endpoint: %q, path_style: true, poll: 50ms, auth: gateway}
  dir: {kind: dir, path: %q, settle: 10ms}
sinks: {results: {kind: dir, path: %q}}
stages: [{name: enhance, call: model}]
processors: {model: {kind: http, url: %q}}
auth: {gateway: {kind: aws, access_key_id: "${env:ID}", secret_access_key: "${env:SECRET}"}}
`, b.url, folder, r.out, model.URL), all.Drivers(), r.Lookup)
	if err != nil {
		b.t.Fatal(err)
	}
	return p
}

// bringing serves a pipeline while f looks, and gives the sources after that.
func (r *rig) bringing(p *gantry.Pipeline, f func(ask func() map[string]gantry.SourceStatus)) map[string]gantry.SourceStatus {
	r.t.Helper()
	ask := func() map[string]gantry.SourceStatus {
		list, err := r.Sources(context.WithoutCancel(r.t.Context()))
		if err != nil {
			r.t.Fatal(err)
		}
		out := map[string]gantry.SourceStatus{}
		for _, x := range list {
			out[x.Source] = x
		}
		return out
	}
	ctx, stop := context.WithCancel(r.t.Context())
	done := make(chan error, 1)
	go func() { done <- r.Serve(ctx, []*gantry.Pipeline{p}) }()
	f(ask)
	stop()
	if err := <-done; err != nil {
		r.t.Errorf("serve: %v", err)
	}
	return ask()
}

// eventually waits for something.
func eventually(t *testing.T, what string, f func() bool) {
	t.Helper()
	for end := time.Now().Add(within); !f(); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("%s did not come", what)
		}
	}
}

// The database is the memory of a source: after a restart nothing is read again, what came meanwhile is taken, and
// what each source brought is known.
func TestSourceStatus(t *testing.T) {
	t.Parallel()
	b := newInbox(t)
	r := newRig(t, map[string]string{"ID": b.server.AccessKey, "SECRET": b.server.SecretKey})
	folder := t.TempDir()
	p := b.pipeline(r, folder)
	for i := range 3 {
		b.put(fmt.Sprintf("DOE^JANE %d", i), byte(i))
	}
	if err := os.WriteFile(filepath.Join(folder, "DOE^JANE.png"), noise(20, [32]byte{99}), 0o600); err != nil {
		t.Fatal(err)
	}
	first := r.bringing(p, func(ask func() map[string]gantry.SourceStatus) {
		eventually(t, "four tasks", func() bool {
			return ask()["p/in"].Arrivals.Accepted == 3 && ask()["p/dir"].Arrivals.Accepted == 1
		})
	})
	in, dir := first["p/in"], first["p/dir"]
	if in.Kind != "s3" || len(in.Channels) != 1 || in.Channels[0].Channel != "poll" || in.Channels[0].Told != 3 || in.LastEvent == nil || in.Lag != nil || in.LastSweep == nil || in.LastSweep.Objects != 3 || in.Sweeps == 0 || in.Missed != 0 || in.Backlog {
		t.Errorf("the bucket: %+v", in)
	}
	if dir.Kind != "dir" || len(dir.Channels) != 1 || dir.Channels[0].Channel != "folder" || dir.Channels[0].Told != 1 || dir.LastSweep != nil || dir.LastError != nil {
		t.Errorf("the folder: %+v", dir)
	}
	b.put("DOE^JANE 9", 9)
	second := r.bringing(p, func(ask func() map[string]gantry.SourceStatus) {
		eventually(t, "the fourth object", func() bool { return ask()["p/in"].Arrivals.Accepted == 4 })
		before := ask()["p/in"].Sweeps
		eventually(t, "another sweep", func() bool { return ask()["p/in"].Sweeps > before+1 })
	})
	if in := second["p/in"]; in.Channels[0].Told != 4 || in.Lag == nil || in.Lag.Max <= 0 || in.Lag.Max > 60 || in.Lag.Half > in.Lag.Max || in.LastSweep.Objects != 4 || in.Missed != 0 || second["p/dir"].Channels[0].Told != 1 {
		t.Errorf("after a restart: %+v", in)
	}
	for i := range 3 {
		if n := b.read(fmt.Sprintf("DOE^JANE %d", i)); n != 1 {
			t.Errorf("object %d was read %d times", i, n)
		}
	}
	if strings.Contains(r.log.text(), "DOE^JANE") {
		t.Error("the log names an object")
	}
}

// An object that a server shows and does not give is on record as gone, is not asked for at each poll, and is taken
// when it is there after all.
func TestGoneAndBack(t *testing.T) {
	t.Parallel()
	b := newInbox(t)
	r := newRig(t, map[string]string{"ID": b.server.AccessKey, "SECRET": b.server.SecretKey})
	p := b.pipeline(r, t.TempDir())
	b.put("a", 1)
	b.set("a", true)
	b.put("b", 2)
	after := r.bringing(p, func(ask func() map[string]gantry.SourceStatus) {
		eventually(t, "the record", func() bool {
			x := ask()["p/in"]
			return x.Arrivals == gantry.ArrivalCounts{Accepted: 1, SourceGone: 1} && x.LastError != nil && x.LastError.Code == "source_gone" && x.LastError.Kind == "not_found"
		})
		time.Sleep(2 * time.Second) // 40 polls
		if n := b.read("a"); n > 4 {
			t.Errorf("it was asked for %d times", n)
		}
		b.set("a", false)
		eventually(t, "the object", func() bool { return ask()["p/in"].Arrivals.Accepted == 2 })
	})
	if x := after["p/in"]; (x.Arrivals != gantry.ArrivalCounts{Accepted: 2}) {
		t.Errorf("%+v", x)
	}
	if n := b.read("b"); n != 1 {
		t.Errorf("the other was read %d times", n)
	}
}
