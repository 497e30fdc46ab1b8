package app_test

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/gantry-imaging/gantry/internal/gantry"
	"github.com/gantry-imaging/gantry/internal/postgres"
)

// workers work on the rig's tasks as so many further processes would, with leases and stores of their own.
func (r *rig) workers(n int) {
	r.t.Helper()
	ctx, cancel := context.WithCancel(r.t.Context())
	var wg sync.WaitGroup
	for range n {
		a := r.beside()
		wg.Go(func() {
			if err := a.Work(ctx, nil); err != nil {
				r.t.Errorf("work: %v", err)
			}
		})
	}
	r.t.Cleanup(func() { cancel(); wg.Wait() })
}

// settled waits until so many tasks have ended, and gives them.
func (r *rig) settled(n int) []postgres.TaskRow {
	r.t.Helper()
	for end := time.Now().Add(within); ; time.Sleep(20 * time.Millisecond) {
		list, err := r.Store.Tasks(r.t.Context(), postgres.Filter{})
		if err != nil {
			r.t.Fatal(err)
		}
		ended := 0
		for _, x := range list {
			if s, _ := gantry.ParseState(x.State); s.Final() {
				ended++
			}
		}
		if ended == n {
			return list
		}
		if time.Now().After(end) {
			r.t.Fatalf("%d of %d tasks have ended\n%s", ended, n, r.log.text())
		}
	}
}

// clocked notes when requests arrive, and answers each after the time that a call takes.
type clocked struct {
	mu       sync.Mutex
	arrived  []time.Time
	now, top int
}

func (c *clocked) begin() (n int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.arrived = append(c.arrived, time.Now())
	c.now++
	c.top = max(c.top, c.now)
	return len(c.arrived) - 1
}

func (c *clocked) end() {
	c.mu.Lock()
	c.now--
	c.mu.Unlock()
}

// between counts the requests from one moment to another.
func (c *clocked) between(from, to time.Time) (n int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, at := range c.arrived {
		if at.After(from) && at.Before(to) {
			n++
		}
	}
	return n
}

// TestRetryAfterHoldsTheFleet has a service answer 429 with Retry-After once, to one of three processes. Within
// 250 ms none of them calls it any more, until the two seconds are over; nobody's only attempt was lost.
func TestRetryAfterHoldsTheFleet(t *testing.T) {
	t.Parallel()
	var c clocked
	var refused atomic.Pointer[time.Time]
	s := serve(t, func(w http.ResponseWriter, _ *http.Request, body []byte, _ int) {
		n := c.begin()
		defer c.end()
		time.Sleep(30 * time.Millisecond)
		if n == 20 {
			at := time.Now()
			refused.Store(&at)
			w.Header().Set("Retry-After", "2")
			w.WriteHeader(http.StatusTooManyRequests)
			return
		}
		answerPNG(w, body)
	})
	r := newRig(t, nil)
	src := strings.Replace(oneStage(s.URL, "20s"), "attempts: 3", "attempts: 1", 1)
	inbox, _ := r.serving(strings.Replace(src, "timeout: 20s", "timeout: 20s, limits: {concurrency: 6}", 1))
	r.workers(2)
	for i := range 90 {
		drop(t, inbox, fmt.Sprintf("%d.png", i), noise(30, [32]byte{byte(i)}))
	}
	for _, x := range r.settled(90) {
		if x.State != "done" {
			t.Fatalf("a task ended %s: %+v", x.State, x.Error)
		}
	}
	at := *refused.Load()
	late := c.between(at, at.Add(250*time.Millisecond))
	if n := c.between(at.Add(250*time.Millisecond), at.Add(2*time.Second)); n != 0 || late > 12 {
		t.Errorf("%d requests in the time that the service asked for, after %d in its first 250 ms", n, late)
	}
	if n := c.between(at.Add(2*time.Second), at.Add(time.Hour)); n < 10 || c.top > 6 {
		t.Errorf("%d requests after it, %d at once", n, c.top)
	}
	callers := map[int64]bool{}
	for _, x := range r.calls(postgres.Filter{}) {
		callers[x.Worker] = true
	}
	if len(callers) != 3 {
		t.Errorf("%d processes called it", len(callers))
	}
	t.Logf("%d requests were let out in the 250 ms after the refusal was sent", late)
}
