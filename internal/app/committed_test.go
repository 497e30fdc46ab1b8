package app_test

import (
	"context"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/gantry-imaging/gantry/internal/dimse"
	"github.com/gantry-imaging/gantry/internal/dimse/dimsetest"
	"github.com/gantry-imaging/gantry/internal/driver/all"
	"github.com/gantry-imaging/gantry/internal/postgres"
)

// vault is an archive of our own that confirms when the test says so.
type vault struct {
	t      *testing.T
	port   int
	listen int // where it reports

	mu     sync.Mutex
	stores map[string]int                 // of each SOP Instance UID
	refuse func(uid string, nth int) bool // whether it is out of resources for an object that comes for the nth time; nil: it never is
	asked  []dimse.Commitment

	left, broken int // associations
}

func newVault(t *testing.T) *vault {
	t.Helper()
	v := &vault{t: t, stores: map[string]int{}, listen: dimsetest.FreePort(t)}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	v.port = l.Addr().(*net.TCPAddr).Port
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	s := &dimse.Server{Admit: func(context.Context, dimse.Proposal) (dimse.Terms, error) {
		return dimse.Terms{Handler: v, Accept: func(dimse.Context) int { return 0 }}, nil
	}}
	go func() { defer close(done); s.Serve(ctx, l, 0) }()
	t.Cleanup(func() { cancel(); <-done })
	return v
}

// Store counts an object.
func (v *vault) Store(_ context.Context, r dimse.StoreRequest) dimse.Response {
	if _, err := io.Copy(io.Discard, r.Data); err != nil {
		return dimse.Response{Status: dimse.StatusProcessing}
	}
	v.mu.Lock()
	v.stores[r.Instance]++
	n := v.stores[r.Instance]
	v.mu.Unlock()
	if v.refuse != nil && v.refuse(r.Instance, n) {
		return dimse.Response{Status: dimse.StatusOutOfResources}
	}
	return dimse.Response{Status: 0xB000}
}

// Commit takes a request.
func (v *vault) Commit(_ context.Context, c dimse.Commitment) dimse.Response {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.asked = append(v.asked, c)
	return dimse.Response{}
}

// Reported is nothing that it waits for.
func (v *vault) Reported(context.Context, dimse.Commitment) dimse.Response { return dimse.Response{} }

// Ended counts associations that were released, and those that broke off.
func (v *vault) Ended(err error) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if err == nil {
		v.left++
	} else {
		v.broken++
	}
}

// ends gives how many associations were released and how many broke off.
func (v *vault) ends() (left, broken int) {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.left, v.broken
}

func (v *vault) requests() []dimse.Commitment {
	v.mu.Lock()
	defer v.mu.Unlock()
	return append([]dimse.Commitment(nil), v.asked...)
}

// report answers a request on an association of its own: lost of the instances are not kept.
func (v *vault) report(calling string, c dimse.Commitment, lost int) dimse.Status {
	v.t.Helper()
	for _, r := range c.Instances[:lost] {
		c.Failed = append(c.Failed, dimse.Failed{Reference: r, Reason: 0x0112})
	}
	c.Instances = c.Instances[lost:]
	conn, err := net.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", v.listen))
	if err != nil {
		v.t.Fatal(err)
	}
	a, err := dimse.Request(v.t.Context(), conn, dimse.Params{Calling: calling, Called: "GANTRY",
		Contexts: []dimse.Context{{Abstract: dimse.StorageCommitment, Transfer: []string{dimse.ImplicitLE}, SCP: true}}})
	if err != nil {
		v.t.Fatal(err)
	}
	defer a.Abort()
	r, err := a.Report(v.t.Context(), c)
	if err != nil {
		v.t.Fatal(err)
	}
	return r.Status
}

// delivering is an installation whose one processor gives back what it gets, and whose sinks are a folder and an archive.
func delivering(t *testing.T, port, listen int, title, more string) *yard {
	y := newYard(t, 0, "", "")
	echo := serve(t, func(w http.ResponseWriter, r *http.Request, body []byte, _ int) {
		w.Header().Set("Content-Type", "application/dicom")
		w.Write(body)
	})
	y.drivers = all.Drivers()
	y.text = head("keep") + fmt.Sprintf(`
sources: {inbox: {kind: dir, path: %q, settle: 1ms}}
extract: {archives: [zip]}
stages: [{name: same, call: echo}]
processors: {echo: {kind: http, url: %q}}
sinks:
  out: {kind: dir, path: %q}
  pacs: {kind: dicom, host: 127.0.0.1, port: %d, aet: %s, send: [dicom], commit: true, listen: "127.0.0.1:%d"%s}
`, y.in, echo.URL, y.out, port, title, listen, more)
	return y
}

