package chaos

import (
	"context"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/gantry-imaging/gantry/internal/dimse"
	"github.com/gantry-imaging/gantry/internal/dimse/dimsetest"
)

// atArchive are the points that only a process that asks archives passes, atReport those at which it owes a peer a report.
var (
	atArchive = []string{"before_ask", "after_ask", "after_counted"}
	atReport  = []string{"after_owe", "before_settle"}
)

// askingPipeline collects a study until as many images are here as an archive has.
const askingPipeline = `gantry: v1
name: wire
sources: {modality: {kind: dicom, aet: GANTRY, listen: "127.0.0.1:%[1]d", commit: true, allow: [{aet: ECHO1, from: 127.0.0.0/8, report: "127.0.0.1:%[5]d"}]}}
group: {by: study, quiet: 10m, cap: 20m, expect: {kind: dicom, host: 127.0.0.1, port: %[4]d, aet: PACS, calling: GANTRY, steady: 100ms}}
extract: {frames: png, window: stored}
stages: [{name: enhance, call: enhance}]
processors: {enhance: {kind: http, url: "%[3]s/v1/enhance", timeout: 2s}}
sinks: {out: {kind: dir, path: "%[2]s"}}
retry: {attempts: 30, initial: 20ms, max: 100ms}
`

// newAskingWard is a ward whose archive is asked, and whose modality listens at an address for reports.
func newAskingWard(t *testing.T, reports int) *ward {
	t.Helper()
	w := &ward{dir: folder(t), port: dimsetest.FreePort(t), pacs: dimsetest.Orthanc(t, dimsetest.Settings{AET: "PACS"})}
	text := fmt.Sprintf(askingPipeline, w.port, folder(t), newService(t).url, w.pacs.Port, reports)
	if err := os.WriteFile(filepath.Join(w.dir, "wire.yaml"), []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	return w
}

// pass lets the time pass for which something is that of a process that is dead. It locks rows in the order in which processes do that
// are not.
func pass(t *testing.T, i *installation, table, column string) {
	t.Helper()
	if _, err := i.db.Exec(t.Context(), fmt.Sprintf(`update %[1]s set %[2]s = clock_timestamp()
		where id = any(array(select id from %[1]s where %[2]s > clock_timestamp() order by id for update))`, table, column)); err != nil {
		t.Errorf("let time pass: %v", err)
	}
}

// TestKillsWhileAsking kills a process between what it asks an archive, what it is told, and what it puts on record of that, with the first
// question about a study and with the second. Another asks again; each study is closed by its count, once, with all its images.
func TestKillsWhileAsking(t *testing.T) {
	w, i := newAskingWard(t, dimsetest.FreePort(t)), newCluster(t).install(t)
	studies := 0
	for n := 1; n <= 2; n++ {
		for _, point := range atArchive {
			study := dimsetest.NewStudy(t, perStudy, 32)
			studies++
			for _, file := range study.Files {
				w.pacs.Load(t, file)
			}
			p, taken := w.serve(t, i, fmt.Sprintf("GANTRY_FAIL=%s:kill:%d", point, n)), false
			eventually(t, 30*time.Second, "a death at "+point, func() bool {
				if !taken {
					taken = w.send(i, study)
				}
				time.Sleep(50 * time.Millisecond)
				return p.ended()
			})
			if !p.killed() {
				t.Fatalf("at %s it ended with %v\n%s", point, p.cmd.ProcessState, p.log.tail(2000))
			}
			pass(t, i, "collection", "ask_at")
			q := w.serve(t, i)
			eventually(t, 30*time.Second, "the study to be taken", func() bool { return taken || w.send(i, study) })
			eventually(t, time.Minute, "the task to be done", func() bool {
				time.Sleep(50 * time.Millisecond)
				return i.count(t, `select count(*) from task where parent is null and final_state = 5`) == studies
			})
			q.stop(t)
		}
	}
	if n := i.count(t, `select count(*) from collection where closed and revision = 0 and reason = 'expected' and arrivals = $1`, perStudy); n != studies {
		t.Errorf("%d of %d studies were closed by their count, whole and once", n, studies)
	}
	for _, what := range []string{"history", "limits"} {
		if out, err := i.command(nil, "verify", what).CombinedOutput(); err != nil {
			t.Errorf("verify %s: %v\n%.3000s", what, err, out)
		}
	}
}

// taker is a modality that is told what is committed.
type taker chan string

func (taker) Store(context.Context, dimse.StoreRequest) dimse.Response {
	return dimse.Response{Status: dimse.StatusProcessing}
}
func (taker) Commit(context.Context, dimse.Commitment) dimse.Response {
	return dimse.Response{Status: dimse.StatusProcessing}
}
func (k taker) Reported(_ context.Context, c dimse.Commitment) dimse.Response {
	k <- c.Transaction
	return dimse.Response{}
}
func (taker) Ended(error) {}

// ask asks for storage commitment, and tells whether the request was taken.
func (w *ward) ask(t *testing.T, transaction string) bool {
	t.Helper()
	conn, err := net.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", w.port))
	if err != nil {
		return false
	}
	a, err := dimse.Request(t.Context(), conn, dimse.Params{Calling: "ECHO1", Called: "GANTRY",
		Contexts: []dimse.Context{{Abstract: dimse.StorageCommitment, Transfer: []string{dimse.ImplicitLE}}}})
	if err != nil {
		return false
	}
	defer a.Abort()
	r, err := a.Commit(t.Context(), dimse.Commitment{Transaction: transaction, Instances: []dimse.Reference{{Class: "1.2.840.10008.5.1.4.1.1.2", Instance: "1.2.3"}}})
	return err == nil && r.Status == dimse.StatusSuccess
}

// TestKillsWhileReporting kills a process that owes a report: before it could say that it took the request, and after it made the report. Another
// process makes it, and it is owed no longer.
func TestKillsWhileReporting(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	told := make(taker, 16)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	s := &dimse.Server{Admit: func(context.Context, dimse.Proposal) (dimse.Terms, error) {
		return dimse.Terms{Handler: told, Accept: func(dimse.Context) int { return 0 }}, nil
	}}
	go func() { defer close(done); s.Serve(ctx, l, 0) }()
	t.Cleanup(func() { cancel(); <-done })
	w, i := newAskingWard(t, l.Addr().(*net.TCPAddr).Port), newCluster(t).install(t)
	for n, point := range atReport {
		transaction, taken := fmt.Sprintf("2.25.%d", n+1), false
		p := w.serve(t, i, "GANTRY_FAIL="+point+":kill:1")
		eventually(t, 30*time.Second, "a death at "+point, func() bool {
			taken = taken || !p.ended() && w.ask(t, transaction)
			time.Sleep(50 * time.Millisecond)
			return p.ended()
		})
		if !p.killed() || taken != (point == "before_settle") {
			t.Fatalf("at %s it ended with %v, taken: %v\n%s", point, p.cmd.ProcessState, taken, p.log.tail(2000))
		}
		for len(told) > 0 {
			<-told
		}
		pass(t, i, "debt", "due")
		q := w.serve(t, i)
		select {
		case got := <-told:
			if got != transaction {
				t.Errorf("at %s it was told of %s", point, got)
			}
		case <-time.After(30 * time.Second):
			t.Fatalf("at %s nobody was told", point)
		}
		eventually(t, 10*time.Second, "it to be owed no longer", func() bool {
			return i.count(t, `select count(*) from debt where due is null and request is null and given is null`) == n+1
		})
		q.stop(t)
	}
}
