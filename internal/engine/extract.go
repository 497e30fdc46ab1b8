package engine

import (
	"context"
	"errors"
	"io"
	"path"
	"slices"
	"strconv"
	"strings"

	"github.com/gantry-imaging/gantry/internal/dicom"
	"github.com/gantry-imaging/gantry/internal/gantry"
	"github.com/gantry-imaging/gantry/internal/media"
)

// extract finds out what the originals are and lists what is in them. It indexes and does not copy. The
// same originals always gives the same items with the same ids, so that a second run after a crash
// only fills in what is missing.
func (w *work) extract(ctx context.Context) (gantry.Event, error) {
	if w.task.Role != gantry.NoRole {
		return gantry.Finish, nil // its media are its parent's
	}
	w.items, w.last = nil, gantry.NoItem
	list, err := w.arrivals(ctx)
	if err != nil {
		return "", err
	}
	w.many = list[0].Collection != 0
	w.inPlace().know(list)
	x := &extraction{work: w, budget: media.NewBudget(w.limits())}
	if err := x.takeAll(ctx, list); err != nil {
		if gantry.KindOf(err) == gantry.Illegal {
			err = errors.Join(err, x.flush(ctx))
		}
		return "", err
	}
	verdict := w.verdict()
	if verdict != nil || len(x.marks) > 0 {
		if err := x.flush(ctx); err != nil {
			return "", err
		}
		return gantry.Finish, verdict
	}
	w.found = &gantry.Found{Items: x.pending} // the last few need no commit of their own
	return gantry.Finish, w.certain()
}

// arrivals are what the task was made from.
func (w *work) arrivals(ctx context.Context) ([]gantry.Arrival, error) {
	if w.e.Arrived != nil {
		if a, ok := w.e.Arrived(w.task.PublicID); ok {
			return []gantry.Arrival{a}, nil
		}
	}
	return w.e.Store.Originals(ctx, w.task.Task)
}

// takeAll extracts the originals.
func (x *extraction) takeAll(ctx context.Context, list []gantry.Arrival) error {
	if x.many {
		return x.membersOf(ctx, list)
	}
	root := x.roots(list)[0]
	root.ID = x.nextID()
	if err := x.identify(ctx, &root); err != nil {
		return err
	}
	return x.take(ctx, root, 0)
}

// identify sets an item's media type by its first bytes, or why it cannot be taken.
func (w *work) identify(ctx context.Context, x *gantry.Item) error {
	switch {
	case x.Rejected:
		return nil
	case x.Size == 0:
		x.Reason, x.Rejected = gantry.CodeEmpty, true
		return nil
	}
	head, err := w.head(ctx, *x)
	if err != nil {
		if gantry.KindOf(err) != gantry.Illegal {
			return err
		}
		x.Reason, x.Rejected = gantry.CodeOf(err), true
		return nil
	}
	x.Media = media.Detect(head)
	switch {
	case x.Media == "" && x.Parent == gantry.NoItem:
		// An archive may lie behind other bytes, as in a self-extracting one.
		x.Media, err = w.detectWhole(ctx, *x)
		if err != nil {
			return err
		}
		if !w.takes(x.Media) {
			x.Media = ""
		}
	case !w.takes(x.Media):
		x.Media = ""
	}
	switch {
	case x.Media == "":
		x.Reason, x.Rejected = unknownKind(x.Name), true
	case x.Reason == "" && media.ExtensionMismatch(x.Name, x.Media):
		x.Reason = media.CodeExtensionMismatch
	}
	return nil
}

// takes tells whether a kind of media goes on: as it is, or as an archive that is to be unpacked.
func (w *work) takes(kind string) bool {
	as := ""
	switch kind {
	case gantry.MediaDICOM, gantry.MediaPNG, gantry.MediaJPEG:
		return true
	case gantry.MediaMP4, gantry.MediaMKV, gantry.MediaAVI:
		return w.plan.Extract.Video != gantry.RenderNone
	case gantry.MediaZIP:
		as = "zip"
	case gantry.MediaTAR:
		as = "tar"
	case gantry.MediaGZIP:
		as = "tar.gz"
	case gantry.MediaZSTD:
		as = "tar.zst"
	}
	return as != "" && slices.Contains(w.plan.Extract.Archives, as)
}

func (w *work) head(ctx context.Context, x gantry.Item) ([]byte, error) {
	r, err := w.open(ctx, x)
	if err != nil {
		return nil, err
	}
	defer r.Close()
	head := make([]byte, media.HeadSize)
	n, err := io.ReadFull(r, head)
	if errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, io.EOF) {
		err = nil
	}
	return head[:n], err
}

