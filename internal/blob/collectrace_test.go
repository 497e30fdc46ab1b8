package blob

import (
	"bytes"
	"context"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/gantry-imaging/gantry/internal/gantry"
)

// TestCollectRace commits a few blobs again and again, refers to them and reads them, lets them go and grow old, while two collectors
// are at work. No blob is lost that something refers to. With a ledger that neither revives nor says what is leaving some are,
// which is the control.
func TestCollectRace(t *testing.T) {
	t.Parallel()
	inBoth(t, func(t *testing.T, open func(Ledger) store) {
		b := newBooks(t)
		lost, deleted := race(t, b, open(b), 30)
		t.Logf("%d deletions", deleted)
		if lost > 0 || deleted == 0 {
			t.Errorf("%d blobs were lost, %d deleted", lost, deleted)
		}
	})
}

// TestCollectRaceControl is the control of TestCollectRace. It races until something is lost, for a while.
func TestCollectRaceControl(t *testing.T) {
	t.Parallel()
	b := newBooks(t)
	o := testOptions(t.TempDir())
	o.Ledger = deaf{b}
	s := openTest(t, o)
	var lost, deleted int64
	for range 20 {
		n, m := race(t, b, s, 30)
		if lost, deleted = lost+n, deleted+m; lost > 0 {
			break
		}
	}
	if lost == 0 || deleted == 0 {
		t.Errorf("without the guard %d blobs were lost, %d deleted: the race shows nothing", lost, deleted)
	}
}

// deaf is a ledger that writes a row once.
type deaf struct{ *books }

// KeepBlob leaves a row that is there as it is.
func (d deaf) KeepBlob(ctx context.Context, x gantry.KeptBlob) (bool, error) {
	_, err := d.pool.Exec(ctx, `insert into blob (location, size) values ($1, $2) on conflict do nothing`, x.Location, x.Size)
	return false, err
}

// keepUnknown commits bytes whose number nobody said before.
func keepUnknown(t *testing.T, s gantry.Blobs, b []byte) string {
	staged, err := s.Stage(t.Context(), bytes.NewReader(b), -1, always)
	if err != nil {
		t.Error(err)
		return ""
	}
	where, err := staged.Commit(t.Context())
	if err != nil {
		t.Error(err)
	}
	return where
}

func race(t *testing.T, b *books, s store, rounds int) (lost, deleted int64) {
	var wg, collectors sync.WaitGroup
	var gone atomic.Int64
	done := make(chan struct{})
	removed := workers(2, func() int64 {
		n := 0
		for {
			got, err := Collect(t.Context(), b, s, Collection{Now: time.Now})
			if err != nil {
				t.Error(err)
				return int64(n)
			}
			n += got.Deleted
			select {
			case <-done:
				return int64(n)
			default:
			}
		}
	}, &collectors)
	for k := range 4 {
		wg.Go(func() {
			r := rand.New(rand.NewPCG(uint64(k), 1))
			want := body(unknownMost+1+k, uint64(k)) // of unknown size: a file of its own
			for range rounds {
				where := keepUnknown(t, s, want)
				b.refer(where)
				time.Sleep(time.Duration(r.IntN(5)) * time.Millisecond)
				if x, err := s.Open(t.Context(), where); gantry.CodeOf(err) == CodeMissing {
					gone.Add(1)
				} else if err != nil {
					t.Error(err)
				} else {
					x.Close()
				}
				b.exec(`delete from arrival where location = $1`, where)
				for range 2 {
					b.old(where)
					time.Sleep(time.Duration(r.IntN(30)) * time.Millisecond)
				}
			}
		})
	}
	wg.Wait()
	close(done)
	collectors.Wait()
	for _, n := range removed {
		deleted += n
	}
	return gone.Load(), deleted
}

// workers runs n workers and gives where their results will be.
func workers(n int, work func() int64, wg *sync.WaitGroup) []int64 {
	out := make([]int64, n)
	for i := range n {
		wg.Go(func() { out[i] = work() })
	}
	return out
}
