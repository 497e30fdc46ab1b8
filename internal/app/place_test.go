package app_test

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"

	"github.com/gantry-imaging/gantry/internal/app"
	"github.com/gantry-imaging/gantry/internal/driver/all"
	"github.com/gantry-imaging/gantry/internal/gantry"
	"github.com/gantry-imaging/gantry/internal/pipeline"
	"github.com/gantry-imaging/gantry/internal/postgres"
)

// watches is a pipeline that takes from a bucket.
func (r *rig) watches(bucket, endpoint, url, more string) *gantry.Pipeline {
	r.t.Helper()
	p, err := pipeline.Parse("test.yaml", fmt.Appendf(nil, `gantry: v1
name: places
sources: {inbox: {kind: s3, bucket: %s, prefix: in/, endpoint: %q, poll: 50ms, auth: gateway%s}}
sinks: {out: {kind: dir, path: %q}}
stages: [{name: score, call: model}]
processors: {model: {kind: http, url: %q, timeout: 5s}}
auth: {gateway: {kind: aws, access_key_id: "${env:ID}", secret_access_key: "${env:SECRET}"}}
`, bucket, endpoint, more, r.out, url), all.Drivers(), r.Lookup)
	if err != nil {
		r.t.Fatal(err)
	}
	return p
}

// refusedPlaces serves, which is refused for where the sources take from, and gives what was said.
func (r *rig) refusedPlaces(pipelines []*gantry.Pipeline, shared ...gantry.Shared) string {
	r.t.Helper()
	ctx, cancel := context.WithTimeout(r.t.Context(), 30*time.Second)
	defer cancel()
	err := r.Serve(ctx, pipelines, shared...)
	if gantry.CodeOf(err) != app.CodeOtherPlace || gantry.KindOf(err) != gantry.Illegal {
		r.t.Fatalf("it serves, or says: %v", err)
	}
	return err.Error()
}

// TestAnotherBucketIsRefused: a source whose file names another bucket is not served, and nothing of it is taken, until somebody says that it
// moved. The same bucket under another address is the same.
func TestAnotherBucketIsRefused(t *testing.T) {
	t.Parallel()
	s := serve(t, scoring)
	env := map[string]string{}
	r := newRig(t, env)
	d := newDepot(t, env, false)
	if _, err := d.CreateBucket(t.Context(), &s3.CreateBucketInput{Bucket: aws.String("second")}); err != nil {
		t.Fatal(err)
	}
	watches := func(bucket, endpoint, more string) *gantry.Pipeline {
		return r.watches(bucket, endpoint, s.URL+"/score", more)
	}
	done := func(n int, p *gantry.Pipeline) {
		t.Helper()
		r.servingRoutes([]*gantry.Pipeline{p}, nil, func() bool { return r.number(`select count(*) from task where final_state = 5`) == n })
	}
	a, b, c := noise(30, [32]byte{1}), noise(30, [32]byte{2}), noise(30, [32]byte{3})
	for _, x := range []struct {
		bucket, key string
		body        []byte
	}{{"inbox", "in/a.png", a}, {"second", "in/a.png", a}, {"second", "in/b.png", b}} {
		d.putIn(x.bucket, x.key, x.body)
	}
	done(1, watches("inbox", d.front, ""))

	versions := r.number(`select count(*) from pipeline_version`)
	text := r.refusedPlaces([]*gantry.Pipeline{watches("second", d.front, "")})
	host := strings.Replace(strings.TrimPrefix(d.front, "http://"), "127.0.0.1", "localhost", 1)
	for _, want := range []string{"source places/inbox took from s3 " + host + "/inbox until now", "to take from s3 " + host + "/second:", "gantry source moved places/inbox"} {
		if !strings.Contains(text, want) {
			t.Errorf("no %q in: %s", want, text)
		}
	}
	if n := r.number(`select count(*) from arrival`); n != 1 || r.number(`select count(*) from pipeline_version`) != versions {
		t.Errorf("%d arrivals, or a version is on record that was not served", n)
	}

	d.putIn("inbox", "in/c.png", c)
	done(2, watches("inbox", "http://"+host, ", path_style: true, region: eu-west-1"))
	if place, err := r.Store.SourceMoved(t.Context(), "places/inbox"); err != nil || place != "s3 "+host+"/inbox" {
		t.Errorf("it was at %q: %v", place, err)
	}
	done(3, watches("second", d.front, ""))
	if got := slices.Sorted(maps.Keys(r.arrivals("places/inbox"))); strings.Join(got, " ") != "a.png b.png c.png" {
		t.Errorf("taken: %s", got)
	}
	r.refusedPlaces([]*gantry.Pipeline{watches("inbox", d.front, "")})
}

// TestAllThatMovedIsSaid names every source that took from elsewhere, shared ones too, at once.
func TestAllThatMovedIsSaid(t *testing.T) {
	t.Parallel()
	s := serve(t, scoring)
	env := map[string]string{}
	r := newRig(t, env)
	d := newDepot(t, env, false)
	if _, err := r.Store.SettleSources(t.Context(), []postgres.SourcePlace{{Source: "places/inbox", Place: "s3 aws/a"}, {Source: "incoming", Place: "s3 aws/b"}}); err != nil {
		t.Fatal(err)
	}
	text := r.refusedPlaces([]*gantry.Pipeline{r.watches("inbox", d.front, s.URL+"/score", ""), r.branch("each", s.URL+"/score", "")}, r.shared(d.incoming(`{to: each}`, ""))...)
	for _, want := range []string{"places/inbox took from s3 aws/a", "incoming took from s3 aws/b", "gantry source moved incoming"} {
		if !strings.Contains(text, want) {
			t.Errorf("no %q in: %s", want, text)
		}
	}
	if n := r.number(`select count(*) from arrival`); n != 0 {
		t.Errorf("%d arrivals", n)
	}
}
