package s3

import (
	"cmp"
	"context"
	"fmt"
	"math"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/s3/types"

	"github.com/gantry-imaging/gantry/internal/gantry"
)

// crowd is how many notifications of one object may hold a request, while it is copied: their senders wait, and those of others
// have no room then.
const crowd = 32

// CodeBusy is that of a notification of an object that many wait for already, and of a deletion at whose key an object is being taken. It is
// Unavailable.
const CodeBusy gantry.Code = "busy"

// hearing is how a source is told of objects.
type hearing struct {
	discover []string
	token    gantry.SecretRef
	queue    *queue // nil: there is none

	mu      sync.Mutex
	journal func(context.Context, gantry.Notice) error // guarded by mu; nil: nobody wants to know
	refs    map[string]*turn                           // guarded by mu; of the objects being announced
}

// checkDiscover says what is wrong with how objects are to be found.
func (c SourceConfig) checkDiscover() []gantry.FieldProblem {
	var found []gantry.FieldProblem
	for _, x := range []struct {
		by       gantry.Channel
		key, has string
	}{{gantry.ChannelSQS, "queue_url", c.QueueURL}, {gantry.ChannelSQS, "queue_endpoint", c.QueueEndpoint}, {gantry.ChannelWebhook, "token", string(c.Token)}} {
		wants := slices.Contains(c.Discover, string(x.by))
		switch {
		case wants && x.has == "" && x.key != "queue_endpoint":
			found = append(found, gantry.FieldProblem{Key: x.key, Text: fmt.Sprintf("is missing: discover names %s", x.by)})
		case !wants && x.has != "":
			found = append(found, gantry.FieldProblem{Key: x.key, Text: fmt.Sprintf("means nothing: discover does not name %s", x.by)})
		}
	}
	for i, d := range c.Discover {
		if slices.Contains(c.Discover[:i], d) {
			found = append(found, gantry.FieldProblem{Key: "discover", Text: fmt.Sprintf("names %s twice", d)})
		}
	}
	if u, err := url.Parse(c.QueueURL); c.QueueURL != "" && (err != nil || !isServer(u) || strings.Trim(u.Path, "/") == "") {
		found = append(found, gantry.FieldProblem{Key: "queue_url", Text: "is not http:// or https:// with a host, the queue's path, and nothing else"})
	}
	if u, err := url.Parse(c.QueueEndpoint); c.QueueEndpoint != "" && (err != nil || !isServer(u) || strings.Trim(u.Path, "/") != "") {
		found = append(found, gantry.FieldProblem{Key: "queue_endpoint", Text: "is not http:// or https:// with a host, a port if need be, and nothing else"})
	}
	return found
}

func isServer(u *url.URL) bool {
	return (u.Scheme == "http" || u.Scheme == "https") && u.Hostname() != "" && u.User == nil && u.RawQuery == "" && u.Fragment == ""
}

// Further is the queue, if there is one.
func (c SourceConfig) Further() []gantry.FurtherTarget {
	if !slices.Contains(c.Discover, string(gantry.ChannelSQS)) {
		return nil
	}
	return []gantry.FurtherTarget{{Target: c.queueTarget(), Service: "sqs"}}
}

// queueTarget is the server that the queue is asked at, with the queue's path.
func (c SourceConfig) queueTarget() gantry.Target {
	queue, err := url.Parse(c.QueueURL)
	if err != nil {
		return gantry.Target{Scheme: "https"}
	}
	server := queue
	if c.QueueEndpoint != "" {
		if server, err = url.Parse(c.QueueEndpoint); err != nil {
			return gantry.Target{Scheme: "https"}
		}
	}
	return gantry.Target{Scheme: server.Scheme, Host: server.Hostname(), Port: server.Port(), Model: strings.Trim(queue.Path, "/")}
}

func newHearing(c SourceConfig, egress gantry.Egress) (*hearing, error) {
	h := &hearing{discover: c.Discover, token: c.Token, refs: map[string]*turn{}}
	if len(h.discover) == 0 {
		h.discover = []string{string(gantry.ChannelPoll)}
	}
	if !h.by(gantry.ChannelSQS) {
		return h, nil
	}
	var err error
	h.queue, err = newQueue(c, egress)
	return h, err
}

