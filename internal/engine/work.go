package engine

import (
	"bytes"
	"context"
	"io"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"

	"github.com/gantry-imaging/gantry/internal/gantry"
)

// body is an open stream of bytes.
type body = io.ReadCloser

// chunk is how many rows go into one commit of extraction, ingestion or planning.
const chunk = 500

// work is what is known of one task while this process holds it. Its steps run one after another;
// within a step, parts run side by side.
type work struct {
	e     *Engine
	task  gantry.Task
	plan  *Plan
	order gantry.Order // as it was when the task was taken up
	shelf *shelf
	alone *shelf // of a task whose originals were not all copied: they are read under this task's lease, and shared with nobody

	ready bool            // it was read
	many  bool            // its originals are the members of a collection, once it was extracted
	held  <-chan struct{} // closed once the pipeline is paused
	scope atomic.Pointer[scope]

	opening sync.Mutex
	reads   *inPlace // of originals that were not copied, once they are read

	mu       sync.Mutex
	items    []gantry.Item // in the order of their ids
	parts    map[gantry.PartKey]gantry.Part
	raised   map[gantry.PartKey]int16            // the newest generation of parts, by their keys at 0, where it is another
	kinds    map[gantry.PartKey]gantry.Kind      // of parts that failed here
	clocks   clocks                              // of parts that wait for a time
	heard    int32                               // as in gantry.Transition, of this step
	found    *gantry.Found                       // that goes with the step's transition
	passages []*passage                          // of the stages that have ended, once they are asked for
	own      []gantry.ItemID                     // its sound media, once they are asked for
	tags     map[gantry.ItemID]map[string]string // that conditions speak of, by DICOM file
	last     gantry.ItemID                       // the highest id given out
	owner    gantry.TaskID                       // of a child: the task that holds the media; 0: this one
	shards   []shard                             // that it was divided into
	members  []gantry.ChildTask                  // that it was divided into

	generation int16 // of its last redrive; 0: there was none

	source func(context.Context) (string, error) // the name of its original's source
}

// load reads what earlier steps, in whatever process, left.
func (w *work) load(ctx context.Context) error {
	if w.ready {
		return nil
	}
	plan, err := w.e.Plans.Plan(ctx, w.task.Pipeline)
	if err != nil {
		return err
	}
	w.items, w.shards, w.members, w.own, w.last = nil, nil, nil, nil, gantry.NoItem
	w.parts = map[gantry.PartKey]gantry.Part{}
	w.kinds = map[gantry.PartKey]gantry.Kind{}
	w.raised, w.generation = nil, 0
	w.plan = plan
	if plan.Order != nil {
		if w.order, err = plan.Order(ctx); err != nil {
			return err
		}
	}
	if err := w.loadItems(ctx); err != nil {
		return err
	}
	roots := w.originals()
	w.many = len(roots) > 0 && roots[0].ID != 0
	if w.alone == nil && slices.ContainsFunc(roots, func(x gantry.Item) bool { return x.Transform == fromSource }) {
		w.alone = newShelf(w.e)
		w.shelf = w.alone
	}
	w.ready = true
	return nil
}

// close gives back what the task kept open.
func (w *work) close() {
	if w.alone != nil {
		w.alone.close()
	}
	if o := w.opened(); o != nil {
		o.close()
	}
}

// commit makes results of this task durable.
func (w *work) commit(ctx context.Context, x *gantry.Write) error {
	x.Lease = w.task.Lease
	return w.e.Session.Commit(ctx, x)
}

func (w *work) nextID() gantry.ItemID {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.last++
	return w.last
}

func (w *work) addItems(items ...gantry.Item) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.items = append(w.items, items...)
	if !slices.IsSortedFunc(w.items[max(0, len(w.items)-len(items)-1):], byID) {
		slices.SortFunc(w.items, byID)
	}
}

func byID(a, b gantry.Item) int { return int(a.ID) - int(b.ID) }

// item finds an item; ok is false if there is none of that id.
func (w *work) item(id gantry.ItemID) (gantry.Item, bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	i, ok := slices.BinarySearchFunc(w.items, id, func(x gantry.Item, id gantry.ItemID) int { return int(x.ID) - int(id) })
	if !ok {
		return gantry.Item{}, false
	}
	return w.items[i], true
}

func (w *work) mark(m gantry.ItemMark) {
	w.mu.Lock()
	defer w.mu.Unlock()
	i, ok := slices.BinarySearchFunc(w.items, m.ID, func(x gantry.Item, id gantry.ItemID) int { return int(x.ID) - int(id) })
	if ok {
		x := &w.items[i]
		if x.SHA.IsZero() {
			x.SHA = m.SHA
		}
		x.Size, x.Reason, x.Rejected = m.Size, m.Reason, m.Rejected
	}
}

// leaves are the pieces of the task's own media that were not split further, in order, the rejected
// ones too.
func (w *work) leaves() []gantry.Item {
	w.mu.Lock()
	defer w.mu.Unlock()
	split := map[gantry.ItemID]bool{}
	for _, x := range w.items {
		if x.Stage == gantry.OriginalStage {
			split[x.Parent] = true
		}
	}
	var out []gantry.Item
	for _, x := range w.items {
		if x.Stage == gantry.OriginalStage && !split[x.ID] {
			out = append(out, x)
		}
	}
	return out
}

// verdict applies the policy on bad entries once a state has looked at all of them: the task ends
// with the first refusal, or goes on with what is sound if there is anything.
func (w *work) verdict() error {
	var first *gantry.Item
	sound := 0
	for _, x := range w.leaves() {
		switch {
		case !x.Rejected:
			sound++
		case first == nil:
			first = &x
		}
	}
	if first == nil || sound > 0 && w.plan.OnError == gantry.OnErrorSkip {
		return nil
	}
	return gantry.Errorf(gantry.Illegal, first.Reason, "%s is refused: %s", w.path(*first), first.Reason)
}

// path names an item by indexes alone, since names may be those of people: input, input#3 for
// the fourth entry, or the fourth member of a collection, input#3#1 for an entry of an archive in it.
func (w *work) path(x gantry.Item) string {
	switch {
	case x.Parent == gantry.NoItem && w.many:
		return "input#" + strconv.Itoa(int(x.Ordinal))
	case x.Parent == gantry.NoItem:
		return "input"
	}
	parent, ok := w.item(x.Parent)
	if !ok {
		return "input#?"
	}
	return w.path(parent) + "#" + strconv.Itoa(int(x.Ordinal))
}

// key is the Idempotency-Key of a part: the same for every try of it.
func (w *work) key(k gantry.PartKey) string { return w.keyUnder(w.task.PublicID, k) }

func (w *work) keyUnder(task string, k gantry.PartKey) string {
	st := w.plan.Stages[k.Stage]
	return task + "/" + strconv.Itoa(int(k.Leg)) + "/" + st.Name + "/" + st.Call[k.Processor] + "/" +
		strconv.Itoa(int(k.Ordinal)) + "/" + strconv.Itoa(int(k.Generation))
}

func bytesToValid(s []byte) []byte { return bytes.ToValidUTF8(s, []byte("?")) }
