package app_test

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/gantry-imaging/gantry/internal/api"
	"github.com/gantry-imaging/gantry/internal/app"
	"github.com/gantry-imaging/gantry/internal/auth"
	"github.com/gantry-imaging/gantry/internal/driver/all"
	"github.com/gantry-imaging/gantry/internal/models"
	"github.com/gantry-imaging/gantry/internal/pipeline"
)

// posted is a submission that went to the reference service.
type posted struct {
	at  time.Time
	key string
}

// street is an installation beside the reference service, with the driver of HTTP services between them and the
// route for callbacks: nothing in it is made for tests, but for a gate at which requests are counted.
type street struct {
	*yard
	mu            sync.Mutex
	posts         []posted
	gets, deletes int
}

// newStreet makes one. async is what the pipeline says of how answers come, limits of the service's, and query what it
// asks of the service.
func newStreet(t testing.TB, query, async, limits string) *street {
	t.Helper()
	s := &street{yard: newYard(t, -1, "deadline: 1m", "concurrency: 1")}
	service := models.Handler(models.Options{Secret: auth.NewSecret(farmSecret)})
	t.Cleanup(func() { service.(interface{ Close() error }).Close() })
	behind := httptest.NewServer(service)
	t.Cleanup(behind.Close)
	to, err := url.Parse(behind.URL)
	if err != nil {
		t.Fatal(err)
	}
	proxy := httputil.NewSingleHostReverseProxy(to)
	gate := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s.note(r)
		proxy.ServeHTTP(w, r)
	}))
	t.Cleanup(gate.Close)
	s.drivers, s.check = all.Drivers(), app.CallbackSignatures
	s.hook.handler = func(a *app.App) http.Handler { return api.TakeCallbacks(http.NotFoundHandler(), a.Callbacks()) }
	s.text = head("street") + fmt.Sprintf(`
sources: {inbox: {kind: dir, path: %q, settle: 1ms}}
sinks: {out: {kind: dir, path: %q}}
extract: {shard: 100000}
stages: [{name: score, call: model}]
processors: {model: {kind: http, url: "%s/async/v1/quality?%s", timeout: 10s, async: {%s}, limits: {%s}}}
`, s.in, s.out, gate.URL, query, async, limits)
	return s
}

func (s *street) note(r *http.Request) {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch r.Method {
	case http.MethodPost:
		s.posts = append(s.posts, posted{time.Now(), r.Header.Get("Idempotency-Key")})
	case http.MethodGet:
		s.gets++
	case http.MethodDelete:
		s.deletes++
	}
}

func (s *street) counts() (posts, gets, deletes int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.posts), s.gets, s.deletes
}

// atOnce is how many jobs the service had at once, if each took so long, which is the least that it took.
func (s *street) atOnce(took time.Duration) (most int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for i, p := range s.posts {
		first := slices.IndexFunc(s.posts, func(q posted) bool { return p.at.Sub(q.at) < took })
		most = max(most, i-first+1)
	}
	return most
}

// once holds the parts to one submission each.
func (s *street) once(n int) {
	s.t.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	keys := map[string]int{}
	for _, p := range s.posts {
		keys[p.key]++
	}
	if len(keys) != n || len(s.posts) != n {
		s.t.Errorf("%d submissions of %d parts, want one of each of %d", len(s.posts), len(keys), n)
	}
}

// verdicts gives what became of the callbacks, in the order of their numbers.
func (s *street) verdicts() (out [5]int) {
	for i := range out {
		out[i] = s.count(`select count(*) from callback where verdict = $1`, i)
	}
	return out
}

// TestJoinedPolls takes pictures through the reference service in every way in which a job's URL answers.
func TestJoinedPolls(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct{ query, async string }{
		"plain":    {"after=200ms", "poll: 100ms, deadline: 1m"},
		"redirect": {"after=200ms&style=redirect", "poll: 100ms, deadline: 1m"},
		"json":     {"after=200ms&style=json", "poll: 100ms, deadline: 1m, status: /status, result: /result"},
		"below":    {"after=200ms&style=json", `poll: 100ms, deadline: 1m, status: /status, result: "{ticket}/result"`},
		"by id":    {"after=200ms&style=json", `poll: 100ms, deadline: 1m, ticket: /id, ticket_url: "/async/jobs/{id}", status: /status, result: /result`},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newStreet(t, c.query, c.async, "concurrency: 4")
			s.serve("")
			s.put("a.zip", pictures(t, 6))
			task := s.done(30 * time.Second)
			s.holdOps(map[string]int{"submit ok": 6, "collect ok": 6})
			s.once(6)
			if n := s.atOnce(200 * time.Millisecond); n > 4 {
				t.Errorf("%d jobs at once", n)
			}
			if m, _ := manifestOf(t, s.out, task.ID); len(m.Outputs) != 6 {
				t.Errorf("%d outputs", len(m.Outputs))
			}
		})
	}
}

