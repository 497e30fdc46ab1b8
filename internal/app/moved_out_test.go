package app_test

import (
	"testing"
	"time"

	"github.com/gantry-imaging/gantry/internal/audit"
	"github.com/gantry-imaging/gantry/internal/gantry"
	"github.com/gantry-imaging/gantry/internal/postgres"
)

// TestMovedWhileOut moves a task whose parts are out: their tickets are abandoned and their units are free while the next
// leg is under way; what is answered to them is late. The record of it is sound, also after a pause.
func TestMovedWhileOut(t *testing.T) {
	t.Parallel()
	y := newYard(t, -1, "callback: \"${env:FARM}\", deadline: 10m", "concurrency: 2")
	y.serve(y.hook.URL)
	y.put("a.zip", pictures(t, 2))
	jobs := y.await(2)
	y.parked(1)
	to := gantry.Passage{Pipeline: int32(y.count(`select pipeline from task`)), Lane: int32(y.count(`select lane from task_hot`)), Within: time.Hour}
	if err := y.Store.Move(t.Context(), 1, to, "somebody"); err != nil {
		t.Fatal(err)
	}
	y.until("the jobs of the leg before are dropped, and two others are at work", 30*time.Second, func() bool {
		jobs = y.all()
		return len(jobs) == 4 && jobs[0].dropped && jobs[1].dropped && y.count(`select count(*) from part where status = 1 and leg = 1`) == 2 &&
			y.count(`select count(*) from part where out_limiter is not null`) == 2
	})
	y.answer(jobs[0], gantry.CallbackLate)
	y.parked(1)
	if err := y.Store.Pause(t.Context(), 1, "somebody", ""); err != nil {
		t.Fatal(err)
	}
	y.answer(jobs[2], gantry.CallbackAccepted)
	y.answer(jobs[3], gantry.CallbackAccepted)
	if _, err := y.Store.Resume(t.Context(), 1, "somebody"); err != nil {
		t.Fatal(err)
	}
	y.done(20 * time.Second)
	sum, err := audit.History(t.Context(), y.Store, postgres.Filter{}, func(v audit.Violation) error { t.Errorf("%+v", v); return nil })
	if err != nil || sum.Tasks != 1 {
		t.Errorf("%+v: %v", sum, err)
	}
	if _, err := audit.Limits(t.Context(), y.Store, "", time.Time{}, func(b audit.Breach) error { t.Errorf("%+v", b); return nil }); err != nil {
		t.Error(err)
	}
}
