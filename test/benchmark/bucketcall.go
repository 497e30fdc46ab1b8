package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"syscall"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/sqs"
	"github.com/jackc/pgx/v5"

	"github.com/gantry-imaging/gantry/internal/postgres"
)

// toldPipeline takes what a bucket's server tells of, in one way or another, and calls for it at once.
const toldPipeline = `gantry: v1
name: told
sources:
  in: {kind: s3, bucket: inbox, endpoint: %[1]q, path_style: true, auth: gateway, %[2]s}
stages:
  - {name: nothing, each: part, call: nothing}
processors:
  nothing: {kind: http, url: "http://%[3]s/null", timeout: 60s}
sinks:
  results: {kind: dir, path: %[4]q}
auth:
  gateway: {kind: aws, access_key_id: "${env:BENCH_S3_ID}", secret_access_key: "${env:BENCH_S3_SECRET}"}
`

const (
	hookToken   = "gantry-bench-token"
	warmObjects = 5
	callWithin  = 10 * time.Second
)

// relay stands where an S3 server sends its notifications: the server does not begin unless somebody answers, and
// gantry cannot begin without the server. Until there is somewhere to send them on it takes them all.
type relay struct {
	mu   sync.Mutex
	next func(context.Context, []byte) error
}

// to says where notifications go from now on.
func (x *relay) to(next func(context.Context, []byte) error) {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.next = next
}

// ServeHTTP sends a notification on and answers after that.
func (x *relay) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	x.mu.Lock()
	next := x.next
	x.mu.Unlock()
	if err == nil && next != nil {
		err = next(r.Context(), body)
	}
	if err != nil {
		w.WriteHeader(http.StatusServiceUnavailable)
	}
}

// listening serves a handler on a port of its own.
func listening(h http.Handler) (address string, stop func(), err error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", nil, err
	}
	server := &http.Server{Handler: h}
	go server.Serve(l)
	return l.Addr().String(), func() { server.Close() }, nil
}

// told is a server with a bucket, and gantry, which has nothing to do but what the server tells of.
type told struct {
	*gateway
	db     *pgx.Conn
	called chan time.Time // when the first byte of a request was at the service
	body   []byte
	puts   int
}

// waits are how long it took to the first byte of the call, and a one-row commit.
type waits struct{ fromAnswer, fromPut, commit []time.Duration }

// measureWebhook puts objects one by one into a bucket whose server tells gantry's hook of each.
func measureWebhook(ctx context.Context, b *bed, s settings, r *report) error {
	if s.binary == "" {
		return nil
	}
	x, err := b.tell(ctx, s, "webhook", `discover: [webhook], token: "${env:BENCH_HOOK_TOKEN}"`, func(ctx context.Context, product *served, body []byte) error {
		return notify(ctx, "http://"+product.address+"/hooks/s3/told.in", body)
	})
	if err != nil {
		return err
	}
	commit := quantile(x.commit, 0.5)
	r.add("webhook_call_commits", float64(quantile(x.fromAnswer, 0.5))/float64(commit), "commits", atMost(20), "from the answer to the put of 100 KB to the first byte at the service, by way of a relay; %s", x.note())
	return nil
}

// measureQueue does the same by a queue.
func measureQueue(ctx context.Context, b *bed, s settings, r *report) error {
	if s.binary == "" || s.queues == "" {
		return nil
	}
	client, queue, stop, err := startQueue(ctx, s.queues)
	if err != nil {
		return err
	}
	defer stop()
	discover := fmt.Sprintf(`discover: [sqs], queue_url: %q, queue_endpoint: %q`, queue, *client.Options().BaseEndpoint)
	x, err := b.tell(ctx, s, "sqs", discover, func(ctx context.Context, _ *served, body []byte) error {
		_, err := client.SendMessage(ctx, &sqs.SendMessageInput{QueueUrl: &queue, MessageBody: aws.String(string(body))})
		return err
	})
	if err != nil {
		return err
	}
	r.add("sqs_p50_ms", millis(quantile(x.fromAnswer, 0.5)), "ms", atMost(150), "the same by way of a bridge into a queue of goaws; %s", x.note())
	return nil
}

func (x waits) note() string {
	return fmt.Sprintf("p50 %.2f ms, p99 %.2f ms; from the beginning of the put p50 %.2f ms, p99 %.2f ms; one-row commit %.2f ms",
		millis(quantile(x.fromAnswer, 0.5)), millis(quantile(x.fromAnswer, 0.99)), millis(quantile(x.fromPut, 0.5)), millis(quantile(x.fromPut, 0.99)), millis(quantile(x.commit, 0.5)))
}

