package app_test

import (
	"bytes"
	"context"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"

	"github.com/gantry-imaging/gantry/internal/driver/all"
	"github.com/gantry-imaging/gantry/internal/gantry"
	"github.com/gantry-imaging/gantry/internal/pipeline"
)

// A marker goes where the objects of its collection go, once their task has ended: it moves with those that are done, and gets the tag
// of those that failed. One that comes when all is over goes too; one whose collection is a task still stays.
func TestMarkersGoWithTheirCollections(t *testing.T) {
	t.Parallel()
	g := newGateway(t, "inbox", "results")
	bad := noise(100, [32]byte{99})
	held := make(chan struct{})
	slow := noise(100, [32]byte{98})
	model := serve(t, func(w http.ResponseWriter, r *http.Request, body []byte, _ int) {
		switch {
		case bytes.Equal(body, slow):
			select {
			case <-held:
			case <-r.Context().Done():
			}
			fallthrough
		default:
			answerPNG(w, body)
		case bytes.Equal(body, bad):
			w.WriteHeader(http.StatusUnprocessableEntity)
		}
	})
	for key, body := range map[string][]byte{"good/1.png": noise(100, [32]byte{1}), "good/2.png": noise(100, [32]byte{2}), "bad/1.png": bad, "slow/1.png": slow} {
		g.put("inbox", "in/"+key, body)
	}
	for _, folder := range []string{"good", "bad", "slow"} {
		g.put("inbox", "in/"+folder+"/_done", nil)
	}
	r := newRig(t, map[string]string{"ID": g.AccessKey, "SECRET": g.SecretKey})
	p, err := pipeline.Parse("test.yaml", fmt.Appendf([]byte(head("marked")), `
sources: {inbox: {kind: s3, bucket: inbox, prefix: in/, endpoint: %[1]q, path_style: true, poll: 50ms, copy: always, auth: gateway, after: move, move_to: done/, after_failed: tag}}
group: {by: prefix, marker: _done, quiet: 100ms}
sinks: {results: {kind: s3, bucket: results, endpoint: %[1]q, path_style: true, auth: gateway}}
stages: [{name: enhance, call: model}]
processors: {model: {kind: http, url: %[2]q}}
auth: {gateway: {kind: aws, access_key_id: "${env:ID}", secret_access_key: "${env:SECRET}"}}
`, g.Endpoint, model.URL), all.Drivers(), r.Lookup)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	done := make(chan error, 1)
	go func() { done <- r.Serve(ctx, []*gantry.Pipeline{p}) }()
	failed := func(key string) bool {
		tags, err := g.GetObjectTagging(t.Context(), &s3.GetObjectTaggingInput{Bucket: aws.String("inbox"), Key: &key})
		return err == nil && len(tags.TagSet) == 1 && aws.ToString(tags.TagSet[0].Value) == "failed"
	}
	stay := []string{"in/bad/1.png", "in/bad/_done", "in/slow/1.png", "in/slow/_done"}
	gone := []string{"done/good/1.png", "done/good/2.png", "done/good/_done"}
	r.eventually("the marker does not move with its collection", func() bool { return slices.Equal(g.keys("inbox"), slices.Concat(gone, stay)) })
	r.eventually("the marker has no tag", func() bool { return failed("in/bad/1.png") && failed("in/bad/_done") })
	g.put("inbox", "in/good/_done", []byte("once more"))
	r.eventually("a marker of what is over stays", func() bool {
		keys := g.keys("inbox")
		return len(keys) == 8 && !slices.Contains(keys, "in/good/_done") // the key to move to is taken
	})
	close(held)
	r.eventually("the last marker stays", func() bool { return slices.Contains(g.keys("inbox"), "done/slow/_done") })
	cancel()
	<-done
}

// The marker of a folder on a disk goes too.
func TestMarkersOfFoldersGo(t *testing.T) {
	t.Parallel()
	model := serve(t, func(w http.ResponseWriter, _ *http.Request, body []byte, _ int) { answerPNG(w, body) })
	r := newRig(t, nil)
	inbox := filepath.Join(t.TempDir(), "in")
	if err := os.MkdirAll(filepath.Join(inbox, "a"), 0o700); err != nil {
		t.Fatal(err)
	}
	drop(t, filepath.Join(inbox, "a"), "1.png", noise(20, [32]byte{1}))
	drop(t, filepath.Join(inbox, "a"), "_done", []byte("x"))
	p, err := pipeline.Parse("test.yaml", fmt.Appendf([]byte(head("folders")), `
sources: {inbox: {kind: dir, path: %q, settle: 10ms, after: delete}}
group: {by: prefix, marker: _done, quiet: 100ms}
sinks: {out: {kind: dir, path: %q}}
stages: [{name: enhance, call: model}]
processors: {model: {kind: http, url: %q}}
`, inbox, r.out, model.URL), all.Drivers(), r.Lookup)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- r.Serve(ctx, []*gantry.Pipeline{p}) }()
	r.eventually("something stays", func() bool {
		left, err := filepath.Glob(filepath.Join(inbox, "a", "*"))
		return err == nil && len(left) == 0
	})
	cancel()
	<-done
}

// What is a marker to one pipeline and a medium to another stays until both have done with it.
func TestMarkerThatIsAMedium(t *testing.T) {
	t.Parallel()
	held := make(chan struct{})
	s := serve(t, func(w http.ResponseWriter, r *http.Request, body []byte, n int) {
		if r.URL.Path == "/held" {
			select {
			case <-held:
			case <-r.Context().Done():
			}
		}
		scoring(w, r, body, n)
	})
	r := newRig(t, nil)
	in := t.TempDir()
	put(t, in, "f/0.png", noise(20, [32]byte{1}))
	put(t, in, "f/last.png", noise(20, [32]byte{2}))
	pipelines := []*gantry.Pipeline{r.branch("one", s.URL+"/held", "group: {by: prefix, quiet: 50ms, marker: last.png}"), r.branch("two", s.URL+"/score", "")}
	source := fmt.Sprintf("  shelf: {kind: dir, path: %q, settle: 10ms, match: all, after: delete, routes: [{to: one}, {to: two}]}\n", in)
	there := func() bool { _, err := os.Stat(filepath.Join(in, "f", "last.png")); return err == nil }
	r.servingRoutes(pipelines, r.shared(source), func() bool {
		if r.number(`select count(*) from task where arrival is not null and final_state = 5`) < 2 {
			return false
		}
		time.Sleep(1500 * time.Millisecond) // for what must not come
		if !there() {
			t.Error("the marker is gone before the collection's task has ended")
		}
		close(held)
		return true
	})
	r.servingRoutes(pipelines, r.shared(source), func() bool { return !there() })
}
