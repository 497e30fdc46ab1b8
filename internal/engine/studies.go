package engine

import (
	"context"
	"slices"
	"sync"

	"golang.org/x/sync/errgroup"

	"github.com/gantry-imaging/gantry/internal/dicom"
	"github.com/gantry-imaging/gantry/internal/gantry"
)

// groupKeywords are the attributes that media are grouped by (PS3.3 sections C.7.2.1, C.7.3.1, C.7.1.1).
var groupKeywords = map[gantry.GroupBy]string{
	gantry.GroupStudy:   "StudyInstanceUID",
	gantry.GroupSeries:  "SeriesInstanceUID",
	gantry.GroupPatient: "PatientID",
}

// divideByGroup makes a child for each study, series or patient among the task's sound media, in the order
// in which they first appear, if there are several. What is no DICOM has no such thing, and goes together. In its first
// leg a collection is not divided: it was put together by the same group.
func (w *work) divideByGroup(ctx context.Context) error {
	keyword := groupKeywords[w.plan.Group]
	if keyword == "" || w.task.Role != gantry.NoRole || w.many && w.task.Leg == 0 {
		return nil
	}
	came := w.sound()
	if len(came.origins) < 2 {
		return nil
	}
	values, err := w.groupValues(ctx, keyword, came.origins)
	if err != nil {
		return err
	}
	place := map[string]int{}
	var lists [][]gantry.ItemID
	for _, id := range came.origins {
		key := ""
		if file, ok := w.fileOf(id); ok {
			key = "=" + values[file.ID]
		}
		n, known := place[key]
		if !known {
			n = len(lists)
			place[key] = n
			lists = append(lists, nil)
		}
		lists[n] = append(lists[n], id)
	}
	if len(lists) < 2 {
		return nil
	}
	t := w.plan.Timeouts
	d := w.division(gantry.Member, gantry.Queued, lists)
	d.Within = t.Queued
	// A member may take its time in each state, and the parent has its own to go on.
	return waits{divide: d, within: t.Queued + t.Extracting + 2*t.Ingesting + t.Inferring + t.Responding}
}

// fileOf gives the DICOM file that a piece of media is, or is a frame of.
func (w *work) fileOf(id gantry.ItemID) (gantry.Item, bool) {
	for x, ok := w.item(id); ok; x, ok = w.item(x.Parent) {
		if x.Media == gantry.MediaDICOM {
			return x, true
		}
	}
	return gantry.Item{}, false
}

// groupValues reads an attribute of the DICOM files among media, by file; empty where a file has none.
func (w *work) groupValues(ctx context.Context, keyword string, media []gantry.ItemID) (map[gantry.ItemID]string, error) {
	values := map[gantry.ItemID]string{}
	var mu sync.Mutex
	g, gctx := errgroup.WithContext(ctx)
	for _, id := range media {
		file, ok := w.fileOf(id)
		mu.Lock()
		_, known := values[file.ID]
		if ok && !known {
			values[file.ID] = ""
		}
		mu.Unlock()
		if !ok || known {
			continue
		}
		if err := w.e.cpu.Acquire(gctx, 1); err != nil {
			break
		}
		g.Go(func() error {
			defer w.e.cpu.Release(1)
			tags, err := w.attributes(gctx, file)
			mu.Lock()
			defer mu.Unlock()
			values[file.ID] = tags[keyword]
			return err
		})
	}
	if err := g.Wait(); err != nil {
		return nil, err
	}
	return values, context.Cause(ctx)
}

// attributes reads the attributes of a DICOM file.
func (w *work) attributes(ctx context.Context, x gantry.Item) (map[string]string, error) {
	r, err := w.open(ctx, x)
	if err != nil {
		return nil, err
	}
	defer r.Close()
	return dicom.Tags(readerWith(ctx, r), x.Size)
}

// awaitMembers lets a task that was divided by its media go on once they have ended.
func (w *work) awaitMembers() (gantry.Event, error) {
	if slices.ContainsFunc(w.members, open) {
		return "", waits{}
	}
	return gantry.Finish, nil
}

// manifestChild is a task that the media were divided among. It has a manifest of its own if it is done.
type manifestChild struct {
	Task  string `json:"task"`
	Items int32  `json:"items"`
	State string `json:"state"`
	Code  string `json:"code,omitempty"`

	Delivery int16 `json:"delivery,omitempty"` // above 0: its files lie below r and this number
}

// respondMembers delivers the list of the tasks that the media were divided among, how each ended, and what
// media were refused. Then the task fails if one of them did.
func (w *work) respondMembers(ctx context.Context) (gantry.Event, error) {
	b, err := w.memberManifest()
	if err != nil {
		return "", err
	}
	for i := range w.plan.Sinks {
		if err := w.seal(ctx, int16(i), 0, b); err != nil {
			return "", err
		}
	}
	if err := childFailure(w.members); err != nil {
		return "", err
	}
	return gantry.Finish, nil
}

func (w *work) memberManifest() ([]byte, error) {
	m := w.newManifest()
	for _, x := range w.leaves() {
		if x.Rejected {
			m.Errors = append(m.Errors, manifestError{Item: w.path(x), Code: string(x.Reason)})
		}
	}
	for _, c := range w.members {
		m.Children = append(m.Children, manifestChild{Task: c.PublicID, Items: c.Members, State: c.State.String(), Code: string(c.Code), Delivery: c.Delivery})
	}
	return m.bytes()
}
