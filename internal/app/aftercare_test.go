package app_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"slices"
	"strings"
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

// gateway is a real S3 server with a client that may do everything.
type gateway struct {
	*s3.Client
	*s3test.Server
	t *testing.T
}

func newGateway(t *testing.T, buckets ...string) gateway {
	t.Helper()
	g := gateway{Server: s3test.Start(t), t: t}
	g.Client = s3.New(s3.Options{BaseEndpoint: &g.Endpoint, Region: "us-east-1", UsePathStyle: true,
		Credentials: credentials.NewStaticCredentialsProvider(g.AccessKey, g.SecretKey, "")})
	for _, name := range buckets {
		if _, err := g.CreateBucket(t.Context(), &s3.CreateBucketInput{Bucket: &name}); err != nil {
			t.Fatal(err)
		}
	}
	return g
}

func (g gateway) put(bucket, key string, body []byte) {
	g.t.Helper()
	if _, err := g.PutObject(g.t.Context(), &s3.PutObjectInput{Bucket: &bucket, Key: &key, Body: bytes.NewReader(body)}); err != nil {
		g.t.Fatal(err)
	}
}

func (g gateway) keys(bucket string) (keys []string) {
	g.t.Helper()
	out, err := g.ListObjectsV2(g.t.Context(), &s3.ListObjectsV2Input{Bucket: &bucket})
	if err != nil {
		g.t.Fatal(err)
	}
	for _, x := range out.Contents {
		if key := aws.ToString(x.Key); !strings.HasSuffix(key, "/") {
			keys = append(keys, key)
		}
	}
	return keys
}

func (g gateway) read(bucket, key string) []byte {
	g.t.Helper()
	out, err := g.GetObject(g.t.Context(), &s3.GetObjectInput{Bucket: &bucket, Key: &key})
	if err != nil {
		g.t.Fatal(err)
	}
	defer out.Body.Close()
	body, err := io.ReadAll(out.Body)
	if err != nil {
		g.t.Fatal(err)
	}
	return body
}

// tidyPipeline takes from two buckets, of which it may only read one. Its arguments are the gateway and the model.
const tidyPipeline = `gantry: v1
name: tidy
sources:
  inbox: {kind: s3, bucket: inbox, prefix: in/, endpoint: %[1]q, path_style: true, poll: 50ms, auth: gateway, after: move, move_to: done/, after_failed: tag}
  archive: {kind: s3, bucket: archive, endpoint: %[1]q, path_style: true, poll: 50ms, after: delete}
sinks:
  results: {kind: s3, bucket: results, endpoint: %[1]q, path_style: true, auth: gateway, key: "{pipeline}/{source}/{date}/{task}/{path}",
    metadata: {gantry-task: "{task}"}, tags: {stage: "{stage}", source: "{source}"}}
stages: [{name: enhance, call: model}]
processors: {model: {kind: http, url: %[2]q}}
auth: {gateway: {kind: aws, access_key_id: "${env:ID}", secret_access_key: "${env:SECRET}"}}
`

// atSource counts the calls at sources that read nothing, by operation, outcome and code.
func (r *rig) atSource() map[string]int {
	r.t.Helper()
	calls, err := r.Store.Calls(r.t.Context(), postgres.Filter{Boundary: "source"})
	if err != nil {
		r.t.Fatal(err)
	}
	seen := map[string]int{}
	for _, c := range calls {
		if c.Operation != "get" {
			seen[c.Operation+" "+c.Outcome+" "+c.ErrorCode]++
		}
	}
	return seen
}

