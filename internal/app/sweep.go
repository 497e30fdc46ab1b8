package app

import (
	"context"
	"time"

	"github.com/gantry-imaging/gantry/internal/blob"
)

const (
	inboxKeep = 7 * 24 * time.Hour  // after the end of its task, for what was awaited and what came
	eventKeep = 30 * 24 * time.Hour // for messages that nobody understood, which may hold names of people
	debtsKeep = 30 * 24 * time.Hour // after the end of what a peer was owed, and for what nobody takes up

	oldEvery   = time.Hour // about how often a process that serves looks for what is old
	oldBatch   = 1000      // rows of a kind that are removed at once
	oldBatches = 100       // of them at a time; what is left waits for the next
)

// sweep removes what nobody will ask for any more, about once an hour, until ctx ends: rows first, whose bytes are garbage then.
func (a *App) sweep(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-time.After(time.Duration((0.5 + a.rand()) * float64(oldEvery))):
		}
		a.sweepRows(ctx)
		a.sweepBlobs(ctx)
	}
}

func (a *App) sweepRows(ctx context.Context) {
	for _, x := range []struct {
		what   string
		remove func(ctx context.Context, keep time.Duration, limit int) (int64, error)
		keep   time.Duration
	}{{"sweep inbox", a.Store.SweepInbox, inboxKeep}, {"sweep messages", a.Store.SweepMessages, eventKeep}, {"sweep debts", a.Store.SweepDebts, debtsKeep}} {
		if err := inBatches(func() (int64, error) { return x.remove(ctx, x.keep, oldBatch) }); err != nil && ctx.Err() == nil {
			a.Log.Warn(x.what, "err", err)
		}
	}
}

// inBatches has rows removed until none is left that is due, or enough was done for now.
func inBatches(remove func() (int64, error)) error {
	for range oldBatches {
		if n, err := remove(); err != nil || n < oldBatch {
			return err
		}
	}
	return nil
}

// sweepBlobs collects garbage. It looks at rows alone: every blob that this version commits has one.
func (a *App) sweepBlobs(ctx context.Context) {
	a.mu.Lock()
	b := a.blobs
	a.mu.Unlock()
	done, err := blob.Collect(ctx, a.Store, b, blob.Collection{Grace: a.BlobGrace, Now: time.Now})
	switch {
	case err != nil && ctx.Err() == nil:
		a.Log.Warn("collect garbage of the blob store", "err", err)
	case done != blob.Collected{}:
		a.Log.Info("collected garbage of the blob store", "tombstones", done.Tombs, "deleted", done.Deleted, "bytes", done.DeleteBytes)
	}
}
