package e2e

import (
	"bytes"
	"context"
	"crypto/sha256"
	"fmt"
	"io"
	"os"
	"path"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/google/go-cmp/cmp"

	"github.com/gantry-imaging/gantry/internal/driver/s3/s3test"
)

// TestS3Killed drops the same objects into a bucket twice: on a quiet process, and on one that is killed
// ten times. The results in the other bucket have to be the same to the byte, and no object is ever
// replaced.
func TestS3Killed(t *testing.T) {
	p := newPail(t)
	var want map[string]string
	if !t.Run("undisturbed", func(t *testing.T) { want = p.undisturbed(t) }) {
		t.FailNow()
	}
	t.Run("killed", func(t *testing.T) { p.killed(t, want) })
}

// pail is a server with a bucket to take from and one to deliver into.
type pail struct {
	*s3.Client
	server   *s3test.Server
	pipeline string
	model    *foreign
	dropped  int
}

const inbox, results = "inbox", "results"

func newPail(t *testing.T) *pail {
	t.Helper()
	server := s3test.Start(t)
	t.Setenv("E2E_S3_ID", server.AccessKey)
	t.Setenv("E2E_S3_SECRET", server.SecretKey)
	p := &pail{server: server, pipeline: filepath.Join(folder(t), "p.yaml"), model: newForeign(t, 50*time.Millisecond), Client: s3.New(s3.Options{
		BaseEndpoint: &server.Endpoint, Region: "us-east-1", UsePathStyle: true,
		Credentials: credentials.NewStaticCredentialsProvider(server.AccessKey, server.SecretKey, "")})}
	for _, name := range []string{inbox, results} {
		if _, err := p.CreateBucket(t.Context(), &s3.CreateBucketInput{Bucket: aws.String(name)}); err != nil {
			t.Fatal(err)
		}
	}
	p.write(t, server.Endpoint, "retry: {attempts: 5, initial: 100ms}")
	return p
}

