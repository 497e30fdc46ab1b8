package postgres_test

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/gantry-imaging/gantry/internal/gantry"
	"github.com/gantry-imaging/gantry/internal/postgres"
)

// TestQuestionsAreShared: each is one process's until its lease is over, and answers come in their order or not at all.
func TestQuestionsAreShared(t *testing.T) {
	t.Parallel()
	a := newAsking(t, gantry.Collect{Quiet: time.Minute})
	const n = 40
	for i := range n {
		a.came(fmt.Sprintf("%d/1", i))
	}
	var mu sync.Mutex
	took := map[int64]int{}
	var g sync.WaitGroup
	for range 4 {
		g.Go(func() {
			for {
				q, ok, err := a.ClaimQuestion(context.WithoutCancel(t.Context()), time.Minute, nil)
				if err != nil {
					t.Error(err)
				}
				if !ok {
					return
				}
				mu.Lock()
				took[q.Collection]++
				mu.Unlock()
			}
		})
	}
	g.Wait()
	for id, times := range took {
		if times != 1 {
			t.Errorf("collection %d: %d processes ask", id, times)
		}
	}
	if len(took) > n || len(took) < n-4 { // one that is passed over, since another looks at it, comes next time
		t.Errorf("%d of %d are asked about", len(took), n)
	}
	b := newAsking(t, gantry.Collect{Quiet: time.Minute})
	b.came("s/1")
	dead := b.ask()
	if _, ok, _ := b.ClaimQuestion(t.Context(), time.Minute, nil); ok {
		t.Error("two processes ask")
	}
	b.pass(time.Minute)
	next := b.ask()
	b.answer(next, 5)
	if _, ok, err := b.Answered(t.Context(), dead, 1, b.rules, time.Second); ok || err != nil {
		t.Errorf("an old answer took the place of a later one: %v", err)
	}
	if err := b.Unanswered(t.Context(), dead, time.Hour); err != nil {
		t.Error(err)
	}
	if next := must(b.NextQuestion(t.Context(), nil))(t); next > time.Second {
		t.Errorf("an old question put the next off by %s", next)
	}
	if next := must(b.NextQuestion(t.Context(), []int32{b.pipeline}))(t); next >= 0 {
		t.Error("a version that is busy is not passed over")
	}
	b.pass(time.Second)
	if _, ok, _ := b.ClaimQuestion(t.Context(), time.Minute, []int32{b.pipeline}); ok {
		t.Error("a version that is busy is asked about")
	}
}

// TestAnswerWaitsForMembers: an answer that comes while the last member is being committed sees it. The control: without the lock it weighs
// the count against what was there before, and the collection would wait for what it has.
func TestAnswerWaitsForMembers(t *testing.T) {
	t.Parallel()
	for _, locked := range []bool{true, false} {
		a := newAsking(t, gantry.Collect{Quiet: time.Minute})
		a.came("s/1")
		a.says(2)
		a.pass(steady)
		q := a.ask()
		tx := must(a.Pool().Begin(t.Context()))(t)
		defer tx.Rollback(context.WithoutCancel(t.Context()))
		for _, sql := range []string{`select from collection for update`,
			`insert into collection_member(collection, arrival, instance) select id, 999999, 7 from collection`, `update collection set arrivals = 2`} {
			if _, err := tx.Exec(t.Context(), sql); err != nil {
				t.Fatal(err)
			}
		}
		done := make(chan error, 1)
		go func() {
			ctx := context.WithoutCancel(t.Context())
			if locked {
				_, _, err := a.Answered(ctx, q, 2, a.rules, time.Second)
				done <- err
				return
			}
			_, err := a.Pool().Exec(ctx, postgres.AnsweredSQL, q.Collection, q.Number, 2, 1000000, steady.Microseconds(), true, time.Minute.Microseconds())
			done <- err
		}()
		a.waitsForLock(done)
		if err := tx.Commit(t.Context()); err != nil {
			t.Fatal(err)
		}
		if err := <-done; err != nil {
			t.Fatal(err)
		}
		if whole := a.count(`select count(*) from collection where reason = 'expected'`) == 1; whole != locked {
			t.Errorf("locked %t: complete %t", locked, whole)
		}
	}
}

// waitsForLock waits until somebody waits for a lock.
func (a asking) waitsForLock(done <-chan error) {
	a.t.Helper()
	for end := time.Now().Add(20 * time.Second); a.count(`select count(*) from pg_locks where not granted and pid in (select pid from pg_stat_activity where datname = current_database())`) == 0; time.Sleep(5 * time.Millisecond) {
		select {
		case err := <-done:
			a.t.Fatalf("nobody waited: %v", err)
		default:
		}
		if time.Now().After(end) {
			a.t.Fatal("nobody waits")
		}
	}
}

// TestAskedAway: where the database is away nothing is asked or answered.
func TestAskedAway(t *testing.T) {
	t.Parallel()
	a := newAsking(t, gantry.Collect{Quiet: time.Minute})
	a.came("s/1")
	gone, cancel := context.WithCancel(t.Context())
	cancel()
	if _, _, err := a.ClaimQuestion(gone, time.Second, nil); err == nil {
		t.Error("claimed")
	}
	if _, err := a.NextQuestion(gone, nil); err == nil {
		t.Error("looked")
	}
	if err := a.Unanswered(gone, gantry.Question{}, 0); err == nil {
		t.Error("put off")
	}
	if _, _, err := a.Answered(gone, gantry.Question{}, 1, a.rules, 0); err == nil {
		t.Error("answered")
	}
	if _, ok, err := a.Answered(t.Context(), a.ask(), 1, gantry.Collect{}, 0); ok || err == nil {
		t.Error("answered without rules")
	}
}
