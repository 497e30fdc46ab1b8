package s3

import (
	"context"
	"encoding/xml"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/gantry-imaging/gantry/internal/driver/s3/s3test"
	"github.com/gantry-imaging/gantry/internal/gantry"
)

// collect watches until it has seen n announcements that were taken, and gives the refs.
func collect(t *testing.T, s *source, n int, take func(gantry.Object) error) []string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	var mu sync.Mutex
	var refs []string
	err := s.Watch(ctx, func(_ context.Context, o gantry.Object) error {
		if take != nil {
			if err := take(o); err != nil {
				return err
			}
		}
		mu.Lock()
		defer mu.Unlock()
		if refs = append(refs, o.Ref); len(refs) == n {
			cancel()
		}
		return nil
	})
	if err != nil || len(refs) != n {
		t.Errorf("%d of %d were announced: %v, %v", len(refs), n, refs, err)
	}
	slices.Sort(refs)
	return refs
}

// Keys come out of a listing as they went in, over several pages.
func TestKeys(t *testing.T) {
	t.Parallel()
	b := newBucket(t, s3test.Start(t))
	keys := []string{"in/a b.dcm", "in/a%20b.dcm", "in/a+b.dcm", "in/sub/ü&<>'.dcm", "in/中.dcm", "in/~x=1?y#z.dcm"}
	for _, key := range append(keys, "in/a.txt", "in/done/a.dcm", "other/a.dcm") {
		if err := b.put(key, []byte(key)); err != nil {
			t.Fatal(err)
		}
	}
	s := b.source(func(c *SourceConfig) { c.Prefix, c.Exclude, c.Pattern = "in/", []string{"in/done/"}, "*.dcm" })
	s.page = 2
	got := collect(t, s, len(keys), func(o gantry.Object) error {
		r, err := s.Open(t.Context(), o.Ref)
		if err != nil {
			return err
		}
		return r.Close()
	})
	slices.Sort(keys)
	if !slices.Equal(got, keys) {
		t.Errorf("got %q, want %q", got, keys)
	}
}

// An object that is too young waits, and then comes without another listing being due.
func TestSettle(t *testing.T) {
	t.Parallel()
	b := newBucket(t, s3test.Start(t))
	if err := b.put("a", []byte("x")); err != nil {
		t.Fatal(err)
	}
	put := time.Now()
	collect(t, b.source(func(c *SourceConfig) { c.Settle, c.Poll = 3*time.Second, time.Hour }), 1, nil)
	if waited := time.Since(put); waited < time.Second { // times of listings are whole seconds
		t.Errorf("it was taken after %s", waited)
	}
}

// shelf is a server that lists what it is told, in pages, and notes what it was asked.
type shelf struct {
	mu    sync.Mutex
	keys  []string
	asked []string // start-after or token of each request; "" from the beginning
	fail  bool
	hung  bool            // no request is answered
	young map[string]bool // keys that are new
}

func (s *shelf) hang(on bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.hung = on
}

type listing struct {
	XMLName               xml.Name `xml:"ListBucketResult"`
	Name                  string
	IsTruncated           bool
	NextContinuationToken string `xml:",omitempty"`
	Contents              []entry
}

type entry struct {
	Key          string
	Size         int
	ETag         string
	LastModified string
}

func (s *shelf) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.hung {
		s.mu.Unlock()
		<-r.Context().Done()
		s.mu.Lock()
		w.WriteHeader(http.StatusServiceUnavailable)
		return
	}
	q := r.URL.Query()
	from := q.Get("start-after")
	if token := q.Get("continuation-token"); token != "" {
		from, _ = url.QueryUnescape(token)
	}
	s.asked = append(s.asked, from)
	if s.fail {
		w.WriteHeader(http.StatusServiceUnavailable)
		return
	}
	n, _ := strconv.Atoi(q.Get("max-keys"))
	out := listing{Name: "bucket"}
	for _, key := range s.keys {
		if key <= from {
			continue
		}
		if len(out.Contents) == n {
			out.IsTruncated, out.NextContinuationToken = true, out.Contents[n-1].Key
			break
		}
		at := "2026-01-01T00:00:00Z"
		if s.young[key] {
			at = time.Now().UTC().Format(time.RFC3339)
		}
		out.Contents = append(out.Contents, entry{key, 1, `"e"`, at})
	}
	xml.NewEncoder(w).Encode(out)
}