// studyZip is a study as one archive.
func studyZip(t *testing.T, slices int) []byte {
	t.Helper()
	var list []entry
	for i, name := range dimsetest.NewStudy(t, slices, 32).Files {
		b, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		list = append(list, entry{name: fmt.Sprintf("%d.dcm", i), body: b, stored: true})
	}
	return packed(t, list...)
}

// sinkCalls counts the calls of the archive by what they do.
func (y *yard) sinkCalls() map[string]int {
	y.t.Helper()
	rows, err := y.Store.Calls(y.t.Context(), postgres.Filter{Boundary: "sink"})
	if err != nil {
		y.t.Fatal(err)
	}
	n := map[string]int{}
	for _, r := range rows {
		if strings.Contains(r.Target, "dicom://") {
			n[r.Operation+" "+r.Outcome]++
		}
	}
	return n
}

// TestCommittedByAnotherProcess asks an archive in one process, which dies; the report comes to the next, which ends the task. While
// the answer is out nobody works on the task and no try is counted, and nothing is delivered twice.
func TestCommittedByAnotherProcess(t *testing.T) {
	v := newVault(t)
	y := delivering(t, v.port, v.listen, "VAULT", "")
	stop := y.serve("")
	y.put("study.zip", studyZip(t, 3))
	parked := func() bool {
		return y.count(`select count(*) from task_hot where state = 4 and phase = 2 and owner is null and attempt = 0`) == 1
	}
	y.until("the task is parked", 20*time.Second, parked)
	asked := v.requests()
	if len(asked) != 1 || len(asked[0].Instances) != 3 {
		t.Fatalf("asked %+v", asked)
	}
	why, err := y.Why(t.Context(), y.tasks()[0].ID)
	if err != nil || !strings.Contains(fmt.Sprint(why), "It waits for sink pacs to say whether it keeps the 3 files that it got") {
		t.Errorf("%+v, %v", why, err)
	}
	y.kill(stop)
	y.serve("")
	other := asked[0]
	other.Transaction = "2.25.1"
	if s := v.report("VAULT", other, 0); s != dimse.StatusNoSuchInstance {
		t.Errorf("a report that nobody asked for: %04X", s)
	}
	if !parked() {
		t.Error("the task is awake")
	}
	for range 2 { // the second tells nobody anything new
		if s := v.report("VAULT", asked[0], 0); s != dimse.StatusSuccess {
			t.Errorf("reported: %04X", s)
		}
	}
	if task := y.ended(1, 20*time.Second)[0]; task.State != "done" {
		t.Errorf("%+v\n%s", task, y.log.text())
	}
	for uid, n := range v.stores {
		if n != 1 {
			t.Errorf("object %s was sent %d times", uid, n)
		}
	}
	if n := y.sinkCalls(); len(v.stores) != 3 || n["put ok"] != 3 || n["confirm ok"] != 1 || n["callback ok"] != 1 || len(n) != 3 {
		t.Errorf("%d objects, calls %v", len(v.stores), n)
	}
	if n := y.count(`select count(*) from call_outcome o join call_intent i using (task_id, id) where i.boundary = 2 and i.op = 2 and o.status = 45056`); n != 3 {
		t.Errorf("%d of 3 warnings are on record", n)
	}
}

// TestNotCommitted sends again what the archive does not keep, and ends the task when it is still not kept.
func TestNotCommitted(t *testing.T) {
	v := newVault(t)
	y := delivering(t, v.port, v.listen, "VAULT", "")
	y.serve("")
	y.put("study.zip", studyZip(t, 3))
	for try := range 2 {
		y.until("the archive is asked", 20*time.Second, func() bool { return len(v.requests()) == try+1 })
		if s := v.report("VAULT", v.requests()[try], 2); s != dimse.StatusSuccess {
			t.Fatalf("reported: %04X", s)
		}
	}
	task := y.ended(1, 20*time.Second)[0]
	if task.State != "failed" || task.Error.Code != "not_committed" || !strings.Contains(task.Error.Message, "keeps 1 of the 3 files") {
		t.Errorf("%+v", task)
	}
	if n := y.sinkCalls(); n["put ok"] != 5 || n["confirm ok"] != 2 || n["callback failed"] != 2 {
		t.Errorf("calls %v", n)
	}
}

