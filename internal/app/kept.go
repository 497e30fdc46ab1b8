package app

import (
	"context"
	"sync/atomic"
	"time"

	"github.com/gantry-imaging/gantry/internal/gantry"
	"github.com/gantry-imaging/gantry/internal/postgres"
)

// repeatsFor is for how long more is expected to come again after something did: what is written for nothing stays in its segment.
const repeatsFor = time.Hour

// repeats tells whether things come again that were received before. The zero repeats does not expect it.
type repeats struct{ until atomic.Int64 } // ns since 1970

func (r *repeats) saw(now time.Time) { r.until.Store(now.Add(repeatsFor).UnixNano()) }

func (r *repeats) likely(now time.Time) bool { return now.UnixNano() < r.until.Load() }

// keepings asks what is kept of objects, in batches: what is asked while the database answers is asked together.
type keepings struct {
	app   *App
	queue chan *lookUp
	ended chan struct{} // closed when nobody asks any more
}

type lookUp struct {
	postgres.Version
	of   *keepings
	got  postgres.Kept
	done chan error
}

func newKeepings(a *App) *keepings {
	return &keepings{app: a, queue: make(chan *lookUp, 256), ended: make(chan struct{})}
}

// kept asks about one version of an object.
func (k *keepings) kept(ctx context.Context, x postgres.Version) (postgres.Kept, error) {
	l := &lookUp{Version: x, of: k, done: make(chan error, 1)}
	select {
	case k.queue <- l:
		return l.answer(ctx)
	case <-ctx.Done():
		return postgres.Kept{}, context.Cause(ctx)
	}
}

// begin asks whether any version of an object is kept, and waits for nothing; nil if too many are being asked about.
func (k *keepings) begin(x postgres.Version) *lookUp {
	l := &lookUp{Version: x, of: k, done: make(chan error, 1)}
	select {
	case k.queue <- l:
		return l
	default:
		return nil
	}
}

// answer waits for what was asked.
func (l *lookUp) answer(ctx context.Context) (postgres.Kept, error) {
	select {
	case err := <-l.done:
		return l.got, err
	case <-l.of.ended:
		return postgres.Kept{}, noLease()
	case <-ctx.Done():
		return postgres.Kept{}, context.Cause(ctx)
	}
}

// fresh tells whether nothing was kept of an object when it began to come. What is not known is not fresh: it is asked about again.
func fresh(ctx context.Context, ahead gantry.Ahead) bool {
	l, ok := ahead.(*lookUp)
	if !ok || l == nil {
		return false
	}
	kept, err := l.answer(ctx)
	return err == nil && !kept.Others
}

// run asks until ctx ends.
func (k *keepings) run(ctx context.Context) {
	defer close(k.ended)
	for batch := together(ctx, k.queue); batch != nil; batch = together(ctx, k.queue) {
		k.ask(ctx, batch)
	}
}

func (k *keepings) ask(ctx context.Context, batch []*lookUp) {
	list := make([]postgres.Version, len(batch))
	for i, l := range batch {
		list[i] = l.Version
	}
	got, err := k.app.Store.Kept(ctx, list)
	for i, l := range batch {
		if err == nil {
			l.got = got[i]
		}
		l.done <- err
	}
}