func (s *shelf) requests() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.asked)
}

func (s *shelf) set(f func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	f()
}

// shelfOf makes a watcher on a shelf of n keys.
func shelfOf(t *testing.T, n int) (*shelf, *watcher, *[]string) {
	t.Helper()
	sh := &shelf{}
	for i := range n {
		sh.keys = append(sh.keys, fmt.Sprintf("k%04d", i))
	}
	s := serveSource(t, sh.ServeHTTP)
	s.page, s.few, s.sweep = 10, 2, time.Hour
	var mu sync.Mutex
	taken := &[]string{}
	m := newMemory()
	return sh, newWatcher(s, m, m.noting(func(_ context.Context, o gantry.Object) error {
		mu.Lock()
		defer mu.Unlock()
		if strings.HasSuffix(o.Ref, "!") {
			return errors.New("not now")
		}
		*taken = append(*taken, o.Ref)
		return nil
	})), taken
}

// look lists once, whole if that is due, and waits for it.
func (w *watcher) look(ctx context.Context) error {
	if w.due() {
		return w.whole(ctx)
	}
	return w.tail(ctx)
}

// remembered is how many objects the watch's own memory knows.
func (w *watcher) remembered() int { return len(w.ledger.(*memory).known) }

// A large bucket is listed whole at each sweep, and from its end on in between.
func TestCursor(t *testing.T) {
	t.Parallel()
	sh, w, taken := shelfOf(t, 100)
	look := func(from ...string) {
		t.Helper()
		sh.set(func() { sh.asked = nil })
		if err := w.look(t.Context()); err != nil {
			t.Fatal(err)
		}
		if got := sh.requests(); !slices.Equal(got, from) {
			t.Errorf("asked from %q, want %q", got, from)
		}
	}
	all := []string{"", "k0009", "k0019", "k0029", "k0039", "k0049", "k0059", "k0069", "k0079", "k0089"}
	look(all...)
	look("k0099")
	sh.set(func() { sh.keys = append(sh.keys, "k0100", "k0101!", "k0102") })
	look("k0099")
	look("k0100") // what was not taken is asked for again, and what follows it
	if len(*taken) != 102 || (*taken)[101] != "k0102" {
		t.Errorf("%d were taken, the last %q", len(*taken), (*taken)[len(*taken)-1])
	}
	sh.set(func() { sh.keys = append([]string{"a"}, sh.keys[2:]...) })
	look("k0100")
	if len(*taken) != 102 {
		t.Error("a key before the cursor was seen without a sweep")
	}
	w.swept = time.Time{}
	before := w.remembered()
	look("", "k0010", "k0020", "k0030", "k0040", "k0050", "k0060", "k0070", "k0080", "k0090", "k0100")
	if len(*taken) != 103 || before != 102 || w.remembered() != 101 {
		t.Errorf("taken %d, remembered %d and then %d", len(*taken), before, w.remembered())
	}
}

// A small bucket is listed whole each time, so that any new key is seen at once.
func TestSmallBucketHasNoCursor(t *testing.T) {
	t.Parallel()
	sh, w, taken := shelfOf(t, 20)
	for range 2 {
		if err := w.look(t.Context()); err != nil {
			t.Fatal(err)
		}
		sh.set(func() { sh.keys = append([]string{"a"}, sh.keys...) })
	}
	if len(*taken) != 21 || sh.requests()[2] != "" {
		t.Errorf("taken %d, asked from %q", len(*taken), sh.requests())
	}
}

