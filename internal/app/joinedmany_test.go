package app_test

import (
	"os"
	"strconv"
	"testing"
	"time"
)

// tickets is how many of them TestJoinedRestarts takes through two restarts.
func tickets(t *testing.T) int {
	t.Helper()
	s := os.Getenv("GANTRY_TICKETS")
	if s == "" {
		return 200
	}
	n, err := strconv.Atoi(s)
	if err != nil || n < 1 {
		t.Fatal("GANTRY_TICKETS is no number")
	}
	return n
}

// TestJoinedRestarts ends the serving process twice with 200 tickets outstanding, or as many as GANTRY_TICKETS says: once
// without a word, as a process that is killed, and once in order. Answers that come meanwhile find nobody and come again.
// Every part is sent once, and the service has no more jobs than the limit says.
func TestJoinedRestarts(t *testing.T) {
	t.Parallel()
	n := tickets(t)
	units := strconv.Itoa(n)
	work := 5*time.Second + time.Duration(n)*40*time.Millisecond
	for name, async := range map[string]string{
		"polled":      "poll: 500ms, deadline: 10m, status: /status, result: /result",
		"called back": `callback: hmac, secret: "${env:FARM}", deadline: 10m`,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newStreet(t, "style=json&after="+work.String(), async, "concurrency: "+units)
			stop := s.serve(s.hook.URL)
			s.put("a.zip", pictures(t, n))
			out := func() int { return s.count(`select count(*) from part where status = 1`) }
			s.until("every part was submitted", 2*time.Minute, func() bool { return s.count(`select count(*) from part where submits > 0`) == n })
			first := out()
			s.kill(stop)
			stop = s.serve(s.hook.URL)
			second := out()
			stop()
			s.serve(s.hook.URL)
			if first == 0 || second == 0 {
				t.Errorf("%d and %d tickets were outstanding at the restarts: the service was too quick", first, second)
			}
			task := s.done(3 * time.Minute)
			s.once(n)
			if got := s.ops(); got["submit ok"] != n || got["collect ok"]+got["callback ok"] != n {
				t.Errorf("recorded %v", got)
			}
			if m, _ := manifestOf(t, s.out, task.ID); len(m.Outputs) != n {
				t.Errorf("%d outputs", len(m.Outputs))
			}
			if most := s.atOnce(work); most > n {
				t.Errorf("%d jobs at once", most)
			}
			_, gets, _ := s.counts()
			t.Logf("%d and %d of %d tickets outstanding at the restarts; %d looks and fetches", first, second, n, gets)
		})
	}
}

// TestJoinedLimit restarts the process while few units are to be had for many parts: neither restart nor wait gives the
// service more jobs than the limit, or one twice.
func TestJoinedLimit(t *testing.T) {
	t.Parallel()
	n, work := tickets(t), 400*time.Millisecond
	s := newStreet(t, "after="+work.String(), `callback: hmac, secret: "${env:FARM}", deadline: 5m`, "concurrency: 24")
	stop := s.serve(s.hook.URL)
	s.put("a.zip", pictures(t, n))
	for _, some := range []int{n / 3, 2 * n / 3} {
		s.until("some are submitted", 2*time.Minute, func() bool { posts, _, _ := s.counts(); return posts >= some })
		restart(t, s.yard, stop)
		stop = s.serve(s.hook.URL)
	}
	s.done(3 * time.Minute)
	s.once(n)
	if most := s.atOnce(work); most > 24 || most < 12 {
		t.Errorf("%d jobs at once, of 24 that the limit allows", most)
	}
	if v := s.verdicts(); v[0] != n || v[3] != 0 {
		t.Errorf("verdicts %v of %d callbacks", v, n)
	}
}
