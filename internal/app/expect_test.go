package app_test

import (
	"bytes"
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/gantry-imaging/gantry/internal/api"
	"github.com/gantry-imaging/gantry/internal/dicom"
	"github.com/gantry-imaging/gantry/internal/dimse/dimsetest"
	"github.com/gantry-imaging/gantry/internal/gantry"
	"github.com/gantry-imaging/gantry/internal/postgres"
)

// pacs is an archive that is asked over DICOMweb, which says of every study what it is told to.
type pacs struct {
	*httptest.Server
	holds  atomic.Int64 // below 0: it is broken; 0: it knows no study
	asked  atomic.Int64
	slow   time.Duration
	mu     sync.Mutex
	inside int
	most   int
}

func newPACS(t *testing.T) *pacs {
	t.Helper()
	p := &pacs{}
	p.Server = httptest.NewServer(http.HandlerFunc(p.serve))
	t.Cleanup(p.Close)
	return p
}

func (p *pacs) serve(w http.ResponseWriter, r *http.Request) {
	p.asked.Add(1)
	p.mu.Lock()
	p.inside++
	p.most = max(p.most, p.inside)
	p.mu.Unlock()
	defer func() {
		p.mu.Lock()
		p.inside--
		p.mu.Unlock()
	}()
	if p.slow > 0 {
		time.Sleep(p.slow)
	}
	n := p.holds.Load()
	switch {
	case n < 0:
		w.WriteHeader(http.StatusInternalServerError)
	case n == 0:
		fmt.Fprint(w, "[]")
	default:
		fmt.Fprintf(w, `[{"0020000D":{"vr":"UI","Value":[%q]},"00201208":{"vr":"IS","Value":[%d]}}]`, r.URL.Query().Get("StudyInstanceUID"), n)
	}
}

func (p *pacs) group(more string) string {
	return fmt.Sprintf(`{by: study, expect: {kind: dicomweb, url: %q, steady: 300ms, timeout: 2s}, %s}`, p.URL, more)
}

// expecting waits until the archive of the only collection has said a number for long enough.
func (r *rig) expecting(n int) {
	r.t.Helper()
	r.eventually("the archive's count is not believed", func() bool {
		return r.count(`select count(*) from collection where counted = $1 and asked_at - counted_at >= interval '300 ms'`, n) == 1
	})
}

// otherStudies are n files, each of a study of its own; at most 9.
func otherStudies(t *testing.T, n int) (files [][]byte) {
	t.Helper()
	file := study(t, 1)[0]
	tags, err := dicom.Tags(bytes.NewReader(file), int64(len(file)))
	if err != nil {
		t.Fatal(err)
	}
	uid := tags["StudyInstanceUID"]
	for digit := byte('0'); len(files) < n; digit++ {
		if digit != uid[len(uid)-1] {
			files = append(files, otherStudy(t, file, digit))
		}
	}
	return files
}

// TestExpectedStudy: once the archive has said how many there are for long enough, the last file makes the task, at once; a late one makes
// another of all. The questions are on record, and no UID is in the log.
func TestExpectedStudy(t *testing.T) {
	t.Parallel()
	s := serve(t, scoring)
	r := newRig(t, nil)
	p := newPACS(t)
	p.holds.Store(4)
	inbox, stop := r.serving(collecting(s.URL, p.group("cap: 1h, quiet: 20m")))
	files := study(t, 5)
	put(t, inbox, "a/0.dcm", files[0])
	r.expecting(4)
	put(t, inbox, "a/1.dcm", files[1])
	put(t, inbox, "b/copy-of-1.dcm", slices.Concat(files[1])) // the same instance at another place
	put(t, inbox, "a/2.dcm", files[2])
	r.arrived(4)
	if n := len(r.tasks()); n != 0 {
		t.Fatalf("%d tasks with three of four instances", n)
	}
	put(t, inbox, "a/3.dcm", files[3])
	r.wantSets("a/0.dcm a/1.dcm a/2.dcm a/3.dcm b/copy-of-1.dcm")
	ms := r.number(`select (extract(epoch from t.created_at - c.last_at) * 1000)::int from task t join collection c on c.id = t.collection`)
	if t.Logf("from the last file to the task: %d ms", ms); ms > 2000 {
		t.Error("nobody was told that a collection is complete")
	}
	p.holds.Store(6)
	put(t, inbox, "a/4.dcm", files[4])
	r.expecting(6)
	list, err := r.Collections(t.Context(), api.CollectionFilter{Limit: 10})
	if err != nil || len(list) != 2 || list[0].Expected != 6 || list[0].Held != 5 || list[0].Members != 6 || list[0].Why != "cap" || list[0].Asks < 2 || list[0].AskedAt == nil ||
		list[1].Expected != 4 || list[1].Held != 4 || list[1].Members != 5 || list[1].Why != "expected" {
		t.Errorf("%+v, %v", list, err)
	}
	stop()
	rows, err := r.Store.ControlTraffic(t.Context(), postgres.Filter{Pipeline: "collecting", Boundary: gantry.AtArchive.String()})
	if err != nil || len(rows) == 0 || rows[0].Target != p.URL || rows[0].Requests < 3 || rows[0].Failures != 0 {
		t.Errorf("on record: %+v, %v", rows, err)
	}
	tags, err := dicom.Tags(bytes.NewReader(files[0]), int64(len(files[0])))
	if err != nil || strings.Contains(r.log.text(), tags["StudyInstanceUID"]) {
		t.Errorf("the log holds the study's UID, or it has none: %v", err)
	}
}

