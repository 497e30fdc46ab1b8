package app_test

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/gantry-imaging/gantry/internal/app"
	"github.com/gantry-imaging/gantry/internal/dicom"
	"github.com/gantry-imaging/gantry/internal/dimse"
	"github.com/gantry-imaging/gantry/internal/dimse/dimsetest"
	"github.com/gantry-imaging/gantry/internal/gantry"
	"github.com/gantry-imaging/gantry/internal/pipeline"
	"github.com/gantry-imaging/gantry/internal/postgres"
)

// holdReports holds what a task delivered.
func (c *clinic) holdReports(task string, want ...string) {
	c.yard.t.Helper()
	if diff := cmp.Diff(want, c.outputs(task)); diff != "" {
		c.yard.t.Errorf("reports (-want +got):\n%s", diff)
	}
}

// TestReporter sends a study, is parked, and delivers the report that comes, byte for byte, as soon as it is there: the next look
// would be minutes away.
func TestReporter(t *testing.T) {
	t.Parallel()
	c := newClinic(t, "within: 10m", "task")
	c.serve("")
	c.put("a.zip", studyOf(t, someStudy, 0, 3))
	c.waiting(3)
	began := time.Now()
	set := report(someStudy, "2.25.1", "nothing found", instanceOf(1))
	if s, err := c.deliver("REPORTER", "GANTRY", "2.25.1", set); err != nil || s != dimse.StatusSuccess {
		t.Fatalf("status %04X, %v", uint16(s), err)
	}
	task := c.done(20 * time.Second)
	t.Logf("done %s after the report was sent", time.Since(began).Round(time.Millisecond))
	c.holdReports(task.ID, "2.25.1")
	m, _ := manifestOf(t, c.out, task.ID)
	if b, err := os.ReadFile(filepath.Join(c.out, task.ID, filepath.FromSlash(m.Outputs[0].Path))); err != nil || string(b[len(b)-len(set):]) != string(set) {
		t.Errorf("the report was changed: %v", err)
	}
	c.holdOps(map[string]int{"submit ok": 1, "collect ok": 1})
	for _, x := range c.calls(postgres.Filter{}) {
		if x.Operation == "submit" && (x.RequestBytes == 0 || x.RequestSHA256 == "") || x.Operation == "collect" && (x.ResponseBytes < int64(len(set)) || x.ResponseSHA256 == "") {
			t.Errorf("a call without a trace: %+v", x)
		}
	}
}

// TestReportBeforeTheTicket takes reports that come before the images are all sent, and while the last of them is not
// acknowledged.
func TestReportBeforeTheTicket(t *testing.T) {
	t.Parallel()
	for _, at := range []int{1, 3} {
		t.Run(fmt.Sprint("at image ", at), func(t *testing.T) {
			t.Parallel()
			c := newClinic(t, "within: 10m", "task")
			c.stored = func(n int, instance string) dimse.Status {
				if n == at {
					c.sends("2.25.1", someStudy, instance)
				}
				return dimse.StatusSuccess
			}
			c.serve("")
			c.put("a.zip", studyOf(t, someStudy, 0, 3))
			c.holdReports(c.done(20*time.Second).ID, "2.25.1")
			c.holdOps(map[string]int{"submit ok": 1, "collect ok": 1})
		})
	}
}

// TestReportsCounted waits for two, and takes the same one twice as one.
func TestReportsCounted(t *testing.T) {
	t.Parallel()
	c := newClinic(t, "count: 2, within: 10m", "task")
	c.serve("")
	c.put("a.zip", studyOf(t, someStudy, 0, 2))
	c.waiting(2)
	c.sends("2.25.1", someStudy, instanceOf(0))
	c.sends("2.25.1", someStudy, instanceOf(0))
	time.Sleep(300 * time.Millisecond)
	c.parked(1)
	c.sends("2.25.2", someStudy)
	c.holdReports(c.done(20*time.Second).ID, "2.25.1", "2.25.2")
	if n := c.count(`select count(*) from inbox`); n != 2 {
		t.Errorf("%d reports on record, want 2", n)
	}
}

// TestReportsUntilQuiet takes as many as come.
func TestReportsUntilQuiet(t *testing.T) {
	t.Parallel()
	c := newClinic(t, "quiet: 1s, within: 10m", "task")
	c.serve("")
	c.put("a.zip", studyOf(t, someStudy, 0, 2))
	c.waiting(2)
	var want []string
	for i := range 4 {
		c.sends(fmt.Sprint("2.25.", i+1), someStudy, instanceOf(0))
		want = append(want, fmt.Sprint("2.25.", i+1))
		time.Sleep(400 * time.Millisecond)
	}
	began := time.Now()
	c.holdReports(c.done(20*time.Second).ID, want...)
	if took := time.Since(began); took > 5*time.Second {
		t.Errorf("it took %s though it was quiet for 1 s", took)
	}
}

// TestReportsOfParts gives each of the images its own report, in whatever order they come.
func TestReportsOfParts(t *testing.T) {
	t.Parallel()
	c := newClinic(t, "within: 10m", "part")
	c.serve("")
	c.put("a.zip", studyOf(t, someStudy, 0, 5))
	c.waiting(5)
	for _, i := range []int{3, 0, 4, 2, 1} {
		c.sends(fmt.Sprint("2.25.", i+1), someStudy, instanceOf(i))
	}
	task := c.done(20 * time.Second)
	c.holdReports(task.ID, "2.25.1", "2.25.2", "2.25.3", "2.25.4", "2.25.5")
	c.holdOps(map[string]int{"submit ok": 5, "collect ok": 5})
}

