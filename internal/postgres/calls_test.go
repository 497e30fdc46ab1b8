package postgres_test

import (
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/gantry-imaging/gantry/internal/gantry"
	"github.com/gantry-imaging/gantry/internal/postgres"
)

// TestEachCall hands out more calls than one fetch holds, as Calls lists them, under the same filters.
func TestEachCall(t *testing.T) {
	t.Parallel()
	b := newBed(t)
	b.enqueue(2)
	tasks := b.claim(b.worker, 2)
	var writes []*gantry.Write
	for i := range 4500 {
		in := &gantry.Intent{ID: b.ids.New(), Lease: tasks[i%2].Lease, Boundary: gantry.Boundary(i % 3), Limiter: b.limiter, Pipeline: b.pipeline}
		writes = append(writes, &gantry.Write{Intent: in})
	}
	for half := range slices.Chunk(writes, 1500) {
		b.commit(b.worker, half...)
	}
	for _, f := range []postgres.Filter{{}, {Task: tasks[0].PublicID}, {Boundary: "sink"}, {Limit: 2000}, {Limit: 7}, {Pipeline: "other"}, {Since: time.Now().Add(time.Hour)}} {
		want := must(b.Calls(t.Context(), f))(t)
		var got []postgres.CallRow
		if err := b.EachCall(t.Context(), f, func(c postgres.CallRow) error { got = append(got, c); return nil }); err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want, got); diff != "" && len(want)+len(got) > 0 {
			t.Errorf("%+v: %d calls, want %d (-want +got):\n%.1000s", f, len(got), len(want), diff)
		}
		if f.Limit == 0 && f.Task == "" && f.Boundary == "" && f.Pipeline == "" && f.Since.IsZero() && len(got) != 4500 {
			t.Errorf("%d calls in all", len(got))
		}
	}
	n, stop := 0, errors.New("enough")
	err := b.EachCall(t.Context(), postgres.Filter{}, func(postgres.CallRow) error {
		if n++; n == 2100 {
			return stop
		}
		return nil
	})
	if !errors.Is(err, stop) || n != 2100 {
		t.Errorf("it went on to %d after an error: %v", n, err)
	}
}
