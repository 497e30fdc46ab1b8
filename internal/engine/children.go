package engine

import (
	"context"
	"slices"
	"time"

	"github.com/gantry-imaging/gantry/internal/gantry"
)

// ownItems is the first id of what a child makes itself. It is above those of all media, which the
// task at the top holds and its children share.
const ownItems gantry.ItemID = 1 << 30

// adopted is the first id under which a task reads what its shards made: above those that it gives out itself, since a
// redrive of a shard adds to what that made.
const adopted = ownItems + ownItems/2

// waits ends an effect that has nothing to do before the task's children have ended.
type waits struct {
	divide *gantry.Division // the children, if they are still to be made
	within time.Duration    // how long the state may last from now; 0: as long as before
}

// Error says what the task waits for.
func (waits) Error() string { return "nothing to do before the children have ended" }

// loadItems reads what the task holds: its own items or those that it shares with its parent, what it
// made, and what its shards made.
func (w *work) loadItems(ctx context.Context) (err error) {
	if w.task.Role == gantry.NoRole && w.task.State <= gantry.Extracting {
		return nil
	}
	if w.task.Role != gantry.NoRole {
		if w.owner, w.items, err = w.e.Store.MemberItems(ctx, w.task.Task); err != nil {
			return err
		}
		w.last = ownItems - 1
	}
	own, err := w.e.Store.Items(ctx, w.task.Task)
	if err != nil {
		return err
	}
	w.addItems(own...)
	parts, err := w.e.Store.Parts(ctx, w.task.Task, w.task.Leg)
	if err != nil {
		return err
	}
	for _, p := range parts {
		w.setPart(p)
	}
	if err := w.loadChildren(ctx); err != nil {
		return err
	}
	for _, x := range w.items {
		if x.ID < adopted {
			w.last = max(w.last, x.ID)
		}
	}
	return nil
}

// loadChildren reads the tasks that this one was divided into, if it is of a kind that may be.
func (w *work) loadChildren(ctx context.Context) error {
	grouped := w.plan.Group != gantry.GroupNone && w.task.Role == gantry.NoRole
	if !grouped && (w.task.State < gantry.Inferring || !w.sharded()) {
		return nil
	}
	list, err := w.e.Store.Children(ctx, w.task.Task)
	if err != nil {
		return err
	}
	for _, c := range list {
		if c.Role == gantry.Member {
			w.members = append(w.members, c)
		} else {
			w.shards = append(w.shards, shard{ChildTask: c})
		}
	}
	return w.gather(ctx)
}

// open tells whether a child has not ended.
func open(c gantry.ChildTask) bool { return !c.State.Final() }

// childFailure is the failure of a task whose child did not end as done; nil if all did.
func childFailure(list []gantry.ChildTask) error {
	i := slices.IndexFunc(list, func(c gantry.ChildTask) bool { return c.State != gantry.Done })
	if i < 0 {
		return nil
	}
	c := list[i]
	return ended{gantry.Errorf(c.Kind, c.Code, "%s %d is %s: %s", c.Role, c.Ordinal, c.State, c.Detail)}
}

// division makes children of lists of items, each in ascending order.
func (w *work) division(role gantry.Role, state gantry.State, lists [][]gantry.ItemID) *gantry.Division {
	d := &gantry.Division{Role: role, State: state}
	for i, ids := range lists {
		d.Children = append(d.Children, gantry.Child{PublicID: gantry.ChildID(w.legID(), role, i), Members: gantry.Spans(ids)})
	}
	return d
}
