package app

import (
	"context"

	"github.com/gantry-imaging/gantry/internal/postgres"
)

// keepings asks what is kept of objects, in batches: what is asked while the database answers is asked together.
type keepings struct {
	app   *App
	queue chan *lookUp
}

type lookUp struct {
	postgres.Version
	got  postgres.Kept
	done chan error
}

func newKeepings(a *App) *keepings { return &keepings{app: a, queue: make(chan *lookUp, 256)} }

// kept asks about one version of an object.
func (k *keepings) kept(ctx context.Context, x postgres.Version) (postgres.Kept, error) {
	l := &lookUp{Version: x, done: make(chan error, 1)}
	select {
	case k.queue <- l:
	case <-ctx.Done():
		return postgres.Kept{}, context.Cause(ctx)
	}
	select {
	case err := <-l.done:
		return l.got, err
	case <-ctx.Done():
		return postgres.Kept{}, context.Cause(ctx)
	}
}

// run asks until ctx ends.
func (k *keepings) run(ctx context.Context) {
	for {
		var batch []*lookUp
		select {
		case l := <-k.queue:
			batch = append(batch, l)
		case <-ctx.Done():
			return
		}
	more:
		for len(batch) < 500 {
			select {
			case l := <-k.queue:
				batch = append(batch, l)
			default:
				break more
			}
		}
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
