package e2e

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/gantry-imaging/gantry/internal/dimse/dimsetest"
	"github.com/gantry-imaging/gantry/internal/models"
)

// shippedDICOM is pipelines/pacs.yaml with the addresses of a test, written for a process, and a short quiet period.
func shippedDICOM(t *testing.T, listen, pacs, report int, service string) string {
	t.Helper()
	src, err := os.ReadFile("../../pipelines/pacs.yaml")
	if err != nil {
		t.Fatal(err)
	}
	text := strings.NewReplacer("http://127.0.0.1:8095", service, "127.0.0.1:11112", fmt.Sprintf("127.0.0.1:%d", listen), "port: 4242", fmt.Sprintf("port: %d", pacs),
		"127.0.0.1:4243", fmt.Sprintf("127.0.0.1:%d", report), "quiet: 10s", "quiet: 1s").Replace(string(src))
	path := filepath.Join(folder(t), "pacs.yaml")
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	return path
}

// hospital is gantry between two Orthancs.
type hospital struct {
	installation
	listen         int
	modality, pacs *dimsetest.Archived
	gantry         *process
}

func newHospital(t *testing.T) *hospital {
	t.Helper()
	services := httptest.NewServer(models.Handler(models.Options{}))
	t.Cleanup(services.Close)
	h := &hospital{installation: install(t), listen: dimsetest.FreePort(t)}
	known := map[string]dimsetest.Modality{"gantry": {AET: "GANTRY", Port: h.listen}}
	h.modality = dimsetest.Orthanc(t, dimsetest.Settings{AET: "MODALITY", Modalities: known, More: map[string]any{"StrictAetComparison": true}, Args: []string{"--verbose"}})
	h.pacs = dimsetest.Orthanc(t, dimsetest.Settings{AET: "PACS", DICOMweb: true, Modalities: known, Args: []string{"--verbose"}})
	h.gantry = h.serve(t, shippedDICOM(t, h.listen, h.pacs.Port, h.modality.Port, services.URL))
	h.gantry.ready(t)
	return h
}

// ready waits until the process takes what is sent to it. Before that it refuses what comes as out of resources.
func (p *process) ready(t *testing.T) {
	t.Helper()
	url := regexp.MustCompile(`http://\S+/readyz`).FindString(p.log.tail(1 << 20))
	eventually(t, 20*time.Second, "gantry serve to be ready", func() bool {
		resp, err := http.Get(url)
		if err != nil {
			return false
		}
		resp.Body.Close()
		return resp.StatusCode == http.StatusOK
	})
}

// instance is what an archive says of one.
type instance struct {
	Study    string `json:"StudyInstanceUID"`
	Series   string `json:"SeriesInstanceUID"`
	UID      string `json:"SOPInstanceUID"`
	Class    string `json:"SOPClassUID"`
	Type     string `json:"ImageType"`
	Modality string
	Patient  string `json:"PatientID"`
}

// archived lists what the archive holds.
func (h *hospital) archived(t *testing.T) (all []instance) {
	t.Helper()
	for _, id := range h.pacs.Instances(t) {
		var x instance
		h.pacs.Get(t, "/instances/"+id+"/simplified-tags", &x)
		all = append(all, x)
	}
	return all
}

// TestHospital takes a study from a modality through the pipeline that ships, with its two models, to an archive; Orthanc is at both ends. The
// modality asks gantry to confirm what it keeps, and gantry the archive.
func TestHospital(t *testing.T) {
	const slicesOf = 5
	h := newHospital(t)
	study := dimsetest.NewStudy(t, slicesOf, 64)
	for _, f := range study.Files {
		h.modality.Load(t, f)
	}
	h.modality.Send(t, "gantry", h.modality.Studies(t)...)
	l := openLedger(t, h.installation)
	l.finishedWithin(t, 1, time.Minute)
	for _, x := range h.tasks(t) {
		if x.State != "done" {
			t.Fatalf("the task is %s: %+v", x.State, x.Error)
		}
	}
	h.results(t, h.archived(t), study)
	h.confirmed(t)
	h.proven(t)
}

// results wants a series of each model, with an object for each slice, in the study of the modality.
func (h *hospital) results(t *testing.T, got []instance, study dimsetest.Study) {
	t.Helper()
	series, classes := map[string]int{}, map[string]int{}
	for _, x := range got {
		series[x.Series]++
		classes[x.Class]++
		if x.Study != study.UID || x.Patient != "GANTRY-PHANTOM" || x.Modality != "CT" || !strings.HasPrefix(x.Type, `DERIVED\SECONDARY`) || slices.Contains(study.Instances, x.UID) {
			t.Errorf("the archive has %+v", x)
		}
	}
	n := len(study.Files)
	if len(got) != 2*n || len(series) != 2 || classes["1.2.840.10008.5.1.4.1.1.2"] != n {
		t.Errorf("the archive has %d instances in series %v of classes %v", len(got), series, classes)
	}
}

// confirmed has the modality ask gantry for storage commitment of all that it holds, and of an instance that gantry never saw.
func (h *hospital) confirmed(t *testing.T) {
	t.Helper()
	asked := lines(h.pacs.Output(), `\(dicom\).*(?i:commitment|N-ACTION|N-EVENT)`)
	if asked == "" {
		t.Error("the archive was asked for nothing")
	}
	said(t, "orthanc-archive", "Orthanc --verbose      # the archive, asked by gantry", asked)
	unknown := h.modality.Load(t, dimsetest.NewStudy(t, 1, 16).Files[0])
	kept := slices.DeleteFunc(h.modality.Instances(t), func(id string) bool { return id == unknown })
	for _, x := range []struct {
		status string
		ids    []string
	}{{"Success", kept}, {"Failure", []string{kept[0], unknown}}} {
		status, ids := x.status, x.ids
		var asked, answer struct{ ID, Status string }
		h.modality.Post(t, "/modalities/gantry/storage-commitment", map[string]any{"Resources": ids}, &asked)
		eventually(t, 20*time.Second, "the answer about "+status, func() bool {
			h.modality.Get(t, "/storage-commitment/"+asked.ID, &answer)
			return answer.Status != "Pending"
		})
		if answer.Status != status {
			t.Errorf("asked about %d instances, gantry answered %s, not %s", len(ids), answer.Status, status)
		}
	}
	said(t, "orthanc-modality", "Orthanc --verbose      # the modality, which asks gantry", lines(h.modality.Output(), `\(dicom\).*(?i:commitment|N-ACTION|N-EVENT)`))
}
