package s3

import (
	"context"
	"sync"
	"time"

	"github.com/gantry-imaging/gantry/internal/gantry"
)

// memory is a ledger of one watch alone. It knows what was announced, as long as listings show it.
type memory struct {
	mu    sync.Mutex
	known map[objectID]struct{} // announced
	found map[objectID]struct{} // of those, what was seen since the last whole listing
}

func newMemory() *memory {
	return &memory{known: map[objectID]struct{}{}, found: map[objectID]struct{}{}}
}

// noting makes an announce that remembers what was taken.
func (m *memory) noting(announce func(context.Context, gantry.Object) error) func(context.Context, gantry.Object) error {
	return func(ctx context.Context, o gantry.Object) error {
		err := announce(ctx, o)
		if err == nil {
			m.mu.Lock()
			defer m.mu.Unlock()
			id := idOf(o.Ref, o.Sequencer)
			m.known[id], m.found[id] = struct{}{}, struct{}{}
		}
		return err
	}
}

// Known tells what was announced.
func (m *memory) Known(_ context.Context, list []gantry.Object) ([]bool, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	out := make([]bool, len(list))
	for i, o := range list {
		id := idOf(o.Ref, o.Sequencer)
		if _, out[i] = m.known[id]; out[i] {
			m.found[id] = struct{}{}
		}
	}
	return out, nil
}

// Swept forgets what no listing showed since the last one of everything.
func (m *memory) Swept(gantry.Sweep) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.known, m.found = m.found, map[objectID]struct{}{}
}

// Progress is that of a watch that was never there before.
func (*memory) Progress(context.Context) (gantry.TakeUp, error) { return gantry.TakeUp{}, nil }

// Keep keeps nothing: the watch knows it.
func (*memory) Keep(gantry.TakeUp) {}

// Heard tells nobody.
func (*memory) Heard(string, time.Time) {}

// Failed tells nobody.
func (*memory) Failed(string, error) {}

// Worked tells nobody.
func (*memory) Worked(string) {}
