package s3

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/gantry-imaging/gantry/internal/driver/s3/s3test"
	"github.com/gantry-imaging/gantry/internal/gantry"
)

// While the queue is away or answers nonsense, the listing goes on, the journal is told, and what waits in the
// queue is taken afterwards.
func TestQueueOverABadServer(t *testing.T) {
	t.Parallel()
	b := newBucket(t, s3test.Start(t))
	l := newLine(t, s3test.StartQueues(t))
	behind, _ := url.Parse(l.endpoint)
	proxy := &httputil.ReverseProxy{Rewrite: func(r *httputil.ProxyRequest) { r.SetURL(behind) }}
	var bad atomic.Int64
	front := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !strings.HasSuffix(r.Header.Get("X-Amz-Target"), "ReceiveMessage") || bad.Load() >= 6 {
			proxy.ServeHTTP(w, r)
			return
		}
		switch bad.Add(1) {
		case 1:
			w.WriteHeader(http.StatusServiceUnavailable)
		case 2:
			w.Header().Set("Content-Type", "application/x-amz-json-1.0")
			io.WriteString(w, `{"Messages":[{"Body":`)
		case 3:
			w.WriteHeader(http.StatusBadRequest)
			io.WriteString(w, `{"__type":"com.amazonaws.sqs#QueueDoesNotExist","message":"DOE^JANE"}`)
		case 4:
			panic(http.ErrAbortHandler)
		case 5:
			io.Copy(w, io.LimitReader(zeros{}, 2*maxAnswer))
		case 6: // a body that is not the one its sum is of
			w.Header().Set("Content-Type", "application/x-amz-json-1.0")
			io.WriteString(w, `{"Messages":[{"Body":"{}","MD5OfBody":"0123","MessageId":"m","ReceiptHandle":"r"}]}`)
		}
	}))
	t.Cleanup(front.Close)
	s, d := b.queued(l, front.URL, func(c *SourceConfig) { c.Discover = []string{"poll", "sqs"} })
	s.queue.pollers = 1
	watching(t, s, d)
	if err := b.put("listed", nil); err != nil {
		t.Fatal(err)
	}
	until(t, "the listing goes on", func() bool { return len(d.take()) == 1 })
	l.send(string(said(b.name, "0123", "gone")))
	l.emptied()
	want(t, d.take(), "source_gone gone")
	var kinds []string
	works := false
	for _, n := range d.told() {
		if works = works || n.Channel == gantry.ChannelSQS; n.Err == nil {
			continue
		}
		works = false
		if strings.Contains(n.Err.Error(), "DOE") {
			t.Errorf("%v", n.Err)
		}
		kinds = append(kinds, fmt.Sprintf("%s/%s", gantry.KindOf(n.Err), gantry.CodeOf(n.Err)))
	}
	if got := strings.Join(kinds[:min(3, len(kinds))], " "); got != "unavailable/slow_down transient/transient not_found/queue_missing" && got != "unavailable/slow_down bad_response/malformed_answer not_found/queue_missing" || len(kinds) != 6 {
		t.Errorf("%q", kinds)
	}
	if !works {
		t.Error("that the queue answers again is not told")
	}
}

// Where the bucket cannot be listed, the queue goes on beside, and the journal is told.
func TestQueueWithoutAListing(t *testing.T) {
	t.Parallel()
	b := newBucket(t, s3test.Start(t))
	l := newLine(t, s3test.StartQueues(t))
	behind, _ := url.Parse(b.server.Endpoint)
	proxy := &httputil.ReverseProxy{Rewrite: func(r *httputil.ProxyRequest) {
		r.SetURL(behind)
		r.Out.Host = r.In.Host // it is signed
	}}
	front := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Query().Has("list-type") {
			w.WriteHeader(http.StatusForbidden)
			return
		}
		proxy.ServeHTTP(w, r)
	}))
	t.Cleanup(front.Close)
	s, d := b.queued(l, l.endpoint, func(c *SourceConfig) { c.Discover, c.Endpoint = []string{"poll", "sqs"}, front.URL })
	s.pause = 10 * time.Millisecond
	watching(t, s, d)
	until(t, "the journal is told twice", func() bool {
		n := 0
		for _, x := range d.told() {
			if x.Channel == gantry.ChannelPoll && gantry.CodeOf(x.Err) == CodeAccessDenied {
				n++
			}
		}
		return n > 1
	})
	if err := b.put("a", nil); err != nil {
		t.Fatal(err)
	}
	l.send(string(said(b.name, "", "a")))
	l.emptied()
	want(t, d.take(), "accepted a")
}

// zeros never end.
type zeros struct{}

func (zeros) Read(p []byte) (int, error) {
	clear(p)
	return len(p), nil
}
