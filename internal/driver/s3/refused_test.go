package s3

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/gantry-imaging/gantry/internal/gantry"
)

// TestOldObjectsThatNobodyMayRead takes up what is behind more objects than are remembered that these credentials may not read.
func TestOldObjectsThatNobodyMayRead(t *testing.T) {
	t.Parallel()
	_, s := hall(t, 14000)
	s.page, s.poll = 1000, 50*time.Millisecond
	b := newBook()
	denied := func(_ context.Context, o gantry.Object) error {
		if o.Ref < "k10500" {
			return gantry.Errorf(gantry.Denied, CodeAccessDenied, "open object: the server answers with status 403")
		}
		return nil
	}
	during(t, s, b, denied, func() { until(t, "what can be read", func() bool { return b.taken() == 3500 }) })
}

// TestRoomForWhatMayBeTaken forgets one that stays as it is for one that may be taken soon, and puts the next take-up off, which
// finds what was forgotten.
func TestRoomForWhatMayBeTaken(t *testing.T) {
	t.Parallel()
	_, s := hall(t, 1)
	w := newWatcher(s, newBook(), nil)
	denied, busy := gantry.Errorf(gantry.Denied, CodeAccessDenied, "open"), gantry.Errorf(gantry.Unavailable, CodeSlowDown, "open")
	for i := range maxLater {
		w.postpone(sight{Object: gantry.Object{Ref: fmt.Sprint(i)}}, denied, true)
	}
	if len(w.later) != maxLater || !w.takeAt.IsZero() {
		t.Fatalf("%d are remembered, the next take-up is put off until %v", len(w.later), w.takeAt)
	}
	for ref, kept := range map[string]bool{"denied": false, "busy": true} {
		err := busy
		if !kept {
			err = denied
		}
		w.takeAt = time.Time{}
		w.postpone(sight{Object: gantry.Object{Ref: ref}}, err, true)
		if _, is := w.later[idOf(ref, "")]; is != kept || len(w.later) != maxLater || !w.takeAt.After(w.now()) {
			t.Errorf("%s: remembered: %v; %d in all; the next take-up waits until %v", ref, is, len(w.later), w.takeAt)
		}
	}
}

// TestSettlingListsSeldom lists a bucket where there is always something that settles within milliseconds no more than a fifth of
// the time.
func TestSettlingListsSeldom(t *testing.T) {
	t.Parallel()
	began := time.Now()
	var listing atomic.Int64 // ns
	s := serveSource(t, func(w http.ResponseWriter, _ *http.Request) {
		at := time.Now()
		time.Sleep(20 * time.Millisecond) // what a listing takes
		var rows strings.Builder
		n := int(time.Since(began) / (10 * time.Millisecond)) // a hundred objects a second
		for i := max(0, n-900); i < n; i++ {
			put := began.Add(time.Duration(i) * 10 * time.Millisecond).UTC()
			fmt.Fprintf(&rows, `<Contents><Key>k%06d</Key><Size>1</Size><ETag>"e"</ETag><LastModified>%s</LastModified></Contents>`, i, put.Format("2006-01-02T15:04:05.000Z"))
		}
		w.Header().Set("Date", time.Now().UTC().Format(http.TimeFormat))
		fmt.Fprintf(w, `<ListBucketResult><Name>bucket</Name><IsTruncated>false</IsTruncated>%s</ListBucketResult>`, rows.String())
		listing.Add(int64(time.Since(at)))
	})
	s.settle, s.poll = time.Second, time.Minute
	b := newBook()
	during(t, s, b, nil, func() {
		until(t, "fifty that have settled", func() bool { return b.taken() >= 50 })
		time.Sleep(time.Second)
	})
	if part := float64(listing.Load()) / float64(time.Since(began)); part > 0.25 {
		t.Errorf("the server listed for %.0f%% of the time", 100*part)
	}
}

// TestTakeUpIsNotPutOffForEver: what a sweep finds that cannot be remembered does not put off a take-up that others wait for.
func TestTakeUpIsNotPutOffForEver(t *testing.T) {
	t.Parallel()
	_, s := hall(t, 1)
	w := newWatcher(s, newBook(), nil)
	began := time.Now()
	now := began
	s.now = func() time.Time { return now }
	denied := gantry.Errorf(gantry.Denied, CodeAccessDenied, "open")
	for i := range maxLater {
		w.postpone(sight{Object: gantry.Object{Ref: fmt.Sprint(i)}}, denied, true)
	}
	w.progress.Backlog, w.taking = true, true
	w.postpone(sight{Object: gantry.Object{Ref: "denied"}}, denied, true)
	w.taking = false // it broke off
	for range 5 {
		now = now.Add(15 * time.Minute)
		w.postpone(sight{Object: gantry.Object{Ref: "denied"}}, denied, true)
	}
	if got := w.takeAt.Sub(began); got != maxRefused {
		t.Errorf("the next take-up waits for %s", got)
	}
}
