package postgres_test

import (
	"slices"
	"testing"
	"time"

	"github.com/gantry-imaging/gantry/internal/gantry"
	"github.com/gantry-imaging/gantry/internal/postgres"
)

// TestClaimFromFront: a claim that goes by a front leaves what is before it at its priority, and nothing else.
func TestClaimFromFront(t *testing.T) {
	t.Parallel()
	b := newBed(t)
	b.rank(5, 5, 5, 4, 6, 5, 4) // ids 1 to 7
	for _, x := range []struct {
		priority int16
		task     int64
		n, aged  int
		want     []gantry.TaskID // by priority, then id
	}{
		{0, 0, 7, 0, []gantry.TaskID{4, 7, 1, 2, 3, 6, 5}},
		{5, 3, 7, 0, []gantry.TaskID{4, 7, 3, 6, 5}},
		{5, 3, 7, 7, []gantry.TaskID{4, 7, 3, 6, 5}},
		{5, 3, 2, 1, []gantry.TaskID{4, 3}}, // the oldest that is looked at, and the most urgent
		{5, 3, 3, 0, []gantry.TaskID{4, 7, 3}},
		{6, 6, 7, 0, []gantry.TaskID{4, 7, 1, 2, 3, 6}},
		{4, 5, 7, 0, []gantry.TaskID{7, 1, 2, 3, 6, 5}},
		{9, 100, 7, 0, []gantry.TaskID{4, 7, 1, 2, 3, 6, 5}},
	} {
		tasks := must(postgres.ClaimFromForTest(t.Context(), b.Store, b.worker, gantry.Want{Lane: b.lane, N: x.n, Aged: x.aged}, x.priority, x.task))(t)
		var got []gantry.TaskID
		for _, task := range tasks {
			got = append(got, task.Lease.Task)
		}
		if x.n == 2 {
			slices.Sort(got)
			slices.Sort(x.want)
		}
		if !slices.Equal(got, x.want) {
			t.Errorf("from %d of priority %d, %d with %d of the oldest: %v, want %v", x.task, x.priority, x.n, x.aged, got, x.want)
		}
		b.exec(`update task_hot set phase = 0, owner = null`)
	}
}

// TestNothingStaysBehindAFront: what becomes ready before the front of a queue is claimed as soon as the claim would else come back
// with less than it wants, and of a long queue when the whole of it is looked at again.
func TestNothingStaysBehindAFront(t *testing.T) {
	t.Parallel()
	b := newBed(t)
	b.enqueue(90)
	claim := func(n int) (ids []gantry.TaskID) {
		for _, task := range b.claim(b.worker, n) {
			ids = append(ids, task.Lease.Task)
		}
		return ids
	}
	again := func(id gantry.TaskID) { b.exec(`update task_hot set phase = 0, owner = null where id = $1`, int64(id)) }
	claim(40)
	again(3)
	if got := claim(1); !slices.Equal(got, []gantry.TaskID{3}) {
		t.Errorf("a claim of one took %v: the third task is ready", got)
	}
	claim(40)
	again(3)
	if got := claim(40); len(got) != 11 || got[0] != 3 {
		t.Errorf("claimed %v: the third task is ready, and there are 11", got)
	}
	b.enqueue(4000)
	for try := 0; ; try++ { // of a long queue the front is gone by; unless its time is over just then
		claim(40)
		again(3)
		if !slices.Contains(claim(40), 3) {
			break
		}
		if try == 20 {
			t.Fatal("all of a long queue is looked at by each claim")
		}
	}
	for began := time.Now(); !slices.Contains(claim(40), 3); time.Sleep(100 * time.Millisecond) {
		if time.Since(began) > 5*time.Second { // of half a second; the queue lasts longer
			t.Fatal("the third task is not claimed")
		}
	}
}
