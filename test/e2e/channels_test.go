package e2e

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/sqs"

	"github.com/gantry-imaging/gantry/internal/driver/s3/s3test"
)

// bridge carries what an S3 server tells to a webhook and to a queue. On each way a message may be lost, doubled or late.
type bridge struct {
	*sqs.Client
	queue, hook string

	mu   sync.Mutex
	rand *rand.Rand
	lost int // on both ways
	wg   sync.WaitGroup
}

// ServeHTTP takes what the S3 server tells.
func (b *bridge) ServeHTTP(_ http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(r.Body)
	if !bytes.Contains(body, []byte(`"name":"`+inbox+`"`)) { // the server tells of all buckets, S3 a queue of one
		return
	}
	ctx := context.WithoutCancel(r.Context())
	b.mu.Lock()
	defer b.mu.Unlock()
	toQueue, toHook := b.rand.IntN(4), b.rand.IntN(4) // 3 is twice
	if toQueue+toHook == 0 {
		b.lost++
	}
	send := func(n int, once func()) {
		for range min(n, 2) {
			late := time.Duration(b.rand.IntN(500)) * time.Millisecond
			b.wg.Go(func() { time.Sleep(late); once() })
		}
	}
	send(toQueue, func() {
		b.SendMessage(ctx, &sqs.SendMessageInput{QueueUrl: &b.queue, MessageBody: aws.String(string(body))})
	})
	send(toHook, func() {
		if resp, err := http.Post(b.hook, "application/json", bytes.NewReader(body)); err == nil {
			resp.Body.Close()
		}
	})
}

// newTellingPail is a pail whose pipeline is told of objects in each way at once, on an address of its own, and sees the
// server's worst side.
func newTellingPail(t *testing.T, worst s3test.Faults) (p *pail, u *s3test.Unruly, listen string) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	listen = l.Addr().String()
	l.Close()
	queues := s3test.StartQueues(t)
	b := &bridge{hook: "http://gantry:s3cr3t@" + listen + "/hooks/s3/kill-channels.inbox", rand: rand.New(rand.NewPCG(3, 4)),
		Client: sqs.New(sqs.Options{BaseEndpoint: &queues.Endpoint, Region: "us-east-1", Credentials: credentials.NewStaticCredentialsProvider("id", "secret", "")})}
	made, err := b.CreateQueue(t.Context(), &sqs.CreateQueueInput{QueueName: aws.String("drop")})
	if err != nil {
		t.Fatal(err)
	}
	b.queue = *made.QueueUrl
	front := httptest.NewServer(b)
	t.Cleanup(func() { b.wg.Wait(); front.Close(); t.Logf("%d events were lost on both ways", b.lost) })
	server := s3test.StartTelling(t, front.URL)
	t.Setenv("E2E_S3_ID", server.AccessKey)
	t.Setenv("E2E_S3_SECRET", server.SecretKey)
	t.Setenv("E2E_TOKEN", "s3cr3t")
	p = &pail{pipeline: filepath.Join(folder(t), "p.yaml"), model: newForeign(t, 20*time.Millisecond), Client: s3.New(s3.Options{
		BaseEndpoint: &server.Endpoint, Region: "us-east-1", UsePathStyle: true,
		Credentials: credentials.NewStaticCredentialsProvider(server.AccessKey, server.SecretKey, "")})}
	for _, name := range []string{inbox, results} {
		if _, err := p.CreateBucket(t.Context(), &s3.CreateBucketInput{Bucket: aws.String(name)}); err != nil {
			t.Fatal(err)
		}
	}
	u = server.Unruly(t, 1, worst)
	text := fmt.Sprintf(`gantry: v1
name: kill-channels
sources:
  inbox: {kind: s3, bucket: inbox, prefix: in/, endpoint: %[1]q, path_style: true, poll: 2s, auth: gateway,
          discover: [poll, webhook, sqs], token: "${env:E2E_TOKEN}", queue_url: %[3]q, queue_endpoint: %[4]q}
sinks: {results: {kind: s3, bucket: results, prefix: out/, endpoint: %[1]q, path_style: true, auth: gateway}}
stages: [{name: enhance, call: model}]
processors: {model: {kind: http, url: %[2]q, timeout: 2s, limits: {concurrency: 8}}}
auth: {gateway: {kind: aws, access_key_id: "${env:E2E_S3_ID}", secret_access_key: "${env:E2E_S3_SECRET}"}}
retry: {attempts: 30, initial: 100ms, max: 1s}
`, u.Endpoint, p.model.URL+"/v1/enhance", b.queue, queues.Endpoint)
	if err := os.WriteFile(p.pipeline, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	return p, u, listen
}
