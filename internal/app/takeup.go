package app

import (
	"context"
	"time"

	"github.com/gantry-imaging/gantry/internal/gantry"
)

// watch watches the feed's source, which uses the ledger as its memory if it can.
func (l *ledger) watch(ctx context.Context, announce func(context.Context, gantry.Object) error) error {
	if s, ok := l.feed.source.(gantry.Resuming); ok {
		return s.WatchFrom(ctx, l, announce)
	}
	return l.feed.source.Watch(ctx, announce)
}

// channel is what told of an object.
func (l *ledger) channel(o gantry.Object) string {
	if o.Channel != "" {
		return string(o.Channel)
	}
	return l.looks()
}

// looks is how the source looks for objects itself.
func (l *ledger) looks() string {
	if _, ok := l.feed.source.(gantry.Resuming); ok {
		return string(gantry.ChannelPoll)
	}
	return string(gantry.ChannelFolder)
}

// ended reports how the acceptance of a watched object ended; nothing is new of one that was known. What is gone is put
// on record.
func (l *ledger) ended(ctx context.Context, in *intake, o gantry.Object, got taken, err error) {
	switch {
	case err == nil && got.new:
		l.took(l.channel(o), o, time.Now())
	case err == nil || ctx.Err() != nil:
	default:
		l.Failed(gantry.PartObject, err)
		if gantry.CodeOf(err) != gantry.CodeSourceGone {
			return
		}
		if err := in.gone(ctx, l.feed, o); err != nil {
			l.app.Log.Warn("record source gone", "source", l.feed.name, "err", err)
		}
	}
}

// gone puts an object on record that was gone before it could be read. Where the source knows no version of it, its
// sequencer stands for one, and the object is not known: the same may come back.
func (in *intake) gone(ctx context.Context, f *feed, o gantry.Object) error {
	a := gantry.Arrival{Source: f.name, RefMAC: gantry.MAC(in.app.Key, "ref", f.name, o.Ref), Name: clean(o.Name), Version: o.Version,
		Sequencer: o.Sequencer, Size: max(o.Size, 0), Status: gantry.SourceGone, Reason: gantry.CodeSourceGone}
	if a.Version == "" {
		a.Version, a.Sequencer = o.Sequencer, ""
	}
	return in.away(ctx, f, a)
}

// behind makes a task of an object that was there before one step less urgent than what comes anew.
func behind(priority int16, backlog bool) int16 {
	if backlog && priority < gantry.Begun {
		return priority + 1
	}
	return priority
}

// Sources lists every source that was ever watched.
func (a *App) Sources(ctx context.Context) ([]gantry.SourceStatus, error) {
	return a.Store.Sources(ctx)
}
