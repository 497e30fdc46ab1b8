package s3

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/sqs"
	sqstypes "github.com/aws/aws-sdk-go-v2/service/sqs/types"

	"github.com/gantry-imaging/gantry/internal/auth"
	"github.com/gantry-imaging/gantry/internal/driver/drivertest"
	"github.com/gantry-imaging/gantry/internal/driver/s3/s3test"
	"github.com/gantry-imaging/gantry/internal/gantry"
)

// ways is an Egress with a way to a queue.
type ways struct {
	gantry.Egress
	queue gantry.Egress
}

func (w ways) Branch(gantry.Target) (gantry.Egress, bool) { return w.queue, true }

// line is a fresh queue on a real server.
type line struct {
	*sqs.Client
	t        testing.TB
	endpoint string
	url      string
}

func newLine(t testing.TB, server *s3test.Queues) *line {
	t.Helper()
	l := &line{t: t, endpoint: server.Endpoint, Client: sqs.New(sqs.Options{BaseEndpoint: &server.Endpoint, Region: "us-east-1",
		Credentials: credentials.NewStaticCredentialsProvider("id", "secret", "")})}
	out, err := l.CreateQueue(t.Context(), &sqs.CreateQueueInput{QueueName: aws.String("q" + rand.Text())})
	if err != nil {
		t.Fatal(err)
	}
	l.url = *out.QueueUrl
	return l
}

func (l *line) send(bodies ...string) {
	l.t.Helper()
	for _, body := range bodies {
		if _, err := l.SendMessage(l.t.Context(), &sqs.SendMessageInput{QueueUrl: &l.url, MessageBody: &body}); err != nil {
			l.t.Fatal(err)
		}
	}
}

// left gives how many messages there are, and how many of them somebody has.
func (l *line) left() (all, hidden string) {
	l.t.Helper()
	out, err := l.GetQueueAttributes(l.t.Context(), &sqs.GetQueueAttributesInput{QueueUrl: &l.url, AttributeNames: []sqstypes.QueueAttributeName{sqstypes.QueueAttributeNameAll}})
	if err != nil {
		l.t.Fatal(err)
	}
	return out.Attributes["ApproximateNumberOfMessages"], out.Attributes["ApproximateNumberOfMessagesNotVisible"]
}

// emptied waits until no message is left.
func (l *line) emptied() {
	l.t.Helper()
	for end := time.Now().Add(20 * time.Second); time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
		if all, hidden := l.left(); all == "0" && hidden == "0" {
			return
		}
	}
	all, hidden := l.left()
	l.t.Errorf("%s messages are left, %s of them hidden", all, hidden)
}

// queued makes a source that takes from a queue, over a server that may stand before the real one.
func (b *bucket) queued(l *line, endpoint string, set func(*SourceConfig)) (*source, *desk) {
	b.t.Helper()
	c := SourceConfig{Bucket: b.name, Endpoint: b.server.Endpoint, PathStyle: true, Poll: 20 * time.Millisecond,
		Discover: []string{"sqs"}, QueueURL: l.url, QueueEndpoint: endpoint}
	if set != nil {
		set(&c)
	}
	made, err := NewSource(b.t.Context(), c, ways{b.egress, drivertest.Egress(b.t)})
	if err != nil {
		b.t.Fatal(err)
	}
	s, d := made.(*source), &desk{}
	s.queue.pause, s.queue.wait, s.queue.pollers = 10*time.Millisecond, time.Second, 2
	s.Note(d.tell)
	return s, d
}

// watching watches until the test ends or stop is called.
func watching(t testing.TB, s *source, d *desk) (stop func()) {
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	done := make(chan error, 1)
	go func() { done <- s.Watch(ctx, d.announce) }()
	stop = func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("watch: %v", err)
		}
		done <- nil
	}
	t.Cleanup(stop)
	return stop
}

// Whatever envelope an event comes in, its object is announced and the message deleted; so is one that tells of nothing,
// and one that nobody understands once it is kept.
func TestQueue(t *testing.T) {
	t.Parallel()
	b := newBucket(t, s3test.Start(t))
	for _, key := range []string{"in/a b+ü.dcm", "in/after notif+ü.dcm"} {
		if err := b.put(key, []byte("hello world")); err != nil {
			t.Fatal(err)
		}
	}
	l := newLine(t, s3test.StartQueues(t))
	for _, name := range []string{"aws", "sns", "eventbridge", "sns-eventbridge", "minio", "ceph", "versitygw", "aws-test", "sns-test", "aws-removed", "eventbridge-deleted"} {
		l.send(strings.ReplaceAll(string(fixture(t, name)), "echo-incoming", b.name))
	}
	l.send("DOE^JANE", string(said("another-bucket", "", "x")), string(said(b.name, "", "in/gone.dcm")))
	s, d := b.queued(l, l.endpoint, nil)
	watching(t, s, d)
	l.emptied()
	got := map[string]int{}
	for _, o := range d.take() {
		got[o.Status.String()+" "+o.Ref]++
	}
	if got["accepted in/a b+ü.dcm"] != 6 || got["accepted in/after notif+ü.dcm"] != 1 || got["superseded in/a b+ü.dcm"] != 4 || got["source_gone in/gone.dcm"] != 1 {
		t.Errorf("%v", got)
	}
	kept := map[gantry.Code]string{}
	for _, n := range d.told() {
		if n.Code != "" {
			kept[n.Code] = string(n.Body)
		}
	}
	if len(kept) != 2 || kept[gantry.CodeMalformed] != "DOE^JANE" || !strings.Contains(kept[CodeOtherBucket], "another-bucket") {
		t.Errorf("%v", kept)
	}
}