// by tells whether objects are found in a way.
func (h *hearing) by(c gantry.Channel) bool { return slices.Contains(h.discover, string(c)) }

// Watch is WatchFrom with a memory of its own, of 16 bytes for each object that it announced.
func (s *source) Watch(ctx context.Context, announce func(context.Context, gantry.Object) error) error {
	m := newMemory()
	return s.WatchFrom(ctx, m, m.noting(announce))
}

// WatchFrom announces objects in each way that the config says, until ctx ends: it lists the bucket, and takes
// messages from the queue. What a server sends by itself comes through Hook. An error is that of the listing alone, as
// watchListing says. Of the listing and a queue each goes on while the other fails; the journal is told.
func (s *source) WatchFrom(ctx context.Context, l gantry.Ledger, announce func(context.Context, gantry.Object) error) error {
	ctx, cancel := context.WithCancel(ctx)
	var wg sync.WaitGroup
	defer wg.Wait()
	defer cancel()
	if s.queue != nil {
		wg.Go(func() { s.watchQueue(ctx, announce) })
	}
	switch {
	case !s.by(gantry.ChannelPoll):
		<-ctx.Done()
		return nil
	case s.queue == nil:
		return s.watchListing(ctx, l, announce)
	}
	s.keepListing(ctx, l, announce)
	return nil
}

// keepListing lists beside a queue, which goes on where the bucket cannot be listed.
func (s *source) keepListing(ctx context.Context, l gantry.Ledger, announce func(context.Context, gantry.Object) error) {
	for pause := s.pause; ; pause = min(2*pause, maxBackoff) {
		err := s.watchListing(ctx, l, announce)
		if err == nil || ctx.Err() != nil {
			return
		}
		s.note(ctx, gantry.Notice{Channel: gantry.ChannelPoll, Err: err})
		select {
		case <-ctx.Done():
			return
		case <-time.After(pause):
		}
	}
}

// HookToken refers to what a sender of notifications has to know; empty if none are taken.
func (s *source) HookToken() gantry.SecretRef {
	if !s.by(gantry.ChannelWebhook) {
		return ""
	}
	return s.token
}

// Hook takes one notification of the bucket's server. Events of other buckets, and of objects that the config
// leaves out, come to nothing: many servers send all they have. A body that nobody understands is told to the journal
// and Illegal; so is one of which some records make no sense, after the others were announced.
func (s *source) Hook(ctx context.Context, _ http.Header, body []byte, announce func(context.Context, gantry.Object) error) error {
	code, err := s.hear(ctx, gantry.ChannelWebhook, body, announce)
	switch {
	case err == nil && code != "":
		return gantry.Errorf(gantry.Illegal, code, "take notification: it, or a part of it, makes no sense")
	case gantry.KindOf(err) == gantry.Illegal: // the object's fault, and not that of the notification
		return again(gantry.CodeOf(err), 0, "take notification: an object of it cannot be taken")
	}
	return err
}

// Note says who is told what is heard.
func (s *source) Note(tell func(context.Context, gantry.Notice) error) {
	s.hearing.mu.Lock()
	defer s.hearing.mu.Unlock()
	s.journal = tell
}

func (h *hearing) note(ctx context.Context, x gantry.Notice) error {
	h.mu.Lock()
	tell := h.journal
	h.mu.Unlock()
	if tell == nil {
		return nil
	}
	return tell(ctx, x)
}

