package app

import (
	"context"
	"slices"
	"time"

	"github.com/gantry-imaging/gantry/internal/gantry"
)

const (
	formerly = "former " // before the version that a source gives to what was replaced; its bytes may be put again, and are another arrival
	oneTime  = 2 * time.Second
)

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
	if _, tidies := f.tidying(); !ok || !tidies {
		return false, nil
	}
	formers, err := in.app.Store.Formers(ctx, f.name, ref)
	if len(formers) == 0 || err != nil {
		return false, err
	}
	version, err := s.Layer(ctx, o)
	if err != nil || !slices.Contains(formers, formerly+version) {
		return false, err
	}
	if time.Since(o.At) < oneTime {
		return true, nil
	}
	o.Version = o.Sequencer
	return true, in.former(ctx, f, o)
}
