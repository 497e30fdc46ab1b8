package audit

import (
	"container/heap"
	"context"
	"fmt"
	"time"

	"github.com/gantry-imaging/gantry/internal/postgres"
)

// tick is how exactly the record knows the moment of a call: its id holds the millisecond it was made in.
const tick = time.Millisecond

// The rules of limits.
const (
	RuleAtOnce = "at_once" // calls under way at one moment
	RuleStarts = "starts"  // calls that began within one second
)

// Usage is how much of a target's limits its calls used, by the record.
type Usage struct {
	Target   string  `json:"target"`
	Units    int     `json:"concurrency"` // the limit now; -1: none
	Rate     float64 `json:"rate"`        // per second, now; 0: none
	Burst    float64 `json:"burst"`
	Calls    int64   `json:"calls"`
	Lost     int64   `json:"lost"`       // calls without an outcome
	AtOnce   int     `json:"at_once"`    // the most calls that surely ran at one moment
	WithLost int     `json:"with_lost"`  // the same, if every lost call left at once and ran for as long as it is held
	Starts   int     `json:"starts"`     // the most that began within a second
	Broken   int64   `json:"violations"` // moments at which a limit that stands now was broken
	Note     string  `json:"note,omitempty"`
}

// Breach is one moment at which a target had more calls than its limit allows.
type Breach struct {
	Target string    `json:"target"`
	At     time.Time `json:"at"`
	Call   string    `json:"call"` // that was one too many
	Rule   string    `json:"rule"`
	N      int       `json:"n"`
	Limit  float64   `json:"limit"`
}

// Limits holds the calls of all targets since a moment, or those of one key, to the limits that their rows
// hold now, and tells f of each breach. It ends with the first error of f or of the database. Memory grows with
// the calls that run at once and those that began within a second, not with their number.
func Limits(ctx context.Context, s *postgres.Store, key string, since time.Time, f func(Breach) error) ([]Usage, error) {
	targets, err := s.Targets(ctx, key)
	if err != nil {
		return nil, err
	}
	if key != "" && len(targets) == 0 {
		return nil, fmt.Errorf("no target %s has a limit", key)
	}
	ids := make([]int32, len(targets))
	sweeps := map[int32]*sweep{}
	for i, t := range targets {
		ids[i] = t.ID
		sweeps[t.ID] = newSweep(t, f)
	}
	if err := s.EachSent(ctx, since, ids, func(c postgres.Sent) error { return sweeps[c.Limiter].add(c) }); err != nil {
		return nil, err
	}
	var out []Usage
	for _, id := range ids {
		if u := sweeps[id].usage; u.Calls > 0 {
			out = append(out, u)
		}
	}
	return out, nil
}

// sweep goes through the calls of one target in the order of their starts.
type sweep struct {
	usage  Usage
	hold   time.Duration
	found  func(Breach) error
	sure   moments     // ends of the calls that surely ran
	maybe  moments     // and of those that may have
	window []time.Time // starts within the last second; only with a rate
}

func newSweep(t postgres.Target, f func(Breach) error) *sweep {
	s := &sweep{hold: t.Hold, found: f, usage: Usage{Target: t.Key, Units: t.MaxUnits, Rate: t.Rate, Burst: t.Burst}}
	if t.MaxUnits == 0 {
		s.usage.Note = "paused now: calls from before ran under another limit, which is not on record"
	}
	return s
}

// add takes the next call.
func (s *sweep) add(c postgres.Sent) error {
	u := &s.usage
	u.Calls++
	s.maybe.until(c.Start)
	if c.Lost {
		u.Lost++
		heap.Push(&s.maybe, c.Start.Add(s.hold))
		u.WithLost = max(u.WithLost, len(s.maybe))
		return nil
	}
	// A start is known to a tick, so an end that seems to lie a tick after another call's start may lie before it.
	// A process that was frozen takes its answers late; no call is given longer than its target's hold,
	// but for the part of a submission, which has its unit for as long as it is out.
	end := c.Start.Add(max(min(c.Took, s.hold), c.Out) - tick)
	s.sure.until(c.Start)
	heap.Push(&s.sure, end)
	heap.Push(&s.maybe, end)
	u.AtOnce, u.WithLost = max(u.AtOnce, len(s.sure)), max(u.WithLost, len(s.maybe))
	if u.Units > 0 && len(s.sure) > u.Units {
		if err := s.breach(c, RuleAtOnce, len(s.sure), float64(u.Units)); err != nil {
			return err
		}
	}
	return s.start(c)
}

// start counts the starts within a second; u.Rate 0 sets no limit and is not counted.
func (s *sweep) start(c postgres.Sent) error {
	u := &s.usage
	if u.Rate == 0 {
		return nil
	}
	gone := 0
	for gone < len(s.window) && c.Start.Sub(s.window[gone]) >= time.Second-tick {
		gone++
	}
	s.window = append(s.window[gone:], c.Start)
	u.Starts = max(u.Starts, len(s.window))
	if most := u.Rate + u.Burst; float64(len(s.window)) > most {
		return s.breach(c, RuleStarts, len(s.window), most)
	}
	return nil
}

func (s *sweep) breach(c postgres.Sent, rule string, n int, limit float64) error {
	s.usage.Broken++
	s.usage.Note = "the limit as it stands now; if it was higher before, that is not on record"
	return s.found(Breach{Target: s.usage.Target, At: c.Start, Call: c.ID, Rule: rule, N: n, Limit: limit})
}

// moments is a heap of ends, the earliest first.
type moments []time.Time

// until drops the ends that lie at a moment or before it.
func (m *moments) until(t time.Time) {
	for len(*m) > 0 && !(*m)[0].After(t) {
		heap.Pop(m)
	}
}

// Len is that of heap.Interface.
func (m moments) Len() int { return len(m) }

// Less is that of heap.Interface.
func (m moments) Less(i, j int) bool { return m[i].Before(m[j]) }

// Swap is that of heap.Interface.
func (m moments) Swap(i, j int) { m[i], m[j] = m[j], m[i] }

// Push is that of heap.Interface.
func (m *moments) Push(x any) { *m = append(*m, x.(time.Time)) }

// Pop is that of heap.Interface.
func (m *moments) Pop() any {
	last := len(*m) - 1
	x := (*m)[last]
	*m = (*m)[:last]
	return x
}
