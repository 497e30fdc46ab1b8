package engine

import (
	"cmp"
	"context"
	"crypto/sha256"
	"fmt"
	"io"
	"slices"

	"github.com/gantry-imaging/gantry/internal/gantry"
)

// delivered is one output with its place at the sink.
type delivered struct {
	gantry.Item
	path   string
	key    string
	joined []delivered // of a container: what lies in it, in order
}

// respond delivers the outputs to every sink, the manifest last: a reader that finds a manifest
// finds everything that it names.
func (w *work) respond(ctx context.Context) (gantry.Event, error) {
	if w.task.Role == gantry.Shard {
		return gantry.Finish, nil // its parent delivers
	}
	if len(w.members) > 0 {
		return w.respondMembers(ctx)
	}
	outputs, err := w.outputs(ctx)
	if err != nil {
		return "", err
	}
	if err := w.digests(ctx); err != nil {
		return "", err
	}
	c, err := w.confirmingOf(ctx)
	if err != nil {
		return "", err
	}
	apart := outputs
	for i, s := range w.plan.Sinks {
		outputs := apart
		if s.Rejoin {
			if outputs, err = w.rejoin(ctx, apart); err != nil {
				return "", err
			}
		}
		manifest, err := w.manifest(outputs)
		if err != nil {
			return "", err
		}
		outputs = s.picked(outputs)
		c.gave(i, outputs)
		if c.begun() {
			continue
		}
		had, err := w.takenBy(ctx, int16(i), c.asked)
		if err != nil {
			return "", err
		}
		if err := w.deliverAll(ctx, int16(i), outputs, had); err != nil {
			return "", err
		}
		if err := w.seal(ctx, int16(i), len(outputs), manifest); err != nil {
			return "", err
		}
	}
	if err := c.settle(ctx); err != nil {
		return "", err
	}
	return gantry.Finish, nil
}

// prefix is the task's own place at a sink. Each leg has another, and so has a delivery after a manifest.
func (w *work) prefix() string {
	p := w.task.PublicID + "/"
	if w.task.Leg > 0 {
		p += fmt.Sprintf("leg%d/", w.task.Leg)
	}
	if w.task.Delivery > 0 {
		p += fmt.Sprintf("r%d/", w.task.Delivery)
	}
	return p
}

// outputs lists what is delivered, in the order of stages, origins and answers: all data, and the
// media that no later stage replaced. Their paths are made of names of the pipeline and indexes alone.
func (w *work) outputs(ctx context.Context) ([]delivered, error) {
	place := map[gantry.ItemID]int{}
	for i, x := range w.leaves() {
		place[x.ID] = i + 1
	}
	origins := w.leafIDs()
	if place[0] == 0 {
		origins = append(origins, 0) // what is about the whole archive, and what was made of that
	}
	final, err := w.final(ctx)
	if err != nil {
		return nil, err
	}
	var out []delivered
	for s, st := range w.plan.Stages {
		made := w.passages[s].madeOf()
		for _, o := range origins {
			nth := map[int16]int{} // of each processor's for this origin
			for _, x := range made[o] {
				nth[x.Processor]++
				if x.Media != gantry.MediaJSON && !final[x.ID] {
					continue
				}
				name := fmt.Sprintf("%06d", place[o])
				if st.Each == gantry.EachTask || place[o] == 0 {
					name = "task"
				}
				if n := nth[x.Processor]; n > 1 {
					name += fmt.Sprintf("-%d", n)
				}
				out = append(out, delivered{Item: x, path: w.prefix() + folder(st, x.Processor) + "/" + name + suffix(x.Media),
					key: w.keyOf(x)})
			}
		}
	}
	return out, nil
}

// folder is where a stage's outputs lie, by processor if there may be several.
func folder(st gantry.Stage, processor int16) string {
	if st.Mode == gantry.Fanout {
		return st.Name + "/" + st.Call[processor]
	}
	return st.Name
}

// final gives the media that were left in the end, and those that their stage kept back.
func (w *work) final(ctx context.Context) (map[gantry.ItemID]bool, error) {
	final := map[gantry.ItemID]bool{}
	last, err := w.passed(ctx, int16(len(w.plan.Stages)-1))
	if err != nil {
		return nil, err
	}
	for _, items := range last.left.of {
		for _, id := range items {
			final[id] = true
		}
	}
	for _, p := range w.passages {
		for _, id := range p.ends {
			final[id] = true
		}
	}
	return final, nil
}

