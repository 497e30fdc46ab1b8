package app

import (
	"context"
	"io"
	"path"
	"strings"
	"time"

	"github.com/gantry-imaging/gantry/internal/dicom"
	"github.com/gantry-imaging/gantry/internal/fail"
	"github.com/gantry-imaging/gantry/internal/gantry"
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

// gathers tells whether an object that came with its bytes becomes a member of a collection on this way.
func (w way) gathers(c *came) bool {
	return w.collect != nil && c != nil && c.Tags[groupKeywords[w.collect.By]] != ""
}

// gathers tells whether that may be so on all ways of a feed.
func (f *feed) gathers() bool {
	by := func(c *gantry.Collect) bool { return c != nil && groupKeywords[c.By] != "" }
	for _, r := range f.routes {
		if !by(r.collect) {
			return false
		}
	}
	return f.routes != nil || by(f.collect)
}

// marker is a marker with the rules of a way. Its bytes say nothing, so they are left where they are; each time it is put down
// counts. It is false for one in no folder.
func (in *intake) marker(w way, f *feed, o gantry.Object, a gantry.Arrival) (gantry.Gathering, bool) {
	if a.Version = a.Sequencer; a.Version == "" {
		a.Version = o.Version
	}
	a.Size = o.Size
	folder, _, ok := folderOf(f.below(o.Ref), w.collect.Depth)
	if !ok {
		a.Status, a.Reason = gantry.Ignored, gantry.CodeMarker
		return gantry.Gathering{Arrival: a}, false
	}
	a.Name = clean(f.below(o.Ref))
	x := in.gathering(w, f, a, folder)
	x.Marker = true
	return x, true
}

// member is an arrival, whose bytes are settled, as a member of its collection. It is false if there is none that it
// belongs to: it is a task of its own.
func (in *intake) member(ctx context.Context, w way, f *feed, o offer, a gantry.Arrival) (gantry.Gathering, bool, error) {
	group, _, ok := folderOf(f.below(o.Ref), w.collect.Depth)
	var tags map[string]string
	if keyword := groupKeywords[w.collect.By]; keyword != "" {
		var err error
		if tags, err = in.tagsOfCame(ctx, f, o, a); err != nil && gantry.KindOf(err) != gantry.Illegal {
			return gantry.Gathering{}, false, err
		}
		group = tags[keyword]
		ok = err == nil && group != ""
	}
	if !ok {
		return gantry.Gathering{}, false, nil
	}
	a.Name = clean(f.below(o.Ref)) // the same for all pipelines, whatever they go by
	return in.countable(in.gathering(w, f, a, group), tags), true, nil
}

// gathering is an arrival with the rules of a way. What its group is called is in the row of its collection alone; a folder's
// name ends with a slash there, and is no part of its members' names.
func (in *intake) gathering(w way, f *feed, a gantry.Arrival, group string) gantry.Gathering {
	priority, name := firstPriority(w.plan.Pipeline, a), clean(group)
	if w.collect.By == gantry.GroupPrefix {
		name += "/"
	}
	return gantry.Gathering{
		Arrival: a, Group: in.groupMAC(f, w, group), Name: name, Pipeline: w.plan.Name, Version: w.plan.ID,
		Lane: w.lane, Priority: priority, Within: queued(w.plan.Pipeline, priority, time.Now()), Rules: *w.collect,
	}
}

// groupMAC stands for a group of a feed's arrivals.
func (in *intake) groupMAC(f *feed, w way, group string) gantry.Digest {
	return gantry.MAC(in.app.Key, "group", f.name, string(w.collect.By), group)
}

// groupKeywords are the attributes that arrivals are put together by (PS3.3 sections C.7.2.1, C.7.3.1, C.7.1.1).
var groupKeywords = map[gantry.GroupBy]string{
	gantry.GroupStudy: "StudyInstanceUID", gantry.GroupSeries: "SeriesInstanceUID", gantry.GroupPatient: "PatientID",
}

// tagsOfCame gives the attributes of an object: those that came with it, or its header's.
func (in *intake) tagsOfCame(ctx context.Context, f *feed, o offer, a gantry.Arrival) (map[string]string, error) {
	if o.came != nil {
		return o.came.Tags, nil
	}
	return in.headerOf(ctx, f, a)
}

// headerOf reads the attributes of a DICOM file whose bytes are settled. A file that is none, or that the scanner refuses,
// is Illegal.
func (in *intake) headerOf(ctx context.Context, f *feed, a gantry.Arrival) (tags map[string]string, err error) {
	if a.Place == "" {
		b, err := in.blobs.Open(ctx, a.Location)
		if err != nil {
			return nil, err
		}
		defer b.Close()
		return dicom.Tags(io.NewSectionReader(b, 0, min(b.Size(), largeHeader)), b.Size())
	}
	source := f.source.(gantry.InPlace)
	return in.tagsOf(ctx, f, a.ID, a.Size, func(ctx context.Context, from, n int64) (io.ReadCloser, error) {
		return source.OpenRange(ctx, a.Place, from, n)
	})
}

// collected writes what was collected, in batches.
type collected struct {
	app   *App
	queue chan *joining
	due   func(time.Duration) // told how long it is until a collection is closed
	ask   func(time.Duration) // told how long it is until an archive is asked about one
}

type joining struct {
	gantry.Gathering
	got  gantry.Gathered
	done chan error
}

func newCollected(a *App, due, ask func(time.Duration)) *collected {
	return &collected{app: a, queue: make(chan *joining, 256), due: due, ask: ask}
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
	for batch := together(ctx, c.queue); batch != nil; batch = together(ctx, c.queue) {
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
			if j.got.Ask >= 0 && !j.got.Known {
				c.ask(j.got.Ask)
			}
		}
		j.done <- err
	}
}