// notify sends a notification to gantry.
func notify(ctx context.Context, url string, body []byte) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, url, bytes.NewReader(body))
	if err != nil {
		return err
	}
	req.Header.Set("Authorization", "Bearer "+hookToken)
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	io.Copy(io.Discard, resp.Body)
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("hook: status %d", resp.StatusCode)
	}
	return nil
}

// tell starts what is needed, sends what the server tells onward, and measures.
func (b *bed) tell(ctx context.Context, s settings, name, discover string, onward func(context.Context, *served, []byte) error) (waits, error) {
	between := &relay{}
	hook, stop, err := listening(between)
	if err != nil {
		return waits{}, err
	}
	defer stop()
	x := &told{called: make(chan time.Time, 100)}
	service, stop, err := listening(x)
	if err != nil {
		return waits{}, err
	}
	defer stop()
	if x.gateway, err = startGateway(ctx, filepath.Join(b.home, name+"_bucket"), "http://"+hook); err != nil {
		return waits{}, err
	}
	defer x.gateway.stop()
	if _, err := b.admin.Exec(ctx, `create database `+name); err != nil {
		return waits{}, err
	}
	if _, err := postgres.Migrate(ctx, b.dsn(name)); err != nil {
		return waits{}, err
	}
	if x.db, err = pgx.Connect(ctx, b.dsn(name)); err != nil {
		return waits{}, err
	}
	defer x.db.Close(ctx)
	product, err := b.serve(ctx, s.binary, name, fmt.Sprintf(toldPipeline, x.endpoint, discover, service, b.outOf(name)), append(x.environment(), "BENCH_HOOK_TOKEN="+hookToken)...)
	if err != nil {
		return waits{}, err
	}
	defer product.stop()
	between.to(func(ctx context.Context, body []byte) error { return onward(ctx, product, body) })
	return x.oneByOne(ctx, s.pings)
}

// ServeHTTP is the service: it answers nothing.
func (x *told) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	x.called <- time.Now()
	io.Copy(io.Discard, r.Body)
	w.WriteHeader(http.StatusNoContent)
}

// oneByOne puts n objects, after some whose times do not count, and commits a row before each.
func (x *told) oneByOne(ctx context.Context, n int) (all waits, err error) {
	pictures, err := drawPictures(1)
	if err != nil {
		return all, err
	}
	x.body = pictures[0]
	if _, err := x.db.Exec(ctx, `create table one_row(n int)`); err != nil {
		return all, err
	}
	for i := range warmObjects + n {
		pause(ctx, 20*time.Millisecond)
		began := time.Now()
		if _, err := x.db.Exec(ctx, `insert into one_row values (1)`); err != nil {
			return all, err
		}
		commit := time.Since(began)
		pause(ctx, 20*time.Millisecond)
		fromAnswer, fromPut, err := x.put(ctx)
		if err != nil {
			return all, err
		}
		if i >= warmObjects {
			all.commit, all.fromAnswer, all.fromPut = append(all.commit, commit), append(all.fromAnswer, fromAnswer), append(all.fromPut, fromPut)
		}
	}
	return all, nil
}

// put puts one object and waits for its call.
func (x *told) put(ctx context.Context) (fromAnswer, fromPut time.Duration, err error) {
	x.puts++
	began := time.Now()
	if _, err := x.PutObject(ctx, &s3.PutObjectInput{Bucket: aws.String("inbox"), Key: aws.String(fmt.Sprintf("%06d.png", x.puts)), Body: bytes.NewReader(x.body)}); err != nil {
		return 0, 0, err
	}
	answered := time.Now()
	select {
	case at := <-x.called:
		return at.Sub(answered), at.Sub(began), nil
	case <-ctx.Done():
		return 0, 0, context.Cause(ctx)
	case <-time.After(callWithin):
		return 0, 0, fmt.Errorf("no call for object %d within %s", x.puts, callWithin)
	}
}

// startQueue starts an SQS server, test/sqsd, and makes a queue.
func startQueue(ctx context.Context, program string) (client *sqs.Client, queue string, stop func(), err error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, "", nil, err
	}
	address := l.Addr().String()
	l.Close()
	c := exec.CommandContext(ctx, program, address)
	c.Stderr = os.Stderr
	if err := c.Start(); err != nil {
		return nil, "", nil, err
	}
	stop = func() { c.Process.Signal(syscall.SIGTERM); c.Wait() }
	client = sqs.New(sqs.Options{BaseEndpoint: aws.String("http://" + address), Region: "us-east-1", Credentials: credentials.NewStaticCredentialsProvider(gatewayID, gatewaySecret, "")})
	for range 100 {
		out, err := client.CreateQueue(ctx, &sqs.CreateQueueInput{QueueName: aws.String("bench")})
		if err == nil {
			return client, *out.QueueUrl, stop, nil
		}
		pause(ctx, 100*time.Millisecond)
	}
	stop()
	return nil, "", nil, errors.New("the SQS server does not answer")
}
