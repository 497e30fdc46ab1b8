package engine

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"os"

	"github.com/gantry-imaging/gantry/internal/gantry"
)

// Preview is what a pipeline would do with one file. It is found by the engine itself, on a store in
// memory and without anybody to call: every part is taken to be answered by one output.
type Preview struct {
	Media  string        `json:"media"`
	Size   int64         `json:"size"`
	Items  []PreviewItem `json:"items"`            // what it holds, in order, with what was refused
	Tasks  []PreviewTask `json:"tasks"`            // that go through the stages: several if the pipeline divides the media
	Code   gantry.Code   `json:"code,omitempty"`   // why nothing would be called
	Reason string        `json:"reason,omitempty"` // the same in words
}

// PreviewTask is the way of one task through the stages.
type PreviewTask struct {
	Origins  int            `json:"origins"`
	Shards   int            `json:"shards,omitempty"`   // that its first stages run in; 0: it is not divided
	Filtered bool           `json:"filtered,omitempty"` // the pipeline's when does not hold
	Stages   []PreviewStage `json:"stages"`
}

// PreviewStage is what a stage would call. Depends names its conditions that answers decide; they
// are taken to hold.
type PreviewStage struct {
	Name    string        `json:"name"`
	Depends []string      `json:"depends,omitempty"`
	Calls   []PreviewCall `json:"calls"`
}

// PreviewCall is what one processor would be called about, part by part.
type PreviewCall struct {
	Processor string        `json:"processor"`
	Parts     []PreviewPart `json:"parts"`
	Skipped   int           `json:"skipped,omitempty"` // parts for which the stage's when does not hold
	First     Composed      `json:"first"`             // the request of the first part
}

// PreviewPart is one call, or one that cannot be made since what is to be sent cannot be read.
type PreviewPart struct {
	Items  []PreviewItem `json:"items"`
	Code   gantry.Code   `json:"code,omitempty"`
	Reason string        `json:"reason,omitempty"`
}

// PreviewItem is one piece of media. Size is -1 where it is not known. Of an answer that is
// assumed, From names the stage and the processor, and Path what it is about.
type PreviewItem struct {
	Path   string      `json:"path"`
	Media  string      `json:"media,omitempty"`
	Size   int64       `json:"size"`
	Frame  int         `json:"frame,omitempty"` // from 1; 0: it is none
	From   string      `json:"from,omitempty"`
	Reason gantry.Code `json:"reason,omitempty"`  // why it is refused, or a remark
	Refuse bool        `json:"refused,omitempty"` // it is refused
}

// Composed is a request as a driver would send it. Size is in bytes; -1 if it is not known before.
type Composed struct {
	Method string      `json:"method,omitempty"`
	URL    string      `json:"url,omitempty"` // without its query
	Media  string      `json:"media,omitempty"`
	Size   int64       `json:"size"`
	Code   gantry.Code `json:"code,omitempty"` // why it would not be sent
	Reason string      `json:"reason,omitempty"`
}

// PreviewOptions say what is to be previewed.
type PreviewOptions struct {
	Pipeline *gantry.Pipeline
	Input    string            // a file
	Answers  map[string]string // media type of what processors are taken to answer; JSON for those that are not named
	Scratch  string            // a folder for caches
	// Compose makes the request of a part and does not send it.
	Compose func(ctx context.Context, processor string, r *gantry.Request) Composed
}

// NewPreview looks at a file as extraction and ingestion would, and plans every stage. The error is that
// the file cannot be read; a verdict on its content is in the preview.
func NewPreview(ctx context.Context, o PreviewOptions) (*Preview, error) {
	f, err := os.Open(o.Input)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, errors.New("it is no regular file")
	}
	x := &previewer{PreviewOptions: o, read: map[gantry.ItemID]itemRead{}, file: f, size: info.Size(), name: info.Name()}
	x.assume()
	e := New(Options{Store: x, Session: x, Blobs: x, Plans: x, Scratch: o.Scratch, Rand: func() float64 { return 0 }, Log: slog.New(slog.DiscardHandler)})
	w := &work{e: e, shelf: newShelf(e), task: gantry.Task{PublicID: "plan", State: gantry.Extracting}}
	defer w.shelf.close()
	return x.look(ctx, w)
}

// assume makes the plan whose conditions do without answers.
func (x *previewer) assume() {
	p := *x.Pipeline
	p.Extract.Shard = 0 // a shard calls the same as the whole task would
	p.Stages = nil
	for _, st := range x.Pipeline.Stages {
		var names []string
		if st.When != nil && speaks(st.When.String(), "stages") {
			st.When, names = nil, append(names, "when")
		}
		if st.KeepIf != nil && (speaks(st.KeepIf.String(), "stages") || speaks(st.KeepIf.String(), "result")) {
			st.KeepIf, names = nil, append(names, "keep_if")
		}
		p.Stages, x.depends = append(p.Stages, st), append(x.depends, names)
	}
	x.plan = &Plan{Pipeline: &p}
}

// look takes the file apart and follows what goes on.
func (x *previewer) look(ctx context.Context, w *work) (*Preview, error) {
	err := w.load(ctx)
	if err == nil {
		_, err = w.extract(ctx)
	}
	var event gantry.Event
	if err == nil {
		event, err = w.ingest(ctx)
	}
	out := &Preview{Size: x.size, Items: w.preview(w.leaves()), Tasks: []PreviewTask{}}
	if root, ok := w.item(0); ok {
		out.Media = root.Media
	}
	tasks := []*work{w}
	if wait, divided := errors.AsType[waits](err); divided {
		tasks, err = x.members(w, wait.divide), nil
	}
	for _, t := range tasks {
		if err == nil && t.task.Role != gantry.NoRole {
			event, err = t.ingest(ctx)
		}
		if err != nil {
			break
		}
		var task PreviewTask
		task, err = x.follow(ctx, t, event == gantry.Filter)
		out.Tasks = append(out.Tasks, task)
	}
	if gantry.KindOf(err) != gantry.Illegal {
		return out, err
	}
	out.Code, out.Reason = gantry.CodeOf(err), err.Error()
	return out, nil
}

