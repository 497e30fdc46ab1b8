package postgres_test

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// TestOwned gives a worker's tasks as the claim gave them, and a worker that resigns without knowing of one to
// the reaper.
func TestOwned(t *testing.T) {
	t.Parallel()
	b := newBed(t)
	b.enqueue(3)
	quitter := b.register(time.Hour)
	want := b.claim(quitter, 2)
	b.claim(b.worker, 1)
	got := must(b.Held(t.Context(), quitter))(t)
	for i := range got {
		if d := want[i].Remaining - got[i].Remaining; d < 0 || d > time.Minute {
			t.Errorf("%s remain of %s", got[i].Remaining, want[i].Remaining)
		}
		got[i].Remaining = want[i].Remaining
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("owned (-want +got):\n%s", diff)
	}
	if err := b.Resign(t.Context(), quitter); err != nil {
		t.Fatal(err)
	}
	if ok := must(b.Heartbeat(t.Context(), quitter, time.Hour))(t); ok {
		t.Error("who resigned lives on")
	}
	if lanes := must(b.Reap(t.Context()))(t); len(lanes) != 1 {
		t.Errorf("reaped in lanes %v", lanes)
	}
	if again := b.claim(b.worker, 9); len(again) != 2 || again[0].Seq != want[0].Seq+2 {
		t.Errorf("claimed again %+v", again)
	}
	if err := b.Resign(t.Context(), b.register(time.Hour)); err != nil || b.count(`select count(*) from worker`) != 1 {
		t.Errorf("%d workers are left: %v", b.count(`select count(*) from worker`), err)
	}
}
