package app_test

import (
	"bytes"
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"strings"
	"sync"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"

	"github.com/gantry-imaging/gantry/internal/driver/all"
	"github.com/gantry-imaging/gantry/internal/driver/s3/s3test"
	"github.com/gantry-imaging/gantry/internal/gantry"
	"github.com/gantry-imaging/gantry/internal/pipeline"
	"github.com/gantry-imaging/gantry/internal/postgres"
)

// depot is a bucket on a real server behind a proxy that counts the requests for objects.
type depot struct {
	*s3.Client
	t     *testing.T
	front string

	mu       sync.Mutex
	gets     int
	asked    func(*http.Request)  // if set, is called before a request goes on
	answered func(*http.Response) // if set, may change what the server says
	// wrong, if set, may answer the nth request for an object itself.
	wrong func(nth int, w http.ResponseWriter, r *http.Request, pass http.Handler) bool
}

func newDepot(t *testing.T, env map[string]string, versions bool) *depot {
	t.Helper()
	server := s3test.Start(t)
	env["ID"], env["SECRET"] = server.AccessKey, server.SecretKey
	behind, _ := url.Parse(server.Endpoint)
	d := &depot{t: t}
	pass := &httputil.ReverseProxy{Rewrite: func(r *httputil.ProxyRequest) {
		r.SetURL(behind)
		r.Out.Host = r.In.Host // it is signed
	}, ModifyResponse: func(r *http.Response) error {
		if d.answered != nil {
			d.answered(r)
		}
		return nil
	}}
	front := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if d.asked != nil {
			d.asked(r)
		}
		if r.Method == http.MethodGet && strings.HasPrefix(r.URL.Path, "/inbox/in/") {
			d.mu.Lock()
			d.gets++
			n, wrong := d.gets, d.wrong
			d.mu.Unlock()
			if wrong != nil && wrong(n, w, r, pass) {
				return
			}
		}
		pass.ServeHTTP(w, r)
	}))
	t.Cleanup(front.Close)
	d.front = front.URL
	d.Client = s3.New(s3.Options{BaseEndpoint: &server.Endpoint, Region: "us-east-1", UsePathStyle: true,
		Credentials: credentials.NewStaticCredentialsProvider(server.AccessKey, server.SecretKey, "")})
	if _, err := d.CreateBucket(t.Context(), &s3.CreateBucketInput{Bucket: aws.String("inbox")}); err != nil {
		t.Fatal(err)
	}
	if versions {
		if _, err := d.PutBucketVersioning(t.Context(), &s3.PutBucketVersioningInput{Bucket: aws.String("inbox"),
			VersioningConfiguration: &types.VersioningConfiguration{Status: types.BucketVersioningStatusEnabled}}); err != nil {
			t.Fatal(err)
		}
	}
	return d
}

func (d *depot) put(key string, body []byte) { d.putIn("inbox", key, body) }

func (d *depot) putIn(bucket, key string, body []byte) {
	if _, err := d.PutObject(context.Background(), &s3.PutObjectInput{Bucket: &bucket, Key: &key, Body: bytes.NewReader(body)}); err != nil {
		d.t.Error(err)
	}
}

func (d *depot) count() int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.gets
}

// takes is a pipeline from the depot into the rig's folder.
func (r *rig) takes(d *depot, copy, extract, url string) *gantry.Pipeline {
	r.t.Helper()
	p, err := pipeline.Parse("test.yaml", fmt.Appendf(nil, `gantry: v1
name: in-place
sources: {inbox: {kind: s3, bucket: inbox, prefix: in/, endpoint: %q, path_style: true, poll: 50ms, copy: %s, auth: gateway}}
sinks: {out: {kind: dir, path: %q}}
extract: {%s}
stages: [{name: score, call: model}]
processors: {model: {kind: http, url: %q, timeout: 5s, limits: {concurrency: 8}}}
auth: {gateway: {kind: aws, access_key_id: "${env:ID}", secret_access_key: "${env:SECRET}"}}
retry: {attempts: 4, initial: 80ms}
`, d.front, copy, r.out, extract, url), all.Drivers(), r.Lookup)
	if err != nil {
		r.t.Fatal(err)
	}
	return p
}

// copied is how many objects were copied into the blob store.
func (r *rig) copied() (n int) {
	r.t.Helper()
	if err := r.Store.Pool().QueryRow(r.t.Context(), `select count(*) from arrival where location <> ''`).Scan(&n); err != nil {
		r.t.Fatal(err)
	}
	return n
}

// reads counts the reads of the source on record.
func (r *rig) reads() (ok, failed int, bytes int64) {
	r.t.Helper()
	calls, err := r.Store.Calls(r.t.Context(), postgres.Filter{})
	if err != nil {
		r.t.Fatal(err)
	}
	for _, c := range calls {
		switch {
		case c.Boundary != "source":
		case c.Outcome == "ok":
			ok++
			bytes += c.ResponseBytes
		default:
			failed++
		}
	}
	return ok, failed, bytes
}

// entries packs n different pictures of side x side pixels.
func entries(t *testing.T, n, side int) (archive []byte, sums map[string]bool) {
	t.Helper()
	sums = map[string]bool{}
	var list []entry
	for i := range n {
		b := noise(side, [32]byte{byte(i), byte(i >> 8), 7})
		sums[digest(b)] = true
		list = append(list, entry{name: fmt.Sprintf("DOE^JANE/%04d.png", i), body: b, stored: i%2 == 0})
	}
	return packed(t, list...), sums
}