// hear takes one message to its end. A code says that the message, or a part of it, tells of no object; the
// journal has it then. An error means that it has to come again.
func (s *source) hear(ctx context.Context, by gantry.Channel, body []byte, announce func(context.Context, gantry.Object) error) (gantry.Code, error) {
	said, err := parse(body)
	x := gantry.Notice{Channel: by, At: said.at, Ignored: said.ignored, Code: cmp.Or(gantry.CodeOf(err), said.code)}
	var list []event
	for _, e := range said.events {
		e.by = by
		switch {
		case e.bucket != s.bucket && by == gantry.ChannelSQS: // nobody else reads this queue
			x.Code = CodeOtherBucket
		case e.bucket == s.bucket && s.couldBe(&e):
			list = append(list, e)
		default:
			x.Ignored++
		}
	}
	x.Objects = len(list)
	if err := s.followAll(ctx, list, announce); err != nil {
		return "", err
	}
	if x.Code != "" {
		x.Body = body
	}
	return x.Code, s.note(ctx, x)
}

// couldBe leaves of an event the keys that the source takes, and tells whether there are any.
func (s *source) couldBe(e *event) bool {
	e.keys = slices.DeleteFunc(e.keys, func(key string) bool {
		return !s.takes(key)
	})
	return len(e.keys) > 0
}

// takes tells whether the config lets a key be an object of the source.
func (s *source) takes(key string) bool {
	return len(key) <= maxKey && strings.HasPrefix(key, s.prefix) && s.wanted(&types.Object{}, key)
}

// followAll follows events, several at once. Its error is that of the first that has to come again.
func (s *source) followAll(ctx context.Context, list []event, announce func(context.Context, gantry.Object) error) error {
	errs := make([]error, len(list))
	var wg sync.WaitGroup
	for first := range min(announcers, len(list)) {
		wg.Go(func() {
			for i := first; i < len(list); i += announcers {
				errs[i] = s.follow(ctx, list[i], announce)
			}
		})
	}
	wg.Wait()
	if i := slices.IndexFunc(errs, func(err error) bool { return err != nil }); i >= 0 {
		return errs[i]
	}
	return nil
}

// turn is whose turn it is to announce the objects of one ref.
type turn struct {
	taken chan struct{} // of one place
	n     int           // of those who hold or want it; guarded by hearing.mu
}

// tell announces an object once nobody else announces one of its ref: the listing, the server and the queue may all
// tell of it at once, and it is copied once. While it is announced, Open reads it and no other.
func (s *source) tell(ctx context.Context, o gantry.Object, announce func(context.Context, gantry.Object) error) error {
	most := math.MaxInt
	if o.Channel == gantry.ChannelWebhook {
		most = crowd
	}
	waited, done, err := s.await(ctx, o.Ref, most)
	if err != nil {
		return err
	}
	defer done()
	o.New = o.New && !waited // who was first may have taken it
	if o.Version != "" && o.Status == gantry.Accepted {
		s.expect(o.Ref, `"`+o.Version+`"`)
		defer s.forget(o.Ref)
	}
	return announce(ctx, o)
}

// await waits for the turn of a ref, which done gives back, and tells whether somebody else had it. Where so many hold or want it
// already, it is Unavailable with code busy.
func (h *hearing) await(ctx context.Context, ref string, most int) (waited bool, done func(), err error) {
	h.mu.Lock()
	t := h.refs[ref]
	waited = t != nil
	if waited && t.n >= most {
		h.mu.Unlock()
		return waited, nil, again(CodeBusy, time.Second, "take object: others wait for it already")
	}
	if t == nil {
		t = &turn{taken: make(chan struct{}, 1)}
		h.refs[ref] = t
	}
	t.n++
	h.mu.Unlock()
	leave := func() {
		h.mu.Lock()
		defer h.mu.Unlock()
		if t.n--; t.n == 0 {
			delete(h.refs, ref)
		}
	}
	select {
	case t.taken <- struct{}{}:
		return waited, func() { <-t.taken; leave() }, nil
	case <-ctx.Done():
		leave()
		return waited, nil, context.Cause(ctx)
	}
}

// unsettledFor says how long an object is still too young, by the server's own clock; 0: it is not.
func (s *source) unsettledFor(modified, now time.Time) time.Duration {
	left := s.settle - now.Sub(modified)
	if s.settle == 0 || left <= 0 || left > s.settle+time.Hour { // a time from the future says nothing
		return 0
	}
	return left
}
