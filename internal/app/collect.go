package app

import (
	"bytes"
	"context"
	"io"
	"path"
	"strings"
	"time"

	"github.com/gantry-imaging/gantry/internal/dicom"
	"github.com/gantry-imaging/gantry/internal/fail"
	"github.com/gantry-imaging/gantry/internal/gantry"
	"github.com/gantry-imaging/gantry/internal/gate"
)

// prefixed is the config of a source whose refs all begin alike.
type prefixed interface{ KeyPrefix() string }

// below gives an object's path below the source's prefix.
func (f *feed) below(ref string) string {
	return strings.TrimPrefix(strings.TrimPrefix(ref, f.prefix), "/")
}

// folderOf divides an object's path below the source's prefix into the folders that count and the rest. What lies in no
// folder has nothing in common with anything.
func folderOf(below string, depth int) (folder, rest string, ok bool) {
	at := -1
	for n := 1; ; n++ {
		i := strings.IndexByte(below[at+1:], '/')
		if i < 0 {
			break
		}
		if at += 1 + i; n == depth {
			break
		}
	}
	if at < 0 {
		return "", below, false
	}
	return below[:at], below[at+1:], true
}

// isMarker tells whether an object is no medium, but says that a folder is complete; one in no folder says nothing of any.
func (w way) isMarker(f *feed, o gantry.Object) bool {
	if w.collect == nil || w.collect.Marker == "" {
		return false
	}
	_, rest, ok := folderOf(f.below(o.Ref), w.collect.Depth)
	pattern := w.collect.Marker
	if !ok {
		pattern = path.Base(pattern)
	}
	is, err := path.Match(pattern, rest)
	return is && err == nil
}

// marked takes an object in where it is a marker, and gives the other ways that it goes; fresh where it was not known. As in
// spread, its row has a sequencer once all is done.
func (in *intake) marked(ctx context.Context, ways []way, f *feed, o gantry.Object, a gantry.Arrival, run string) (others []way, fresh bool, err error) {
	var marks []way
	for _, w := range ways {
		if run != "" || !w.isMarker(f, o) {
			others = append(others, w)
		} else {
			marks = append(marks, w)
		}
	}
	for i, w := range marks {
		is, err := in.mark(ctx, w, f, o, a, i == len(marks)-1 && len(others) == 0)
		if fresh = fresh || is; err != nil {
			return nil, fresh, err
		}
	}
	return others, fresh, nil
}

// mark takes a marker in. Its bytes say nothing, so they are left where they are; each time it is put down counts.
// It gives whether the end of a folder is new.
func (in *intake) mark(ctx context.Context, w way, f *feed, o gantry.Object, a gantry.Arrival, last bool) (fresh bool, err error) {
	if a.Version = a.Sequencer; a.Version == "" {
		a.Version = o.Version
	}
	if !last {
		a.Sequencer = ""
	}
	a.Size = o.Size
	folder, rest, ok := folderOf(f.below(o.Ref), w.collect.Depth)
	switch {
	case ok:
	case last:
		a.Status, a.Reason = gantry.Ignored, gantry.CodeMarker
		in.app.Metrics.Arrived(f.name, a.Status)
		return false, in.app.Store.TurnAway(ctx, []gantry.Arrival{a})
	default:
		return false, nil
	}
	a.Name = clean(rest)
	x := in.gathering(w, f, a, folder)
	x.Marker = true
	got, err := in.collected.join(ctx, x)
	return err == nil && in.fresh(f, got), err
}

// fresh tells whether a collection has something that it did not have, and counts what it did not want.
func (in *intake) fresh(f *feed, got gantry.Gathered) bool {
	if !got.Known && got.Status != gantry.Accepted {
		in.app.Metrics.Arrived(f.name, got.Status)
	}
	return !got.Known && got.Status == gantry.Accepted
}

// joined reports an object that became part of a collection, and no task: fresh if it was none before.
func (in *intake) joined(f *feed, o gantry.Object, fresh bool) {
	if !fresh {
		return
	}
	in.app.Metrics.Arrived(f.name, gantry.Accepted)
	if f.ledger != nil {
		f.ledger.took(f.ledger.channel(o), o, time.Now())
	}
}

// gatheringOf finds the collection that an arrival, whose bytes are settled, belongs to. It gives false if there is none: the
// arrival is a task of its own.
func (in *intake) gatheringOf(ctx context.Context, w way, f *feed, o gantry.Object, a gantry.Arrival) (x gantry.Gathering, ok bool, err error) {
	group, name, ok := folderOf(f.below(o.Ref), w.collect.Depth)
	if keyword := groupKeywords[w.collect.By]; keyword != "" {
		tags, err := in.headerOf(ctx, f, a)
		if err != nil && gantry.KindOf(err) != gantry.Illegal {
			return x, false, err
		}
		group, name = tags[keyword], f.below(o.Ref)
		ok = err == nil && group != ""
	}
	if !ok {
		return x, false, nil
	}
	a.Name = clean(name)
	return in.gathering(w, f, a, group), true, nil
}

// collectInto makes an arrival a member of its collection; fresh if it was not one before.
func (in *intake) collectInto(ctx context.Context, f *feed, x gantry.Gathering) (fresh bool, err error) {
	got, err := in.collected.join(ctx, x)
	if err == nil && !got.Known {
		in.app.Log.Info("collected", "source", f.name, "collection", got.Collection, "revision", got.Revision, "status", got.Status.String())
	}
	return err == nil && in.fresh(f, got), err
}