// A message is deleted after what it tells of was taken, and not before: one that could not be taken comes again, and
// so does one that could not be kept.
func TestQueueAcknowledgesLast(t *testing.T) {
	t.Parallel()
	b := newBucket(t, s3test.Start(t))
	if err := b.put("a", nil); err != nil {
		t.Fatal(err)
	}
	l := newLine(t, s3test.StartQueues(t))
	l.send(string(said(b.name, "", "a")), "{}")
	s, d := b.queued(l, l.endpoint, nil)
	var tries, keeps atomic.Int64
	hold := make(chan struct{})
	d.fail = func(gantry.Object) error {
		if tries.Add(1) < 3 {
			return gantry.Errorf(gantry.Transient, "", "no database")
		}
		<-hold
		return nil
	}
	s.Note(func(_ context.Context, n gantry.Notice) error {
		if n.Code != "" && keeps.Add(1) < 3 {
			return errors.New("no database")
		}
		return nil
	})
	watching(t, s, d)
	until(t, "the third try", func() bool { return tries.Load() == 3 && keeps.Load() >= 3 })
	until(t, "one message is left", func() bool { all, hidden := l.left(); return all == "1" && hidden == "1" })
	time.Sleep(50 * time.Millisecond)
	if all, hidden := l.left(); all != "1" || hidden != "1" {
		t.Errorf("%s messages, %s hidden, while an object is being taken", all, hidden)
	}
	close(hold)
	l.emptied()
	if n := tries.Load(); n != 3 {
		t.Errorf("%d tries", n)
	}
}

// A message stays hidden for as long as its object is being taken; were it not, another poller would take it meanwhile.
func TestQueueOfALargeObject(t *testing.T) {
	t.Parallel()
	b := newBucket(t, s3test.Start(t))
	if err := b.put("a", nil); err != nil {
		t.Fatal(err)
	}
	l := newLine(t, s3test.StartQueues(t))
	run := func(prolong bool) int64 {
		s, d := b.queued(l, l.endpoint, nil)
		var times atomic.Int64
		s.queue.hidden, s.queue.keep = 2*time.Second, 600*time.Millisecond
		if !prolong { // the control: a clock that never ticks
			s.queue.keep = time.Hour
		}
		d.fail = func(gantry.Object) error {
			if times.Add(1) == 1 {
				time.Sleep(5 * time.Second)
			}
			return nil
		}
		stop := watching(t, s, d)
		defer stop()
		l.send(string(said(b.name, "", "a")))
		until(t, "it is taken", func() bool { return times.Load() > 0 })
		l.emptied()
		return times.Load()
	}
	if n := run(true); n != 1 {
		t.Errorf("taken %d times", n)
	}
	if n := run(false); n == 1 {
		t.Error("nothing is shown: without prolonging it is taken once too")
	}
}

// Every request to the queue carries the digest of its body in a signature for SQS, and leaves once.
func TestQueueIsSigned(t *testing.T) {
	t.Parallel()
	b := newBucket(t, s3test.Start(t))
	l := newLine(t, s3test.StartQueues(t))
	asked := map[string]int{}
	var mu sync.Mutex
	below := roundTrip(func(req *http.Request) (*http.Response, error) {
		body, err := io.ReadAll(req.Body)
		if err != nil {
			return nil, err
		}
		req.Body = io.NopCloser(bytes.NewReader(body))
		sum := sha256.Sum256(body)
		if a := req.Header.Get("Authorization"); req.Header.Get("X-Amz-Content-Sha256") != hex.EncodeToString(sum[:]) || !strings.Contains(a, "/us-east-1/sqs/aws4_request") || !strings.Contains(a, "x-amz-content-sha256") {
			t.Errorf("%s: %v", req.Header.Get("X-Amz-Target"), req.Header)
		}
		mu.Lock()
		asked[strings.TrimPrefix(req.Header.Get("X-Amz-Target"), "AmazonSQS.")]++
		mu.Unlock()
		return http.DefaultTransport.RoundTrip(req)
	})
	out, err := auth.WrapService(below, &gantry.Credential{Name: "q", Kind: "aws", AccessKeyID: "${env:A}", SecretAccessKey: "${env:A}"}, "sqs",
		func(string) (string, bool) { return "secret", true })
	if err != nil {
		t.Fatal(err)
	}
	made, err := NewSource(t.Context(), SourceConfig{Bucket: b.name, Endpoint: b.server.Endpoint, PathStyle: true, Discover: []string{"sqs"}, QueueURL: l.url, QueueEndpoint: l.endpoint},
		ways{b.egress, signed{out}})
	if err != nil {
		t.Fatal(err)
	}
	s, d := made.(*source), &desk{}
	s.queue.wait, s.queue.pollers = time.Second, 1
	failed := false
	d.fail = func(gantry.Object) error {
		if !failed {
			failed = true
			return gantry.Errorf(gantry.Transient, "", "no database")
		}
		return nil
	}
	watching(t, s, d)
	l.send(string(said(b.name, "", "gone")))
	l.emptied()
	mu.Lock()
	defer mu.Unlock()
	if asked["ReceiveMessage"] < 2 || asked["ChangeMessageVisibility"] != 1 || asked["DeleteMessageBatch"] != 1 {
		t.Errorf("%v", asked)
	}
}

type roundTrip func(*http.Request) (*http.Response, error)

// RoundTrip sends a request.
func (r roundTrip) RoundTrip(req *http.Request) (*http.Response, error) { return r(req) }
