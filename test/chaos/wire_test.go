package chaos

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/gantry-imaging/gantry/internal/dimse/dimsetest"
)

// atWire are the points that only a process with DICOM peers passes.
var atWire = []string{"after_received", "before_confirm", "after_confirm"}

// wirePipeline takes a study from a modality and brings what is made of it to an archive that confirms.
const wirePipeline = `gantry: v1
name: wire
sources: {modality: {kind: dicom, aet: GANTRY, listen: "127.0.0.1:%[1]d", allow: [{aet: ECHO1, from: 127.0.0.0/8}, {aet: PACS, from: 127.0.0.0/8}]}}
group: {by: study, count: %[2]d, cap: 10m}
extract: {frames: png, window: stored}
stages: [{name: enhance, call: enhance}]
processors: {enhance: {kind: http, url: "%[3]s/v1/enhance", timeout: 2s}}
sinks: {pacs: {kind: dicom, host: 127.0.0.1, port: %[4]d, aet: PACS, calling: GANTRY, rejoin: original, commit: true, listen: "127.0.0.1:%[1]d"}}
retry: {attempts: 30, initial: 20ms, max: 100ms}
`

// perStudy is how many images a study has.
const perStudy = 3

// ward is a modality, an archive, and what is between them.
type ward struct {
	dir  string
	port int
	pacs *dimsetest.Archived
}

func newWard(t *testing.T) *ward {
	t.Helper()
	w := &ward{dir: folder(t), port: dimsetest.FreePort(t)}
	w.pacs = dimsetest.Orthanc(t, dimsetest.Settings{AET: "PACS", Modalities: map[string]dimsetest.Modality{"gantry": {AET: "GANTRY", Port: w.port}}})
	text := fmt.Sprintf(wirePipeline, w.port, perStudy, newService(t).url, w.pacs.Port)
	if err := os.WriteFile(filepath.Join(w.dir, "wire.yaml"), []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	return w
}

func (w *ward) serve(t *testing.T, i *installation, env ...string) *process {
	return i.start(t, env, "serve", "--pipelines", w.dir, "--listen", "127.0.0.1:0", "--lease", lease.String())
}

// send tells whether all images of a study were taken.
func (w *ward) send(i *installation, s dimsetest.Study) bool {
	args := slices.Concat([]string{"send", fmt.Sprintf("127.0.0.1:%d", w.port)}, s.Files, []string{"--called", "GANTRY", "--calling", "ECHO1"})
	return i.command(nil, args...).Run() == nil
}

// TestKillsOnTheWire kills a process between what it takes from a modality, or asks of an archive, and what it puts on record, each
// point twice. A modality sends until it is told that all is taken; then each study is one task, done, and the archive has
// each result once and has confirmed it.
func TestKillsOnTheWire(t *testing.T) {
	w, i := newWard(t), newCluster(t).install(t)
	studies := map[string]bool{}
	for pass := 1; pass <= 2; pass++ {
		for _, point := range atWire {
			study := dimsetest.NewStudy(t, perStudy, 32)
			studies[study.UID] = true
			n := 1
			if point == "after_received" {
				n = pass
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
			q := w.serve(t, i)
			eventually(t, 30*time.Second, "the study to be taken", func() bool { return taken || w.send(i, study) })
			eventually(t, time.Minute, "the task to be done", func() bool {
				time.Sleep(50 * time.Millisecond)
				return i.count(t, `select count(*) from task where parent is null and final_state = 5`) == len(studies)
			})
			q.stop(t)
		}
	}
	w.whole(t, i, studies)
}

// whole wants one result of each image at the archive, and nothing else anywhere.
func (w *ward) whole(t *testing.T, i *installation, studies map[string]bool) {
	t.Helper()
	uids := map[string]bool{}
	for _, id := range w.pacs.Instances(t) {
		var x struct{ StudyInstanceUID, SOPInstanceUID, ImageType string }
		w.pacs.Get(t, "/instances/"+id+"/simplified-tags", &x)
		uids[x.SOPInstanceUID] = true
		if !studies[x.StudyInstanceUID] || !strings.HasPrefix(x.ImageType, `DERIVED\SECONDARY`) {
			t.Errorf("the archive has %+v", x)
		}
	}
	if want := perStudy * len(studies); len(uids) != want || i.count(t, `select count(*) from arrival where status = 0`) != want {
		t.Errorf("the archive has %d results, and %d images are on record, of %d", len(uids), i.count(t, `select count(*) from arrival where status = 0`), want)
	}
	if n := i.count(t, `select count(*) from task where parent is null`); n != len(studies) {
		t.Errorf("%d tasks of %d studies", n, len(studies))
	}
	for _, what := range []string{"history", "limits"} {
		if out, err := i.command(nil, "verify", what).CombinedOutput(); err != nil {
			t.Errorf("verify %s: %v\n%.3000s", what, err, out)
		}
	}
}
