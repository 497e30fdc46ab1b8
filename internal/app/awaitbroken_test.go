package app_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/gantry-imaging/gantry/internal/dimse"
)

// TestStrangeReports takes nothing that is not for the task: of another study, about other images, by another caller, or to
// another title.
func TestStrangeReports(t *testing.T) {
	t.Parallel()
	c := newClinic(t, "within: 10m", "task")
	stop := c.serve("")
	c.put("a.zip", studyOf(t, someStudy, 0, 2))
	c.waiting(2)
	for name, x := range map[string]struct {
		calling, called string
		set             []byte
	}{
		"another study":  {"REPORTER", "GANTRY", report("2.25.404", "2.25.1", "x")},
		"other images":   {"REPORTER", "GANTRY", report(someStudy, "2.25.1", "x", "2.25.404")},
		"another caller": {"SOMEBODY", "GANTRY", report(someStudy, "2.25.1", "x")},
		"another title":  {"REPORTER", "OTHER", report(someStudy, "2.25.1", "x")},
	} {
		if s, err := c.deliver(x.calling, x.called, "2.25.1", x.set); err == nil && s.Class() != dimse.Failure {
			t.Errorf("%s: status %04X", name, uint16(s))
		}
	}
	if n := c.count(`select count(*) from inbox`); n != 0 {
		t.Errorf("%d were kept", n)
	}
	c.sends("2.25.2", someStudy, instanceOf(1))
	c.holdReports(c.done(20*time.Second).ID, "2.25.2")
	stop()
	if n := c.count(`select count(*) from control_traffic where error_code = 'nobody_takes_it'`); n != 2 {
		t.Errorf("%d rows of what was not taken, want 2", n)
	}
	if n := c.count(`select count(*) from control_traffic where error_code in ('called_ae', 'calling_ae')`); n != 2 {
		t.Errorf("%d rows of who was turned away, want 2", n)
	}
}

// TestNoReport gives up at the deadline, as often as there are tries; a report that comes then is late and changes nothing.
func TestNoReport(t *testing.T) {
	t.Parallel()
	c := newClinic(t, "within: 1s", "task")
	c.serve("")
	c.put("a.zip", studyOf(t, someStudy, 0, 1))
	task := c.ended(1, 30*time.Second)[0]
	if task.State != "failed" || task.Error == nil || task.Error.Code != "no_answer" || task.Error.Kind != "timeout" {
		t.Errorf("it ended %s: %+v", task.State, task.Error)
	}
	c.holdOps(map[string]int{"submit ok": 3})
	c.sends("2.25.1", someStudy, instanceOf(0))
	c.sends("2.25.1", someStudy, instanceOf(0))
	if n := c.count(`select count(*) from inbox where verdict = 1`); n != 1 {
		t.Errorf("%d late reports on record, want 1", n)
	}
	if n := c.count(`select count(*) from item where stage >= 0`); n != 0 {
		t.Errorf("%d items were made of it", n)
	}
}

// TestReportBetweenTries takes what comes after a try was given up and before the next one: nothing is sent again for it.
func TestReportBetweenTries(t *testing.T) {
	t.Parallel()
	c := newClinic(t, "within: 10m", "task")
	c.stored = func(n int, instance string) dimse.Status {
		if n == 2 { // the answer comes, and then the store breaks
			c.sends("2.25.1", someStudy, instanceOf(0))
			return dimse.StatusProcessing
		}
		return dimse.StatusSuccess
	}
	c.serve("")
	c.put("a.zip", studyOf(t, someStudy, 0, 2))
	c.holdReports(c.done(20*time.Second).ID, "2.25.1")
	if n := c.images(); n != 2 {
		t.Errorf("%d images were sent, want 2", n)
	}
	c.holdOps(map[string]int{"submit failed": 1, "submit ok": 1, "collect ok": 1})
}

// TestRestartWhileReported ends the process without a word while its parts are out. What follows goes on from the rows: nothing is sent
// again, and the reports find their parts.
func TestRestartWhileReported(t *testing.T) {
	t.Parallel()
	c := newClinic(t, "within: 10m", "part")
	stop := c.serve("")
	c.put("a.zip", studyOf(t, someStudy, 0, 4))
	c.waiting(4)
	c.sends("2.25.1", someStudy, instanceOf(0))
	c.until("it is taken", 20*time.Second, func() bool { return c.count(`select count(*) from part where status = 2`) == 1 })
	second := report(someStudy, "2.25.2", "nothing found", instanceOf(1))
	c.gone.Store(true)
	c.App.Store.Close()
	if s, err := c.deliver("REPORTER", "GANTRY", "2.25.2", second); err == nil && s != dimse.StatusOutOfResources {
		t.Errorf("without a database the report was answered by %04X", uint16(s))
	}
	c.kill(stop)
	if _, err := c.deliver("REPORTER", "GANTRY", "2.25.2", second); err == nil {
		t.Error("a process that is gone takes reports")
	}
	c.serve("")
	for i := range 3 {
		c.sends(fmt.Sprint("2.25.", i+2), someStudy, instanceOf(i+1))
	}
	c.holdReports(c.done(30*time.Second).ID, "2.25.1", "2.25.2", "2.25.3", "2.25.4")
	if n := c.images(); n != 4 {
		t.Errorf("%d images were sent, want 4", n)
	}
}

// TestCancelledWhileReported ends the wait; what comes then is late.
func TestCancelledWhileReported(t *testing.T) {
	t.Parallel()
	c := newClinic(t, "within: 10m", "task")
	c.serve("")
	c.put("a.zip", studyOf(t, someStudy, 0, 1))
	c.waiting(1)
	if err := c.App.Store.Cancel(t.Context(), 1, "somebody"); err != nil {
		t.Fatal(err)
	}
	c.until("it holds no unit", 30*time.Second, func() bool { return c.count(`select count(*) from part where out_limiter is not null`) == 0 })
	c.sends("2.25.1", someStudy, instanceOf(0))
	if n := c.count(`select count(*) from inbox where verdict = 1`); n != 1 {
		t.Errorf("%d late reports on record, want 1", n)
	}
}
