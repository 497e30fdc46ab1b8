package gate

import (
	"context"
	"errors"
	"net/http"
	"sync"
	"time"

	"github.com/gantry-imaging/gantry/internal/gantry"
)

const (
	controlEvery = time.Minute // between two writings of what was counted
	maxFailures  = 1000        // rows of failures that wait to be written; more are counted in the sums
)

// Control counts the requests that belong to no call of a task: the listings of a source. They
// are not announced to the record one by one: a row a minute and target sums up those that went
// through, and each that failed has a row of its own. What a process counted since its last writing is
// lost with it. A Control may be used concurrently.
type Control struct {
	ids *gantry.IDs
	now func() time.Time

	mu      sync.Mutex
	sums    map[gantry.ControlKey]*gantry.Control
	waiting []gantry.Control // complete, to be written
	failed  int              // of them
}

// NewControl makes an empty count.
func NewControl(ids *gantry.IDs, now func() time.Time) *Control {
	return &Control{ids: ids, now: now, sums: map[gantry.ControlKey]*gantry.Control{}}
}

type controlCtx struct {
	counts *Control
	key    gantry.ControlKey
}

type controlCtxKey struct{}

// WithControl gives a ctx whose requests may leave without a call and are counted under key. Those of
// a call made within it are the call's.
func (c *Control) WithControl(ctx context.Context, key gantry.ControlKey) context.Context {
	return context.WithValue(ctx, controlCtxKey{}, controlCtx{c, key})
}

// WithControlOf gives a ctx whose control traffic is counted under another limiter's row: a driver calls a target that
// is not the one of its own. A ctx without control traffic stays as it is.
func WithControlOf(ctx context.Context, limiter int32) context.Context {
	c, ok := ctx.Value(controlCtxKey{}).(controlCtx)
	if !ok {
		return ctx
	}
	c.key.Limiter = limiter
	return context.WithValue(ctx, controlCtxKey{}, c)
}

// meterFor gives the meter of the running call, else one for a single request of control traffic; nil
// if ctx is neither.
func meterFor(ctx context.Context) *Meter {
	if m := MeterFrom(ctx); m != nil {
		return m
	}
	c, ok := ctx.Value(controlCtxKey{}).(controlCtx)
	if !ok {
		return nil
	}
	m := NewMeter(c.counts.now)
	m.OnLastByte = func() { c.counts.add(ctx, c.key, m) }
	return m
}

// add counts a request that ended. One that its own process gave up is no failure.
func (c *Control) add(ctx context.Context, key gantry.ControlKey, m *Meter) {
	o, at := m.Snapshot(), c.now()
	x := gantry.Control{ControlKey: key, From: at.Add(-o.Took), To: at, Requests: 1, ReqSize: o.ReqSize, RespSize: o.RespSize,
		Took: o.Took, Status: o.Status}
	m.mu.Lock()
	err := m.broke
	m.mu.Unlock()
	switch {
	case err != nil && ctx.Err() == nil || errors.Is(err, context.DeadlineExceeded):
		x.Failures, x.Kind, x.Code = 1, gantry.KindOf(err), gantry.CodeOf(err)
	case o.Status >= http.StatusBadRequest:
		x.Failures, x.Kind, x.Code = 1, kindOfStatus(o.Status), "refused"
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.put(x)
}

// put keeps a failure on its own while there are few, and adds all else up; mu is held.
func (c *Control) put(x gantry.Control) {
	if x.Failures > 0 && c.failed < maxFailures {
		x.ID = c.ids.New()
		c.waiting = append(c.waiting, x)
		c.failed++
		return
	}
	c.sum(x)
}

func (c *Control) sum(x gantry.Control) {
	s := c.sums[x.ControlKey]
	if s == nil {
		s = &gantry.Control{ControlKey: x.ControlKey, ID: c.ids.New(), From: x.From}
		c.sums[x.ControlKey] = s
	}
	s.To, s.Requests, s.Failures = x.To, s.Requests+x.Requests, s.Failures+x.Failures
	s.ReqSize, s.RespSize, s.Took = s.ReqSize+x.ReqSize, s.RespSize+x.RespSize, s.Took+x.Took
}

// kindOfStatus reads an HTTP status as an error (RFC 9110 section 15).
func kindOfStatus(status int32) gantry.Kind {
	switch {
	case status == http.StatusTooManyRequests, status == http.StatusServiceUnavailable:
		return gantry.Unavailable
	case status >= http.StatusInternalServerError:
		return gantry.Transient
	case status == http.StatusUnauthorized, status == http.StatusForbidden:
		return gantry.Denied
	case status == http.StatusNotFound:
		return gantry.NotFound
	}
	return gantry.Permanent
}

// Run writes what was counted once a minute, and once more when ctx has ended. What could not be
// written is kept for the next time; a row may be given twice, with the same id.
func (c *Control) Run(ctx context.Context, write func(context.Context, []gantry.Control) error) {
	tick := time.NewTicker(controlEvery)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			c.flush(ctx, write)
		case <-ctx.Done():
			last, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
			defer cancel()
			c.flush(last, write)
			return
		}
	}
}

func (c *Control) flush(ctx context.Context, write func(context.Context, []gantry.Control) error) {
	c.mu.Lock()
	for k, s := range c.sums {
		c.waiting = append(c.waiting, *s)
		delete(c.sums, k)
	}
	rows := c.waiting
	c.waiting = nil
	c.mu.Unlock()
	if len(rows) == 0 {
		return
	}
	err := write(ctx, rows)
	c.mu.Lock()
	defer c.mu.Unlock()
	if err != nil {
		c.waiting = append(rows, c.waiting...)
		return
	}
	for _, x := range rows {
		if x.Code != "" {
			c.failed--
		}
	}
}
