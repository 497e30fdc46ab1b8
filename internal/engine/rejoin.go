package engine

import (
	"context"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"

	"github.com/gantry-imaging/gantry/internal/gantry"
	"github.com/gantry-imaging/gantry/internal/media"
)

// CodeCannotRejoin is the reason for outputs that do not fit into the file that they came out of.
const CodeCannotRejoin gantry.Code = "cannot_rejoin"

// rejoinTransform marks the item of a container that was made of outputs. Its stage is the number of
// stages; its part is the stage that the outputs are of.
const rejoinTransform = "rejoin"

// rejoining makes one container of the media that one processor of a stage answered: an archive, a
// multi-frame file or a video like the original, whatever lies within what.
type rejoining struct {
	*work
	rejoinKey
	root   gantry.Item                 // the original
	list   []delivered                 // the first medium about each leaf, in order
	by     map[gantry.ItemID]delivered // the same by leaf
	inside map[gantry.ItemID][]gantry.Item
	codes  map[gantry.ItemID]gantry.Code // why a leaf has none
}

// rejoinKey names a container.
type rejoinKey struct {
	of        gantry.ItemID // the original that it is like
	stage     int16
	processor int16
}

// rejoin gives the outputs for a sink that wants what was taken apart put together again: containers in
// place of the media that lie in them. Data, what is about the whole task or a batch, and all that a processor
// answered about a leaf but its first medium, stay files of their own. Of a collection, which is no
// container, each member that is one is put together by itself.
func (w *work) rejoin(ctx context.Context, outputs []delivered) ([]delivered, error) {
	inside := map[gantry.ItemID][]gantry.Item{}
	for _, x := range w.ownItems() {
		if x.Parent != gantry.NoItem {
			inside[x.Parent] = append(inside[x.Parent], x)
		}
	}
	if len(inside) == 0 {
		return outputs, nil
	}
	var out []delivered
	all := &containers{work: w, inside: inside, by: map[rejoinKey]*rejoining{}, merges: map[rejoinKey]bool{}, codes: map[rejoinKey]map[gantry.ItemID]gantry.Code{}}
	for _, x := range outputs {
		if !all.take(x) {
			out = append(out, x)
		}
	}
	for _, r := range all.list {
		d, err := r.container(ctx)
		if err != nil {
			return nil, fmt.Errorf("rejoin %s: %w", r.plan.Stages[r.stage].Name, err)
		}
		out = append(out, d)
	}
	return out, nil
}

// merged tells whether what a processor of a stage answered may be about several leaves and stand for the first:
// where a batch was answered as a whole, by it or by a stage before whose answer went on.
func (w *work) merged(stage, processor int16) bool {
	for s, p := range w.passages[:stage+1] {
		st, before := w.plan.Stages[s], int16(s) < stage
		if st.Each != gantry.EachBatch || before && st.Pass == gantry.PassInputs {
			continue
		}
		data := before && (st.Pass == gantry.PassOutputs || st.Pass == gantry.PassBoth)
		for k, answer := range p.made {
			g := p.groups[k.group]
			whole := len(g.origins) > 1 && !lined(st, g.origins, answer) && (data || len(mediaOf(answer)) > 0)
			if whole && (before || k.processor == processor) {
				return true
			}
		}
	}
	return false
}

// ownItems are the task's own media, in the order of their ids: containers and leaves.
func (w *work) ownItems() (out []gantry.Item) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, x := range w.items {
		if x.Stage == gantry.OriginalStage {
			out = append(out, x)
		}
	}
	return out
}

// reasons says why leaves have no output of a processor: that they were refused, or that a part about
// them failed, at this stage or before.
func (w *work) reasons(stage, processor int16) map[gantry.ItemID]gantry.Code {
	out := map[gantry.ItemID]gantry.Code{}
	for _, x := range w.leaves() {
		if x.Rejected {
			out[x.ID] = x.Reason
		}
	}
	for s, p := range w.passages[:stage+1] {
		for _, g := range p.groups {
			for c := range w.plan.Stages[s].Call {
				part, _ := w.live(int16(s), int16(c), g.ordinal)
				if part.Status != gantry.PartFailed || int16(s) == stage && int16(c) != processor {
					continue
				}
				for _, o := range g.origins {
					out[o] = part.Reason
				}
			}
		}
	}
	return out
}

// container gives the container as an output, made now or before a crash.
func (r *rejoining) container(ctx context.Context) (delivered, error) {
	x, ok := r.made()
	if !ok {
		f, err := r.build(ctx, r.root)
		if err != nil {
			return delivered{}, err
		}
		defer f.close()
		if x, err = r.record(ctx, f); err != nil {
			return delivered{}, err
		}
	}
	place := folder(r.plan.Stages[r.stage], r.processor)
	if r.many {
		place += fmt.Sprintf("/original-%06d", r.root.Ordinal+1)
	}
	d := delivered{Item: x, path: r.prefix() + place + "/rejoined" + suffix(x.Media), joined: r.list}
	d.Stage, d.Processor = r.stage, r.processor
	return d, nil
}

// made finds the container if it was made before, of the same outputs: after the last redrive.
func (r *rejoining) made() (gantry.Item, bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	i := slices.IndexFunc(r.items, func(x gantry.Item) bool {
		return x.Transform == rejoinTransform && x.Parent == r.root.ID && x.Leg == r.task.Leg && x.Part == int32(r.stage) && x.Processor == r.processor && x.Generation == r.generation
	})
	if i < 0 {
		return gantry.Item{}, false
	}
	return r.items[i], true
}

