package app

import (
	"context"
	"time"

	"github.com/gantry-imaging/gantry/internal/gantry"
)

// openAfter is how long a file is read, at most, before its folder is kept open for it.
const openAfter = time.Second

// keepOpen keeps the collections of the folder open that an object belongs to, until stop: reading it may take longer than they have to be
// quiet for. What is collected by attributes is known by them alone, which are in the file.
func (in *intake) keepOpen(ctx context.Context, ways []way, f *feed, o offer) (stop func()) {
	ctx, stop = context.WithCancel(ctx)
	for _, w := range ways {
		if o.came != nil || w.collect == nil || w.collect.By != gantry.GroupPrefix || w.collect.Quiet == 0 {
			continue
		}
		if folder, _, ok := folderOf(f.below(o.Ref), w.collect.Depth); ok {
			often := w.collect.Quiet / 4
			first := time.AfterFunc(min(often, openAfter), func() { in.keepingOpen(ctx, w, in.groupMAC(f, w, folder), often) })
			context.AfterFunc(ctx, func() { first.Stop() })
		}
	}
	return stop
}

// keepingOpen has a collection's quiet begin anew, again and again until ctx ends.
func (in *intake) keepingOpen(ctx context.Context, w way, group gantry.Digest, often time.Duration) {
	for {
		if err := in.app.Store.KeepOpen(ctx, w.plan.Name, group, w.collect.Quiet); err != nil && ctx.Err() == nil {
			in.app.Log.Warn("keep collection open", "pipeline", w.plan.Name, "err", err)
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(often):
		}
	}
}
