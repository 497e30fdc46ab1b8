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
	"path"
	"slices"
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
	"github.com/gantry-imaging/gantry/internal/postgres"
)

// unruly stands before an S3 server. It does each wrong once to each key, and to each third listing.
type unruly struct {
	proxy *httputil.ReverseProxy

	mu       sync.Mutex
	times    map[string]int // by method and path
	listings int
}

func (u *unruly) count(r *http.Request) (nth int, listing bool) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if r.URL.Query().Has("list-type") {
		u.listings++
		return u.listings, true
	}
	u.times[r.Method+r.URL.Path]++
	return u.times[r.Method+r.URL.Path], false
}

// ServeHTTP does wrong or passes the request on.
func (u *unruly) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	nth, listing := u.count(r)
	switch {
	case listing && nth%3 == 2, nth == 1 && r.Method == http.MethodGet && !listing, nth == 1 && r.Method == http.MethodPut:
		io.Copy(io.Discard, r.Body)
		w.WriteHeader(http.StatusServiceUnavailable)
		io.WriteString(w, `<Error><Code>SlowDown</Code></Error>`)
	case nth == 2 && r.Method == http.MethodGet && !listing: // half of the body
		rec := httptest.NewRecorder()
		u.proxy.ServeHTTP(rec, r)
		for k, v := range rec.Header() {
			w.Header()[k] = v
		}
		w.WriteHeader(rec.Code)
		w.Write(rec.Body.Bytes()[:rec.Body.Len()/2])
		panic(http.ErrAbortHandler)
	case nth == 2 && r.Method == http.MethodPut: // kept, and not answered
		u.proxy.ServeHTTP(httptest.NewRecorder(), r)
		panic(http.ErrAbortHandler)
	default:
		u.proxy.ServeHTTP(w, r)
	}
}

// From bucket to bucket over a server that does everything wrong once: all is delivered, each byte
// right, and what went wrong is on record.
func TestS3OverAnUnrulyServer(t *testing.T) {
	t.Parallel()
	server := s3test.Start(t)
	behind, _ := url.Parse(server.Endpoint)
	front := httptest.NewServer(&unruly{times: map[string]int{}, proxy: &httputil.ReverseProxy{Rewrite: func(r *httputil.ProxyRequest) {
		r.SetURL(behind)
		r.Out.Host = r.In.Host // it is signed
	}}})
	t.Cleanup(front.Close)
	client := s3.New(s3.Options{BaseEndpoint: &server.Endpoint, Region: "us-east-1", UsePathStyle: true,
		Credentials: credentials.NewStaticCredentialsProvider(server.AccessKey, server.SecretKey, "")})
	for _, name := range []string{"inbox", "results"} {
		if _, err := client.CreateBucket(t.Context(), &s3.CreateBucketInput{Bucket: aws.String(name)}); err != nil {
			t.Fatal(err)
		}
	}
	bodies := map[string]bool{} // by digest
	for i := range 5 {
		body := noise(100, [32]byte{byte(i)})
		bodies[digest(body)] = true
		key := fmt.Sprintf("in/DOE^JANE %d.png", i)
		if _, err := client.PutObject(t.Context(), &s3.PutObjectInput{Bucket: aws.String("inbox"), Key: &key, Body: bytes.NewReader(body)}); err != nil {
			t.Fatal(err)
		}
	}
	model := serve(t, func(w http.ResponseWriter, _ *http.Request, body []byte, _ int) { answerPNG(w, body) })
	r := newRig(t, map[string]string{"ID": server.AccessKey, "SECRET": server.SecretKey})
	p, err := pipeline.Parse("test.yaml", fmt.Appendf(nil, `gantry: v1
name: unruly
sources: {inbox: {kind: s3, bucket: inbox, prefix: in/, endpoint: %[1]q, path_style: true, poll: 50ms, auth: gateway}}
sinks: {results: {kind: s3, bucket: results, prefix: out/, endpoint: %[1]q, path_style: true, auth: gateway}}
stages: [{name: enhance, call: model}]
processors: {model: {kind: http, url: %[2]q}}
auth: {gateway: {kind: aws, access_key_id: "${env:ID}", secret_access_key: "${env:SECRET}"}}
retry: {attempts: 9, initial: 50ms}
`, front.URL, model.URL), all.Drivers(), r.Lookup)
	if err != nil {
		t.Fatal(err)
	}
	r.serveUntilDone(p, len(bodies))

	out, err := client.ListObjectsV2(t.Context(), &s3.ListObjectsV2Input{Bucket: aws.String("results")})
	if err != nil {
		t.Fatal(err)
	}
	var answers []string
	for _, x := range model.all() {
		if !bodies[x.sum] {
			t.Error("the service saw other bytes than those in the bucket")
		}
		answers = append(answers, x.answer)
	}
	manifests := 0
	for _, x := range out.Contents {
		key := aws.ToString(x.Key)
		if path.Base(key) == "_manifest.json" {
			manifests++
		} else if strings.HasSuffix(key, ".png") {
			got, err := client.GetObject(t.Context(), &s3.GetObjectInput{Bucket: aws.String("results"), Key: &key})
			if err != nil {
				t.Fatal(err)
			}
			body, _ := io.ReadAll(got.Body)
			got.Body.Close()
			if !slices.Contains(answers, digest(body)) {
				t.Errorf("a result of %d bytes is none of the answers", len(body))
			}
		}
	}
	if manifests != len(bodies) || strings.Contains(r.log.text(), "DOE^JANE") {
		t.Errorf("%d manifests; the log: %s", manifests, r.log.text())
	}
	r.wantFaultsOnRecord()
}

