package postgres_test

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/gantry-imaging/gantry/internal/gantry"
)

// TestAnswersAtOnce never counts more answers than are awaited, however many come at one moment, and misses none.
func TestAnswersAtOnce(t *testing.T) {
	t.Parallel()
	b := newBed(t)
	task := b.planned(4)
	var tickets []string
	for i := range int32(4) {
		x := awaits(task, i)
		x.Count = 3
		tickets = append(tickets, b.expect(x))
	}
	var wg sync.WaitGroup
	var mu sync.Mutex
	all := map[gantry.Belongs]int{}
	for i := range 20 {
		wg.Go(func() {
			of, _, err := b.KeepAnswer(context.Background(), came(fmt.Sprint("r", i), "a"))
			if err != nil {
				t.Error(err)
			}
			mu.Lock()
			defer mu.Unlock()
			all[of]++
		})
	}
	wg.Wait()
	if diff := cmp.Diff(map[gantry.Belongs]int{gantry.Counts: 12, gantry.TooLate: 8}, all); diff != "" {
		t.Errorf("of 20 (-want +got):\n%s", diff)
	}
	for _, ticket := range tickets {
		b.ready(ticket, 3, true)
	}
}

// TestVainAnswersBounded keeps no more than so many that nobody waits for, and takes what is awaited all the same.
func TestVainAnswersBounded(t *testing.T) {
	t.Parallel()
	b := newBed(t)
	task := b.planned(2)
	b.expect(awaits(task, 0))
	b.hand(came("r"), gantry.Counts, true)
	b.exec(`insert into inbox(awaited, size, verdict, class, instance, sha) select 1, 0, 1, '', decode(md5(n::text), 'hex'), '' from generate_series(1, 999) n`)
	b.hand(came("s"), gantry.TooLate, false)
	b.hand(came("t"), gantry.Nobodys, false)
	other := came("r")
	other.SHA = gantry.Digest{1}
	b.hand(other, gantry.Nobodys, false)
	b.expect(awaits(task, 1))
	b.hand(came("t"), gantry.Counts, true)
}

// TestAnswerWakes ends the wait of a parked task at once, or when there will have been quiet for long enough; one that is at
// work finds the number of answers changed when it parks.
func TestAnswerWakes(t *testing.T) {
	t.Parallel()
	b := newBed(t)
	task := b.planned(2)
	b.goesOut(task, 0, time.Hour)
	b.goesOut(task, 1, time.Hour)
	b.expect(awaits(task, 0))
	x := awaits(task, 1)
	x.Sent, x.Count, x.Quiet = []string{code("c")}, 0, time.Minute
	b.expect(x)
	in := func() (s float64) {
		if err := b.Pool().QueryRow(t.Context(), `select extract(epoch from run_at - now()) from task_hot`).Scan(&s); err != nil {
			t.Fatal(err)
		}
		return s
	}
	b.hand(came("q", "c"), gantry.Counts, true) // while it is at work
	park := gantry.Transition{Lease: task.Lease, From: task.State, To: task.State, Change: gantry.Park, After: time.Hour, Heard: 1}
	b.commit(b.worker, &gantry.Write{Lease: task.Lease, Transition: &park})
	if s := in(); s > 0 {
		t.Errorf("parked for %.1f s though an answer came", s)
	}
	if _, _, err := b.Promote(t.Context(), 10); err != nil {
		t.Fatal(err)
	}
	task = b.claim(b.worker, 1)[0]
	park.Lease, park.Heard = task.Lease, 2
	b.commit(b.worker, &gantry.Write{Lease: task.Lease, Transition: &park})
	if s := in(); s < 3000 {
		t.Fatalf("parked for %.1f s", s)
	}
	b.hand(came("q2", "c"), gantry.Counts, true)
	if s := in(); s < 50 || s > 60 {
		t.Errorf("woken in %.1f s for a quiet of a minute", s)
	}
	b.hand(came("r", "a"), gantry.Counts, true)
	if s := in(); s > 0 {
		t.Errorf("woken in %.1f s", s)
	}
}

// TestInboxSwept removes what belongs to tasks that ended a while ago, and keeps what is waited for.
func TestInboxSwept(t *testing.T) {
	t.Parallel()
	b := newBed(t)
	task := b.planned(2)
	b.expect(awaits(task, 0))
	b.hand(came("r"), gantry.Counts, true)
	if n := must(b.SweepInbox(t.Context(), 0, 10))(t); n != 0 {
		t.Errorf("%d were swept that are waited for", n)
	}
	b.commit(b.worker, end(task, gantry.Done))
	if n := must(b.SweepInbox(t.Context(), time.Hour, 10))(t); n != 0 {
		t.Errorf("%d were swept at once", n)
	}
	if n := must(b.SweepInbox(t.Context(), 0, 10))(t); n != 1 {
		t.Errorf("%d were swept, want 1", n)
	}
	for _, table := range []string{"awaited", "awaited_study", "inbox"} {
		if n := b.count(`select count(*) from ` + table); n != 0 {
			t.Errorf("%d rows of %s are left", n, table)
		}
	}
}

// TestInboxIsDiscreet holds what is written down to codes: a UID is in no column.
func TestInboxIsDiscreet(t *testing.T) {
	t.Parallel()
	b := newBed(t)
	task := b.planned(1)
	b.expect(awaits(task, 0))
	x := came("r")
	x.Body = nil
	x.Location = "sha/x"
	b.hand(x, gantry.Counts, true)
	if n := b.count(`select count(*) from awaited a, awaited_study s, inbox i where concat(a, s, i) like '%study%'`); n != 0 {
		t.Error("a UID is written down as it is")
	}
	if n := b.count(`select count(*) from blob_use where location = 'sha/x'`); n != 1 {
		t.Error("its bytes are garbage")
	}
}
