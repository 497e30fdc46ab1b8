package model

import (
	"cmp"
	"context"
	"fmt"
	"slices"

	"github.com/gantry-imaging/gantry/internal/gantry"
)

// known finds a task; mu is held.
func (s *Store) known(id gantry.TaskID) (*Task, error) {
	if id < 1 || int(id) > len(s.tasks) {
		return nil, errNoRows
	}
	return s.tasks[id-1], nil
}

// Originals is postgres.Store.Originals.
func (s *Store) Originals(_ context.Context, task gantry.TaskID) (out []gantry.Arrival, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	t, err := s.known(task)
	if err != nil {
		return nil, fmt.Errorf("read arrivals of task %d: %w", task, err)
	}
	list := t.Collected
	if t.Collection == 0 {
		list = []*gantry.Arrival{t.Arrival}
	}
	for _, x := range list {
		out = append(out, gantry.Arrival{ID: x.ID, Source: x.Source, RefMAC: x.RefMAC, Version: x.Version, Name: x.Name, Size: x.Size, SHA: x.SHA,
			Location: x.Location, Place: x.Place, Collection: t.Collection})
	}
	slices.SortFunc(out, func(a, b gantry.Arrival) int {
		return cmp.Or(cmp.Compare(a.Name, b.Name), slices.Compare(a.RefMAC[:], b.RefMAC[:]), cmp.Compare(a.ID, b.ID))
	})
	return out, nil
}

// Items is postgres.Store.Items.
func (s *Store) Items(_ context.Context, task gantry.TaskID) ([]gantry.Item, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	t, err := s.known(task)
	if err != nil {
		return nil, nil
	}
	return s.itemsWhere(task, t.Leg, func(gantry.ItemID) bool { return true }), nil
}

func (s *Store) itemsWhere(task gantry.TaskID, leg int16, which func(gantry.ItemID) bool) (out []gantry.Item) {
	for k, x := range s.items[task] {
		if k.leg == leg && which(k.id) {
			out = append(out, *x)
		}
	}
	slices.SortFunc(out, func(a, b gantry.Item) int { return cmp.Compare(a.ID, b.ID) })
	return out
}

// Parts is postgres.Store.Parts.
func (s *Store) Parts(_ context.Context, task gantry.TaskID, leg int16) (out []gantry.Part, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, p := range s.parts[task] {
		if p.Leg != leg {
			continue
		}
		x := p.Part
		x.DueIn = -1
		if !p.due.IsZero() {
			x.DueIn = max(0, p.due.Sub(s.now()).Microseconds())
		}
		x.Out.Limiter = p.outLimiter
		if p.outLimiter != 0 {
			x.Out.For, x.Out.Left = p.outUntil.Sub(s.now()).Microseconds(), p.outLast.Sub(s.now()).Microseconds()
		}
		out = append(out, x)
	}
	slices.SortFunc(out, func(a, b gantry.Part) int {
		return cmp.Or(cmp.Compare(a.Stage, b.Stage), cmp.Compare(a.Processor, b.Processor), cmp.Compare(a.Ordinal, b.Ordinal), cmp.Compare(a.Generation, b.Generation))
	})
	return out, nil
}

// Children is postgres.Store.Children.
func (s *Store) Children(_ context.Context, parent gantry.TaskID) (out []gantry.ChildTask, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, t := range s.tasks {
		if t.Parent != parent || t.Leg != s.task(parent).Leg {
			continue
		}
		c := gantry.ChildTask{ID: t.ID, PublicID: t.PublicID, Role: t.Role, Ordinal: t.Ordinal, State: t.Final, Members: t.Count, Delivery: t.Delivery}
		if h := s.hot[t.ID]; h != nil {
			c.State = h.State
		}
		if t.Ended && t.Final != gantry.Done {
			c.Kind, c.Code, c.Detail = t.Kind, t.Code, t.Detail
		}
		out = append(out, c)
	}
	slices.SortFunc(out, func(a, b gantry.ChildTask) int {
		return cmp.Or(cmp.Compare(a.Role, b.Role), cmp.Compare(a.Ordinal, b.Ordinal))
	})
	return out, nil
}

// MemberItems is postgres.Store.MemberItems.
func (s *Store) MemberItems(_ context.Context, child gantry.TaskID) (owner gantry.TaskID, items []gantry.Item, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	t, err := s.known(child)
	if err != nil || t.Parent == 0 {
		return 0, nil, fmt.Errorf("read members of task %d: %w", child, errNoRows)
	}
	owner = cmp.Or(s.task(t.Parent).Parent, t.Parent)
	in := map[gantry.ItemID]bool{}
	for _, m := range t.Members {
		for id := m.First; id < m.End; id++ {
			for x := s.items[owner][itemKey{t.Leg, id}]; x != nil && !in[x.ID]; x = s.items[owner][itemKey{t.Leg, x.Parent}] {
				in[x.ID] = true
			}
		}
	}
	return owner, s.itemsWhere(owner, t.Leg, func(id gantry.ItemID) bool { return in[id] }), nil
}