// What is done goes to done/, what failed stays with a tag, what may not be touched stays as it is: each after its task,
// once, and on record. The results lie where the sink's template says, and each manifest leads to its outputs.
func TestAfterAndKeys(t *testing.T) {
	t.Parallel()
	g := newGateway(t, "inbox", "archive", "results")
	policy := `{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Principal":"*","Action":["s3:GetObject","s3:ListBucket"],"Resource":["arn:aws:s3:::archive","arn:aws:s3:::archive/*"]}]}`
	if _, err := g.PutBucketPolicy(t.Context(), &s3.PutBucketPolicyInput{Bucket: aws.String("archive"), Policy: &policy}); err != nil {
		t.Fatal(err)
	}
	bad := noise(100, [32]byte{99})
	for i := range 4 {
		g.put("inbox", fmt.Sprintf("in/DOE^JANE %d.png", i), noise(100, [32]byte{byte(i)}))
		g.put("archive", fmt.Sprintf("a/%d.png", i), noise(100, [32]byte{byte(10 + i)}))
	}
	g.put("inbox", "in/bad.png", bad)
	model := serve(t, func(w http.ResponseWriter, _ *http.Request, body []byte, _ int) {
		if bytes.Equal(body, bad) {
			w.WriteHeader(http.StatusUnprocessableEntity)
			return
		}
		answerPNG(w, body)
	})
	r := newRig(t, map[string]string{"ID": g.AccessKey, "SECRET": g.SecretKey})
	p, err := pipeline.Parse("test.yaml", fmt.Appendf(nil, tidyPipeline, g.Endpoint, model.URL), all.Drivers(), r.Lookup)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 60*time.Second)
	defer cancel()
	done := make(chan error, 1)
	go func() { done <- r.Serve(ctx, []*gantry.Pipeline{p}) }()
	var seen map[string]int
	r.eventually("not all is done with", func() bool {
		seen = r.atSource()
		return seen["move ok "] >= 4 && seen["tag ok "] >= 1 && seen["delete failed access_denied"] >= 4
	})
	time.Sleep(300 * time.Millisecond) // for what must not come: another try, another announcement
	seen = r.atSource()
	cancel()
	if err := <-done; err != nil && !strings.Contains(err.Error(), "context") {
		t.Fatal(err)
	}
	if len(seen) != 3 || seen["move ok "] != 4 || seen["tag ok "] != 1 || seen["delete failed access_denied"] != 4 {
		t.Errorf("on record: %v\n%s", seen, r.log.text())
	}
	if got := g.keys("inbox"); !slices.Equal(got, []string{"done/DOE^JANE 0.png", "done/DOE^JANE 1.png", "done/DOE^JANE 2.png", "done/DOE^JANE 3.png", "in/bad.png"}) {
		t.Errorf("inbox: %q", got)
	}
	tasks := g.wantTended(r)
	if n := strings.Count(r.log.text(), "some stay as they are"); n != 1 || strings.Contains(r.log.text(), "DOE^JANE") {
		t.Errorf("%d warnings\n%s", n, r.log.text())
	}
	g.wantManifestsLead(tasks, model)
}

// wantTended looks at what failed and at what may only be read, and gives the tasks.
func (g gateway) wantTended(r *rig) []postgres.TaskRow {
	t := g.t
	t.Helper()
	tags, err := g.GetObjectTagging(t.Context(), &s3.GetObjectTaggingInput{Bucket: aws.String("inbox"), Key: aws.String("in/bad.png")})
	if err != nil || len(tags.TagSet) != 1 || aws.ToString(tags.TagSet[0].Value) != "failed" {
		t.Errorf("%v, %v", tags, err)
	}
	if got := g.keys("archive"); len(got) != 4 {
		t.Errorf("archive: %q", got)
	}
	tasks, err := r.Store.Tasks(t.Context(), postgres.Filter{})
	states := map[string]int{}
	for _, x := range tasks {
		states[x.State]++
	}
	if err != nil || !maps.Equal(states, map[string]int{"done": 8, "failed": 1}) {
		t.Errorf("%v, %v", states, err)
	}
	return tasks
}

// wantManifestsLead holds the results to their manifests, and keys and labels to the sink's template.
func (g gateway) wantManifestsLead(tasks []postgres.TaskRow, model *service) {
	t := g.t
	t.Helper()
	var answers []string
	for _, x := range model.all() {
		answers = append(answers, x.answer)
	}
	keys := g.keys("results")
	found := 0
	for _, x := range tasks {
		if x.State != "done" {
			continue
		}
		folder := fmt.Sprintf("%s/%s/%s/", x.Source, x.CreatedAt.UTC().Format(time.DateOnly), x.ID)
		if !slices.Contains(keys, folder+gantry.ManifestName) {
			t.Errorf("no manifest below %s", folder)
			continue
		}
		var m struct {
			Outputs []struct{ Path, SHA256 string }
		}
		if err := json.Unmarshal(g.read("results", folder+gantry.ManifestName), &m); err != nil || len(m.Outputs) != 1 {
			t.Fatalf("%v %v", m, err)
		}
		for _, o := range m.Outputs {
			found++
			body := g.read("results", folder+o.Path)
			if digest(body) != o.SHA256 || !slices.Contains(answers, o.SHA256) {
				t.Errorf("%s is not what the manifest says", o.Path)
			}
			head, err := g.HeadObject(t.Context(), &s3.HeadObjectInput{Bucket: aws.String("results"), Key: aws.String(folder + o.Path)})
			if err != nil || head.Metadata["gantry-task"] != x.ID || aws.ToString(head.ContentType) != gantry.MediaPNG {
				t.Errorf("%v, %v", head, err)
			}
		}
	}
	if found != 8 || len(keys) != 16 {
		t.Errorf("%d outputs, %d objects", found, len(keys))
	}
}