func (w *work) detectWhole(ctx context.Context, x gantry.Item) (string, error) {
	at, size, closeIt, err := w.bytesOf(ctx, x)
	if err != nil {
		return "", err
	}
	defer closeIt()
	return media.DetectAt(at, size)
}

// extraction takes one task's media apart, with one budget for all nesting.
type extraction struct {
	*work
	budget  *media.Budget
	pending []gantry.Item
	marks   []gantry.ItemMark // on items that were committed before
}

// take adds an item that was identified, and what is inside it. Frames are found before the file
// that they are in is added, so that what is known of it then goes with it.
func (x *extraction) take(ctx context.Context, item gantry.Item, depth int) error {
	var frames []gantry.Item
	var err error
	switch {
	case item.Rejected:
	case item.Media == gantry.MediaDICOM && x.plan.Extract.Frames != gantry.RenderNone:
		frames, err = x.frames(ctx, &item)
	case isVideo(item.Media):
		frames, err = x.video(ctx, &item)
	case entryOf(item.Media) != "":
		if err = x.add(ctx, item); err == nil {
			err = x.archive(ctx, item, depth+1)
		}
		return x.bad(item, err)
	}
	if err != nil && !bad(err) {
		return err
	}
	if err != nil {
		item.Reason, item.Rejected = gantry.CodeOf(err), true
	}
	for _, each := range append([]gantry.Item{item}, frames...) {
		if err := x.add(ctx, each); err != nil {
			return err
		}
	}
	return x.bad(item, err)
}

// bad tells an error that condemns one item from one of the whole task: an item that breaks a rule
// of its own is a bad entry, one that breaks the task's budget ends the task.
func bad(err error) bool {
	if gantry.KindOf(err) != gantry.Illegal {
		return false
	}
	c := gantry.CodeOf(err)
	return c != media.CodeArchiveBomb && c != media.CodeTooManyEntries && c != media.CodeTooDeep
}

// bad marks an item that was added as not to be taken, if err condemns it. The error of an original that is
// all there is goes on.
func (x *extraction) bad(item gantry.Item, err error) error {
	if !bad(err) || item.Parent == gantry.NoItem && !x.many {
		return err
	}
	m := gantry.ItemMark{ID: item.ID, SHA: item.SHA, Size: item.Size, Reason: gantry.CodeOf(err), Rejected: true}
	x.mark(m)
	i := slices.IndexFunc(x.pending, func(y gantry.Item) bool { return y.ID == item.ID })
	if i < 0 {
		x.marks = append(x.marks, m)
		return nil
	}
	x.pending[i].Reason, x.pending[i].Rejected = m.Reason, true
	return nil
}

// archive lists an archive's entries, and those of archives among them right after each.
func (x *extraction) archive(ctx context.Context, of gantry.Item, depth int) error {
	v, err := x.openVolume(ctx, of, depth, x.budget)
	if err != nil {
		return err
	}
	v = x.shelf.put(of.ID, v)
	defer x.shelf.release(v)
	for _, e := range v.archive.Entries() {
		if x.e.stopping() {
			return errStop
		}
		if err := ctx.Err(); err != nil {
			return context.Cause(ctx)
		}
		if err := x.entry(ctx, of, e, depth); err != nil {
			return err
		}
	}
	return nil
}

func (x *extraction) entry(ctx context.Context, of gantry.Item, e media.Entry, depth int) error {
	item := gantry.Item{ID: x.nextID(), Parent: of.ID, Ordinal: int32(e.Ordinal), Stage: gantry.OriginalStage, Leg: x.task.Leg,
		Name: e.Name, Transform: entryOf(of.Media), Locator: strconv.Itoa(e.Ordinal), Size: e.Size, Reason: e.Reason, Rejected: e.Rejected}
	item.Origin = item.ID
	if err := x.identify(ctx, &item); err != nil {
		return err
	}
	return x.take(ctx, item, depth)
}

func (x *extraction) add(ctx context.Context, item gantry.Item) error {
	x.addItems(item)
	x.pending = append(x.pending, item)
	if len(x.pending) >= chunk {
		return x.flush(ctx)
	}
	return nil
}

func (x *extraction) flush(ctx context.Context) error {
	if len(x.pending) == 0 && len(x.marks) == 0 {
		return nil
	}
	if err := x.certain(); err != nil {
		return err
	}
	err := x.commit(ctx, &gantry.Write{Items: x.pending, Marks: x.marks, Cursor: int64(x.last) + 1})
	x.pending, x.marks = nil, nil
	return err
}

// unknownKind is the reason for bytes of no kind that is taken: a file that calls itself DICOM is
// told that it is none.
func unknownKind(name string) gantry.Code {
	switch strings.ToLower(path.Ext(name)) {
	case ".dcm", ".dicom", ".ima":
		return dicom.CodeNotDICOM
	}
	return gantry.CodeUnsupportedFormat
}
