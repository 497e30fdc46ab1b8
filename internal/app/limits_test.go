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

	"github.com/gantry-imaging/gantry/internal/app"
	"github.com/gantry-imaging/gantry/internal/driver/all"
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
	for end := time.Now().Add(3 * within); ; time.Sleep(20 * time.Millisecond) {
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
			rows, _ := r.Store.Limits(r.t.Context(), "", 0)
			var open []postgres.TaskRow
			for _, x := range list {
				if x.FinishedAt == nil {
					open = append(open, x)
				}
			}
			r.t.Fatalf("%d of %d tasks have ended, of %d; open: %+v\nlimits: %+v", ended, n, len(list), open, rows)
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

// refusedAt is when the last byte of the answer 429 was there, as the record has it.
func (r *rig) refusedAt() time.Time {
	r.t.Helper()
	for _, x := range r.calls(postgres.Filter{}) {
		if x.Status == http.StatusTooManyRequests {
			return x.StartedAt.Add(time.Duration(x.DurationMS * float64(time.Millisecond)))
		}
	}
	r.t.Fatal("no call was refused")
	return time.Time{}
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
	r.TTL = 10 * time.Second
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
	at := r.refusedAt()
	if sent := refused.Load().Add(-5 * time.Millisecond); at.Before(sent) || c.between(sent, at) > 12 {
		t.Errorf("the refusal was sent at %s and known at %s", sent, at)
	}
	late := c.between(at, at.Add(250*time.Millisecond))
	if n := c.between(at.Add(250*time.Millisecond), at.Add(2*time.Second)); n != 0 || late > 12 {
		t.Errorf("%d requests in the time that the service asked for, after %d in the 250 ms after the refusal was known", n, late)
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
	t.Logf("%d requests were let out in the 250 ms after the refusal was known", late)
}

// TestPausedPipeline pauses a pipeline whose task has most of its calls before it. Calls under way end, nothing
// more begins, nobody holds the task; on resume it goes on, and no part that was answered is called again.
func TestPausedPipeline(t *testing.T) {
	t.Parallel()
	var c clocked
	s := serve(t, func(w http.ResponseWriter, _ *http.Request, body []byte, _ int) {
		c.begin()
		defer c.end()
		time.Sleep(40 * time.Millisecond)
		answerPNG(w, body)
	})
	r := newRig(t, nil)
	r.TTL = 10 * time.Second
	inbox, _ := r.serving(strings.Replace(oneStage(s.URL, "20s"), "timeout: 20s", "timeout: 20s, limits: {concurrency: 2}", 1))
	r.workers(1)
	drop(t, inbox, "x.zip", pictures(t, 40))
	for end := time.Now().Add(within); c.between(time.Time{}, time.Now()) < 10 && time.Now().Before(end); {
		time.Sleep(5 * time.Millisecond)
	}
	op := r.operator()
	row, err := op.Limiter(t.Context(), "one-stage", all.Drivers())
	if err != nil || row.Key != "pipeline:one-stage" {
		t.Fatalf("%+v, %v", row, err)
	}
	if _, err := op.PauseLimit(t.Context(), row.Key, "ann"); err != nil {
		t.Fatal(err)
	}
	paused := time.Now()
	task := r.until("given back", func(x postgres.TaskRow) bool { return x.State == "inferring" && x.Phase == "ready" })
	drop(t, inbox, "y.png", noise(30, [32]byte{9}))
	var list []postgres.TaskRow
	for end := time.Now().Add(within); len(list) < 2 && time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
		if list, err = r.Store.Tasks(t.Context(), postgres.Filter{}); err != nil {
			t.Fatal(err)
		}
	}
	time.Sleep(500 * time.Millisecond)
	if n := c.between(paused.Add(250*time.Millisecond), time.Now()); n != 0 {
		t.Errorf("%d calls of a pipeline that is paused", n)
	}
	list, err = r.Store.Tasks(t.Context(), postgres.Filter{})
	if err != nil || len(list) != 2 || list[0].State != "queued" || list[0].Phase != "ready" {
		t.Errorf("tasks %+v (%v)", list, err)
	}
	if _, err := op.ResumeLimit(t.Context(), row.Key); err != nil {
		t.Fatal(err)
	}
	for _, x := range r.settled(2) {
		if x.State != "done" {
			t.Errorf("it ended %s: %+v", x.State, x.Error)
		}
	}
	ok := 0
	for _, x := range r.calls(postgres.Filter{Boundary: "processor"}) {
		switch x.Outcome {
		case "ok":
			ok++
		case "not_sent":
			if x.ErrorCode != "held" {
				t.Errorf("a call was given up: %s", x.ErrorCode)
			}
		default:
			t.Errorf("a call ended %s, %s", x.Outcome, x.ErrorCode)
		}
	}
	if ok != 41 || len(s.all()) != 41 {
		t.Errorf("%d answers, %d requests, want 41 of each", ok, len(s.all()))
	}
	if released := strings.Join(r.changes(task.Key), "\n"); !strings.Contains(released, "inferring inferring release") {
		t.Errorf("changes:\n%s", released)
	}
}

// TestLimitOfAState lets two tasks be in the stages at once, over three processes, however many are in
// progress and however many calls the processor allows. Without it more are.
func TestLimitOfAState(t *testing.T) {
	t.Parallel()
	for limit, most := range map[string]int{"limits: {in_progress: 12, inferring: 2}\n": 2, "limits: {in_progress: 12}\n": 12} {
		var c clocked
		s := serve(t, func(w http.ResponseWriter, _ *http.Request, body []byte, _ int) {
			c.begin()
			defer c.end()
			time.Sleep(60 * time.Millisecond)
			answerPNG(w, body)
		})
		r := newRig(t, nil)
		r.TTL = 10 * time.Second
		inbox, _ := r.serving(strings.Replace(oneStage(s.URL, "20s"), "timeout: 20s", "timeout: 20s, limits: {concurrency: 32}", 1) + limit)
		r.workers(2)
		for i := range 24 {
			drop(t, inbox, fmt.Sprintf("%d.png", i), noise(30, [32]byte{byte(i)}))
		}
		for _, x := range r.settled(24) {
			if x.State != "done" {
				t.Fatalf("a task ended %s: %+v", x.State, x.Error)
			}
		}
		t.Logf("%s took %s from first to last call", limit, c.arrived[len(c.arrived)-1].Sub(c.arrived[0]))
		if c.top > most || c.top < min(most, 4) {
			t.Errorf("%s: %d tasks at once", strings.TrimSpace(limit), c.top)
		}
	}
}

// TestWaitForAStateEnds cancels, and stops, tasks that wait for a unit of a state.
func TestWaitForAStateEnds(t *testing.T) {
	t.Parallel()
	var hanging atomic.Int32
	s := serve(t, func(_ http.ResponseWriter, r *http.Request, _ []byte, _ int) {
		hanging.Add(1)
		<-r.Context().Done()
	})
	r := newRig(t, nil)
	inbox, stop := r.serving(oneStage(s.URL, "60s") + "limits: {inferring: 1}\n")
	for i := range 3 {
		drop(t, inbox, fmt.Sprintf("%d.png", i), noise(30, [32]byte{byte(i)}))
	}
	waiting := func() (out []postgres.TaskRow) {
		list, err := r.Store.Tasks(t.Context(), postgres.Filter{State: "inferring"})
		if err != nil {
			t.Fatal(err)
		}
		return list
	}
	for end := time.Now().Add(within); len(waiting()) < 3 || hanging.Load() != 1; time.Sleep(10 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("%d tasks in the state, %d calls", len(waiting()), hanging.Load())
		}
	}
	r.eventually("the limit of the state does not show one task in it and two before it", func() bool { // as its process asks
		row, err := r.operator().Limiter(t.Context(), "pipeline:one-stage:inferring", all.Drivers())
		return err == nil && row.InUse == 1 && row.Waiting == 2
	})
	called := map[string]bool{}
	for _, x := range r.calls(postgres.Filter{Boundary: "processor"}) {
		called[x.Task] = true
	}
	for _, x := range waiting() {
		if called[x.ID] {
			continue
		}
		v, err := r.operator().Cancel(t.Context(), x.ID, "ann", 5*time.Second)
		if err != nil || v.Result != app.ResultCancelled {
			t.Errorf("cancel: %+v, %v", v, err)
		}
		break
	}
	begun := time.Now()
	stop()
	if took := time.Since(begun); took > r.Grace+5*time.Second {
		t.Errorf("it took %s to stop", took)
	}
	for _, x := range waiting() {
		if x.Phase != "ready" {
			t.Errorf("a task is left %s", x.Phase)
		}
	}
}

// TestLimiterNames finds limits by the names that people use.
func TestLimiterNames(t *testing.T) {
	t.Parallel()
	s := serve(t, func(w http.ResponseWriter, _ *http.Request, body []byte, _ int) { answerPNG(w, body) })
	r := newRig(t, nil)
	mustBeDone(t, r.one(oneStage(s.URL, "20s"), file(t, "x.png", noise(30, [32]byte{1}))))
	key := s.URL
	for name, want := range map[string]string{
		"one-stage": "pipeline:one-stage", "pipeline:one-stage": "pipeline:one-stage", "one-stage/draw": key, key: key,
		"pipeline:one-stage:responding": "pipeline:one-stage:responding",
		"two-stage":                     "", "one-stage/paint": "", "two-stage/draw": "", "/": "", "": "", "one-stage/": "",
	} {
		row, err := r.operator().Limiter(t.Context(), name, all.Drivers())
		if want == "" && gantry.KindOf(err) != gantry.NotFound || row.Key != want {
			t.Errorf("%q means %q (%v), want %q", name, row.Key, err, want)
		}
	}
}
