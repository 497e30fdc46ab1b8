package main

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"github.com/gantry-imaging/gantry/internal/gantry"
	"github.com/gantry-imaging/gantry/internal/scheduler"
)

const (
	ratedKey   = "http://bench-rated"
	usedUnits  = 64  // of the limit on calls at once
	usedRate   = 100 // a second, of the limit on starts
	usedBurst  = 10
	callers    = 40 // of each process, for calls at once: demand is 2.5 times the units
	startUpFor = 2 * time.Second
)

// span is one call, in ns of the machine's clock.
type span struct{ From, To int64 }

// shifts is what a process does that calls two targets without end: one with a limit on calls at once, one
// with a limit on starts.
type shifts struct {
	wg     sync.WaitGroup
	mu     sync.Mutex
	Calls  []span
	Starts []int64
}

func (h *shifts) begin(ctx, loops context.Context, s *scheduler.Session, units, rated int32) {
	end, cancel := context.WithCancel(loops)
	context.AfterFunc(ctx, cancel)
	for range callers {
		h.wg.Go(func() {
			for end.Err() == nil {
				release, err := s.Acquire(end, units, gantry.PriorityNormal)
				if err != nil {
					return
				}
				from := time.Now().UnixNano()
				time.Sleep(5*time.Millisecond + time.Duration(rand.Int64N(int64(15*time.Millisecond))))
				h.note(span{from, time.Now().UnixNano()}, &h.Calls)
				release()
			}
		})
	}
	for range callers / 4 {
		h.wg.Go(func() {
			for end.Err() == nil {
				release, err := s.Acquire(end, rated, gantry.PriorityNormal)
				if err != nil {
					return
				}
				h.mu.Lock()
				h.Starts = append(h.Starts, time.Now().UnixNano())
				h.mu.Unlock()
				release()
			}
		})
	}
}

func (h *shifts) note(x span, list *[]span) {
	h.mu.Lock()
	*list = append(*list, x)
	h.mu.Unlock()
}

// write leaves what was noted in a folder, one file for each process.
func (h *shifts) write(dir string) error {
	h.wg.Wait()
	b, err := json.Marshal(h)
	if err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(dir, fmt.Sprintf("%d.json", os.Getpid())), b, 0o644)
}

// measureLimits lets four processes want more of two limits than there is.
func measureLimits(ctx context.Context, b *bed, s settings, r *report) error {
	x, err := b.open(ctx, "limits", -1)
	if err != nil {
		return err
	}
	defer x.close()
	dir := filepath.Join(b.home, "limits")
	if err := os.Mkdir(dir, 0o755); err != nil {
		return err
	}
	self, err := os.Executable()
	if err != nil {
		return err
	}
	c, err := hire(ctx, crewSize, self, "-work", workUnits, "-dsn", b.dsn("limits"), "-out", dir)
	if err != nil {
		return err
	}
	began := time.Now()
	if err := c.begin(); err != nil {
		return err
	}
	pause(ctx, startUpFor+5*s.section)
	ended := time.Now()
	if err := c.dismiss(); err != nil {
		return err
	}
	all, err := readShifts(dir)
	if err != nil {
		return err
	}
	peak, mean := overlap(all.Calls, began.Add(startUpFor).UnixNano(), ended.UnixNano())
	busiest := busiestSecond(all.Starts)
	r.add("limit_use", mean/usedUnits, "ratio", atLeast(0.95), "%.1f of %d units at once by %d processes that want %d; %d calls", mean, usedUnits, crewSize, crewSize*callers, len(all.Calls))
	r.add("limit_exceeded", float64(max(0, peak-usedUnits)+max(0, busiest-usedRate-usedBurst)), "", atMost(0), "at most %d of %d at once; at most %d starts in a second of %d and a burst of %d",
		peak, usedUnits, busiest, usedRate, usedBurst)
	seconds := ended.Sub(began).Seconds()
	r.add("rate_use", float64(len(all.Starts))/(usedRate*seconds+usedBurst), "ratio", bound{}, "%d starts in %.0f s", len(all.Starts), seconds)
	return nil
}

func readShifts(dir string) (*shifts, error) {
	files, err := filepath.Glob(filepath.Join(dir, "*.json"))
	if err != nil {
		return nil, err
	}
	all := &shifts{}
	for _, f := range files {
		var one struct {
			Calls  []span
			Starts []int64
		}
		b, err := os.ReadFile(f)
		if err != nil {
			return nil, err
		}
		if err := json.Unmarshal(b, &one); err != nil {
			return nil, fmt.Errorf("read %s: %w", f, err)
		}
		all.Calls, all.Starts = append(all.Calls, one.Calls...), append(all.Starts, one.Starts...)
	}
	return all, nil
}

// overlap gives how many spans there were at once, at most ever and on average from one time to another.
func overlap(spans []span, from, to int64) (peak int, mean float64) {
	type edge struct {
		at    int64
		delta int
	}
	var edges []edge
	for _, x := range spans {
		edges = append(edges, edge{x.From, 1}, edge{x.To, -1})
	}
	slices.SortFunc(edges, func(a, b edge) int { return cmp.Or(cmp.Compare(a.at, b.at), cmp.Compare(a.delta, b.delta)) })
	n, last, area := 0, from, 0.0
	for _, e := range edges {
		if at := min(e.at, to); at > last {
			area += float64(n) * float64(at-last)
			last = at
		}
		n += e.delta
		peak = max(peak, n)
	}
	return peak, area / float64(to-from)
}

// busiestSecond is the most times within any second.
func busiestSecond(times []int64) (most int) {
	slices.Sort(times)
	first := 0
	for i, at := range times {
		for at-times[first] >= int64(time.Second) {
			first++
		}
		most = max(most, i-first+1)
	}
	return most
}
