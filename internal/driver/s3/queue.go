package s3

import (
	"context"
	"errors"
	"strconv"
	"sync"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"
	"github.com/aws/aws-sdk-go-v2/service/sqs"
	sqstypes "github.com/aws/aws-sdk-go-v2/service/sqs/types"
	"github.com/aws/smithy-go/logging"
	"github.com/aws/smithy-go/middleware"

	"github.com/gantry-imaging/gantry/internal/gantry"
)

const (
	queuePollers  = 4        // requests to one queue at once
	queueMessages = 10       // of one request, as many as SQS gives
	maxReceived   = 64 << 20 // bytes of one answer: SQS has messages of 1 MiB, of which JSON may make six times as much
	queueSide     = 128      // messages under way at once
	removeTimeout = 5 * time.Second
	queueWait     = 20 * time.Second       // for the first message, as long as SQS waits
	queueHidden   = 30 * time.Second       // how long a message is nobody else's; prolonged while it is being taken
	queueTimeout  = 10 * time.Second       // of a request beside the wait
	maxHidden     = 15 * time.Minute       // until a message that could not be taken comes again
	queueLeft     = 100 * time.Millisecond // until a queue has seen that nobody waits for a message any more
)

// queue is an SQS queue that notifications of a bucket come by. Its numbers are fields for the tests.
type queue struct {
	client  *sqs.Client
	url     string
	pollers int
	wait    time.Duration // whole seconds
	hidden  time.Duration // whole seconds
	keep    time.Duration // how often it is prolonged
	pause   time.Duration // after the first request that failed; doubles up to a minute
}

// newQueue makes a client of the queue that sends through its own branch of egress, which signs, and does not try
// again by itself.
func newQueue(c SourceConfig, egress gantry.Egress) (*queue, error) {
	target := c.queueTarget()
	b, ok := egress.(gantry.Branching)
	if !ok {
		return nil, gantry.Errorf(gantry.Illegal, "bad_config", "open source: there is no way to its queue")
	}
	out, ok := b.Branch(target)
	if !ok {
		return nil, gantry.Errorf(gantry.Illegal, "bad_config", "open source: there is no way to its queue")
	}
	base := target
	base.Model = ""
	return &queue{url: c.QueueURL, pollers: queuePollers, wait: queueWait, hidden: queueHidden, keep: queueHidden / 3, pause: time.Second,
		client: sqs.New(sqs.Options{
			BaseEndpoint: aws.String(base.Key()),
			Region:       c.place().regionOr(),
			HTTPClient:   door{out.Transport(), maxReceived},
			Credentials:  aws.AnonymousCredentials{},
			Retryer:      aws.NopRetryer{},
			Logger:       logging.Nop{},
			APIOptions:   []func(*middleware.Stack) error{v4.AddContentSHA256HeaderMiddleware}, // for the signature
		})}, nil
}

// taker takes the messages of a queue during one Watch.
type taker struct {
	*source
	announce func(context.Context, gantry.Object) error
	slots    chan struct{}         // taken by each message under way
	taken    chan sqstypes.Message // those that nothing is left to do of
	under    sync.WaitGroup        // messages under way
	left     chan struct{}         // closed once no request for messages is out

	resting sync.Mutex
	pause   time.Duration // guarded by resting; before the next request, since nothing went through of late
	works   bool          // guarded by resting; the journal knows that the queue answers
}

// watchQueue takes messages until ctx ends, and then deletes those that were taken.
func (s *source) watchQueue(ctx context.Context, announce func(context.Context, gantry.Object) error) {
	t := &taker{source: s, announce: announce, slots: make(chan struct{}, queueSide), taken: make(chan sqstypes.Message), left: make(chan struct{})}
	var pollers, remover sync.WaitGroup
	remover.Go(func() { t.remove(context.WithoutCancel(ctx)) })
	for range s.queue.pollers {
		pollers.Go(func() { t.poll(ctx) })
	}
	pollers.Wait()
	time.AfterFunc(queueLeft, func() { close(t.left) })
	t.under.Wait()
	close(t.taken)
	remover.Wait()
}

// poll asks for messages again and again. It does not wait for those under way while there are slots.
func (t *taker) poll(ctx context.Context) {
	for t.rest(ctx) {
		n := t.acquire(ctx)
		if n == 0 {
			return
		}
		list, err := t.queue.receive(ctx, n)
		list = list[:min(n, len(list))]
		for range n - len(list) {
			<-t.slots
		}
		switch {
		case err != nil && ctx.Err() == nil:
			t.tire(err)
			t.answers(ctx, err)
		case err == nil:
			t.answers(ctx, nil)
			if len(list) == 0 { // what failed is hidden for a time of its own
				t.refresh()
			}
		}
		for _, m := range list {
			t.under.Go(func() {
				defer func() { <-t.slots }()
				t.take(ctx, m)
			})
		}
	}
}

// answers tells the journal that the queue fails, and once that it answers.
func (t *taker) answers(ctx context.Context, err error) {
	t.resting.Lock()
	known := t.works && err == nil
	t.works = err == nil
	t.resting.Unlock()
	if !known {
		t.note(ctx, gantry.Notice{Channel: gantry.ChannelSQS, Err: err})
	}
}

// acquire waits for a slot and takes up to as many as one request can fill; 0 if ctx ended.
func (t *taker) acquire(ctx context.Context) int {
	select {
	case t.slots <- struct{}{}:
	case <-ctx.Done():
		return 0
	}
	for n := 1; n < queueMessages; n++ {
		select {
		case t.slots <- struct{}{}:
		default:
			return n
		}
	}
	return queueMessages
}

