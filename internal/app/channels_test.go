package app_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/sqs"
	"github.com/aws/aws-sdk-go-v2/service/sqs/types"

	"github.com/gantry-imaging/gantry/internal/driver/s3/s3test"
)

// bridge carries what an S3 server tells to a queue and on to a webhook, and does to it on the way what networks do: some
// messages come twice, some never, most late and in another order.
type bridge struct {
	*sqs.Client
	queue string
	to    string // the webhook; empty: there is none

	mu   sync.Mutex
	rand *rand.Rand
	wg   sync.WaitGroup
	n    int // messages that came
	lost int // and that went nowhere
}

func newBridge(t *testing.T, env map[string]string) *bridge {
	t.Helper()
	server := s3test.StartQueues(t)
	b := &bridge{rand: rand.New(rand.NewPCG(1, 2)), Client: sqs.New(sqs.Options{BaseEndpoint: &server.Endpoint, Region: "us-east-1",
		Credentials: credentials.NewStaticCredentialsProvider("id", "secret", "")})}
	out, err := b.CreateQueue(t.Context(), &sqs.CreateQueueInput{QueueName: aws.String("drop")})
	if err != nil {
		t.Fatal(err)
	}
	b.queue = *out.QueueUrl
	env["QUEUE"], env["QUEUES"] = b.queue, server.Endpoint
	t.Cleanup(b.wg.Wait)
	return b
}

// ServeHTTP takes what the S3 server tells.
func (b *bridge) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(r.Body)
	b.mu.Lock()
	b.n++
	toQueue, toHook := b.rand.IntN(4), b.rand.IntN(4) // 0: lost, 3: twice
	if toQueue == 0 && toHook == 0 {
		b.lost++
	}
	var late []time.Duration
	for range 4 {
		late = append(late, time.Duration(b.rand.IntN(300))*time.Millisecond)
	}
	b.mu.Unlock()
	ctx := context.WithoutCancel(r.Context())
	for i := range min(toQueue, 2) {
		b.wg.Go(func() {
			time.Sleep(late[i])
			b.SendMessage(ctx, &sqs.SendMessageInput{QueueUrl: &b.queue, MessageBody: aws.String(string(body))})
		})
	}
	for i := range min(toHook, 2) {
		b.wg.Go(func() {
			time.Sleep(late[2+i])
			if resp, err := http.Post(b.to, "application/json", bytes.NewReader(body)); err == nil {
				resp.Body.Close()
			}
		})
	}
}

// Each object that a real server tells of, by webhook, by queue and in its listing at once, each with messages lost,
// doubled and late, is one task; of one that is put again, each state that was taken is one.
func TestThreeChannelsAtOnce(t *testing.T) {
	t.Parallel()
	const n = 60
	env := map[string]string{}
	b := newBridge(t, env)
	w := newWard(t, `discover: [poll, webhook, sqs], poll: 100ms, queue_url: "${env:QUEUE}", queue_endpoint: "${env:QUEUES}"`, env, func(to string) http.Handler {
		b.to = to
		return b
	})
	bodies := study(t, n)
	var wg sync.WaitGroup
	for worker := range 4 {
		wg.Go(func() {
			for i := worker; i < n; i += 4 {
				w.put("inbox", fmt.Sprintf("in/DOE^JANE %d+%d.dcm", i%7, i), bodies[i])
			}
		})
	}
	wg.Wait()
	w.until("all are done", func() bool { return w.done() == n })
	b.wg.Wait()
	w.until("the queue is empty", func() bool {
		out, err := b.GetQueueAttributes(t.Context(), &sqs.GetQueueAttributesInput{QueueUrl: &b.queue, AttributeNames: []types.QueueAttributeName{"All"}})
		return err == nil && out.Attributes["ApproximateNumberOfMessages"] == "0"
	})
	if got := w.rows(`select count(*) from task`); got != n {
		t.Errorf("%d tasks of %d objects", got, n)
	}
	if got := w.rows(`select count(*) from arrival where status = 0`); got != n {
		t.Errorf("%d arrivals", got)
	}
	if got := w.rows(`select count(distinct location) from arrival where status = 0 and location <> ''`); got != n {
		t.Errorf("%d copies", got)
	}
	if b.n < n {
		t.Errorf("the server told of %d", b.n)
	}
	t.Logf("%d events, %d of them lost on both ways", b.n, b.lost)
	if log := w.log.text(); strings.Contains(log, "JANE") {
		t.Error("the log names somebody")
	}
	traffic := w.rows(`select count(*) from control_traffic c join limiter l on l.id = c.limiter where l.key like 'http://127.0.0.1:%/drop'`)
	t.Logf("%d rows of control traffic of the queue before the end", traffic)
	w.stop()
	if got := w.rows(`select coalesce(sum(requests), 0)::int from control_traffic c join limiter l on l.id = c.limiter where l.key like '%/drop'`); got == 0 {
		t.Error("what the queue was asked is not on record under its own target")
	}
}

// By queue alone nothing is lost while the database is away: messages are deleted after the commit.
func TestQueueWhileTheDatabaseIsAway(t *testing.T) {
	t.Parallel()
	const n = 12
	env := map[string]string{}
	b := newBridge(t, env)
	w := newWard(t, `discover: [webhook, sqs], queue_url: "${env:QUEUE}", queue_endpoint: "${env:QUEUES}"`, env, func(string) http.Handler {
		return http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
			body, _ := io.ReadAll(r.Body)
			b.SendMessage(r.Context(), &sqs.SendMessageInput{QueueUrl: &b.queue, MessageBody: aws.String(string(body))})
		})
	})
	w.exec(`alter table gantry.arrival rename to arrival_away`)
	bodies := study(t, n)
	for i := range n {
		w.put("inbox", fmt.Sprintf("in/%d.dcm", i), bodies[i])
	}
	b.SendMessage(t.Context(), &sqs.SendMessageInput{QueueUrl: &b.queue, MessageBody: aws.String("DOE^JANE")})
	w.until("it was tried", func() bool { return strings.Contains(w.log.text(), "accept") })
	time.Sleep(time.Second)
	out, err := b.GetQueueAttributes(t.Context(), &sqs.GetQueueAttributesInput{QueueUrl: &b.queue, AttributeNames: []types.QueueAttributeName{"All"}})
	if err != nil || out.Attributes["ApproximateNumberOfMessages"] != fmt.Sprint(n) {
		t.Errorf("%v messages are left of %d, %v", out.Attributes, n, err)
	}
	w.exec(`alter table gantry.arrival_away rename to arrival`)
	w.until("all are done", func() bool { return w.done() == n })
	if got := w.rows(`select count(*) from task`); got != n {
		t.Errorf("%d tasks", got)
	}
	if got := w.rows(`select count(*) from source_event where code = 'malformed' and channel = 'sqs'`); got != 1 {
		t.Errorf("%d messages are kept", got)
	}
	if log := w.log.text(); strings.Contains(log, "JANE") {
		t.Error("the log names somebody")
	}
}
