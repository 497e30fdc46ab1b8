package app

import (
	"context"
	"time"

	"github.com/gantry-imaging/gantry/internal/gantry"
)

const (
	formerly = "former " // before the version that a source gives to what was replaced; its bytes may be put again, and are another arrival
	oneTime  = 2 * time.Second
)

// layered tells whether former versions of a feed's source may come to light, or did: what nothing lies over any more stays what it was, also
// once nothing is moved or deleted any more.
func (a *App) layered(ctx context.Context, f *feed) (bool, error) {
	if _, ok := f.source.(gantry.Layered); !ok {
		return false, nil
	}
	if _, tidies := f.tidying(); tidies {
		return true, nil
	}
	return a.Store.EverFormer(ctx, f.name)
}

// former puts on record that what comes to light at a source had been replaced, so that nobody takes it, whether it was seen before
// or not: not when a listing shows it, nor when an event or other rules come late. What came of it when it was seen stays.
func (in *intake) former(ctx context.Context, f *feed, o gantry.Object) error {
	version := formerly + o.Version
	if o.Version == o.Sequencer {
		version = o.Sequencer // by which Known finds it
	}
	a := gantry.Arrival{Source: f.name, RefMAC: gantry.MAC(in.app.Key, "ref", f.name, o.Ref), Name: clean(o.Name), Version: version, Sequencer: o.Sequencer,
		Size: o.Size, Status: gantry.Superseded, Reason: gantry.CodeFormer}
	if err := in.away(ctx, f, a); err != nil {
		return err
	}
	in.app.Log.Info("turned away", "source", f.name, "code", string(a.Reason))
	return nil
}

// cameToLight tells whether an object is on record as one that was replaced, though a server gave it another time since. Then it is known by
// that too, unless the same bytes might be put again at that very time.
func (in *intake) cameToLight(ctx context.Context, f *feed, o gantry.Object, ref gantry.Digest) (bool, error) {
	s, ok := f.source.(gantry.Layered)
	if !ok || !f.layers {
		return false, nil
	}
	if some, err := in.app.Store.SomeFormer(ctx, f.name, ref); !some || err != nil {
		return false, err
	}
	version, now, err := s.Layer(ctx, o)
	if err != nil {
		return false, err
	}
	if is, err := in.app.Store.IsFormer(ctx, f.name, ref, formerly+version); !is || err != nil {
		return false, err
	}
	if now.Sub(o.At) < oneTime {
		return true, nil
	}
	o.Version = o.Sequencer
	return true, in.former(ctx, f, o)
}