// A listing that breaks off in the middle forgets nothing and is made again.
func TestBrokenSweep(t *testing.T) {
	t.Parallel()
	sh, w, taken := shelfOf(t, 50)
	if err := w.look(t.Context()); err != nil {
		t.Fatal(err)
	}
	w.swept = time.Time{}
	sh.set(func() { sh.fail = true })
	wantError(t, w.look(t.Context()), gantry.Unavailable, CodeSlowDown)
	sh.set(func() { sh.fail = false })
	if err := w.look(t.Context()); err != nil || len(*taken) != 50 || w.remembered() != 50 || w.swept.IsZero() {
		t.Errorf("%v, taken %d, remembered %d", err, len(*taken), w.remembered())
	}
}

// An object that nobody takes is announced less and less often, and holds up no other.
func TestPostponed(t *testing.T) {
	t.Parallel()
	sh, w, taken := shelfOf(t, 0)
	at := time.Now()
	w.now, w.pause = func() time.Time { return at }, time.Second
	tries := 0
	w.announce = w.ledger.(*memory).noting(func(_ context.Context, o gantry.Object) error {
		if o.Ref != "poison" {
			*taken = append(*taken, o.Ref)
			return nil
		}
		if tries++; tries == 4 {
			return &gantry.Error{Kind: gantry.Unavailable, RetryAfter: time.Hour, Err: errors.New("later")}
		}
		return errors.New("not this one")
	})
	sh.keys = []string{"a", "poison"}
	for i, c := range []struct {
		after time.Duration
		tries int
	}{{0, 1}, {0, 1}, {time.Second, 2}, {time.Second, 2}, {time.Second, 3}, {3 * time.Second, 3}, {time.Second, 4}, {maxPostpone, 4}, {time.Hour, 5}} {
		at = at.Add(c.after)
		if err := w.look(t.Context()); err != nil || tries != c.tries {
			t.Errorf("look %d: tried %d times, want %d; %v", i, tries, c.tries, err)
		}
	}
	sh.set(func() { sh.keys = []string{"a", "b"} })
	at = at.Add(time.Hour)
	if err := w.look(t.Context()); err != nil || !slices.Equal(*taken, []string{"a", "b"}) || len(w.later) != 0 {
		t.Errorf("%v, taken %v, %d put off", err, *taken, len(w.later))
	}
}

// A bucket that fails later is waited for.
func TestWatchOutlivesFailures(t *testing.T) {
	t.Parallel()
	sh, w, _ := shelfOf(t, 1)
	var failing sync.Once
	collect(t, w.source, 2, func(gantry.Object) error {
		failing.Do(func() {
			sh.set(func() { sh.fail = true })
			time.AfterFunc(50*time.Millisecond, func() {
				sh.set(func() { sh.fail, sh.keys = false, append(sh.keys, "later") })
			})
		})
		return nil
	})
}

func BenchmarkRemember(b *testing.B) {
	known := map[objectID]struct{}{}
	for i := range b.N {
		known[idOf(strconv.Itoa(i), "e-1-1")] = struct{}{}
	}
	b.ReportAllocs()
}

// A server that takes long for its listings is not kept at them.
func TestSlowListingsAreSeldom(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		asked := 0
		s, err := NewSource(t.Context(), SourceConfig{Bucket: "scans", Poll: time.Millisecond}, signed{&faults{before: func(r *http.Request) *http.Response {
			asked++
			time.Sleep(time.Second)
			return answer(r, http.StatusOK, "<ListBucketResult><Name>scans</Name></ListBucketResult>")
		}}})
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), 49*time.Second)
		defer cancel()
		if err := s.Watch(ctx, nil); err != nil || asked != 10 {
			t.Errorf("%d listings of a second in 49 seconds, want 10: %v", asked, err)
		}
	})
}
