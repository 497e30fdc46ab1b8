package blob

import (
	"bytes"
	"context"
	"net/http"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/gantry-imaging/gantry/internal/driver/s3/s3test"
	"github.com/gantry-imaging/gantry/internal/gantry"
	"github.com/gantry-imaging/gantry/internal/postgres"
	"github.com/gantry-imaging/gantry/internal/postgres/postgrestest"
)

// books is a database with rows of blobs, whose times the tests can turn back.
type books struct {
	*postgres.Store
	t    testing.TB
	pool *pgxpool.Pool
}

func newBooks(t testing.TB) *books {
	t.Helper()
	dsn := postgrestest.DSN(t)
	store, err := postgres.Open(t.Context(), dsn)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(store.Close)
	cfg, err := pgxpool.ParseConfig(dsn)
	if err != nil {
		t.Fatal(err)
	}
	cfg.ConnConfig.RuntimeParams["search_path"] = "gantry"
	pool, err := pgxpool.NewWithConfig(context.Background(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(pool.Close)
	return &books{store, t, pool}
}

func (b *books) exec(sql string, args ...any) {
	b.t.Helper()
	if _, err := b.pool.Exec(context.Background(), sql, args...); err != nil {
		b.t.Error(err)
	}
}

// refer makes an arrival whose bytes lie at a location.
func (b *books) refer(where string) {
	b.t.Helper()
	b.exec(`insert into arrival (source, ref_mac, version, size, location) values ('p/in', sha256(random()::text::bytea), 'v', 1, $1)`, where)
}

// old turns the times of a blob's row back by eight days; of all rows without a location.
func (b *books) old(where string) {
	b.t.Helper()
	b.exec(`update blob set at = at - interval '8 days', tomb_at = tomb_at - interval '8 days' where $1 in ('', location)`, where)
}

func (b *books) row(where string) (tomb, leaving bool) {
	b.t.Helper()
	err := b.pool.QueryRow(context.Background(), `select bool_or(tomb_at is not null), bool_or(leaving_at is not null) from blob where location = $1 having count(*) > 0`, where).Scan(&tomb, &leaving)
	if err != nil {
		b.t.Errorf("row of %s: %v", where, err)
	}
	return tomb, leaving
}

func (b *books) collect(g Garbage, c Collection) Collected {
	b.t.Helper()
	if c.Now == nil {
		c.Now = time.Now
	}
	done, err := Collect(b.t.Context(), b, g, c)
	if err != nil {
		b.t.Fatal(err)
	}
	return done
}

// store is what is common to both.
type store interface {
	gantry.Blobs
	Garbage
}

// inBoth runs a test on a folder and on a bucket. open opens the store with a ledger.
func inBoth(t *testing.T, test func(t *testing.T, open func(Ledger) store)) {
	t.Run("dir", func(t *testing.T) {
		t.Parallel()
		dir := t.TempDir()
		test(t, func(l Ledger) store {
			o := testOptions(dir)
			o.Ledger = l
			return openTest(t, o)
		})
	})
	t.Run("bucket", func(t *testing.T) {
		t.Parallel()
		p := newPail(t, s3test.Start(t))
		test(t, func(l Ledger) store { return p.open(func(o *BucketOptions) { o.Ledger = l }) })
	})
}

// TestCollect takes blobs through all that can become of them.
func TestCollect(t *testing.T) {
	t.Parallel()
	inBoth(t, func(t *testing.T, open func(Ledger) store) {
		b := newBooks(t)
		s := open(b)
		large := func(seed uint64) []byte { return body(maxRecord+1, seed) }
		used, dead, revived, later := keep(t, s, large(1)), keep(t, s, large(2)), keep(t, s, large(3)), keep(t, s, large(4))
		b.refer(used)
		if done := b.collect(s, Collection{}); done != (Collected{}) {
			t.Errorf("young blobs: %+v", done)
		}
		b.old("")
		want := Collected{Tombs: 3, TombBytes: 3 * (maxRecord + 1)}
		if done := b.collect(s, Collection{Dry: true}); done != want {
			t.Errorf("dry: %+v", done)
		}
		if done := b.collect(s, Collection{}); done != want {
			t.Errorf("tombstones: %+v", done)
		}
		if done := b.collect(s, Collection{}); done != (Collected{}) {
			t.Errorf("within the grace: %+v", done)
		}
		b.old("")
		if keep(t, s, large(3)) != revived {
			t.Error("the same bytes lie elsewhere")
		}
		if tomb, _ := b.row(revived); tomb {
			t.Error("a blob that was committed again keeps its tombstone")
		}
		b.refer(later)
		if done := b.collect(s, Collection{Dry: true}); done != (Collected{Deleted: 1, DeleteBytes: maxRecord + 1}) {
			t.Errorf("dry, after the grace: %+v", done)
		}
		if done := b.collect(s, Collection{}); done != (Collected{Deleted: 1, DeleteBytes: maxRecord + 1}) {
			t.Errorf("after the grace: %+v", done)
		}
		if tomb, _ := b.row(later); tomb {
			t.Error("a blob that is in use keeps its tombstone")
		}
		_, err := s.Open(t.Context(), dead)
		wantErr(t, err, gantry.NotFound, CodeMissing)
		for seed, where := range map[uint64]string{1: used, 3: revived, 4: later} {
			if !bytes.Equal(fetch(t, s, where), large(seed)) {
				t.Errorf("blob %d reads back wrong", seed)
			}
		}
	})
}

// TestCollectWithoutRow finds blobs that were committed when there was no ledger, or whose rows were lost.
func TestCollectWithoutRow(t *testing.T) {
	t.Parallel()
	inBoth(t, func(t *testing.T, open func(Ledger) store) {
		b := newBooks(t)
		s := open(nil)
		dead, used := keep(t, s, body(maxRecord+1, 1)), keep(t, s, body(maxRecord+1, 2))
		b.refer(used)
		if done := b.collect(s, Collection{Whole: true}); done != (Collected{}) {
			t.Errorf("young ones: %+v", done)
		}
		soon := func() time.Time { return time.Now().Add(2 * time.Hour) }
		if done := b.collect(s, Collection{Whole: true, Dry: true, Now: soon}); done.Adopted != 2 {
			t.Errorf("dry: %+v", done)
		}
		if done := b.collect(s, Collection{Whole: true, Now: soon}); done.Adopted != 2 || done.Deleted != 0 {
			t.Errorf("found: %+v", done)
		}
		b.old("")
		b.collect(s, Collection{})
		b.old("")
		if done := b.collect(s, Collection{Whole: true, Now: soon}); done.Adopted != 0 || done.Deleted != 1 {
			t.Errorf("after the grace: %+v", done)
		}
		_, err := s.Open(t.Context(), dead)
		wantErr(t, err, gantry.NotFound, CodeMissing)
		fetch(t, s, used)
	})
}

// blind is a ledger that does not say what is leaving: the control.
type blind struct{ *books }

// KeepBlob takes everything for safe.
func (b blind) KeepBlob(ctx context.Context, x gantry.KeptBlob) (bool, error) {
	_, err := b.books.KeepBlob(ctx, x)
	return false, err
}

// TestCommitWhileDeleted holds a deletion up in the middle and commits the same bytes meanwhile: the commit waits, and its bytes
// are there. A commit that does not ask whether the blob is leaving loses them, which is the control.
func TestCommitWhileDeleted(t *testing.T) {
	t.Parallel()
	server := s3test.Start(t)
	for name, guarded := range map[string]bool{"guarded": true, "control": false} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p, b := newPail(t, server), newBooks(t)
			f := &badServer{RoundTripper: p.rt}
			var ledger Ledger = b
			if !guarded {
				ledger = blind{b}
			}
			s := p.open(func(o *BucketOptions) { o.Transport, o.Ledger = f, ledger })
			where := keep(t, s, body(100_000, 1))
			b.old("")
			b.collect(s, Collection{})
			b.old("")
			begun, release := make(chan struct{}), make(chan struct{})
			f.before = func(_ int64, r *http.Request) (*http.Response, error) {
				if r.Method == http.MethodDelete {
					close(begun)
					<-release
				}
				return nil, nil
			}
			var wg sync.WaitGroup
			wg.Go(func() {
				if done := b.collect(s, Collection{}); done.Deleted != 1 {
					t.Errorf("collected %+v", done)
				}
			})
			select {
			case <-begun:
			case <-time.After(20 * time.Second):
				t.Fatal("nothing is deleted")
			}
			committed := make(chan struct{})
			wg.Go(func() { keep(t, s, body(100_000, 1)); close(committed) })
			select {
			case <-committed:
				if guarded {
					t.Error("the commit did not wait")
				}
			case <-time.After(300 * time.Millisecond):
				if !guarded {
					t.Error("the control waited")
				}
			}
			close(release)
			wg.Wait()
			got, err := readAll(t.Context(), s, where)
			if kept := err == nil && bytes.Equal(got, body(100_000, 1)); kept != guarded {
				t.Errorf("guarded %v, and afterwards: %v", guarded, err)
			}
		})
	}
}

