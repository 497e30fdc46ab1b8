package s3

import (
	"context"
	"errors"
	"time"

	"github.com/gantry-imaging/gantry/internal/gantry"
)

// patience is how long a page that is listed again and again waits for its last objects. It adds to poll.
const patience = time.Second

// errUnderWay stands for what will come of an object that is still being announced.
var errUnderWay = errors.New("still under way")

// run is how a pass announces.
type run struct {
	places   chan struct{} // one is taken by each object under way, so that there is a bounded number of them
	patience time.Duration // how long the last objects are waited for; 0: until they have ended
	far      bool          // what fails is announced again without a listing
	gone     bool          // what is gone is left to the next listing of everything
	spare    bool          // what finds no place free is left as it is
}

// anew is how passes announce what is new. They share their places, and leave behind what takes long: an object may be
// copied for hours, and those that come meanwhile have to be seen.
func (w *watcher) anew() run {
	return run{places: w.places, patience: patience}
}

// announceAll announces objects as places become free, and gives the error of each that was not taken, which is
// errUnderWay of those that outlast its patience: they stay busy until they end. It waits for places without limit,
// since where all are taken there is nothing that another listing could begin.
func (w *watcher) announceAll(ctx context.Context, list []sight, r run) []error {
	type outcome struct {
		i   int
		err error
	}
	errs := make([]error, len(list))
	runs := make(chan struct{})            // each is running before the next one is begun: they come in order
	ended := make(chan outcome, len(list)) // nobody may be left to take them
	begun := 0
	for i, x := range list {
		errs[i] = errUnderWay
		if !r.place(ctx) {
			if err := ctx.Err(); err != nil {
				errs[i] = err
			}
			w.release(list[i : i+1])
			continue
		}
		begun++
		w.side.Go(func() {
			runs <- struct{}{}
			err := w.announceOne(ctx, x.Object)
			w.settled(ctx, x, err, r)
			<-r.places
			ended <- outcome{i, err}
		})
		<-runs
	}
	var late <-chan time.Time
	if r.patience > 0 {
		t := time.NewTimer(r.patience)
		defer t.Stop()
		late = t.C
	}
	for range begun {
		select {
		case x := <-ended:
			errs[x.i] = x.err
		case <-late:
			return errs
		case <-ctx.Done():
			return errs
		}
	}
	return errs
}

// place takes a place, and tells whether it got one before ctx ended.
func (r run) place(ctx context.Context) bool {
	if ctx.Err() != nil {
		return false
	}
	if r.spare {
		select {
		case r.places <- struct{}{}:
			return true
		default:
			return false
		}
	}
	select {
	case r.places <- struct{}{}:
		return true
	case <-ctx.Done():
		return false
	}
}

// settled keeps what came of an announcement, and only then lets others at its key: they have to see that it is put off.
func (w *watcher) settled(ctx context.Context, x sight, err error, r run) {
	switch {
	case err == nil || r.gone && gantry.CodeOf(err) == gantry.CodeSourceGone:
		w.drop(x)
	case ctx.Err() == nil:
		w.postpone(x, err, r.far)
	}
	w.release([]sight{x})
}

// announceOne announces an object in its turn. If another channel was at its key just now, the ledger has to be asked again.
func (w *watcher) announceOne(ctx context.Context, o gantry.Object) error {
	return w.tell(ctx, o, w.announce)
}
