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
	queuePollers  = 4                // requests to one queue at once
	queueMessages = 10               // of one request, as many as SQS gives
	queueWait     = 20 * time.Second // for the first message, as long as SQS waits
	queueHidden   = time.Minute      // how long a message is nobody else's; prolonged while it is being taken
	queueTimeout  = 10 * time.Second // of a request beside the wait
	maxHidden     = 15 * time.Minute // until a message that could not be taken comes again
)

// queue is an SQS queue that notifications of a bucket come by. Its numbers are fields for the tests.
type queue struct {
	client  *sqs.Client
	url     string
	pollers int
	wait    time.Duration // whole seconds
	hidden  time.Duration // whole seconds
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
	return &queue{url: c.QueueURL, pollers: queuePollers, wait: queueWait, hidden: queueHidden, pause: time.Second,
		client: sqs.New(sqs.Options{
			BaseEndpoint: aws.String(base.Key()),
			Region:       c.place().regionOr(),
			HTTPClient:   door{out.Transport()},
			Credentials:  aws.AnonymousCredentials{},
			Retryer:      aws.NopRetryer{},
			Logger:       logging.Nop{},
			APIOptions:   []func(*middleware.Stack) error{v4.AddContentSHA256HeaderMiddleware}, // for the signature
		})}, nil
}

// watchQueue takes messages until ctx ends. While nothing goes through it asks less and less often.
func (s *source) watchQueue(ctx context.Context, announce func(context.Context, gantry.Object) error) {
	var pause time.Duration
	for ctx.Err() == nil {
		list, err := s.queue.receive(ctx)
		switch {
		case err != nil && ctx.Err() == nil:
			s.note(ctx, gantry.Notice{Channel: gantry.ChannelSQS, Err: err})
		case err == nil:
			err = s.takeMessages(ctx, list, announce)
		}
		if err == nil {
			pause = 0
			continue
		}
		pause = min(max(2*pause, s.queue.pause), maxBackoff)
		select {
		case <-ctx.Done():
		case <-time.After(max(pause, min(gantry.RetryAfterOf(err), maxBackoff))):
		}
	}
}

// receive waits for messages.
func (q *queue) receive(ctx context.Context) ([]sqstypes.Message, error) {
	ctx, cancel := context.WithTimeout(ctx, q.wait+queueTimeout)
	defer cancel()
	out, err := q.client.ReceiveMessage(ctx, &sqs.ReceiveMessageInput{QueueUrl: &q.url, MaxNumberOfMessages: queueMessages, WaitTimeSeconds: seconds(q.wait),
		VisibilityTimeout: seconds(q.hidden), MessageSystemAttributeNames: []sqstypes.MessageSystemAttributeName{sqstypes.MessageSystemAttributeNameApproximateReceiveCount}})
	if err != nil {
		return nil, asked(ctx, "receive messages", err)
	}
	return out.Messages, nil
}

// takeMessages takes messages, all at once, and deletes those that nothing is left to do of: not before what they
// tell of is durable. The others come again after a while. Its error is that of one that failed, if none went through.
func (s *source) takeMessages(ctx context.Context, list []sqstypes.Message, announce func(context.Context, gantry.Object) error) error {
	if len(list) == 0 {
		return nil
	}
	under := &underway{queue: s.queue, left: map[string]bool{}}
	for _, m := range list {
		under.left[aws.ToString(m.ReceiptHandle)] = true
	}
	defer under.keepHidden(ctx)()
	errs := make([]error, len(list))
	var wg sync.WaitGroup
	for i, m := range list {
		wg.Go(func() {
			_, errs[i] = s.hear(ctx, gantry.ChannelSQS, []byte(aws.ToString(m.Body)), announce)
			under.done(aws.ToString(m.ReceiptHandle))
		})
	}
	wg.Wait()
	var taken, failed []sqstypes.Message
	var waits []time.Duration
	var err error
	for i, m := range list {
		if errs[i] == nil {
			taken = append(taken, m)
			continue
		}
		failed, waits, err = append(failed, m), append(waits, comeback(m, errs[i])), errs[i]
	}
	s.queue.hide(ctx, failed, func(i int) time.Duration { return waits[i] })
	if derr := s.queue.remove(ctx, taken); derr != nil && ctx.Err() == nil {
		s.note(ctx, gantry.Notice{Channel: gantry.ChannelSQS, Err: derr})
		return derr
	}
	if len(taken) > 0 {
		return nil
	}
	return err
}

// comeback says after what time a message that could not be taken comes again: the longer, the more often that was so.
func comeback(m sqstypes.Message, err error) time.Duration {
	n, _ := strconv.Atoi(m.Attributes[string(sqstypes.MessageSystemAttributeNameApproximateReceiveCount)])
	after := time.Second << min(max(n-1, 0), 10)
	return min(max(after, gantry.RetryAfterOf(err)), maxHidden)
}

// remove deletes messages.
func (q *queue) remove(ctx context.Context, list []sqstypes.Message) error {
	if len(list) == 0 {
		return nil
	}
	in := &sqs.DeleteMessageBatchInput{QueueUrl: &q.url}
	for i, m := range list {
		in.Entries = append(in.Entries, sqstypes.DeleteMessageBatchRequestEntry{Id: aws.String(strconv.Itoa(i)), ReceiptHandle: m.ReceiptHandle})
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), queueTimeout) // they are taken, whoever ends
	defer cancel()
	_, err := q.client.DeleteMessageBatch(ctx, in) // one that stays comes again, and is known then
	if err != nil {
		return asked(ctx, "delete messages", err)
	}
	return nil
}

// hide sets after what time messages may be received again. Whether that goes through changes little.
func (q *queue) hide(ctx context.Context, list []sqstypes.Message, after func(int) time.Duration) {
	if len(list) == 0 {
		return
	}
	in := &sqs.ChangeMessageVisibilityBatchInput{QueueUrl: &q.url}
	for i, m := range list {
		in.Entries = append(in.Entries, sqstypes.ChangeMessageVisibilityBatchRequestEntry{
			Id: aws.String(strconv.Itoa(i)), ReceiptHandle: m.ReceiptHandle, VisibilityTimeout: seconds(after(i))})
	}
	ctx, cancel := context.WithTimeout(ctx, queueTimeout)
	defer cancel()
	q.client.ChangeMessageVisibilityBatch(ctx, in)
}

// underway are the messages of one answer that are being taken.
type underway struct {
	queue *queue
	mu    sync.Mutex
	left  map[string]bool // by receipt
}

func (u *underway) done(receipt string) {
	u.mu.Lock()
	defer u.mu.Unlock()
	delete(u.left, receipt)
}

// keepHidden keeps those that are left from others until stop: an object may be large.
func (u *underway) keepHidden(ctx context.Context) (stop func()) {
	ctx, cancel := context.WithCancel(ctx)
	var wg sync.WaitGroup
	wg.Go(func() {
		tick := time.NewTicker(u.queue.hidden / 3)
		defer tick.Stop()
		for {
			select {
			case <-ctx.Done():
				return
			case <-tick.C:
			}
			var list []sqstypes.Message
			u.mu.Lock()
			for receipt := range u.left {
				list = append(list, sqstypes.Message{ReceiptHandle: &receipt})
			}
			u.mu.Unlock()
			u.queue.hide(ctx, list, func(int) time.Duration { return u.queue.hidden })
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
