package postgres_test

import (
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/gantry-imaging/gantry/internal/gantry"
)

// kept is a file whose bytes are kept, to be taken once or not.
func (w *ward) kept(path string, once bool) gantry.Gathering {
	x := w.file(path)
	x.Arrival.Location, x.Arrival.SHA, x.Arrival.Once = "seg/1/0", gantry.Digest{1}, once
	return x
}

// alone is the same as a task of its own.
func (w *ward) alone(path string, once bool) gantry.Admission {
	x := w.kept(path, once)
	return gantry.Admission{Arrival: x.Arrival, PublicID: gantry.PublicID([]byte("k"), path), Pipeline: w.pipeline, Lane: w.lane, Priority: 5, Within: time.Hour}
}

// TestTakenOnce refuses other bytes of what is kept, however they come, and leaves nothing of what came with them.
func TestTakenOnce(t *testing.T) {
	t.Parallel()
	w := newWard(t, gantry.Collect{Quiet: time.Hour})
	for _, path := range []string{"a/1@1", "a/1@1"} {
		if _, err := w.Gather(t.Context(), []gantry.Gathering{w.kept(path, true)}); err != nil {
			t.Errorf("%s: %v", path, err)
		}
		if _, err := w.Admit(t.Context(), []gantry.Admission{w.alone(path, true)}); err != nil {
			t.Errorf("%s, alone: %v", path, err)
		}
	}
	_, gathered := w.Gather(t.Context(), []gantry.Gathering{w.kept("a/2@1", true), w.kept("a/1@2", true)})
	_, admitted := w.Admit(t.Context(), []gantry.Admission{w.alone("a/2@1", true), w.alone("a/1@2", true)})
	_, both := w.Admit(t.Context(), []gantry.Admission{w.alone("a/3@1", true), w.alone("a/3@2", true)})
	for what, err := range map[string]error{"gathered": gathered, "admitted": admitted, "both at once": both} {
		if gantry.KindOf(err) != gantry.Illegal || gantry.CodeOf(err) != gantry.CodeDuplicate {
			t.Errorf("%s: %v", what, err)
		}
	}
	if n := w.count(`select count(*) from arrival`); n != 1 {
		t.Errorf("%d arrivals", n)
	}
	if _, err := w.Gather(t.Context(), []gantry.Gathering{w.kept("a/1@2", false)}); err != nil {
		t.Errorf("what may come anew: %v", err)
	}
	if _, err := w.Admit(t.Context(), []gantry.Admission{w.alone("a/1@2", true)}); err != nil {
		t.Errorf("one of two that are kept: %v", err)
	}
	w.exec(`update arrival set location = '', status = 3`) // as of what no rule took
	if _, err := w.Admit(t.Context(), []gantry.Admission{w.alone("a/1@3", true)}); err != nil {
		t.Errorf("where none is kept: %v", err)
	}
}

// TestTakenOnceByOne: several processes take different bytes of the same objects at the same time, in batches in different orders, in
// collections and alone. Of each object the first is kept and no other, and each process is told so. Without the rule, others are.
func TestTakenOnceByOne(t *testing.T) {
	t.Parallel()
	for _, once := range []bool{true, false} {
		t.Run(fmt.Sprint(once), func(t *testing.T) {
			t.Parallel()
			w := newWard(t, gantry.Collect{Quiet: time.Hour})
			const processes, objects = 6, 30
			var taken, refused atomic.Int64
			var g sync.WaitGroup
			take := func(p int, objects []int) error {
				if p%2 == 0 {
					var list []gantry.Gathering
					for _, o := range objects {
						list = append(list, w.kept(fmt.Sprintf("f/%d@%d", o, p), once))
					}
					_, err := w.Gather(t.Context(), list)
					return err
				}
				var list []gantry.Admission
				for _, o := range objects {
					list = append(list, w.alone(fmt.Sprintf("f/%d@%d", o, p), once))
				}
				_, err := w.Admit(t.Context(), list)
				return err
			}
			for p := range processes {
				g.Go(func() {
					order := rand.Perm(objects)
					for len(order) > 0 {
						n := min(len(order), 1+rand.IntN(4))
						batch := order[:n]
						order = order[n:]
						if take(p, batch) == nil {
							taken.Add(int64(n))
							continue
						}
						for _, o := range batch { // as those who write batches do
							switch err := take(p, []int{o}); {
							case err == nil:
								taken.Add(1)
							case gantry.CodeOf(err) == gantry.CodeDuplicate:
								refused.Add(1)
							default:
								t.Error(err)
							}
						}
					}
				})
			}
			g.Wait()
			kept := w.count(`select count(*) from arrival`)
			several := w.count(`select count(*) from (select from arrival group by ref_mac having count(*) > 1) x`)
			if once && (kept != objects || taken.Load() != objects || refused.Load() != objects*(processes-1)) {
				t.Errorf("%d kept of %d, %d told so, %d refused", kept, objects, taken.Load(), refused.Load())
			}
			if !once && several == 0 {
				t.Error("without the rule none is kept twice: this proves nothing")
			}
		})
	}
}
