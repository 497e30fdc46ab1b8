package e2e

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/gantry-imaging/gantry/internal/dimse/dimsetest"
	"github.com/gantry-imaging/gantry/internal/models"
	"github.com/gantry-imaging/gantry/internal/sample"
)

// objectsPipeline sends every instance to a service that answers with what it got, and that to an archive.
const objectsPipeline = `gantry: v1
name: objects
sources: {modality: {kind: dicom, aet: GANTRY, listen: "127.0.0.1:%d"}}
stages: [{name: pass, call: mirror}]
processors: {mirror: {kind: http, url: %q, limits: {concurrency: 4}}}
sinks: {archive: {kind: dicom, host: 127.0.0.1, port: %d, aet: STORESCP}}
retry: {attempts: 2, initial: 100ms}
`

// objects are the valid ones of the corpus, or some of ours without it.
func objects(t *testing.T) []string {
	t.Helper()
	dir := os.Getenv("GANTRY_CORPUS")
	if dir == "" {
		s := dimsetest.NewStudy(t, 3, 64)
		loop := filepath.Join(s.Dir, "loop.dcm")
		if err := os.WriteFile(loop, sample.Ultrasound(4, 32, 32), 0o600); err != nil {
			t.Fatal(err)
		}
		return append(s.Files, loop)
	}
	b, err := os.ReadFile(filepath.Join(dir, "manifest.json"))
	if err != nil {
		t.Fatal(err)
	}
	var all []struct{ Path, Kind, Expect string }
	if err := json.Unmarshal(b, &all); err != nil {
		t.Fatal(err)
	}
	var files []string
	for _, x := range all {
		if x.Kind == "dicom" && strings.HasPrefix(x.Expect, "accept") {
			files = append(files, filepath.Join(dir, x.Path))
		}
	}
	return files
}

// dataset gives the digest of a Part 10 file after its file meta information (PS3.10 section 7.1).
func dataset(t *testing.T, file string) string {
	t.Helper()
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if len(b) < 144 || string(b[128:140]) != "DICM\x02\x00\x00\x00UL\x04\x00" {
		return "" // a file without the length of its meta information: it is told by what a peer makes of it
	}
	from := 144 + int(b[140]) | int(b[141])<<8 | int(b[142])<<16
	sum := sha256.Sum256(b[min(from, len(b)):])
	return hex.EncodeToString(sum[:])
}

// datasets lists the digests of files, sorted.
func datasets(t *testing.T, files []string) (all []string) {
	t.Helper()
	for _, f := range files {
		all = append(all, dataset(t, f))
	}
	slices.Sort(all)
	return slices.Compact(all)
}

// dcmsend sends files as they are to a peer and counts those that were answered with success.
func dcmsend(t *testing.T, title string, port int, files []string) (n int) {
	t.Helper()
	report := filepath.Join(t.TempDir(), "report")
	r := dimsetest.Run(t, "dcmsend", slices.Concat([]string{"-nh", "-dn", "-nuc", "-aec", title, "+crf", report, "127.0.0.1", fmt.Sprint(port)}, files)...)
	text, err := os.ReadFile(report)
	if err != nil {
		t.Fatalf("dcmsend made no report: %s", r.Output)
	}
	if m := regexp.MustCompile(`with status SUCCESS\s*:\s*(\d+)`).FindSubmatch(text); m != nil {
		n, _ = strconv.Atoi(string(m[1]))
	}
	return n
}

// mistaken is a file whose SOP class has VR UN: dcmsend 3.6.7 names no class in its command for it (Affected SOP Class UID "31"), and gantry refuses that
// with 0x0122, as it should. storescp takes it for a private object.
const mistaken = "explicit_VR-UN.dcm"

// TestObjects sends every valid object of the corpus by dcmsend to gantry, which sends it to a service and on to storescp: the data set that comes
// out has to be the one that came in, to the byte. The same objects go to storescp straight, which tells what dcmsend itself changes.
func TestObjects(t *testing.T) {
	services := httptest.NewServer(models.Handler(models.Options{}))
	t.Cleanup(services.Close)
	files := objects(t)
	straight := dimsetest.Storescp(t, dimsetest.SCP{Exact: true, Args: []string{"-q", "+uf", "-pm"}})
	archive := dimsetest.Storescp(t, dimsetest.SCP{Exact: true, Fork: true, Args: []string{"-q", "+uf", "-pm"}})
	i, listen := install(t), dimsetest.FreePort(t)
	p := i.serve(t, write(t, folder(t), "objects.yaml", fmt.Sprintf(objectsPipeline, listen, services.URL+"/v1/identity", archive.Port)))
	p.ready(t)
	taken, sent := dcmsend(t, "GANTRY", listen, files), dcmsend(t, "STORESCP", straight.Port, files)
	if slices.ContainsFunc(files, func(f string) bool { return filepath.Base(f) == mistaken }) {
		sent--
	}
	if taken != sent || sent == 0 {
		t.Errorf("gantry took %d of %d objects, storescp %d", taken, len(files), sent)
	}
	l := openLedger(t, i)
	n := l.count(t, `select count(*) from arrival`)
	eventually(t, 3*time.Minute, fmt.Sprintf("%d tasks to end", n), func() bool {
		return l.count(t, `select count(*) from task where final_state is not null`) >= n
	})
	came := strings.Fields(l.text(t, `select coalesce(string_agg(distinct version, ' ' order by version), '') from arrival`))
	went := datasets(t, archived(t, archive))
	t.Logf("%d of %d objects were sent and taken; %d of them came as other bytes than in their files, %d as other than to storescp straight", taken, len(files), missing(came, datasets(t, files)), missing(came, datasets(t, archived(t, straight))))
	if failed := l.text(t, `select coalesce(string_agg(error_code || ': ' || error, '; '), '') from task where final_state <> 5`); failed != "" {
		t.Errorf("tasks failed: %s", failed)
	}
	if !slices.Equal(came, went) {
		t.Errorf("%d data sets came, %d went on; %d did not, %d are others", len(came), len(went), missing(came, went), missing(went, came))
	}
}

func archived(t *testing.T, p *dimsetest.Peer) []string {
	t.Helper()
	files, err := p.Received()
	if err != nil {
		t.Fatal(err)
	}
	return files
}

// missing counts what of one list is not in another.
func missing(of, in []string) (n int) {
	for _, x := range of {
		if !slices.Contains(in, x) {
			n++
		}
	}
	return n
}
