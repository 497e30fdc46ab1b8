package postgres_test

import (
	"context"
	"crypto/rand"
	"testing"
	"time"

	"github.com/gantry-imaging/gantry/internal/gantry"
	"github.com/gantry-imaging/gantry/internal/postgres"
	"github.com/gantry-imaging/gantry/internal/postgres/postgrestest"
)

// bed is a store with one pipeline, one lane, one limiter and a registered worker.
type bed struct {
	*postgres.Store
	t        testing.TB
	pipeline int32
	limiter  int32
	lane     int32
	worker   gantry.WorkerID
	ids      *gantry.IDs
}

func newBed(t testing.TB) *bed {
	t.Helper()
	b := &bed{Store: postgrestest.New(t), t: t, ids: gantry.NewIDs(time.Now, rand.Reader)}
	p := &gantry.Pipeline{Name: "p", Version: gantry.Digest{1}, Resolved: []byte(`{"stages":[{"name":"s","call":["qa"]}],"sinks":{"out":{}}}`)}
	b.pipeline = must(b.EnsurePipeline(t.Context(), p))(t)
	b.limiter = must(b.EnsureLimiter(t.Context(), "pipeline:p", gantry.LimiterSpec{MaxUnits: -1}, true))(t)
	b.lane = must(b.EnsureLane(t.Context(), "p", "in", b.limiter, 0))(t)
	b.worker = b.register(time.Minute)
	return b
}

func must[T any](v T, err error) func(testing.TB) T {
	return func(t testing.TB) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

func (b *bed) register(ttl time.Duration) gantry.WorkerID {
	b.t.Helper()
	return must(b.Register(b.t.Context(), "host", 1, ttl))(b.t)
}

func (b *bed) enqueue(n int) {
	b.t.Helper()
	var list []gantry.Admission
	for _, id := range must(b.ArrivalIDs(b.t.Context(), n))(b.t) {
		mac := gantry.MAC([]byte("k"), b.ids.New().String())
		list = append(list, gantry.Admission{
			Arrival:  gantry.Arrival{ID: id, Source: "p/in", RefMAC: mac, Version: "v", Name: "a.png", Size: 3},
			PublicID: gantry.PublicID([]byte("k"), mac.String()), Pipeline: b.pipeline, Lane: b.lane, Priority: 5, Within: time.Hour})
	}
	if made := must(b.Enqueue(b.t.Context(), list))(b.t); made != n {
		b.t.Fatalf("enqueued %d of %d", made, n)
	}
}

func (b *bed) claim(w gantry.WorkerID, n int) []gantry.Task {
	b.t.Helper()
	return must(b.Claim(b.t.Context(), w, []gantry.Want{{Lane: b.lane, N: n}}))(b.t)
}

func (b *bed) commit(w gantry.WorkerID, writes ...*gantry.Write) []bool {
	b.t.Helper()
	return must(b.Commit(b.t.Context(), w, writes))(b.t)
}

func (b *bed) count(q string, args ...any) int {
	b.t.Helper()
	var n int
	if err := b.Pool().QueryRow(b.t.Context(), q, args...).Scan(&n); err != nil {
		b.t.Fatal(err)
	}
	return n
}

func (b *bed) exec(q string, args ...any) {
	b.t.Helper()
	if _, err := b.Pool().Exec(context.Background(), q, args...); err != nil {
		b.t.Fatal(err)
	}
}

func advance(t gantry.Task, to gantry.State) *gantry.Write {
	return &gantry.Write{Transition: &gantry.Transition{Lease: t.Lease, From: t.State, To: to, Change: gantry.Advance, Within: time.Minute}}
}
