package s3

import (
	"context"
	"sync"
	"testing"

	"github.com/gantry-imaging/gantry/internal/driver/s3/s3test"
	"github.com/gantry-imaging/gantry/internal/gantry"
)

// TestCrowd has at most 32 notifications of an object wait while it is taken: senders repeat what is not answered in time, and
// those of others have no room then. A queue's messages wait, since a queue gives few at once.
func TestCrowd(t *testing.T) {
	t.Parallel()
	b := newBucket(t, s3test.Start(t))
	if err := b.put("in/a", []byte("large")); err != nil {
		t.Fatal(err)
	}
	s, _ := b.hooked(func(c *SourceConfig) { c.Prefix = "in/" })
	release := make(chan struct{})
	slow := func(context.Context, gantry.Object) error { <-release; return nil }
	errs := make(chan error, crowd)
	for range crowd {
		go func() { errs <- s.Hook(t.Context(), nil, said(b.name, "", "in/a"), slow) }()
	}
	holding := func() int {
		s.hearing.mu.Lock()
		defer s.hearing.mu.Unlock()
		if x := s.hearing.refs["in/a"]; x != nil {
			return x.n
		}
		return 0
	}
	until(t, "all of them", func() bool { return holding() == crowd })
	err := s.Hook(t.Context(), nil, said(b.name, "", "in/a"), slow)
	wantError(t, err, gantry.Unavailable, CodeBusy)
	if gantry.RetryAfterOf(err) == 0 {
		t.Error("it is not said when to come again")
	}
	var queued sync.WaitGroup
	queued.Go(func() {
		if _, err := s.hear(t.Context(), gantry.ChannelSQS, said(b.name, "", "in/a"), slow); err != nil {
			t.Error("a queue's message: ", err)
		}
	})
	until(t, "the queue's", func() bool { return holding() == crowd+1 })
	close(release)
	for range crowd {
		if err := <-errs; err != nil {
			t.Error(err)
		}
	}
	queued.Wait()
	if err := s.Hook(t.Context(), nil, said(b.name, "", "in/a"), slow); err != nil {
		t.Error("afterwards: ", err)
	}
}