// TestExpectedFromAnother: what one process took in, another asks about and closes.
func TestExpectedFromAnother(t *testing.T) {
	t.Parallel()
	s := serve(t, scoring)
	r := newRig(t, nil)
	p := newPACS(t)
	p.holds.Store(-1)
	inbox, stop := r.serving(collecting(s.URL, p.group("cap: 1h")))
	files := study(t, 2)
	put(t, inbox, "0.dcm", files[0])
	put(t, inbox, "1.dcm", files[1])
	r.arrived(2)
	stop()
	p.holds.Store(2)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- r.Work(ctx, nil) }()
	r.wantSets("0.dcm 1.dcm")
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
	if n := r.number(`select count(*) from collection where closed and reason = 'expected'`); n != 1 {
		t.Errorf("%d closed by the count", n)
	}
}

// TestArchiveAway: an archive that fails closes nothing and stops nothing; each failure is on record, and it is left alone for longer and longer.
func TestArchiveAway(t *testing.T) {
	t.Parallel()
	s := serve(t, scoring)
	r := newRig(t, nil)
	p := newPACS(t)
	p.holds.Store(-1)
	inbox, stop := r.serving(collecting(s.URL, p.group("quiet: 3s")))
	for i, file := range otherStudies(t, 6) {
		put(t, inbox, fmt.Sprintf("%d.dcm", i), file)
	}
	r.wantSets("0.dcm", "1.dcm", "2.dcm", "3.dcm", "4.dcm", "5.dcm")
	if n := r.number(`select count(*) from collection where closed and reason = 'quiet'`); n != 6 {
		t.Errorf("%d closed by quiet", n)
	}
	stop()
	asked := p.asked.Load()
	rows, err := r.Store.ControlTraffic(t.Context(), postgres.Filter{Boundary: gantry.AtArchive.String(), Outcome: "failed"})
	if err != nil || int64(len(rows)) != asked || asked < 2 || asked > 24 {
		t.Errorf("%d failures of %d questions are on record: %v", len(rows), asked, err)
	}
	for _, x := range rows {
		if x.ErrorCode != "refused" || x.ErrorKind != "transient" {
			t.Errorf("%+v", x)
		}
	}
}

// TestQuestionsAtOnce: no more than at_once are put to an archive at once, and all are put.
func TestQuestionsAtOnce(t *testing.T) {
	t.Parallel()
	s := serve(t, scoring)
	r := newRig(t, nil)
	p := newPACS(t)
	p.holds.Store(1)
	p.slow = 100 * time.Millisecond
	inbox, _ := r.serving(collecting(s.URL, fmt.Sprintf(`{by: study, expect: {kind: dicomweb, url: %q, steady: 1ms, at_once: 2}, cap: 1h}`, p.URL)))
	var want []string
	for i, file := range otherStudies(t, 7) {
		name := fmt.Sprintf("%d.dcm", i)
		put(t, inbox, name, file)
		want = append(want, name)
	}
	r.wantSets(want...)
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.most != 2 {
		t.Errorf("%d questions at once", p.most)
	}
}

// TestExpectedOverDICOM asks Orthanc, which has the whole study, while it comes in by files.
func TestExpectedOverDICOM(t *testing.T) {
	t.Parallel()
	o := dimsetest.Orthanc(t, dimsetest.Settings{})
	ct := dimsetest.NewStudy(t, 12, 64)
	for _, f := range ct.Files {
		o.Load(t, f)
	}
	s := serve(t, scoring)
	r := newRig(t, nil)
	inbox, _ := r.serving(collecting(s.URL, fmt.Sprintf(`{by: study, cap: 1h, expect: {kind: dicom, host: 127.0.0.1, port: %d, aet: ORTHANC, steady: 300ms}}`, o.Port)))
	var names []string
	for i, f := range ct.Files {
		b, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		if i == len(ct.Files)-1 {
			r.expecting(len(ct.Files))
		}
		names = append(names, fmt.Sprintf("%02d.dcm", i))
		put(t, inbox, names[i], b)
	}
	r.wantSets(strings.Join(names, " "))
	if n := r.number(`select count(*) from collection where closed and reason = 'expected'`); n != 1 {
		t.Errorf("%d closed by the count", n)
	}
}