// serveUntilDone watches and works until n tasks have ended.
func (r *rig) serveUntilDone(p *gantry.Pipeline, n int) {
	r.t.Helper()
	ctx, cancel := context.WithTimeout(r.t.Context(), 60*time.Second)
	defer cancel()
	done := make(chan error, 1)
	go func() { done <- r.Serve(ctx, []*gantry.Pipeline{p}) }()
	for ended := 0; ended < n && ctx.Err() == nil; time.Sleep(20 * time.Millisecond) {
		list, err := r.Store.Tasks(ctx, postgres.Filter{State: "done"})
		if err != nil {
			r.t.Fatal(err)
		}
		ended = len(list)
	}
	if ctx.Err() != nil {
		r.t.Errorf("not all tasks are done\n%s", r.log.text())
	}
	cancel()
	if err := <-done; err != nil && ctx.Err() == nil {
		r.t.Errorf("serve: %v", err)
	}
}

func (r *rig) wantFaultsOnRecord() {
	r.t.Helper()
	calls, err := r.Store.Calls(r.t.Context(), postgres.Filter{})
	if err != nil {
		r.t.Fatal(err)
	}
	seen := map[string]int{}
	for _, c := range calls {
		seen[c.Boundary+" "+c.Outcome+" "+c.ErrorKind+" "+c.ErrorCode]++
	}
	for _, want := range []string{"source failed unavailable slow_down", "sink failed unavailable slow_down", "source ok  ", "sink ok  "} {
		if seen[want] < 5 {
			r.t.Errorf("%q is on record %d times: %v", want, seen[want], seen)
		}
	}
	traffic, err := r.Store.ControlTraffic(r.t.Context(), postgres.Filter{})
	if err != nil {
		r.t.Fatal(err)
	}
	failures, fine := 0, 0
	for _, x := range traffic {
		if x.ErrorKind == "unavailable" && x.Status == http.StatusServiceUnavailable {
			failures++
		} else if x.Failures == 0 {
			fine += x.Requests
		}
	}
	if failures == 0 || fine == 0 {
		r.t.Errorf("listings on record: %d failed, %d went through: %+v", failures, fine, traffic)
	}
}