// gathering is an arrival with the rules of a way. What its group is called is in the row of its collection alone.
func (in *intake) gathering(w way, f *feed, a gantry.Arrival, group string) gantry.Gathering {
	priority := firstPriority(w.plan.Pipeline, a)
	return gantry.Gathering{
		Arrival: a, Group: gantry.MAC(in.app.Key, "group", f.name, string(w.collect.By), group), Name: clean(group), Pipeline: w.plan.Name, Version: w.plan.ID,
		Lane: w.lane, Priority: priority, Within: queued(w.plan.Pipeline, priority, time.Now()), Rules: *w.collect,
	}
}

// groupKeywords are the attributes that arrivals are put together by (PS3.3 sections C.7.2.1, C.7.3.1, C.7.1.1).
var groupKeywords = map[gantry.GroupBy]string{
	gantry.GroupStudy: "StudyInstanceUID", gantry.GroupSeries: "SeriesInstanceUID", gantry.GroupPatient: "PatientID",
}

const (
	maxHeader = 64 << 20 // bytes before the pixel data
	firstRead = 64 << 10 // of an object that is read where it is; each further one takes four times as much
)

// headerOf reads the attributes of a DICOM file. A file that is none, or that the scanner refuses, is Illegal.
func (in *intake) headerOf(ctx context.Context, f *feed, a gantry.Arrival) (tags map[string]string, err error) {
	if a.Place == "" {
		b, err := in.blobs.Open(ctx, a.Location)
		if err != nil {
			return nil, err
		}
		defer b.Close()
		return dicom.Tags(io.NewSectionReader(b, 0, min(b.Size(), maxHeader)), b.Size())
	}
	source := f.source.(gantry.InPlace)
	spec := gantry.CallSpec{Intent: gantry.Intent{Boundary: gantry.AtSource, Op: gantry.OpGet, Limiter: f.limiter, Arrival: a.ID,
		Pipeline: f.plan.ID, Part: gantry.PartKey{Processor: f.index}, Try: 1}}
	var verdict error
	err = in.gate.Call(ctx, spec,
		func(ctx context.Context) error {
			r := &ranges{size: min(a.Size, maxHeader), open: func(from, n int64) (io.ReadCloser, error) {
				part, err := source.OpenRange(ctx, a.Place, from, n)
				if err == nil && f.local {
					part = gate.Local(ctx, part, false)
				}
				return part, err
			}}
			tags, verdict = dicom.Tags(r, a.Size)
			return r.err
		},
		func(_ context.Context, err error) (*gantry.Write, error) { return nil, err })
	if err == nil {
		err = verdict
	}
	return tags, err
}

// ranges reads an object from its start on, in growing parts, so that what stops early has read little.
type ranges struct {
	size int64
	open func(from, n int64) (io.ReadCloser, error)
	at   int64
	next int64
	part bytes.Reader
	err  error // of the source
}

// Read reads on.
func (r *ranges) Read(p []byte) (int, error) {
	for r.part.Len() == 0 {
		if r.err != nil {
			return 0, r.err
		}
		if r.at >= r.size {
			return 0, io.EOF
		}
		if r.err = r.fill(); r.err != nil {
			return 0, r.err
		}
	}
	return r.part.Read(p)
}

// fill reads the next part whole.
func (r *ranges) fill() error {
	if r.next = r.next * 4; r.next == 0 {
		r.next = firstRead
	}
	n := min(r.next, r.size-r.at, 16<<20)
	body, err := r.open(r.at, n)
	if err != nil {
		return err
	}
	defer body.Close()
	b := make([]byte, n)
	if _, err := io.ReadFull(body, b); err != nil {
		return err
	}
	r.at += n
	r.part.Reset(b)
	return nil
}

// collected writes what was collected, in batches.
type collected struct {
	app   *App
	queue chan *joining
	due   func(time.Duration) // told how long it is until a collection is closed
}

type joining struct {
	gantry.Gathering
	got  gantry.Gathered
	done chan error
}

func newCollected(a *App, due func(time.Duration)) *collected {
	return &collected{app: a, queue: make(chan *joining, 256), due: due}
}

// join makes an arrival durable, together with whatever else arrives at that moment.
func (c *collected) join(ctx context.Context, x gantry.Gathering) (gantry.Gathered, error) {
	j := &joining{Gathering: x, done: make(chan error, 1)}
	select {
	case c.queue <- j:
	case <-ctx.Done():
		return gantry.Gathered{}, context.Cause(ctx)
	}
	select {
	case err := <-j.done:
		return j.got, err
	case <-ctx.Done():
		return gantry.Gathered{}, context.Cause(ctx)
	}
}

// run writes batches until ctx ends.
func (c *collected) run(ctx context.Context) {
	for {
		var batch []*joining
		select {
		case j := <-c.queue:
			batch = append(batch, j)
		case <-ctx.Done():
			return
		}
	more:
		for len(batch) < 500 {
			select {
			case j := <-c.queue:
				batch = append(batch, j)
			default:
				break more
			}
		}
		c.flush(context.WithoutCancel(ctx), batch)
	}
}

// flush writes a batch; where that fails for what is in it, its halves, so that one arrival that cannot be written fails alone.
func (c *collected) flush(ctx context.Context, batch []*joining) {
	list := make([]gantry.Gathering, len(batch))
	for i, j := range batch {
		list[i] = j.Gathering
	}
	fail.Point("before_member")
	got, err := c.app.Store.Gather(ctx, list)
	fail.Point("after_member")
	if err != nil && gantry.KindOf(err) == gantry.Illegal && len(batch) > 1 {
		half := len(batch) / 2
		c.flush(ctx, batch[:half])
		c.flush(ctx, batch[half:])
		return
	}
	for i, j := range batch {
		if err == nil {
			j.got = got[i]
			if j.got.Collection != 0 {
				c.due(j.got.Due)
			}
		}
		j.done <- err
	}
}