// record makes the container durable.
func (r *rejoining) record(ctx context.Context, f *built) (gantry.Item, error) {
	blob, err := r.e.Blobs.Stage(ctx, io.NewSectionReader(f.at, 0, f.size), f.size, f.size)
	if err != nil {
		return gantry.Item{}, err
	}
	defer blob.Discard()
	x := gantry.Item{ID: r.nextID(), Parent: r.root.ID, Origin: r.root.ID, Leg: r.task.Leg, Stage: int16(len(r.plan.Stages)), Processor: r.processor,
		Part: int32(r.stage), Generation: r.generation, Transform: rejoinTransform, Media: f.media, Size: blob.Size(), SHA: blob.SHA()}
	if x.Body = blob.Inline(); x.Body == nil {
		if x.Location, err = blob.Commit(ctx); err != nil {
			return gantry.Item{}, err
		}
	}
	if err := r.commit(ctx, &gantry.Write{Items: []gantry.Item{x}}); err != nil {
		return gantry.Item{}, err
	}
	r.addItems(x)
	return x, nil
}

// built is a container in a file without a name.
type built struct {
	media string
	at    io.ReaderAt
	size  int64
	close func() error
}

func (r *rejoining) build(ctx context.Context, of gantry.Item) (*built, error) {
	if r.e.stopping() {
		return nil, errStop
	}
	switch {
	case of.Media == gantry.MediaDICOM:
		return r.joinFrames(ctx, of)
	case isVideo(of.Media):
		return r.joinVideo(ctx, of)
	}
	return r.joinArchive(ctx, of)
}

// empty tells whether there is no output about anything in an item.
func (r *rejoining) empty(of gantry.Item) bool {
	if _, ok := r.by[of.ID]; ok {
		return false
	}
	return !slices.ContainsFunc(r.inside[of.ID], func(x gantry.Item) bool { return !r.empty(x) })
}

// joinArchive writes an archive like the original: its entries in their order, under their names. An
// entry of another kind of media gets its suffix in addition. In the place of one that failed is an
// entry with .missing added, which says why.
func (r *rejoining) joinArchive(ctx context.Context, of gantry.Item) (*built, error) {
	kind, ok := media.ArchiveKindOf(of.Media)
	if !ok {
		return nil, gantry.Errorf(gantry.Illegal, CodeCannotRejoin, "%s is no container", r.path(of))
	}
	v, err := r.volume(ctx, of.ID)
	if err != nil {
		return nil, err
	}
	defer r.shelf.release(v)
	return r.scratched(of.Media, func(f *os.File) error {
		a, err := media.NewArchiveWriter(kind, f)
		if err != nil {
			return err
		}
		taken := names{}
		for _, x := range r.inside[of.ID] {
			taken[v.archive.RawName(int(x.Ordinal))] = 1
		}
		for _, x := range r.inside[of.ID] {
			if err := r.addEntry(ctx, a, taken, v.archive.RawName(int(x.Ordinal)), x); err != nil {
				return fmt.Errorf("%s: %w", r.path(x), err)
			}
		}
		return a.Close()
	})
}

func (r *rejoining) addEntry(ctx context.Context, a *media.ArchiveWriter, taken names, name string, x gantry.Item) error {
	if name == "" { // it was refused, and names of refused entries are not passed on
		name = fmt.Sprintf("entry-%06d", x.Ordinal+1)
	}
	if r.empty(x) {
		code := r.codeOf(x)
		if code == "" {
			return nil // it was left out by a condition
		}
		return a.Add(taken.with(name, ".missing"), int64(len(code)), strings.NewReader(string(code)))
	}
	if len(r.inside[x.ID]) > 0 {
		f, err := r.build(ctx, x)
		if err != nil {
			return err
		}
		defer f.close()
		return a.Add(taken.renamed(name, x.Media, f.media), f.size, io.NewSectionReader(f.at, 0, f.size))
	}
	out := r.by[x.ID]
	body, err := r.open(ctx, out.Item)
	if err != nil {
		return err
	}
	defer body.Close()
	return a.Add(taken.renamed(name, x.Media, out.Media), out.Size, readerWith(ctx, body))
}

// codeOf says why there is nothing about an item: its own reason, or that of the first leaf inside.
func (r *rejoining) codeOf(x gantry.Item) gantry.Code {
	if c := r.codes[x.ID]; c != "" {
		return c
	}
	for _, y := range r.inside[x.ID] {
		if c := r.codeOf(y); c != "" {
			return c
		}
	}
	return ""
}

// names are those of an archive's entries, each with the last number that was added to it.
type names map[string]int

// renamed adds the suffix of a kind of media to a name, unless it is the original's.
func (n names) renamed(name, was, is string) string {
	if was == is {
		return name
	}
	return n.with(name, suffix(is))
}

// with adds to a name, and a number before that where another entry has the name already.
func (n names) with(name, more string) string {
	out := name + more
	if n[out] == 0 {
		n[out] = 1
		return out
	}
	for {
		n[out]++
		if numbered := fmt.Sprintf("%s-%d%s", name, n[out], more); n[numbered] == 0 {
			n[numbered] = 1
			return numbered
		}
	}
}

// scratched makes a container in a scratch file.
func (r *rejoining) scratched(kind string, write func(*os.File) error) (*built, error) {
	at, size, closeIt, err := r.e.scratch(func(f *os.File) (int64, error) {
		if err := write(f); err != nil {
			return 0, err
		}
		return f.Seek(0, io.SeekEnd)
	})
	if err != nil {
		return nil, err
	}
	return &built{media: kind, at: at, size: size, close: closeIt}, nil
}
