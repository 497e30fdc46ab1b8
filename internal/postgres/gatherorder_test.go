package postgres_test

import (
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/gantry-imaging/gantry/internal/gantry"
)

// TestGatherAndAdmitLockInOneOrder has two processes write the same arrivals, one into a collection and one for tasks of their own.
func TestGatherAndAdmitLockInOneOrder(t *testing.T) {
	t.Parallel()
	w := newWard(t, gantry.Collect{Quiet: time.Hour})
	const n = 256
	var list []gantry.Gathering
	for i := range n {
		list = append(list, w.file(fmt.Sprintf("f/%d", i)))
	}
	must(w.Gather(t.Context(), list))(t)
	adm := func() (out []gantry.Admission) {
		for _, x := range list {
			out = append(out, gantry.Admission{Arrival: x.Arrival, PublicID: gantry.PublicID([]byte("k"), "other", x.Arrival.RefMAC.String()),
				Pipeline: w.pipeline, Lane: w.lane, Priority: 5, Within: time.Hour})
		}
		return out
	}
	if _, err := w.Admit(t.Context(), adm()); err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	end := time.Now().Add(4 * time.Second)
	var mu sync.Mutex
	failed := map[string]int{}
	loop := func(what string, f func() error) {
		wg.Go(func() {
			for time.Now().Before(end) {
				if err := f(); err != nil {
					mu.Lock()
					failed[what+": "+err.Error()]++
					mu.Unlock()
				}
			}
		})
	}
	loop("gather", func() error {
		again := slices.Clone(list) // as another process has them, in the order in which it saw them
		slices.Reverse(again)
		_, err := w.Gather(t.Context(), again)
		return err
	})
	loop("admit", func() error { _, err := w.Admit(t.Context(), adm()); return err })
	wg.Wait()
	for text, n := range failed {
		t.Errorf("%d times %s", n, text)
	}
}
