package engine

import (
	"context"
	"crypto/sha256"
	"slices"

	"golang.org/x/sync/errgroup"

	"github.com/gantry-imaging/gantry/internal/fail"
	"github.com/gantry-imaging/gantry/internal/gantry"
)

// deliverSide is how many outputs of one task go to a sink side by side.
const deliverSide = 8

// picked leaves what the sink takes.
func (s Sink) picked(outputs []delivered) []delivered {
	p, ok := s.Sink.(gantry.Picking)
	if !ok {
		return outputs
	}
	return slices.DeleteFunc(slices.Clone(outputs), func(x delivered) bool { return !p.Picks(x.Media, false) })
}

// seal delivers the manifest, after n outputs, to a sink that takes manifests.
func (w *work) seal(ctx context.Context, sink int16, n int, manifest []byte) error {
	if p, ok := w.plan.Sinks[sink].Sink.(gantry.Picking); ok && !p.Picks(gantry.MediaJSON, true) {
		return nil
	}
	d := gantry.Delivery{Path: w.prefix() + gantry.ManifestName, About: w.aboutTask(gantry.ManifestName), Media: gantry.MediaJSON, Size: int64(len(manifest)),
		SHA: sha256.Sum256(manifest), Manifest: true, Open: func(context.Context) (body, error) { return bytesBody(manifest), nil }}
	fail.Point("before_manifest")
	err := w.deliver(ctx, sink, gantry.OpManifest, int32(n), nil, d)
	fail.Point("after_manifest")
	return err
}

// taken is what a sink took by the record, by the digest of its items.
type taken map[gantry.Digest]bool

// takenBy gives what a sink took of this delivery in earlier tries, if that lasts there. Once its server said that it does not keep something,
// or said nothing, the record proves nothing any more.
func (w *work) takenBy(ctx context.Context, sink int16, asked []gantry.Asked) (taken, error) {
	s := w.plan.Sinks[sink]
	if _, ok := s.Sink.(gantry.Lasting); !ok || w.e.Delivered == nil || slices.ContainsFunc(asked, func(a gantry.Asked) bool { return a.Sink == sink }) {
		return nil, nil
	}
	list, err := w.e.Delivered(ctx, w.task.Task, w.task.Leg, w.task.Delivery, s.Index)
	if err != nil {
		return nil, err
	}
	had := taken{}
	for _, d := range list {
		had[d] = true
	}
	return had, nil
}

// deliverAll delivers what a sink has not taken yet. With the first failure nothing more is begun; what is under way is broken off, but
// where it lasts goes on to its end, since it need not be sent again then.
func (w *work) deliverAll(ctx context.Context, sink int16, outputs []delivered, had taken) error {
	g, gctx := errgroup.WithContext(ctx)
	g.SetLimit(deliverSide)
	failed := gctx.Done()
	if had != nil {
		gctx = ctx
	}
	halted := false
	for i, x := range outputs {
		if !x.SHA.IsZero() && had[itemsDigest([]gantry.Item{x.Item})] {
			continue
		}
		if halted = w.halting(); halted || closed(failed) {
			break // what is under way goes on
		}
		g.Go(func() error {
			if closed(failed) {
				return nil
			}
			fail.Point("before_put")
			err := w.deliver(gctx, sink, gantry.OpPut, int32(i), []gantry.Item{x.Item}, w.delivery(x))
			fail.Point("after_put")
			return err
		})
	}
	err := g.Wait()
	switch {
	case err != nil:
		return err
	case halted:
		return errStop
	case ctx.Err() != nil:
		return context.Cause(ctx) // not all was begun
	}
	return nil
}

// closed tells whether something has ended.
func closed(done <-chan struct{}) bool {
	select {
	case <-done:
		return true
	default:
		return false
	}
}

// delivery is an output as sinks get it.
func (w *work) delivery(x delivered) gantry.Delivery {
	return gantry.Delivery{Path: x.path, About: w.aboutOutput(x), Media: x.Media, Size: x.Size, SHA: x.SHA,
		Open: func(ctx context.Context) (body, error) { return w.open(ctx, x.Item) }}
}

// deliver makes one recorded call of a sink.
func (w *work) deliver(ctx context.Context, sink int16, op gantry.Op, ordinal int32, items []gantry.Item, d gantry.Delivery) error {
	s := w.plan.Sinks[sink]
	spec := gantry.CallSpec{Priority: w.task.Priority, Intent: gantry.Intent{
		Lease: w.task.Lease, Boundary: gantry.AtSink, Op: op, Limiter: s.Limiter, Pipeline: w.plan.ID,
		Part: gantry.PartKey{Leg: w.task.Leg, Stage: w.task.Stage, Processor: s.Index, Ordinal: ordinal, Generation: w.task.Delivery},
		Try:  w.task.Attempt + 1, ItemCount: int32(len(items)), ItemsSHA: itemsDigest(items)}}
	return w.e.Caller.Call(gantry.WithHold(ctx, nil), spec, func(ctx context.Context) error {
		if s.Count != nil {
			open := d.Open
			d.Open = func(ctx context.Context) (body, error) {
				r, err := open(ctx)
				if err != nil {
					return nil, err
				}
				return s.Count(ctx, r), nil
			}
		}
		return s.Sink.Deliver(ctx, d)
	}, nil)
}
