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

func (w *work) deliverAll(ctx context.Context, sink int16, outputs []delivered) error {
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(deliverSide)
	halted := false
	for i, x := range outputs {
		if halted = w.halting(); halted {
			break // what is under way goes on
		}
		g.Go(func() error {
			fail.Point("before_put")
			err := w.deliver(ctx, sink, gantry.OpPut, int32(i), []gantry.Item{x.Item}, w.delivery(x))
			fail.Point("after_put")
			return err
		})
	}
	if err := g.Wait(); err != nil || !halted {
		return err
	}
	return errStop
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
