package chaos

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/s3"

	"github.com/gantry-imaging/gantry/internal/driver/s3/s3test"
)

// inBuckets is an installation that has its inputs and its blobs in buckets.
const inBuckets = `gantry: v1
pipelines: [bucket.yaml]
blobs: s3://blobs/%[1]s
bucket: {endpoint: %[2]q, path_style: true, access_key_id: "${env:CHAOS_ID}", secret_access_key: "${env:CHAOS_SECRET}"}
`

const ofBucket = `gantry: v1
name: bucket
sources: {inbox: {kind: s3, bucket: inbox, prefix: in/, endpoint: %[2]q, path_style: true, poll: 100ms, after: move, move_to: done/, auth: gateway}}
sinks: {results: {kind: dir, path: %[1]s/out}}
stages: [{name: enhance, call: enhance}]
processors: {enhance: {kind: http, url: "%[3]s/v1/enhance", timeout: 2s, limits: {concurrency: 64}}}
auth: {gateway: {kind: aws, access_key_id: "${env:CHAOS_ID}", secret_access_key: "${env:CHAOS_SECRET}"}}
retry: {attempts: 30, initial: 20ms, max: 100ms}
`

// buckets is a server with what the installation keeps there.
type buckets struct {
	*s3.Client
	server *s3test.Server
	dir    string
	calls  *service
}

func newBuckets(t *testing.T) *buckets {
	t.Helper()
	b := &buckets{server: s3test.Start(t), dir: folder(t), calls: newService(t)}
	b.Client = s3.New(s3.Options{BaseEndpoint: &b.server.Endpoint, Region: "us-east-1", UsePathStyle: true,
		Credentials: credentials.NewStaticCredentialsProvider(b.server.AccessKey, b.server.SecretKey, "")})
	for _, name := range []string{"inbox", "blobs"} {
		if _, err := b.CreateBucket(t.Context(), &s3.CreateBucketInput{Bucket: &name}); err != nil {
			t.Fatal(err)
		}
	}
	b.file(t, "bucket.yaml", fmt.Sprintf(ofBucket, b.dir, b.server.Endpoint, b.calls.url))
	return b
}

func (b *buckets) file(t *testing.T, name, text string) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(b.dir, name), []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

// clean begins anew, with blobs of their own.
func (b *buckets) clean(t *testing.T, blobs string) {
	t.Helper()
	for key := range b.objects(t) {
		if _, err := b.DeleteObject(t.Context(), &s3.DeleteObjectInput{Bucket: aws.String("inbox"), Key: &key}); err != nil {
			t.Fatal(err)
		}
	}
	err := os.RemoveAll(filepath.Join(b.dir, "out"))
	if err == nil {
		err = os.Mkdir(filepath.Join(b.dir, "out"), 0o755)
	}
	if err != nil {
		t.Fatal(err)
	}
	b.file(t, "gantry.yaml", fmt.Sprintf(inBuckets, blobs, b.server.Endpoint))
}

func (b *buckets) put(t *testing.T, n int) {
	t.Helper()
	if _, err := b.PutObject(t.Context(), &s3.PutObjectInput{Bucket: aws.String("inbox"), Key: aws.String(fmt.Sprintf("in/%04d.png", n)), Body: bytes.NewReader(picture(400000 + n))}); err != nil {
		t.Fatal(err)
	}
}

// objects gives all that the inbox holds.
func (b *buckets) objects(t *testing.T) map[string][]byte {
	t.Helper()
	list, err := b.ListObjectsV2(t.Context(), &s3.ListObjectsV2Input{Bucket: aws.String("inbox")})
	if err != nil {
		t.Fatal(err)
	}
	all := map[string][]byte{}
	for _, x := range list.Contents {
		o, err := b.GetObject(context.WithoutCancel(t.Context()), &s3.GetObjectInput{Bucket: aws.String("inbox"), Key: x.Key})
		if err == nil {
			all[*x.Key], err = io.ReadAll(o.Body)
			o.Body.Close()
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	return all
}

func (b *buckets) env() []string {
	return []string{"CHAOS_ID=" + b.server.AccessKey, "CHAOS_SECRET=" + b.server.SecretKey}
}

func (b *buckets) serve(t *testing.T, i *installation, env ...string) *process {
	return i.start(t, append(env, b.env()...), "serve", "--config", filepath.Join(b.dir, "gantry.yaml"), "--listen", "127.0.0.1:0", "--lease", lease.String())
}

// settled waits until n inputs are done and moved, each once, and gives the results.
func (b *buckets) settled(t *testing.T, i *installation, n int) map[string]string {
	t.Helper()
	f := &field{dir: b.dir, service: b.calls}
	p := b.serve(t, i)
	eventually(t, time.Minute, "all inputs to be done and moved", func() bool {
		f.hurry(t, i)
		time.Sleep(100 * time.Millisecond)
		return i.count(t, `select count(*) from task where final_state = 5`) == n && i.count(t, `select count(*) from aftercare where due is not null`) == 0
	})
	p.stop(t)
	if bad := i.count(t, `select count(*) from aftercare where ended is distinct from 5 or code <> 'source_gone'`); bad > 0 || i.count(t, `select count(*) from task`) != n {
		t.Errorf("%d of %d tasks too many, or %d inputs not moved", i.count(t, `select count(*) from task`), n, bad)
	}
	got := b.objects(t)
	for x := range n {
		if key := fmt.Sprintf("done/%04d.png", x); !bytes.Equal(got[key], picture(400000+x)) {
			t.Errorf("%s has %d bytes, or others than were put", key, len(got[key]))
		}
	}
	if len(got) != n {
		t.Errorf("the bucket holds %v", slices.Sorted(maps.Keys(got)))
	}
	if out, err := i.command(b.env(), "--config", filepath.Join(b.dir, "gantry.yaml"), "verify", "history").CombinedOutput(); err != nil {
		t.Errorf("verify history: %v\n%s", err, out)
	}
	return f.tree(t)
}

// TestKillsAtBuckets kills a process between what it does to buckets and what it puts on record, each point twice, and
// wants the results of one to which nothing happens.
func TestKillsAtBuckets(t *testing.T) {
	b, c := newBuckets(t), newCluster(t)
	i := c.install(t)
	b.clean(t, "killed")
	n := 0
	for pass := 1; pass <= 2; pass++ {
		for _, point := range atBucket {
			for range 2 {
				b.put(t, n)
				n++
			}
			p := b.serve(t, i, fmt.Sprintf("GANTRY_FAIL=%s:kill:%d", point, pass))
			eventually(t, 20*time.Second, "a death at "+point, func() bool {
				(&field{}).hurry(t, i)
				time.Sleep(50 * time.Millisecond)
				return p.ended()
			})
			if !p.killed() {
				t.Fatalf("at %s it ended with %v\n%s", point, p.cmd.ProcessState, p.log.tail(2000))
			}
		}
	}
	got := b.settled(t, i, n)
	b.clean(t, "undisturbed")
	for x := range n {
		b.put(t, x)
	}
	same(t, b.settled(t, c.install(t), n), got)
}
