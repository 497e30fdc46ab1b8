package app_test

import (
	"fmt"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/gantry-imaging/gantry/internal/postgres"
)

// TestAdaptiveConcurrency sends 360 pictures to a service that works on six at a time, as many as a look sends, with a
// limit of 24. With adaptive the process soon keeps fewer there at once, and loses no call; without, the control, it does
// not. It tells a slow service by its times, so that no other test runs in the process beside it.
func TestAdaptiveConcurrency(t *testing.T) {
	with, without := crowded(t, true), crowded(t, false)
	t.Logf("calls at once: %.1f, %.1f without adaptive", with, without)
	if with > 0.75*without {
		t.Errorf("%.1f calls at once on the average of the last ones, %.1f without adaptive", with, without)
	}
}

// crowded gives how many calls were at the service on the average of the last ones, but those at the very end.
func crowded(t *testing.T, adaptive bool) float64 {
	t.Helper()
	var mu sync.Mutex
	now, arrived, sum, late := 0, 0, 0, 0
	desks := make(chan struct{}, 6)
	s := serve(t, func(w http.ResponseWriter, _ *http.Request, body []byte, _ int) {
		mu.Lock()
		now++
		if arrived++; arrived > 240 && arrived <= 336 {
			sum, late = sum+now, late+1
		}
		mu.Unlock()
		desks <- struct{}{}
		time.Sleep(80 * time.Millisecond) // much, beside what a busy machine adds to it
		<-desks
		mu.Lock()
		now--
		mu.Unlock()
		answerPNG(w, body)
	})
	r := newRig(t, nil)
	limits := fmt.Sprintf("timeout: 20s, limits: {concurrency: 24, adaptive: %t}", adaptive)
	mustBeDone(t, r.one(strings.Replace(oneStage(s.URL, "20s"), "timeout: 20s", limits, 1), file(t, "x.zip", pictures(t, 360))))
	if n := len(s.all()); n != 360 {
		t.Errorf("%d requests for 360 pictures", n)
	}
	return float64(sum) / float64(late)
}

// TestBreakerOfAService has a service answer 500 until it is mended. The breaker opens before the parts have used
// up their tries, one request at a time looks whether it is back, and all is answered.
func TestBreakerOfAService(t *testing.T) {
	t.Parallel()
	var mended atomic.Bool
	var c clocked
	s := serve(t, func(w http.ResponseWriter, _ *http.Request, body []byte, _ int) {
		c.begin()
		defer c.end()
		if !mended.Load() {
			w.WriteHeader(http.StatusInternalServerError)
			return
		}
		answerPNG(w, body)
	})
	r := newRig(t, nil)
	src := strings.Replace(oneStage(s.URL, "20s"), "attempts: 3", "attempts: 30", 1)
	inbox, _ := r.serving(strings.Replace(src, "timeout: 20s", "timeout: 20s, limits: {concurrency: 4, breaker: {failures: 5, open: 400ms}}", 1))
	drop(t, inbox, "x.zip", pictures(t, 40))
	for end := time.Now().Add(within); c.between(time.Time{}, time.Now()) < 5 && time.Now().Before(end); {
		time.Sleep(5 * time.Millisecond)
	}
	time.Sleep(300 * time.Millisecond)
	from := time.Now()
	time.Sleep(2 * time.Second)
	if n := c.between(from, from.Add(2*time.Second)); n < 1 || n > 6 {
		t.Errorf("%d requests in two seconds to a service that fails, want one each 0.4 s", n)
	}
	row, err := r.Store.Limits(t.Context(), s.URL, 1)
	if err != nil || len(row) != 1 || row[0].Breaker == "closed" || row[0].Breaker == "off" {
		t.Errorf("limit %+v (%v)", row, err)
	}
	mended.Store(true)
	if x := r.until("ended", func(x postgres.TaskRow) bool { return x.FinishedAt != nil }); x.State != "done" {
		t.Errorf("it ended %s: %+v", x.State, x.Error)
	}
}