// members makes the children that the media are divided among.
func (x *previewer) members(w *work, d *gantry.Division) (out []*work) {
	for i, c := range d.Children {
		in := map[gantry.ItemID]bool{}
		for _, s := range c.Members {
			for id := s.First; id < s.End; id++ {
				for y, ok := w.item(id); ok; y, ok = w.item(y.Parent) {
					in[y.ID] = true
				}
			}
		}
		m := &work{e: w.e, shelf: w.shelf, plan: w.plan, last: ownItems - 1, parts: map[gantry.PartKey]gantry.Part{}, kinds: map[gantry.PartKey]gantry.Kind{},
			task: gantry.Task{PublicID: c.PublicID, State: gantry.Ingesting, Role: d.Role, Ordinal: int32(i)}}
		for _, item := range w.items {
			if in[item.ID] {
				m.items = append(m.items, item)
			}
		}
		out = append(out, m)
	}
	return out
}

// follow plans the stages one after another, each answered before the next.
func (x *previewer) follow(ctx context.Context, w *work, filtered bool) (PreviewTask, error) {
	t := PreviewTask{Origins: len(w.ownIDs()), Filtered: filtered, Stages: []PreviewStage{}}
	if filtered {
		return t, nil
	}
	if stages, size := (&Plan{Pipeline: x.Pipeline}).shardable(); stages > 0 && t.Origins > x.Pipeline.Extract.Shard {
		t.Shards = (t.Origins + size - 1) / size
	}
	for s, st := range w.plan.Stages {
		units, err := w.planStage(ctx, int16(s), false)
		if err != nil {
			return t, err
		}
		stage := PreviewStage{Name: st.Name, Depends: x.depends[s], Calls: make([]PreviewCall, len(st.Call))}
		for c, name := range st.Call {
			stage.Calls[c] = PreviewCall{Processor: name, Parts: []PreviewPart{}}
		}
		for _, u := range units {
			if err := x.answer(ctx, w, u, &stage.Calls[u.Processor]); err != nil {
				return t, err
			}
		}
		t.Stages = append(t.Stages, stage)
		w.task.Stage = int16(s)
		if err := w.endOfStage(units); err != nil {
			return t, err
		}
	}
	return t, nil
}

// answer notes a part and takes it to be answered, if what it sends can be read.
func (x *previewer) answer(ctx context.Context, w *work, u unit, c *PreviewCall) error {
	if u.Status == gantry.PartSkipped {
		c.Skipped++
		return nil
	}
	u.sent = w.itemsOf(u.inputs)
	bad, err := x.readAll(ctx, w, u.sent)
	if err != nil {
		return err
	}
	part, p := PreviewPart{Items: w.preview(u.sent)}, u.Part
	p.Attempt = 1
	if bad != nil {
		part.Code, part.Reason = gantry.CodeOf(bad), bad.Error()
		c.Parts = append(c.Parts, part)
		p.Status, p.Reason, w.kinds[p.PartKey] = gantry.PartFailed, part.Code, gantry.KindOf(bad)
		w.setPart(p)
		return nil
	}
	if c.First == (Composed{}) {
		c.First = x.Compose(ctx, c.Processor, w.request(u, &answer{}))
	}
	c.Parts = append(c.Parts, part)
	kind := x.Answers[c.Processor]
	if kind == "" {
		kind = gantry.MediaJSON
	}
	w.addItems(gantry.Item{ID: w.nextID(), Parent: u.inputs[0], Origin: u.First, Stage: u.Stage, Processor: u.Processor, Part: u.Ordinal, Media: kind, Size: -1})
	p.Status = gantry.PartOK
	w.setPart(p)
	return nil
}

// readAll reads the media of the task's own that a part sends, each once in all, and notes how long those
// are that were not known before. bad is the verdict on the first that cannot be taken.
func (x *previewer) readAll(ctx context.Context, w *work, items []gantry.Item) (bad, err error) {
	for i, item := range items {
		if item.Stage != gantry.OriginalStage {
			continue
		}
		r, known := x.read[item.ID]
		if !known {
			r.size, r.err = x.readItem(ctx, w, item)
			x.read[item.ID] = r
		}
		switch {
		case r.err == nil:
			items[i].Size = r.size
		case gantry.KindOf(r.err) != gantry.Illegal:
			return nil, r.err
		case bad == nil:
			bad = r.err
		}
	}
	return bad, nil
}

func (x *previewer) readItem(ctx context.Context, w *work, item gantry.Item) (int64, error) {
	r, err := w.open(ctx, item)
	if err != nil {
		return 0, err
	}
	defer r.Close()
	return io.Copy(io.Discard, readerWith(ctx, r))
}

// preview describes items.
func (w *work) preview(items []gantry.Item) []PreviewItem {
	out := make([]PreviewItem, 0, len(items))
	for _, x := range items {
		p := PreviewItem{Media: x.Media, Size: x.Size, Reason: x.Reason, Refuse: x.Rejected}
		if isFrame(x) {
			p.Frame = int(x.Ordinal) + 1
		}
		if x.Stage != gantry.OriginalStage {
			st := w.plan.Stages[x.Stage]
			p.From = st.Name + "/" + st.Call[x.Processor]
			x, _ = w.item(x.Origin)
		}
		p.Path = w.path(x)
		out = append(out, p)
	}
	return out
}