// TestJoinedCallbacks has the reference service sign its answers and send them to the route for them: as they should
// come, twice, before the 202, forged, beside polls that are quicker, and among signs of life.
func TestJoinedCallbacks(t *testing.T) {
	t.Parallel()
	const signed = `callback: hmac, secret: "${env:FARM}", deadline: 1m`
	for name, c := range map[string]struct {
		query, async string
		want         [5]int // verdicts
		ops          map[string]int
	}{
		"as it should": {"after=300ms", signed, [5]int{3, 0, 0, 0, 0}, map[string]int{"submit ok": 3, "callback ok": 3}},
		"twice":        {"after=300ms&fault=twice", signed, [5]int{3, 3, 0, 0, 0}, map[string]int{"submit ok": 3, "callback ok": 3}},
		"early":        {"fault=early", signed, [5]int{3, 0, 0, 0, 0}, map[string]int{"submit ok": 3, "callback ok": 3}},
		"forged":       {"after=300ms&fault=forged", signed, [5]int{3, 0, 0, 3, 0}, map[string]int{"submit ok": 3, "callback ok": 3}},
		"late":         {"after=1500ms&fault=late", signed + ", poll: 100ms", [5]int{0, 0, 3, 0, 0}, map[string]int{"submit ok": 3, "collect ok": 3}},
		"mute":         {"after=300ms&fault=mute", signed + ", poll: 100ms", [5]int{}, map[string]int{"submit ok": 3, "collect ok": 3}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newStreet(t, c.query, c.async, "concurrency: 4")
			s.serve(s.hook.URL)
			s.put("a.zip", pictures(t, 3))
			task := s.done(30 * time.Second)
			s.until("all callbacks came", 20*time.Second, func() bool { return s.verdicts() == c.want })
			s.holdOps(c.ops)
			s.once(3)
			if m, _ := manifestOf(t, s.out, task.ID); len(m.Outputs) != 3 {
				t.Errorf("%d outputs", len(m.Outputs))
			}
		})
	}
}

// TestJoinedSignsOfLife has the service say that it is at work for longer than it may be silent.
func TestJoinedSignsOfLife(t *testing.T) {
	t.Parallel()
	s := newStreet(t, "after=4s&fault=beat&beat=300ms", `callback: hmac, secret: "${env:FARM}", deadline: 1m, heartbeat: 1500ms`, "concurrency: 4")
	s.serve(s.hook.URL)
	s.put("a.png", noise(8, [32]byte{1}))
	s.done(30 * time.Second)
	s.once(1)
	if v := s.verdicts(); v[0] != 1 || v[4] < 3 || v[1]+v[2]+v[3] != 0 {
		t.Errorf("verdicts %v", v)
	}
}

// TestJoinedEnds holds what becomes of jobs that bring nothing, and that the service is told where nobody waits.
func TestJoinedEnds(t *testing.T) {
	t.Parallel()
	const signed = `callback: hmac, secret: "${env:FARM}", cancel: true, `
	for name, c := range map[string]struct {
		query, async   string
		code           string
		posts, deletes int
	}{
		"never":            {"fault=never", signed + "deadline: 1s", "no_answer", 3, 3},
		"poll 404":         {"fault=lost", "poll: 100ms, deadline: 1m", "job_lost", 3, 0},
		"failed, by URL":   {"after=200ms&fault=fail", "poll: 100ms, deadline: 1m", "job_failed", 1, 0},
		"failed, by state": {"after=200ms&fault=fail&style=json", "poll: 100ms, deadline: 1m, status: /status, result: /result", "job_failed", 1, 0},
		"failed, called":   {"after=200ms&fault=fail", signed + "deadline: 1m", "job_failed", 1, 0},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newStreet(t, c.query, c.async, "concurrency: 4")
			s.serve(s.hook.URL)
			s.put("a.png", noise(8, [32]byte{1}))
			task := s.ended(1, 40*time.Second)[0]
			if task.State != "failed" || task.Error == nil || task.Error.Code != c.code {
				t.Errorf("it ended %s: %+v", task.State, task.Error)
			}
			posts, _, deletes := s.counts()
			if posts != c.posts || deletes != c.deletes {
				t.Errorf("%d submissions and %d deletions, want %d and %d", posts, deletes, c.posts, c.deletes)
			}
		})
	}
}

// TestJoinedCancel passes on that an operator cancelled a task whose answers are out.
func TestJoinedCancel(t *testing.T) {
	t.Parallel()
	s := newStreet(t, "fault=never", `callback: hmac, secret: "${env:FARM}", cancel: true, deadline: 10m`, "concurrency: 4")
	s.serve(s.hook.URL)
	s.put("a.zip", pictures(t, 2))
	s.until("both are out", 20*time.Second, func() bool { return s.count(`select count(*) from part where status = 1`) == 2 })
	s.parked(1)
	if err := s.Store.Cancel(t.Context(), 1, "somebody"); err != nil {
		t.Fatal(err)
	}
	s.until("both jobs are deleted", 20*time.Second, func() bool {
		_, _, deletes := s.counts()
		return deletes == 2 && s.count(`select count(*) from part where out_limiter is not null`) == 0
	})
}

// TestJoinedRun takes a pipeline through a process without an address: what can be polled is, and what cannot is
// refused with the way out.
func TestJoinedRun(t *testing.T) {
	t.Parallel()
	s := newStreet(t, "after=300ms", "poll: 100ms, deadline: 1m", "concurrency: 4")
	r := newRig(t, map[string]string{"FARM": farmSecret})
	mustBeDone(t, r.one(s.text, file(t, "a.zip", pictures(t, 3))))
	s.once(3)
	alone := strings.Replace(s.text, "poll: 100ms", `callback: hmac, secret: "${env:FARM}"`, 1)
	p, err := pipeline.Parse("test.yaml", []byte(alone), all.Drivers(), r.Lookup)
	if err != nil {
		t.Fatal(err)
	}
	_, err = r.RunOnce(t.Context(), app.RunOptions{Pipeline: p, Out: r.out, Inputs: []string{file(t, "b.png", noise(8, [32]byte{1}))}})
	if err == nil || !strings.Contains(err.Error(), "set callback_url") {
		t.Errorf("it ran: %v", err)
	}
}
