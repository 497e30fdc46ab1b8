package scheduler_test

import (
	"context"
	"sync"
	"testing"
	"time"

	"github.com/gantry-imaging/gantry/internal/gantry"
	"github.com/gantry-imaging/gantry/internal/scheduler"
)

// TestAlone has two tasks that two processes died of among ten others: they run one after another with nothing
// beside them, and all others run side by side.
func TestAlone(t *testing.T) {
	t.Parallel()
	w := newWard(t, 11)
	if _, err := w.Pool().Exec(t.Context(), `update task_hot set crashes = $1 where id in (select id from task_hot order by id limit 2 offset 3)`, gantry.CrashesToBeAlone); err != nil {
		t.Fatal(err)
	}
	var mu sync.Mutex
	running, most, alone := map[gantry.TaskID]bool{}, 0, 0
	step := func(_ context.Context, x gantry.Task) gantry.Transition {
		mu.Lock()
		running[x.Task] = true
		most = max(most, len(running))
		if x.Crashes > 0 && len(running) > 1 {
			t.Errorf("%d tasks run beside one that is to be alone", len(running)-1)
		}
		if x.Crashes > 0 {
			alone++
		}
		mu.Unlock()
		time.Sleep(20 * time.Millisecond)
		mu.Lock()
		delete(running, x.Task)
		mu.Unlock()
		tr := gantry.Transition{Lease: x.Lease, From: x.State, To: x.State + 1, Within: time.Minute}
		if tr.To.Final() {
			tr.Change = gantry.End
		}
		return tr
	}
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	left := 12
	ended := func(gantry.Task, gantry.Transition) {
		mu.Lock()
		defer mu.Unlock()
		if left--; left == 0 {
			cancel()
		}
	}
	err := scheduler.Run(ctx, w.Store, scheduler.Options{Ended: ended}, func(context.Context, *scheduler.Session) (scheduler.Begin, error) {
		return func(gantry.Task) (scheduler.Step, func()) { return step, func() {} }, nil
	})
	if err != nil || left != 0 || most < 5 || alone != 10 {
		t.Errorf("%v; %d are left, at most %d ran at once, %d steps of those that run alone", err, left, most, alone)
	}
}

// TestSetAsideAtTheEnd: a process that is asked to stop, or whose operator cancels what it set aside, gives the
// task back at once, though another still runs.
func TestSetAsideAtTheEnd(t *testing.T) {
	t.Parallel()
	for _, why := range []string{"stop", "cancel"} {
		t.Run(why, func(t *testing.T) {
			t.Parallel()
			w := newWard(t, 1)
			if _, err := w.Pool().Exec(t.Context(), `update task_hot set crashes = 3 where id = (select max(id) from task_hot)`); err != nil {
				t.Fatal(err)
			}
			ctx, stop := context.WithCancel(t.Context())
			defer stop()
			begun, release := make(chan gantry.Task, 2), make(chan struct{})
			step := func(_ context.Context, x gantry.Task) gantry.Transition {
				begun <- x
				<-release
				return gantry.Transition{Lease: x.Lease, From: x.State, To: x.State, Change: gantry.Release}
			}
			over := make(chan error, 1)
			go func() {
				over <- scheduler.Run(ctx, w.Store, scheduler.Options{TTL: time.Second}, func(context.Context, *scheduler.Session) (scheduler.Begin, error) {
					return func(gantry.Task) (scheduler.Step, func()) { return step, func() {} }, nil
				})
			}()
			if x := <-begun; x.Crashes != 0 {
				t.Errorf("begun is %+v", x)
			}
			if n := w.count(`select count(*) from task_hot where phase = 1 and aside and crashes = 3`); n != 1 {
				t.Errorf("%d are set aside", n)
			}
			gone := `select count(*) from task_hot where phase = 0 and crashes = 3`
			if why == "stop" {
				stop()
			} else if err := w.Cancel(t.Context(), gantry.TaskID(w.count(`select max(id) from task_hot`)), "tester"); err != nil {
				t.Fatal(err)
			} else {
				gone = `select count(*) from task where final_state = 7`
			}
			for until := time.Now().Add(10 * time.Second); w.count(gone) != 1; time.Sleep(20 * time.Millisecond) {
				if time.Now().After(until) {
					t.Fatal("it is still set aside")
				}
			}
			stop()
			close(release)
			if err := <-over; err != nil {
				t.Error(err)
			}
			if len(begun) > 0 {
				t.Error("it was begun")
			}
		})
	}
}
