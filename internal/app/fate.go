package app

import (
	"context"
	"slices"

	"github.com/gantry-imaging/gantry/internal/fail"
	"github.com/gantry-imaging/gantry/internal/gantry"
)

// fate is all that is to be written of an arrival, in the order in which it is.
type fate struct {
	ignored    *gantry.Arrival // a marker of no folder
	gatherings []gantry.Gathering
	list       []gantry.Admission
	lanes      []int32
	came       *came           // it came with its bytes
	receipt    *gantry.Receipt // of the call that brought it: written with the first of them
	former     bool            // nothing: it came to light meanwhile
}

// untold is the status of an arrival that nothing came of anew.
const untold gantry.ArrivalStatus = -1

// fateOf finds out what is to become of an arrival on its ways. What is to be done with its object later is laid down; where it is
// more than a marker, its bytes are settled before.
func (in *intake) fateOf(ctx context.Context, ways []way, f *feed, o offer, a *gantry.Arrival, run string) (x fate, err error) {
	var media []way
	for _, w := range ways {
		if run != "" || !w.isMarker(f, o.Object) {
			media = append(media, w)
		} else if g, ok := in.marker(w, f, o.Object, *a); ok {
			x.gatherings = append(x.gatherings, g)
		} else {
			x.ignored = &g.Arrival
		}
	}
	if len(media) == 0 {
		if len(x.gatherings) > 0 {
			err = in.mind(ctx, f, o.Object, x.gatherings[0].Arrival, x.gatherings, run)
		}
		return x, err
	}
	gathered := run == "" && !slices.ContainsFunc(media, func(w way) bool { return !w.gathers(o.came) })
	stop := func() {}
	if run == "" {
		stop = in.keepOpen(ctx, media, f, o)
	}
	err = in.settle(ctx, f, o, a, gathered)
	if stop(); err != nil {
		return x, err
	}
	if run == "" { // another process may have taken away what lay over it since it was looked up
		if x.former, err = in.cameToLight(ctx, f, o.Object, a.RefMAC); x.former || err != nil {
			return x, err
		}
	}
	if a.Version == "" {
		a.Version = a.SHA.String()
	}
	if err := in.mind(ctx, f, o.Object, *a, x.gatherings, run); err != nil {
		return x, err
	}
	for _, w := range media {
		if run == "" && w.collect != nil {
			g, is, err := in.member(ctx, w, f, o, *a)
			if err != nil {
				return x, err
			}
			if is {
				x.gatherings = append(x.gatherings, g)
				continue
			}
		}
		x.list, x.lanes = append(x.list, in.become(w, f, o, *a, run)), append(x.lanes, w.lane)
	}
	if x.came = o.came; o.came != nil {
		x.receipt = o.came.receipt
	}
	return x, nil
}

// write makes a fate durable, and says what came of the arrival anew; untold: nothing. Where that is more than one commit,
// the last alone names its sequencer: the arrival is known by that, and must not be before all of it is there.
func (in *intake) write(ctx context.Context, f *feed, x fate) (gantry.ArrivalStatus, error) {
	status, left := untold, len(x.gatherings)
	if len(x.list) > 0 {
		left++
	}
	if x.ignored != nil {
		if left > 0 {
			x.ignored.Sequencer = ""
		}
		made, err := in.app.Store.TurnAway(ctx, []gantry.Arrival{*x.ignored})
		if err != nil {
			return status, err
		}
		if len(made) > 0 {
			status = gantry.Ignored
		}
	}
	for _, g := range x.gatherings {
		if left--; left > 0 {
			g.Arrival.Sequencer = ""
		}
		g.Receipt, x.receipt = x.receipt, nil
		got, err := in.collected.join(ctx, g)
		if err != nil {
			return status, err
		}
		if got.Known {
			if x.came != nil {
				x.came.known = true
			}
			continue
		}
		if status != gantry.Accepted {
			status = got.Status
		}
		in.app.Log.Info("collected", "source", f.name, "collection", got.Collection, "revision", got.Revision, "status", got.Status.String())
	}
	if len(x.list) == 0 {
		return status, nil
	}
	if len(x.gatherings) > 0 {
		fail.Point("between_ways")
	}
	a := &admission{list: x.list, of: x.receipt}
	if err := in.admit(ctx, a); err != nil {
		return status, err
	}
	in.wake(x.lanes...)
	for _, t := range x.list[1:] {
		in.app.Log.Info("accepted", "source", f.name, "task", t.PublicID)
	}
	if a.made > 0 {
		status = gantry.Accepted
	}
	return status, nil
}
