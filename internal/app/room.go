package app

import (
	"context"
	"path"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/gantry-imaging/gantry/internal/gantry"
)

const (
	roomFor   = 10_000 // tasks that wait in a lane before its backlog waits
	roomEvery = time.Second
	maxLetIn  = 64 // folders: several are taken up at once, and some lie in others
)

// room waits, before an object that was there before is taken, while many tasks of its lane wait: its bytes need not
// lie twice for days, nor what comes anew wait behind it. An object that may belong to a collection which others were let into does not
// wait: that would be closed without it.
func (l *ledger) room(ctx context.Context, o gantry.Object) error {
	folder, shared := l.feed.folder(o)
	for o.Backlog && !(shared && l.let.knows(folder)) {
		full, err := l.isFull(ctx)
		if err != nil {
			return err
		}
		if !full {
			break
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-time.After(roomEvery):
		}
	}
	if shared {
		l.let.in(folder)
	}
	return nil
}

func (l *ledger) isFull(ctx context.Context) (bool, error) {
	l.asking.Lock()
	defer l.asking.Unlock()
	if time.Since(l.fullAt) < roomEvery {
		return l.full, nil
	}
	full := false
	for _, lane := range l.feed.lanes() {
		more, err := l.app.Store.Queued(ctx, lane, roomFor)
		if err != nil {
			return false, err
		}
		full = full || more
	}
	l.full, l.fullAt = full, time.Now()
	return full, nil
}

// letIn are the folders of a source that objects were let in of lately. A listing is in the order of the keys, so what lies in one folder comes
// together, or with what lies in folders below it.
type letIn struct {
	mu    sync.Mutex
	began bool     // the backlog is being taken up by this process
	last  []string // the latest is the last
}

// knows tells whether a folder, or one that it lies in, was let in lately. The first that is asked about is: the process before may have let
// some of it in.
func (l *letIn) knows(folder string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.began {
		l.began = true
		l.add(folder)
		return true
	}
	i := l.find(folder)
	if i >= 0 {
		l.add(l.last[i]) // as long as something of it comes
	}
	return i >= 0
}

// find finds a folder, or the one that it lies in.
func (l *letIn) find(folder string) int {
	return slices.IndexFunc(l.last, func(x string) bool { return x == folder || strings.HasPrefix(folder, x+"/") })
}

// in keeps a folder in mind, or the one that it lies in.
func (l *letIn) in(folder string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if i := l.find(folder); i >= 0 {
		folder = l.last[i]
	}
	l.add(folder)
}

func (l *letIn) add(folder string) {
	if i := slices.Index(l.last, folder); i >= 0 {
		l.last = slices.Delete(l.last, i, i+1)
	} else if len(l.last) == maxLetIn {
		l.last = slices.Delete(l.last, 0, 1)
	}
	l.last = append(l.last, folder)
}

// collects are the rules by which a feed's objects may be one task together.
func (f *feed) collects() (list []*gantry.Collect) {
	if f.routes == nil && f.collect != nil {
		return []*gantry.Collect{f.collect}
	}
	for _, r := range f.routes {
		if r.collect != nil {
			list = append(list, r.collect)
		}
	}
	return list
}

// folder is where the objects lie that an object may be one task with; false if it is one of its own. Of several rules it is the one that
// takes in most.
func (f *feed) folder(o gantry.Object) (folder string, ok bool) {
	below := f.below(o.Ref)
	for _, c := range f.collects() {
		if x, is := groupFolder(below, c); is && (!ok || len(x) < len(folder)) {
			folder, ok = x, true
		}
	}
	return folder, ok
}

// levels is how many folders are likely to lie between what an attribute stands for and its files: a study has its series in folders, and
// a patient the studies.
var levels = map[gantry.GroupBy]int{gantry.GroupStudy: 1, gantry.GroupPatient: 2}

// groupFolder is the folder that a group lies in, as far as a path tells. By an attribute files are together in the top folder too, but that is
// taken for no group's as long as there are others.
func groupFolder(below string, c *gantry.Collect) (folder string, ok bool) {
	if c.By == gantry.GroupPrefix {
		folder, _, ok = folderOf(below, c.Depth)
		return folder, ok
	}
	folder = path.Dir(below)
	for range levels[c.By] {
		if up := path.Dir(folder); up != "." {
			folder = up
		}
	}
	return folder, true
}
