package app

import (
	"context"
	"path"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/gantry-imaging/gantry/internal/gantry"
	"github.com/gantry-imaging/gantry/internal/pipeline"
)

// ordersEvery is how long what was read about an order of work counts.
const ordersEvery = 2 * time.Second

// orders knows which of a pipeline's tasks go first: by the file, if this process has read it, else by what the process
// that has read it put down.
type orders struct {
	app *App

	mu       sync.Mutex
	declared map[string]gantry.Order
	read     map[string]readOrder
}

type readOrder struct {
	gantry.Order
	at time.Time
}

func newOrders(a *App) *orders {
	return &orders{app: a, declared: map[string]gantry.Order{}, read: map[string]readOrder{}}
}

// declare takes a pipeline's file as what counts from now on.
func (o *orders) declare(p *gantry.Pipeline) {
	o.mu.Lock()
	o.declared[p.Name] = p.Order
	o.mu.Unlock()
}

// of gives the function that says what counts for a pipeline now.
func (o *orders) of(name string) func(context.Context) (gantry.Order, error) {
	return func(ctx context.Context) (gantry.Order, error) {
		o.mu.Lock()
		x, declared := o.declared[name]
		known, ok := o.read[name]
		o.mu.Unlock()
		switch {
		case declared:
			return x, nil
		case ok && time.Since(known.at) < ordersEvery:
			return known.Order, nil
		}
		rules, err := o.app.Store.Order(ctx, name)
		if err != nil {
			return gantry.Order{}, err
		}
		// What a newer release put down may not be for this one: its tasks go as they come.
		if known.Order, err = pipeline.ParseOrder(rules); err != nil {
			o.app.Log.Warn("read order of work", "pipeline", name, "err", err)
			known.Order = gantry.Order{}
		}
		known.at = time.Now()
		o.mu.Lock()
		o.read[name] = known
		o.mu.Unlock()
		return known.Order, nil
	}
}

// publish puts a pipeline's order down for processes that have not read its file.
func (a *App) publish(ctx context.Context, p *gantry.Pipeline) error {
	return a.Store.SetOrder(ctx, p.Name, pipeline.FormatOrder(p.Order), p.Order.OffPeak)
}

// atOnce is a pipeline whose off-peak tasks wait for no window, as those that somebody waits for.
func atOnce(p *gantry.Pipeline) *gantry.Pipeline {
	out := *p
	out.Order.OffPeak = nil
	return &out
}

// queued is how long a new task may be queued: the wait of an off-peak one for its window does not count.
func queued(p *gantry.Pipeline, priority int16, now time.Time) time.Duration {
	if priority < gantry.PriorityOffPeak {
		return p.Timeouts.Queued
	}
	return p.Timeouts.Queued + p.Order.OffPeak.Until(now)
}

// onlyLater is what an expression cannot speak of if a task's priority is to be known before it was looked into: in a
// text with escapes any name may hide.
var onlyLater = []string{"dicom", "items", "media", "count", `\`}

// firstPriority is that of a new task. An expression that speaks of its source and size alone is asked at once; it is
// asked again with all others when the tags are read.
func firstPriority(p *gantry.Pipeline, a gantry.Arrival) int16 {
	r := p.Order.Ranking
	if r == nil || slices.ContainsFunc(onlyLater, func(s string) bool { return strings.Contains(r.String(), s) }) {
		return p.Priority
	}
	first, ok, err := r.Of(map[string]any{"object": map[string]any{"size": a.Size, "source": path.Base(a.Source)}})
	if err != nil || !ok {
		return p.Priority
	}
	return first
}
