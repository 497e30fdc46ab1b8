package engine

import "github.com/gantry-imaging/gantry/internal/gantry"

// shelfOf gives the shelf of a task, and the function that is called when the task's work ends. Children of
// one task share a shelf while one of them runs here: what they read lies in the same media, and a video or
// a large archive is taken apart once for all of them.
func (e *Engine) shelfOf(t gantry.Task) (s *shelf, end func()) {
	if t.Role == gantry.NoRole {
		s = newShelf(e)
		return s, s.close
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	if s = e.shelves[t.Parent]; s == nil {
		s = newShelf(e)
		e.shelves[t.Parent] = s
	}
	s.children++
	return s, func() { e.leaveShelf(t.Parent, s) }
}

// leaveShelf closes a shelf behind the last child.
func (e *Engine) leaveShelf(parent gantry.TaskID, s *shelf) {
	e.mu.Lock()
	s.children--
	last := s.children == 0
	if last {
		delete(e.shelves, parent)
	}
	e.mu.Unlock()
	if last {
		s.close()
	}
}