// TestCommitGivesUp does not wait for ever where who deleted died, nor rely on the blob; later it takes the deletion for ended.
func TestCommitGivesUp(t *testing.T) {
	t.Parallel()
	p, b := newPail(t, s3test.Start(t)), newBooks(t)
	s := p.open(func(o *BucketOptions) { o.Ledger = b })
	where := keep(t, s, body(100_000, 1))
	b.exec(`update blob set tomb_at = clock_timestamp(), leaving_at = clock_timestamp()`)
	staged, err := s.Stage(t.Context(), bytes.NewReader(body(100_000, 1)), -1, always)
	if err != nil {
		t.Fatal(err)
	}
	_, err = staged.Commit(t.Context())
	wantErr(t, err, gantry.Unavailable, CodeLeaving)
	if err := s.Remove(t.Context(), where); err != nil {
		t.Fatal(err)
	}
	b.exec(`update blob set leaving_at = leaving_at - interval '1 hour'`)
	keep(t, s, body(100_000, 1))
	if tomb, leaving := b.row(where); tomb || leaving {
		t.Errorf("the row has a tombstone %v and is leaving %v", tomb, leaving)
	}
	fetch(t, s, where)
}

// TestCollectFails goes on after a deletion that failed, and deletes nothing twice nor without need.
func TestCollectFails(t *testing.T) {
	t.Parallel()
	p, b := newPail(t, s3test.Start(t)), newBooks(t)
	f := &badServer{RoundTripper: p.rt}
	s := p.open(func(o *BucketOptions) { o.Transport, o.Ledger = f, b })
	for i := range 5 {
		keep(t, s, body(100_000, uint64(i)))
	}
	b.old("")
	b.collect(s, Collection{})
	b.old("")
	var seen atomic.Int64
	f.before = func(_ int64, r *http.Request) (*http.Response, error) {
		if r.Method == http.MethodDelete && seen.Add(1) == 3 {
			return refusal(r, 403, "AccessDenied", ""), nil
		}
		return nil, nil
	}
	done, err := Collect(t.Context(), b, s, Collection{Now: time.Now})
	if gantry.CodeOf(err) != CodeAccessDenied || done.Deleted != 2 {
		t.Fatalf("collected %+v: %v", done, err)
	}
	if done := b.collect(s, Collection{}); done.Deleted != 2 {
		t.Errorf("then %+v", done)
	}
	b.exec(`update blob set leaving_at = leaving_at - interval '1 hour'`)
	if done := b.collect(s, Collection{}); done.Deleted != 1 {
		t.Errorf("at last %+v", done)
	}
	if keys := p.keys(); len(keys) != 2 { // identity and owner
		t.Errorf("left over: %q", keys)
	}
	slow := time.Now()
	c := Collection{Now: func() time.Time { slow = slow.Add(2 * time.Minute); return slow }}
	keep(t, s, body(100_000, 9))
	b.old("")
	b.collect(s, Collection{})
	b.old("")
	if _, err := Collect(t.Context(), b, s, c); gantry.KindOf(err) != gantry.Timeout {
		t.Errorf("a collector that stood still deletes: %v", err)
	}
}