// rest waits as long as things go badly; false if ctx ended.
func (t *taker) rest(ctx context.Context) bool {
	t.resting.Lock()
	pause := t.pause
	t.resting.Unlock()
	if pause > 0 {
		select {
		case <-ctx.Done():
		case <-time.After(pause):
		}
	}
	return ctx.Err() == nil
}

// tire makes the pauses longer: each message that is received in vain is one step nearer to the dead-letter queue.
func (t *taker) tire(err error) {
	t.resting.Lock()
	defer t.resting.Unlock()
	t.pause = min(max(2*t.pause, t.queue.pause, gantry.RetryAfterOf(err)), maxBackoff)
}

func (t *taker) refresh() {
	t.resting.Lock()
	defer t.resting.Unlock()
	t.pause = 0
}

// take takes one message. It is deleted once nothing is left to do of it: not before what it tells of is durable.
// Else it comes again after a while, the longer, the more often that was so.
func (t *taker) take(ctx context.Context, m sqstypes.Message) {
	stop := t.queue.keepHidden(ctx, m)
	_, err := t.hear(ctx, gantry.ChannelSQS, []byte(aws.ToString(m.Body)), t.announce)
	stop()
	if err == nil {
		t.refresh()
		t.taken <- m
		return
	}
	if ctx.Err() != nil { // somebody else may begin at once, but no request of our own that the queue still waits with
		<-t.left
		t.queue.hide(context.WithoutCancel(ctx), m, 0)
		return
	}
	if code := gantry.CodeOf(err); gantry.KindOf(err).Retryable() && code != CodeUnsettled && code != CodeRestless {
		t.tire(err)
	}
	t.queue.hide(ctx, m, comeback(m, err))
}

// comeback says after what time a message that could not be taken comes again.
func comeback(m sqstypes.Message, err error) time.Duration {
	n, _ := strconv.Atoi(m.Attributes[string(sqstypes.MessageSystemAttributeNameApproximateReceiveCount)])
	after := time.Second << min(max(n-1, 0), 10)
	return min(max(after, gantry.RetryAfterOf(err)), maxHidden)
}

// remove deletes what was taken, as much at once as has come together. A message that stays comes again and is known then.
func (t *taker) remove(ctx context.Context) {
	for m := range t.taken {
		list := []sqstypes.Message{m}
	more:
		for len(list) < queueMessages {
			select {
			case m, ok := <-t.taken:
				if !ok {
					break more
				}
				list = append(list, m)
			default:
				break more
			}
		}
		t.note(ctx, gantry.Notice{Channel: gantry.ChannelDelete, Err: t.queue.remove(ctx, list)})
	}
}

// receive waits for up to n messages.
func (q *queue) receive(ctx context.Context, n int) ([]sqstypes.Message, error) {
	ctx, cancel := context.WithTimeout(ctx, q.wait+queueTimeout)
	defer cancel()
	out, err := q.client.ReceiveMessage(ctx, &sqs.ReceiveMessageInput{QueueUrl: &q.url, MaxNumberOfMessages: int32(n), WaitTimeSeconds: seconds(q.wait),
		VisibilityTimeout: seconds(q.hidden), MessageSystemAttributeNames: []sqstypes.MessageSystemAttributeName{sqstypes.MessageSystemAttributeNameApproximateReceiveCount}})
	if err != nil {
		return nil, asked(ctx, "receive messages", err)
	}
	return out.Messages, nil
}

// remove deletes messages.
func (q *queue) remove(ctx context.Context, list []sqstypes.Message) error {
	in := &sqs.DeleteMessageBatchInput{QueueUrl: &q.url}
	for i, m := range list {
		in.Entries = append(in.Entries, sqstypes.DeleteMessageBatchRequestEntry{Id: aws.String(strconv.Itoa(i)), ReceiptHandle: m.ReceiptHandle})
	}
	ctx, cancel := context.WithTimeout(ctx, removeTimeout)
	defer cancel()
	out, err := q.client.DeleteMessageBatch(ctx, in)
	if err != nil {
		return asked(ctx, "delete messages", err)
	}
	if n := len(out.Failed); n > 0 { // the answer is 200 all the same
		return gantry.Errorf(gantry.Unavailable, CodeServerError, "delete messages: %d of %d stay in the queue", n, len(list))
	}
	return nil
}

// hide sets after what time a message may be received again. Whether that goes through changes little. Servers that are
// not AWS know no request for several.
func (q *queue) hide(ctx context.Context, m sqstypes.Message, after time.Duration) {
	ctx, cancel := context.WithTimeout(ctx, queueTimeout)
	defer cancel()
	q.client.ChangeMessageVisibility(ctx, &sqs.ChangeMessageVisibilityInput{QueueUrl: &q.url, ReceiptHandle: m.ReceiptHandle, VisibilityTimeout: seconds(after)})
}

// keepHidden keeps a message from others until stop: its object may be large.
func (q *queue) keepHidden(ctx context.Context, m sqstypes.Message) (stop func()) {
	ctx, cancel := context.WithCancel(ctx)
	var wg sync.WaitGroup
	wg.Go(func() {
		tick := time.NewTicker(q.keep)
		defer tick.Stop()
		for {
			select {
			case <-ctx.Done():
				return
			case <-tick.C:
				q.hide(ctx, m, q.hidden)
			}
		}
	})
	return func() { cancel(); wg.Wait() }
}

// asked says what an error of the queue means.
func asked(ctx context.Context, doing string, err error) error {
	err = classify(ctx, doing, err)
	if errors.Is(err, context.DeadlineExceeded) {
		return gantry.Errorf(gantry.Timeout, "", "%s: no answer in time", doing)
	}
	return err
}

func seconds(d time.Duration) int32 { return int32((d + time.Second - 1) / time.Second) }
