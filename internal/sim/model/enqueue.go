package model

import (
	"context"
	"fmt"
	"slices"

	"github.com/gantry-imaging/gantry/internal/gantry"
)

// ArrivalIDs is postgres.Store.ArrivalIDs.
func (s *Store) ArrivalIDs(_ context.Context, n int) ([]int64, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	ids := make([]int64, n)
	for i := range ids {
		s.lastID.arrival++
		ids[i] = s.lastID.arrival
	}
	return ids, nil
}

// Known is postgres.Store.Known.
func (s *Store) Known(_ context.Context, source string, ref gantry.Digest, sequencer string) (bool, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for k, a := range s.arrivals {
		if k.source == source && k.mac == ref && a.Sequencer == sequencer {
			return true, nil
		}
	}
	return false, nil
}

// Enqueue is postgres.Store.Enqueue.
func (s *Store) Enqueue(_ context.Context, list []gantry.Admission) (made int, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for i := range list {
		x := &list[i]
		a := s.arrive(x.Arrival)
		if s.public[x.PublicID] != nil {
			continue
		}
		made++
		t := s.addTask(&Task{PublicID: x.PublicID, Arrival: a, Run: x.Run, Pipeline: x.Pipeline})
		s.hot[t.ID] = &Hot{Lane: x.Lane, Priority: x.Priority, Until: s.now().Add(x.Within)}
	}
	return made, nil
}

// Collect makes arrivals and the one task of the collection of all of them, which is closed.
func (s *Store) Collect(_ context.Context, of gantry.Admission, list []gantry.Arrival) (made bool, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	var members []*gantry.Arrival
	for _, x := range list {
		if a := s.arrive(x); !slices.Contains(members, a) {
			members = append(members, a)
		}
	}
	if s.public[of.PublicID] != nil {
		return false, nil
	}
	s.lastID.collection++
	t := s.addTask(&Task{PublicID: of.PublicID, Arrival: members[0], Collection: s.lastID.collection, Collected: members, Run: of.Run, Pipeline: of.Pipeline})
	s.hot[t.ID] = &Hot{Lane: of.Lane, Priority: of.Priority, Until: s.now().Add(of.Within)}
	return true, nil
}

// arrive makes an arrival, or finds it and notes what may have changed.
func (s *Store) arrive(x gantry.Arrival) *gantry.Arrival {
	k := arrivalKey{x.Source, x.RefMAC, x.Version}
	a := s.arrivals[k]
	if a == nil {
		a = &x
		s.arrivals[k] = a
		return a
	}
	a.Sequencer = x.Sequencer
	if a.Place != "" && x.Place != "" {
		a.Place = x.Place
	}
	return a
}

func (s *Store) addTask(t *Task) *Task {
	t.ID, t.Created = gantry.TaskID(len(s.tasks)+1), s.now()
	s.tasks = append(s.tasks, t)
	s.public[t.PublicID] = t
	return t
}

func (s *Store) task(id gantry.TaskID) *Task { return s.tasks[id-1] }

// EnsurePipeline is postgres.Store.EnsurePipeline.
func (s *Store) EnsurePipeline(_ context.Context, p *gantry.Pipeline) (int32, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	i := slices.IndexFunc(s.pipelines, func(x pipeline) bool { return x.name == p.Name && x.version == p.Version })
	if i < 0 {
		i = len(s.pipelines)
		s.pipelines = append(s.pipelines, pipeline{name: p.Name, version: p.Version, resolved: p.Resolved})
	}
	s.pipelines[i].extracting = p.Timeouts.Extracting
	return int32(i + 1), nil
}

// ResolvedPipeline is postgres.Store.ResolvedPipeline.
func (s *Store) ResolvedPipeline(_ context.Context, id int32) ([]byte, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if id < 1 || int(id) > len(s.pipelines) {
		return nil, fmt.Errorf("read pipeline version %d: %w", id, errNoRows)
	}
	return s.pipelines[id-1].resolved, nil
}

// EnsureLane is postgres.Store.EnsureLane.
func (s *Store) EnsureLane(_ context.Context, pipeline, source string, limiter int32, private gantry.WorkerID) (int32, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	i := slices.IndexFunc(s.lanes, func(l lane) bool {
		return private == 0 && l.private == 0 && l.Pipeline == pipeline && l.Source == source
	})
	if i < 0 {
		i = len(s.lanes)
		s.lanes = append(s.lanes, lane{gantry.Lane{ID: int32(i + 1), Pipeline: pipeline, Source: source}, private})
	}
	s.lanes[i].Limiter = limiter
	return int32(i + 1), nil
}