// TestRunReported has a run be called as well, by a model that answers while it still takes images.
func TestRunReported(t *testing.T) {
	t.Parallel()
	c := newClinic(t, "within: 10m", "part")
	c.stored = func(n int, instance string) dimse.Status {
		go c.sends(fmt.Sprint("2.25.", n), someStudy, instance)
		return dimse.StatusSuccess
	}
	c.open("")
	p, err := pipeline.Parse("test.yaml", []byte(c.text), c.drivers, c.Lookup)
	if err != nil {
		t.Fatal(err)
	}
	got, err := c.RunOnce(t.Context(), app.RunOptions{Pipeline: p, Inputs: []string{file(t, "a.zip", studyOf(t, someStudy, 0, 3))}, Out: c.out})
	if err != nil || len(got) != 1 || got[0].State != "done" {
		t.Fatalf("%+v, %v\n%s", got, err, c.log.text())
	}
	if n := len(c.outputs(got[0].ID)); n != 3 {
		t.Errorf("%d reports, want 3", n)
	}
	busy, err := net.Listen("tcp", c.listen)
	if err != nil {
		t.Fatal(err)
	}
	defer busy.Close()
	if _, err := c.RunOnce(t.Context(), app.RunOptions{Pipeline: p, Inputs: []string{file(t, "b.zip", studyOf(t, someStudy, 0, 1))}, Out: c.out}); gantry.CodeOf(err) != "listen" {
		t.Errorf("where another program listens: %v", err)
	}
}

// TestReportOfASource shares an AE title with a source: what somebody waits for goes to him, the rest to the source.
func TestReportOfASource(t *testing.T) {
	t.Parallel()
	c := newClinic(t, "within: 10m", "task")
	c.text = strings.Replace(c.text, "sources: {", fmt.Sprintf("sources: {modality: {kind: dicom, aet: GANTRY, listen: %q}, ", c.listen), 1)
	c.serve("")
	c.put("a.zip", studyOf(t, someStudy, 0, 1))
	c.waiting(1)
	c.sends("2.25.1", "2.25.404") // nobody's: the source's
	c.until("the source took it", 20*time.Second, func() bool { return c.count(`select count(*) from arrival`) == 2 })
	c.sends("2.25.2", someStudy, instanceOf(0))
	c.until("the task is done", 20*time.Second, func() bool { return c.count(`select count(*) from task where final_state = 5`) >= 1 })
	if n := c.count(`select count(*) from arrival`); n != 2 {
		t.Errorf("%d arrivals, want 2", n)
	}
}

// TestManyReports has a thousand parts wait: they cost neither a goroutine nor a statement. It runs alone, for it counts goroutines.
func TestManyReports(t *testing.T) {
	const n = 1000
	c := newClinic(t, "within: 1h", "part")
	c.serve("")
	before := runtime.NumGoroutine()
	c.put("a.zip", studyOf(t, someStudy, 0, n/2))
	c.put("b.zip", studyOf(t, "2.25.9009", n/2, n/2))
	c.until("all are out", 60*time.Second, func() bool { return c.count(`select count(*) from part where status = 1`) == n })
	c.parked(2)
	seqs := func() int { return c.count(`select sum(seq) from task_hot`) }
	was := seqs()
	time.Sleep(3 * time.Second)
	if now := seqs(); now != was {
		t.Errorf("tasks moved %d times while nothing came", now-was)
	}
	if now := runtime.NumGoroutine(); now > before+60 {
		t.Errorf("%d goroutines wait, %d before", now, before)
	}
	for i := range 4 {
		c.sends(fmt.Sprint("2.25.", i+1), someStudy, instanceOf(i))
	}
	c.until("four are in", 20*time.Second, func() bool { return c.count(`select count(*) from part where status = 2`) == 4 })
	if got := c.images(); got != n {
		t.Errorf("%d images were sent, want %d", got, n)
	}
}

// TestReporterOfTools has dcmtk's storescp take the images and, at the end of the study, dcmtk's storescu send a report back.
func TestReporterOfTools(t *testing.T) {
	t.Parallel()
	storescu, err := dimsetest.Find("storescu")
	if err != nil {
		t.Fatal(err)
	}
	c := newClinic(t, "within: 10m", "task")
	dir := t.TempDir()
	sr := append(dicom.FileMeta{Class: classSR, Instance: "2.25.1", Syntax: dimse.ExplicitLE}.Append(nil), report(someStudy, "2.25.1", "nothing found", instanceOf(0))...)
	if err := os.WriteFile(filepath.Join(dir, "sr.dcm"), sr, 0o644); err != nil {
		t.Fatal(err)
	}
	host, port, _ := net.SplitHostPort(c.listen)
	script := filepath.Join(dir, "answer.sh")
	text := fmt.Sprintf("#!/bin/sh\nexec %s -aet REPORTER -aec GANTRY %s %s %s\n", storescu, host, port, filepath.Join(dir, "sr.dcm"))
	if err := os.WriteFile(script, []byte(text), 0o755); err != nil {
		t.Fatal(err)
	}
	peer := dimsetest.Storescp(t, dimsetest.SCP{AET: "REPORTER", Args: []string{"--eostudy-timeout", "1", "--sort-conc-studies", "S", "--exec-on-eostudy", script}})
	_, own, _ := net.SplitHostPort(c.addr)
	c.text = strings.Replace(c.text, "port: "+own, fmt.Sprint("port: ", peer.Port), 1)
	c.serve("")
	c.put("a.zip", studyOf(t, someStudy, 0, 3))
	c.holdReports(c.done(40*time.Second).ID, "2.25.1")
	c.holdOps(map[string]int{"submit ok": 1, "collect ok": 1})
}