// madeOf gives a stage's outputs by origin, in the order of processors, parts and answers.
func (p *passage) madeOf() map[gantry.ItemID][]gantry.Item {
	out := map[gantry.ItemID][]gantry.Item{}
	for _, items := range p.made {
		for _, x := range items {
			out[x.Origin] = append(out[x.Origin], x)
		}
	}
	for _, items := range out {
		slices.SortFunc(items, func(a, b gantry.Item) int {
			return cmp.Or(cmp.Compare(a.Processor, b.Processor), cmp.Compare(a.Part, b.Part), cmp.Compare(a.Ordinal, b.Ordinal))
		})
	}
	return out
}

func (w *work) leafIDs() (ids []gantry.ItemID) {
	for _, x := range w.leaves() {
		ids = append(ids, x.ID)
	}
	return ids
}

func suffix(kind string) string {
	switch kind {
	case gantry.MediaDICOM:
		return ".dcm"
	case gantry.MediaPNG:
		return ".png"
	case gantry.MediaJSON:
		return ".json"
	case gantry.MediaJPEG:
		return ".jpg"
	case gantry.MediaNPY:
		return ".npy"
	case gantry.MediaZIP:
		return ".zip"
	case gantry.MediaTAR:
		return ".tar"
	case gantry.MediaGZIP:
		return ".tar.gz"
	case gantry.MediaZSTD:
		return ".tar.zst"
	case gantry.MediaMP4:
		return ".mp4"
	case gantry.MediaMKV:
		return ".mkv"
	}
	return ".bin"
}

// digests fills in the SHA-256 of the task's own media that were never read whole, for the
// manifest: those that no processor was sent. One that turns out broken has none and ends the task, unless a
// stage could do without it or bad entries are left out; it is no item of the manifest, but an error. One that was refused needs
// its digest as an input.
func (w *work) digests(ctx context.Context) error {
	var marks []gantry.ItemMark
	failed := w.failedOrigins()
	for _, x := range w.leaves() {
		if !x.SHA.IsZero() || x.Rejected && (x.Parent != gantry.NoItem || x.Transform == fromSource) {
			continue
		}
		if w.halting() {
			return errStop
		}
		sha, size, err := w.digest(ctx, x)
		m := gantry.ItemMark{ID: x.ID, SHA: sha, Size: size, Reason: x.Reason, Rejected: x.Rejected}
		switch {
		case err == nil:
		case broken(err) && x.Rejected:
			continue
		case broken(err) && (failed[x.ID] || w.plan.OnError == gantry.OnErrorSkip):
			m = gantry.ItemMark{ID: x.ID, Size: x.Size, Reason: gantry.CodeOf(err)}
		default:
			return err
		}
		marks = append(marks, m)
		if len(marks) == chunk {
			if err := w.keepMarks(ctx, marks); err != nil {
				return err
			}
			marks = nil
		}
	}
	if len(marks) == 0 {
		return nil
	}
	return w.keepMarks(ctx, marks)
}

// broken tells an error that is one of an item's bytes.
func broken(err error) bool {
	k := gantry.KindOf(err)
	return k == gantry.Illegal || k == gantry.Permanent
}

// failedOrigins are the origins about which a part failed, in stages that could do without.
func (w *work) failedOrigins() map[gantry.ItemID]bool {
	out := map[gantry.ItemID]bool{}
	for s, p := range w.passages {
		for _, g := range p.groups {
			if _, failed, _ := w.status(int16(s), g.ordinal); failed == 0 {
				continue
			}
			for _, o := range g.origins {
				out[o] = true
			}
		}
	}
	return out
}

func (w *work) keepMarks(ctx context.Context, marks []gantry.ItemMark) error {
	if err := w.certain(); err != nil {
		return err
	}
	if err := w.commit(ctx, &gantry.Write{Marks: marks, Of: w.owner}); err != nil {
		return err
	}
	for _, m := range marks {
		w.mark(m)
	}
	return nil
}

func (w *work) digest(ctx context.Context, x gantry.Item) (gantry.Digest, int64, error) {
	r, err := w.open(ctx, x)
	if err != nil {
		return gantry.Digest{}, 0, err
	}
	defer r.Close()
	h := sha256.New()
	n, err := io.Copy(h, readerWith(ctx, r))
	return gantry.Digest(h.Sum(nil)), n, err
}