// write makes the pipeline file, with the server at an address.
func (p *pail) write(t *testing.T, endpoint, retry string) {
	t.Helper()
	text := fmt.Sprintf(`gantry: v1
name: kill-s3
sources: {inbox: {kind: s3, bucket: inbox, prefix: in/, endpoint: %[1]q, path_style: true, poll: 100ms, auth: gateway}}
sinks: {results: {kind: s3, bucket: results, prefix: out/, endpoint: %[1]q, path_style: true, auth: gateway}}
stages: [{name: enhance, call: model}]
processors: {model: {kind: http, url: %[2]q, timeout: 2s, limits: {concurrency: 8}}}
auth: {gateway: {kind: aws, access_key_id: "${env:E2E_S3_ID}", secret_access_key: "${env:E2E_S3_SECRET}"}}
%[3]s
`, endpoint, p.model.URL+"/v1/enhance", retry)
	if err := os.WriteFile(p.pipeline, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

// drop puts the pictures from number first to before number end into the bucket.
func (p *pail) drop(t *testing.T, first, end int) {
	t.Helper()
	if err := p.put(t.Context(), first, end); err != nil {
		t.Fatal(err)
	}
}

func (p *pail) put(ctx context.Context, first, end int) error {
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(8)
	for i := first; i < end; i++ {
		sum := sha256.Sum256(fmt.Appendf(nil, "input %d", i))
		key := fmt.Sprintf("in/scan-%04d.png", i)
		g.Go(func() error {
			_, err := p.PutObject(ctx, &s3.PutObjectInput{Bucket: aws.String(inbox), Key: &key, Body: bytes.NewReader(picture(sum[:]))})
			return err
		})
	}
	return g.Wait()
}

// keys lists a bucket.
func (p *pail) keys(t *testing.T, bucket string) []string {
	t.Helper()
	var keys []string
	for pages := s3.NewListObjectsV2Paginator(p.Client, &s3.ListObjectsV2Input{Bucket: &bucket}); pages.HasMorePages(); {
		page, err := pages.NextPage(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		for _, x := range page.Contents {
			if key := aws.ToString(x.Key); !strings.HasSuffix(key, "/") {
				keys = append(keys, key)
			}
		}
	}
	return keys
}

// tree gives the SHA-256 of every result by its key, and holds each to the digest that it was put with.
func (p *pail) tree(t *testing.T) map[string]string {
	t.Helper()
	files := map[string]string{}
	var mu sync.Mutex
	var wg sync.WaitGroup
	next := make(chan string)
	for range 4 {
		wg.Go(func() {
			for key := range next {
				sum, err := p.sum(t.Context(), key)
				if err != nil {
					t.Errorf("read a result: %v", err)
				}
				mu.Lock()
				files[key] = sum
				mu.Unlock()
			}
		})
	}
	for _, key := range p.keys(t, results) {
		next <- key
	}
	close(next)
	wg.Wait()
	return files
}

func (p *pail) sum(ctx context.Context, key string) (string, error) {
	got, err := p.GetObject(ctx, &s3.GetObjectInput{Bucket: aws.String(results), Key: &key})
	if err != nil {
		return "", err
	}
	defer got.Body.Close()
	h := sha256.New()
	if _, err := io.Copy(h, got.Body); err != nil {
		return "", err
	}
	sum := fmt.Sprintf("%x", h.Sum(nil))
	if said := got.Metadata["gantry-sha256"]; said != sum {
		return "", fmt.Errorf("it was put as %.12s and is %.12s", said, sum)
	}
	return sum, nil
}

// clean empties both buckets and the service's memory.
func (p *pail) clean(t *testing.T) {
	t.Helper()
	for _, bucket := range []string{inbox, results} {
		for _, key := range p.keys(t, bucket) {
			if _, err := p.DeleteObject(t.Context(), &s3.DeleteObjectInput{Bucket: &bucket, Key: &key}); err != nil {
				t.Fatal(err)
			}
		}
	}
	p.model.forget()
}

// unsealed counts the tasks that have outputs and no manifest yet.
func (p *pail) unsealed(t *testing.T) int {
	t.Helper()
	outputs, sealed := map[string]bool{}, map[string]bool{}
	for _, key := range p.keys(t, results) {
		if path.Base(key) == "_manifest.json" {
			sealed[path.Dir(key)] = true
		} else {
			outputs[path.Dir(path.Dir(key))] = true
		}
	}
	n := 0
	for task := range outputs {
		if !sealed[task] {
			n++
		}
	}
	return n
}

// sound holds what is in the bucket to what has to come, as yard.sound does.
func (p *pail) sound(t *testing.T, want map[string]string) {
	t.Helper()
	got := p.tree(t)
	for key, sha := range got {
		if want[key] != sha {
			t.Errorf("%s is there with other bytes than without kills", key)
		}
	}
	for key := range want {
		if _, sealed := got[path.Dir(path.Dir(key))+"/_manifest.json"]; sealed && got[key] == "" {
			t.Errorf("%s is not there and its task's manifest is", key)
		}
	}
}

func (p *pail) undisturbed(t *testing.T) map[string]string {
	i := install(t)
	l := openLedger(t, i)
	g := i.serve(t, p.pipeline, "--lease", lease)
	p.drop(t, 0, files)
	l.finished(t, files)
	g.stop(t)
	got := p.tree(t)
	if len(got) != 2*files {
		t.Fatalf("%d objects at the sink, want an image and a manifest for each of %d", len(got), files)
	}
	type control struct {
		Requests, Failures int
		Target             string
	}
	rows := decode[control](t, i.output(t, "call", "ls", "--control", "--json"))
	if len(rows) == 0 || rows[0].Requests == 0 || rows[0].Failures != 0 || !strings.HasSuffix(rows[0].Target, "/"+inbox) {
		t.Errorf("the record of the listings: %+v", rows)
	}
	if text := string(i.output(t, "call", "ls", "--control")); !strings.Contains(text, " kill-s3 ") || strings.Contains(text, "scan-") {
		t.Errorf("the record of the listings as text:\n%s", text)
	}
	if n := l.count(t, `select count(*) from call_outcome where result <> 0`); n > 0 {
		t.Errorf("%d calls went wrong on a quiet server", n)
	}
	return got
}

func (p *pail) killed(t *testing.T, want map[string]string) {
	p.clean(t)
	i := install(t)
	l := openLedger(t, i)
	running := func(query string) func() bool { return func() bool { return l.count(t, query) > 0 } }
	moments := []struct {
		name string
		is   func() bool
	}{
		{"while objects are taken in", func() bool {
			n := l.count(t, `select count(*) from arrival`)
			return n > p.dropped-portion && n < p.dropped
		}},
		{"with calls in flight", func() bool { return p.model.inFlight.Load() >= 4 }},
		{"while a task responds", running(`select count(*) from task_hot where state = 4 and phase = 1`)},
		{"with a put on its way", running(`select count(*) from call_intent i left join call_outcome o using (task_id, id)
			where o.id is null and i.boundary = 2 and i.worker = (select max(id) from worker)`)},
		{"with outputs and no manifest", func() bool { return p.unsealed(t) > 0 }},
	}
	g := i.serve(t, p.pipeline, "--lease", lease)
	var open, unsealed int
	for n := range kills {
		m := moments[n%len(moments)]
		all := make(chan error, 1) // the moment is looked for while the objects come, not when all have been worked off
		go func(first int) { all <- p.put(t.Context(), first, first+portion) }(p.dropped)
		p.dropped += portion
		eventually(t, 20*time.Second, "a moment "+m.name, m.is)
		g.kill()
		if err := <-all; err != nil {
			t.Fatal(err)
		}
		eventually(t, 5*time.Second, "the dead process's connections to end", func() bool { return l.count(t, connectionsSQL) <= l.before })
		puts := l.count(t, `select count(*) from call_intent i left join call_outcome o using (task_id, id)
			where o.id is null and i.boundary = 2 and i.worker = (select max(id) from worker)`)
		left := p.unsealed(t)
		t.Logf("kill %2d %-29s taken in %d of %d, puts without outcome %d, without manifest %d", n+1, m.name+":",
			l.count(t, `select count(*) from arrival`), p.dropped, puts, left)
		open, unsealed = open+puts, unsealed+left
		p.sound(t, want)
		g = i.serve(t, p.pipeline, "--lease", lease)
	}
	if open == 0 || unsealed == 0 {
		t.Errorf("the kills missed what they should interrupt: %d puts, %d tasks without manifest", open, unsealed)
	}
	l.finished(t, files)
	g.stop(t)
	if diff := cmp.Diff(want, p.tree(t)); diff != "" {
		t.Errorf("the sink is not as without kills (-without +with):\n%s", diff)
	}
}