// sent gives how often each object came, the fewest first.
func (v *vault) sent() []int {
	v.mu.Lock()
	defer v.mu.Unlock()
	return slices.Sorted(maps.Values(v.stores))
}

// TestRefusedAloneIsSentAgain: of four objects the archive has no room for one, twice, and the process ends in between. That one is sent again, and
// the others are not; the archive is asked about all four, once it has them, and nothing is done before it answers.
func TestRefusedAloneIsSentAgain(t *testing.T) {
	v := newVault(t)
	var first atomic.Value
	v.refuse = func(uid string, nth int) bool {
		first.CompareAndSwap(nil, uid)
		if first.Load() != uid || nth > 2 {
			return false
		}
		for len(v.sent()) < 4 { // the others are there first
			time.Sleep(time.Millisecond)
		}
		return true
	}
	y := delivering(t, v.port, v.listen, "VAULT", ", associations: 4")
	y.text = strings.Replace(y.text, "initial: 1ms", "initial: 1s", 1)
	stop := y.serve("")
	y.put("study.zip", studyZip(t, 4))
	y.until("one was refused", 20*time.Second, func() bool {
		return y.count(`select count(*) from task_hot where state = 4 and attempt = 1`) == 1
	})
	stop()
	if n := len(v.requests()); n != 0 {
		t.Errorf("asked %d times before all is there", n)
	}
	y.serve("")
	y.until("the archive is asked", 20*time.Second, func() bool { return len(v.requests()) == 1 })
	if got := v.sent(); !slices.Equal(got, []int{1, 1, 1, 3}) {
		t.Errorf("the objects were sent %v times", got)
	}
	if got := v.requests()[0]; len(got.Instances) != 4 {
		t.Errorf("asked about %d", len(got.Instances))
	}
	if s := v.report("VAULT", v.requests()[0], 0); s != dimse.StatusSuccess {
		t.Errorf("reported: %04X", s)
	}
	if task := y.ended(1, 20*time.Second)[0]; task.State != "done" {
		t.Errorf("%+v\n%s", task, y.log.text())
	}
	if n := y.sinkCalls(); n["put ok"] != 4 || n["put failed"] != 2 || n["confirm ok"] != 1 {
		t.Errorf("calls %v", n)
	}
}

// TestReleasedAtTheEnd: the associations that a process kept for what comes next are released when it ends, and not before.
func TestReleasedAtTheEnd(t *testing.T) {
	v := newVault(t)
	y := delivering(t, v.port, v.listen, "VAULT", "")
	stop := y.serve("")
	y.put("study.zip", studyZip(t, 3))
	y.until("the archive is asked", 20*time.Second, func() bool { return len(v.requests()) == 1 })
	stop()
	if left, broken := v.ends(); left != 0 || broken != 0 {
		t.Errorf("before the end %d associations were released, %d broke off", left, broken)
	}
	began := time.Now()
	if err := y.App.Close(); err != nil {
		t.Error(err)
	}
	took := time.Since(began)
	y.until("the associations are over", 5*time.Second, func() bool { left, _ := v.ends(); return left > 0 })
	if left, broken := v.ends(); broken != 0 || took > 3*time.Second {
		t.Errorf("%d associations were released, %d broke off, in %s", left, broken, took)
	}
}

// TestCommittedByOrthanc goes the whole way with an archive that is not ours.
func TestCommittedByOrthanc(t *testing.T) {
	listen := dimsetest.FreePort(t)
	o := dimsetest.Orthanc(t, dimsetest.Settings{Modalities: map[string]dimsetest.Modality{"gantry": {AET: "GANTRY", Port: listen}}})
	y := delivering(t, o.Port, listen, "ORTHANC", "")
	y.serve("")
	y.put("study.zip", studyZip(t, 4))
	if task := y.ended(1, 30*time.Second)[0]; task.State != "done" {
		t.Errorf("%+v\n%s", task, y.log.text())
	}
	if n := len(o.Instances(t)); n != 4 {
		t.Errorf("Orthanc has %d objects", n)
	}
	if n := y.sinkCalls(); n["put ok"] != 4 || n["confirm ok"] != 1 || n["callback ok"] != 1 {
		t.Errorf("calls %v", n)
	}
	if n := y.count(`select max_units from limiter where key like 'dicom://%/ORTHANC'`); n != 4 {
		t.Errorf("%d associations at once, over all processes", n)
	}
	for _, secret := range []string{"2.25.", "1.2.826"} {
		if strings.Contains(y.log.text(), secret) {
			t.Errorf("the log says %s", secret)
		}
	}
}
