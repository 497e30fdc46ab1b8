package app_test

import (
	"context"
	"fmt"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"

	"github.com/gantry-imaging/gantry/internal/app"
	"github.com/gantry-imaging/gantry/internal/driver/all"
	"github.com/gantry-imaging/gantry/internal/gantry"
	"github.com/gantry-imaging/gantry/internal/pipeline"
	"github.com/gantry-imaging/gantry/internal/postgres"
)

// open lets anybody do anything with a bucket, so that a proxy can change requests that nobody signed.
func (g gateway) open(bucket string) {
	g.t.Helper()
	policy := fmt.Sprintf(`{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Principal":"*","Action":["s3:*"],"Resource":["arn:aws:s3:::%s","arn:aws:s3:::%[1]s/*"]}]}`, bucket)
	if _, err := g.PutBucketPolicy(g.t.Context(), &s3.PutBucketPolicyInput{Bucket: &bucket, Policy: &policy}); err != nil {
		g.t.Fatal(err)
	}
}

// careless is a server that takes If-None-Match for nothing.
func (g gateway) careless() string {
	behind, _ := url.Parse(g.Endpoint)
	front := httptest.NewServer(&httputil.ReverseProxy{Rewrite: func(r *httputil.ProxyRequest) {
		r.SetURL(behind)
		r.Out.Header.Del("If-None-Match")
	}})
	g.t.Cleanup(front.Close)
	return front.URL
}

// A task that fails, is redriven and done, and is redriven again with other answers: its object is tagged, then moved, and the
// results of the second delivery lie beside those of the first, at a server that would replace them. What it does is told once
// and is control traffic.
func TestRerunsLieBesideOneAnother(t *testing.T) {
	t.Parallel()
	g := newGateway(t, "inbox", "results")
	g.open("results")
	g.put("inbox", "in/a.png", noise(100, [32]byte{1}))
	v := &versioned{}
	var mended atomic.Bool
	v.refuse = func(string, string) bool { return !mended.Load() }
	model := serve(t, v.serve)
	r := newRig(t, map[string]string{"ID": g.AccessKey, "SECRET": g.SecretKey})
	p, err := pipeline.Parse("test.yaml", fmt.Appendf([]byte(head("reruns")), `
sources: {inbox: {kind: s3, bucket: inbox, prefix: in/, endpoint: %q, path_style: true, poll: 50ms, auth: gateway, after: move, move_to: done/, after_failed: tag}}
sinks: {results: {kind: s3, bucket: results, endpoint: %q, path_style: true, key: "{task}/v{delivery}/{path}"}}
stages: [{name: enhance, call: a}]
processors: {a: {kind: http, url: "%s/a"}}
auth: {gateway: {kind: aws, access_key_id: "${env:ID}", secret_access_key: "${env:SECRET}"}}
`, g.Endpoint, g.careless(), model.URL), all.Drivers(), r.Lookup)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	done := make(chan error, 1)
	go func() { done <- r.Serve(ctx, []*gantry.Pipeline{p}) }()
	r.top("failed")
	r.eventually("what failed has no tag", func() bool {
		tags, err := g.GetObjectTagging(t.Context(), &s3.GetObjectTaggingInput{Bucket: aws.String("inbox"), Key: aws.String("in/a.png")})
		return err == nil && len(tags.TagSet) == 1 && aws.ToString(tags.TagSet[0].Value) == "failed"
	})
	mended.Store(true)
	if got := r.redrive(app.Selection{Parts: app.PartsFailed}); got.Result != app.ResultRedriven {
		t.Fatalf("%+v", got)
	}
	r.eventually("what is done after all does not move", func() bool { return slices.Equal(g.keys("inbox"), []string{"done/a.png"}) })
	id := r.top("done").ID
	v.change.Add(1)
	if got := r.redrive(app.Selection{Parts: app.PartsAll}); got.Result != app.ResultRedriven {
		t.Fatalf("%+v", got)
	}
	cancel()
	<-done
	want := []string{id + "/v0/_manifest.json", id + "/v0/enhance/000001.png", id + "/v1/_manifest.json", id + "/v1/enhance/000001.png"}
	if got := g.keys("results"); !slices.Equal(got, want) || string(g.read("results", want[1])) == string(g.read("results", want[3])) {
		t.Errorf("%q", got)
	}
	if n := strings.Count(r.log.text(), "code=not_conditional"); n != 1 {
		t.Errorf("told %d times\n%s", n, r.log.text())
	}
	traffic, err := r.Store.ControlTraffic(t.Context(), postgres.Filter{Boundary: "sink"})
	if err != nil || len(traffic) != 1 || traffic[0].Requests != 1 || traffic[0].Failures != 0 {
		t.Errorf("%+v, %v", traffic, err)
	}
	calls, err := r.Store.Calls(t.Context(), postgres.Filter{Boundary: "sink"})
	if err != nil || len(calls) != 4 {
		t.Errorf("%d deliveries on record, %v", len(calls), err)
	}
}

// Files of a folder go where their tasks' ends say.
func TestFilesMoveAfter(t *testing.T) {
	t.Parallel()
	bad := noise(20, [32]byte{1})
	v := &versioned{refuse: func(_, sum string) bool { return sum == digest(bad) }}
	model := serve(t, v.serve)
	r := newRig(t, nil)
	folder := t.TempDir()
	inbox := filepath.Join(folder, "in")
	if err := os.Mkdir(inbox, 0o700); err != nil {
		t.Fatal(err)
	}
	drop(t, inbox, "good.png", noise(20, [32]byte{2}))
	drop(t, inbox, "bad.png", bad)
	p, err := pipeline.Parse("test.yaml", fmt.Appendf([]byte(head("files")), `
sources: {inbox: {kind: dir, path: %q, settle: 10ms, after: move, move_to: %q, after_failed: move, failed_to: %q}}
sinks: {out: {kind: dir, path: %q, key: "{date}/{task}/{path}"}}
stages: [{name: enhance, call: a}]
processors: {a: {kind: http, url: "%s/a"}}
`, inbox, filepath.Join(folder, "done"), filepath.Join(inbox, ".failed"), r.out, model.URL), all.Drivers(), r.Lookup)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- r.Serve(ctx, []*gantry.Pipeline{p}) }()
	for _, name := range []string{"done/good.png", "in/.failed/bad.png"} {
		r.eventually(name+" is not there", func() bool { _, err := os.Stat(filepath.Join(folder, name)); return err == nil })
	}
	moved := func() (n int) {
		calls, err := r.Store.Calls(t.Context(), postgres.Filter{Boundary: "source"})
		for _, c := range calls {
			if err == nil && c.Operation == "move" && c.Outcome == "ok" {
				n++
			}
		}
		return n
	}
	r.eventually("the moves are not on record", func() bool { return moved() == 2 })
	cancel()
	<-done
	if left, err := filepath.Glob(filepath.Join(inbox, "*.png")); len(left) != 0 || err != nil || len(r.tasks()) != 2 {
		t.Errorf("%d files, %d tasks, %v", len(left), len(r.tasks()), err)
	}
}
