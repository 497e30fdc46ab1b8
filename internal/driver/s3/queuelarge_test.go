package s3

import (
	"context"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/gantry-imaging/gantry/internal/driver/drivertest"
	"github.com/gantry-imaging/gantry/internal/driver/s3/s3test"
	"github.com/gantry-imaging/gantry/internal/gantry"
)

// Messages as large as the queue takes them, as many as one request gives, and of characters that JSON makes longer, are
// taken like others: what is said by those that come with them is not held up.
func TestQueueOfLargeMessages(t *testing.T) {
	t.Parallel()
	b := newBucket(t, s3test.Start(t))
	if err := b.put("in/a.dcm", []byte("x")); err != nil {
		t.Fatal(err)
	}
	l := newLine(t, s3test.StartQueues(t))
	large := strings.Repeat("<", 250<<10)
	for range queueMessages - 1 {
		l.send(large)
	}
	l.send(string(said(b.name, "", "in/a.dcm")))
	s, d := b.queued(l, l.endpoint, nil)
	s.queue.pollers = 1
	watching(t, s, d)
	l.emptied()
	want(t, d.take(), "accepted in/a.dcm")
	kept := 0
	for _, n := range d.told() {
		if n.Err != nil {
			t.Errorf("%v", n.Err)
		}
		if n.Code == gantry.CodeMalformed {
			kept++
		}
	}
	if kept != queueMessages-1 {
		t.Errorf("%d were kept", kept)
	}
}

// A message that is under way when its taker stops is another's at once, and not after the time for which it was hidden:
// it is given back when none of the taker's own requests is out, which would be given it and have nobody to read it.
func TestQueueGivesBack(t *testing.T) {
	t.Parallel()
	b := newBucket(t, s3test.Start(t))
	if err := b.put("in/a.dcm", []byte("x")); err != nil {
		t.Fatal(err)
	}
	l := newLine(t, s3test.StartQueues(t))
	l.send(string(said(b.name, "", "in/a.dcm")))
	behind, _ := url.Parse(l.endpoint)
	proxy := &httputil.ReverseProxy{Rewrite: func(r *httputil.ProxyRequest) { r.SetURL(behind) }, ErrorLog: log.New(io.Discard, "", 0)}
	var out, given, early atomic.Int64
	front := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch _, operation, _ := strings.Cut(r.Header.Get("X-Amz-Target"), "."); operation {
		case "ReceiveMessage":
			out.Add(1)
			defer out.Add(-1)
		case "ChangeMessageVisibility":
			given.Add(1)
			early.Add(out.Load())
		}
		proxy.ServeHTTP(w, r)
	}))
	t.Cleanup(front.Close)
	s, _ := b.queued(l, front.URL, nil)
	began, over := make(chan struct{}), make(chan error, 1)
	ctx, cancel := context.WithCancel(t.Context())
	go func() {
		over <- s.Watch(ctx, func(ctx context.Context, _ gantry.Object) error {
			close(began)
			<-ctx.Done()
			return ctx.Err()
		})
	}()
	<-began
	cancel()
	if err := <-over; err != nil {
		t.Error(err)
	}
	if given.Load() != 1 || early.Load() != 0 {
		t.Errorf("given back %d times, with %d requests for messages out", given.Load(), early.Load())
	}
	stopped := time.Now()
	s, d := b.queued(l, l.endpoint, nil)
	watching(t, s, d)
	l.emptied()
	want(t, d.take(), "accepted in/a.dcm")
	if took := time.Since(stopped); took > s.queue.hidden/2 {
		t.Errorf("it came after %s", took)
	}
}

// TestQueueKeepsMessages tells of messages that the queue keeps though its answer is 200.
func TestQueueKeepsMessages(t *testing.T) {
	t.Parallel()
	var given atomic.Bool
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/x-amz-json-1.0")
		switch target := r.Header.Get("X-Amz-Target"); {
		case strings.HasSuffix(target, "ReceiveMessage") && !given.Swap(true):
			io.WriteString(w, `{"Messages":[{"Body":"{\"Event\":\"s3:TestEvent\"}","MessageId":"m","ReceiptHandle":"r"}]}`)
		case strings.HasSuffix(target, "DeleteMessageBatch"):
			io.WriteString(w, `{"Successful":[],"Failed":[{"Id":"0","Code":"InternalError","SenderFault":false}]}`)
		default:
			time.Sleep(20 * time.Millisecond)
			io.WriteString(w, `{}`)
		}
	}))
	t.Cleanup(server.Close)
	made, err := NewSource(t.Context(), SourceConfig{Bucket: "bucket", Discover: []string{"sqs"}, QueueURL: server.URL + "/1/q"}, ways{drivertest.Egress(t), drivertest.Egress(t)})
	if err != nil {
		t.Fatal(err)
	}
	s, d := made.(*source), &desk{}
	s.queue.wait = time.Second
	s.Note(d.tell)
	watching(t, s, d)
	var of *gantry.Notice
	until(t, "what came of the deletion", func() bool {
		for _, n := range d.told() {
			if n.Channel == gantry.ChannelDelete {
				of = &n
				return true
			}
		}
		return false
	})
	if of.Err == nil {
		t.Error("the message is still in the queue, and the journal is told that it was deleted")
	}
}
