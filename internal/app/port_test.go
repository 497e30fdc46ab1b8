package app_test

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/gantry-imaging/gantry/internal/dimse/dimsetest"
	"github.com/gantry-imaging/gantry/internal/driver/all"
	"github.com/gantry-imaging/gantry/internal/gantry"
	"github.com/gantry-imaging/gantry/internal/pipeline"
	"github.com/gantry-imaging/gantry/internal/postgres"
)

// gatehouse is a pipeline whose studies come over DICOM to GANTRY at an address; more stands in its source, and after it.
func gatehouse(name, url, listen, aet, source, more string) string {
	return head(name) + fmt.Sprintf(`
sources: {modality: {kind: dicom, aet: %s, listen: %q%s}}
%s
stages: [{name: score, call: score}]
sinks: {out: {kind: dir, path: "@OUT@"}}
processors: {score: {kind: http, url: "%s/score"}}
`, aet, listen, source, more, url)
}

// freeAddress gives an address that nobody listens at.
func freeAddress(t testing.TB) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

// dcmsend sends files or a folder to an AE title at an address.
func dcmsend(t testing.TB, listen, aet string, args ...string) dimsetest.Result {
	t.Helper()
	host, port, err := net.SplitHostPort(listen)
	if err != nil {
		t.Fatal(err)
	}
	return dimsetest.Run(t, "dcmsend", append([]string{"-v", "-aec", aet, host, port, "--no-halt", "+sd"}, args...)...)
}

// dataset is a Part 10 file without its file meta information.
func dataset(t testing.TB, file []byte) []byte {
	t.Helper()
	n := int(file[140]) | int(file[141])<<8
	if len(file) < 144+n || string(file[128:132]) != "DICM" {
		t.Fatal("no Part 10 file with a group length")
	}
	return file[144+n:]
}

// TestReceiveStudy: a study that comes over DICOM is one task, whose originals are the very data sets, and each instance is on
// record with its digest before the study is done. It comes again, and nothing happens.
func TestReceiveStudy(t *testing.T) {
	t.Parallel()
	listen := freeAddress(t)
	f := newFront(t, nil, gatehouse("us", serve(t, scoring).URL, listen, "GANTRY", "", "group: {by: study, quiet: 400ms}"))
	s := dimsetest.NewStudy(t, 6, 64)
	for range 2 {
		if r := dcmsend(t, listen, "GANTRY", s.Dir); r.Exit != 0 {
			t.Fatal(r.Output)
		}
	}
	task := f.until("done", func(x postgres.TaskRow) bool { return x.State == "done" })
	if n := f.count(`select count(*) from arrival where status = 0`); n != 6 || task.Pipeline != "us" {
		t.Errorf("%d arrivals", n)
	}
	originals, err := f.Store.Originals(t.Context(), taskKey(f.rig, task.ID))
	if err != nil || len(originals) != 6 {
		t.Fatalf("%d originals: %v", len(originals), err)
	}
	sums := map[string]bool{}
	for _, file := range s.Files {
		b, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		sums[fmt.Sprintf("%x", sha256.Sum256(dataset(t, b)))] = true
	}
	for _, o := range originals {
		if !sums[o.Version] {
			t.Errorf("version %s is the digest of none of them", o.Version)
		}
	}
	rows, err := f.Store.Calls(t.Context(), postgres.Filter{Boundary: "source"})
	if err != nil || len(rows) != 12 {
		t.Fatalf("%d calls are on record: %v", len(rows), err)
	}
	for _, c := range rows {
		if c.Outcome != "ok" || !sums[c.ResponseSHA256] || c.ResponseBytes < 8000 || c.Source != "us/modality" || c.Target != "dicom-scp://"+listen+"/GANTRY" {
			t.Errorf("%+v", c)
		}
	}
	f.eventually("the status of the source does not say what came", func() bool {
		list, err := f.Sources(t.Context())
		if err != nil || len(list) != 1 {
			return false
		}
		told := map[string]int64{}
		for _, c := range list[0].Channels {
			told[c.Channel] = c.Told
		}
		return list[0].Arrivals.Accepted == 6 && told["c-store"] == 6 && told["accepted"] == 2 && told["released"] == 2
	})
	for _, uid := range append(slices.Clone(s.Instances), s.UID) {
		if strings.Contains(f.log.text(), uid) {
			t.Fatal("the log names an instance or a study")
		}
	}
}

// TestReceiveAgain: of what comes again, only what came before it was known that things do is written again.
func TestReceiveAgain(t *testing.T) {
	t.Parallel()
	listen := freeAddress(t)
	f := newFront(t, nil, gatehouse("us", serve(t, scoring).URL, listen, "GANTRY", "", "group: {by: study, quiet: 1h}"))
	s := dimsetest.NewStudy(t, 6, 64)
	for _, what := range []string{s.Dir, s.Dir, s.Dir, changed(t, s.Files[0])} {
		if r := dcmsend(t, listen, "GANTRY", what); r.Exit != 0 {
			t.Fatal(r.Output)
		}
	}
	if n := f.count(`select count(*) from arrival`); n != 7 {
		t.Fatalf("%d arrivals", n)
	}
	at := func(nth int) int64 {
		return int64(f.count(fmt.Sprintf(`select split_part(location, '/', 4)::bigint from arrival where location like 'seg/%%' order by id limit 1 offset %d`, nth)))
	}
	if each := at(1) - at(0); each <= 0 || at(6) != at(0)+7*each {
		t.Errorf("the seventh version lies at %d, the first at %d, each takes %d", at(6), at(0), each)
	}
	if n := f.count(`select count(*) from call_intent i join arrival a on a.id = i.arrival where i.boundary = 0`); n != 19 {
		t.Errorf("%d receipts are of arrivals on record", n)
	}
}

func taskKey(r *rig, id string) (key gantry.TaskID) {
	x, err := r.Store.TaskByID(r.t.Context(), id)
	if err != nil {
		r.t.Fatal(err)
	}
	return gantry.TaskID(x.Key)
}

// changed is a copy of a file with another last byte of its pixels.
func changed(t testing.TB, file string) string {
	t.Helper()
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	b = bytes.Clone(b)
	b[len(b)-1] ^= 1
	path := filepath.Join(t.TempDir(), "changed.dcm")
	if err := os.WriteFile(path, b, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// TestReceiveRevised: other bytes under a UID that came are kept beside the first, and take their place: in the open
// collection, and in a further revision of the one that is closed.
func TestReceiveRevised(t *testing.T) {
	t.Parallel()
	listen := freeAddress(t)
	f := newFront(t, nil, gatehouse("us", serve(t, scoring).URL, listen, "GANTRY", "", "group: {by: study, quiet: 2s}"))
	s := dimsetest.NewStudy(t, 2, 64)
	for _, what := range []string{s.Dir, changed(t, s.Files[0])} {
		if r := dcmsend(t, listen, "GANTRY", what); r.Exit != 0 {
			t.Fatal(r.Output)
		}
	}
	f.until("done", func(x postgres.TaskRow) bool { return x.State == "done" })
	if accepted, before := f.count(`select count(*) from arrival where status = 0`), f.count(`select count(*) from arrival where status = 1`); accepted != 2 || before != 1 {
		t.Errorf("%d arrivals and %d that another took the place of", accepted, before)
	}
	if n := f.count(`select count(*) from collection_member`); n != 2 {
		t.Errorf("%d members", n)
	}
	if r := dcmsend(t, listen, "GANTRY", changed(t, s.Files[1])); r.Exit != 0 {
		t.Fatal(r.Output)
	}
	f.eventually("no further task has what came late", func() bool {
		return f.count(`select count(*) from task t join collection c on c.id = t.collection where c.revision = 1 and c.arrivals = 2`) == 1
	})
	if n := f.count(`select count(distinct location) from arrival`); n != 4 {
		t.Errorf("%d versions are kept", n)
	}
}

// TestReceiveOnce: where the file says so, other bytes under a UID that came are not taken, and the sender is told.
func TestReceiveOnce(t *testing.T) {
	t.Parallel()
	listen := freeAddress(t)
	f := newFront(t, nil, gatehouse("us", serve(t, scoring).URL, listen, "GANTRY", ", duplicates: refuse", ""))
	s := dimsetest.NewStudy(t, 1, 64)
	other := changed(t, s.Files[0])
	for _, c := range []struct {
		file string
		ok   bool
	}{{s.Files[0], true}, {other, false}, {s.Files[0], true}} {
		r := dcmsend(t, listen, "GANTRY", c.file)
		if strings.Contains(r.Output, "with status SUCCESS  : 1") != c.ok {
			t.Errorf("%s: %s", c.file, r.Output)
		}
	}
	if n := f.count(`select count(*) from arrival`); n != 1 {
		t.Errorf("%d arrivals", n)
	}
	f.eventually("the refusal is not on record", func() bool {
		list, err := f.Sources(t.Context())
		return err == nil && len(list) == 1 && list[0].LastError != nil && list[0].LastError.Code == "duplicate"
	})
}

// TestReceiveOnceByTwo: two processes of one source are sent different bytes of the same instances at the same time. Of each the first is kept; who
// sends the other is told 0x0111, whichever process he is at.
func TestReceiveOnceByTwo(t *testing.T) {
	t.Parallel()
	url := serve(t, scoring).URL
	r := newRig(t, nil)
	second := *r
	second.App = r.beside()
	s := dimsetest.NewStudy(t, 30, 16)
	at, dirs := []string{freeAddress(t), freeAddress(t)}, []string{s.Dir, t.TempDir()}
	for _, file := range s.Files {
		if err := os.Rename(changed(t, file), filepath.Join(dirs[1], filepath.Base(file))); err != nil {
			t.Fatal(err)
		}
	}
	out := make([]string, 2)
	var g sync.WaitGroup
	for i, f := range []*rig{r, &second} {
		f.front(gatehouse("us", url, at[i], "GANTRY", ", duplicates: refuse", "group: {by: study, quiet: 1m}"))
	}
	for i := range at {
		g.Go(func() { out[i] = dcmsend(t, at[i], "GANTRY", dirs[i]).Output })
	}
	g.Wait()
	taken, refused := 0, 0
	for _, text := range out {
		taken += strings.Count(text, "C-STORE Response (Success)")
		refused += strings.Count(text, "0x111")
	}
	if n := r.count(`select count(*) from arrival`); n != 30 || taken != 30 || refused != 30 {
		t.Errorf("%d are kept, %d were taken and %d refused\n%s\n%s", n, taken, refused, out[0], out[1])
	}
}

// TestReceiveForTwo: two pipelines have an AE title each at one address, with a rule; what no rule takes is not taken.
func TestReceiveForTwo(t *testing.T) {
	t.Parallel()
	listen, url := freeAddress(t), serve(t, scoring).URL
	f := newFront(t, nil, gatehouse("one", url, listen, "ONE", "", "group: {by: series, quiet: 300ms}"),
		gatehouse("two", url, listen, "TWO", `, allow: [{aet: CT1}], when: 'dicom.Modality == "MR"'`, ""))
	s := dimsetest.NewStudy(t, 2, 64)
	if r := dcmsend(t, listen, "ONE", s.Dir); r.Exit != 0 {
		t.Error(r.Output)
	}
	if r := dcmsend(t, listen, "TWO", s.Dir); r.Exit == 0 || !strings.Contains(r.Output, "Association Rejected") {
		t.Errorf("a stranger: %s", r.Output)
	}
	if r := dcmsend(t, listen, "TWO", s.Dir, "-aet", "CT1"); strings.Count(r.Output, "0x124") != 2 || strings.Contains(r.Output, "SUCCESS") {
		t.Errorf("what no rule takes: %s", r.Output)
	}
	if r := dimsetest.Run(t, "storescu", append([]string{"-v", "-aet", "CT1", "-aec", "TWO"}, append(strings.Split(listen, ":"), s.Files[0])...)...); r.Exit == 0 || !strings.Contains(r.Output, "0x124") {
		t.Errorf("what no rule takes, by a sender that stops: %s", r.Output)
	}
	if r := dcmsend(t, listen, "THREE", s.Dir); !strings.Contains(r.Output, "Association Rejected") {
		t.Errorf("nobody: %s", r.Output)
	}
	f.until("done", func(x postgres.TaskRow) bool { return x.State == "done" && x.Pipeline == "one" })
	if n := f.count(`select count(*) from arrival where source = 'two/modality' and status = 3 and location is null`); n != 2 {
		t.Errorf("%d arrivals that no rule takes", n)
	}
}

// TestReceiveWithoutDatabase: while the database, or the disk, takes nothing, the sender is asked to try again, and then everything
// is taken.
func TestReceiveWithoutDatabase(t *testing.T) {
	t.Parallel()
	listen := freeAddress(t)
	f := newFront(t, nil, gatehouse("us", serve(t, scoring).URL, listen, "GANTRY", "", ""))
	s := dimsetest.NewStudy(t, 2, 64)
	for name, x := range map[string][2]func(){
		"arrival": {func() { f.exec(`alter table gantry.arrival rename to gone`) }, func() { f.exec(`alter table gantry.gone rename to arrival`) }},
		"record":  {func() { f.exec(`alter table gantry.call_intent rename to gone`) }, func() { f.exec(`alter table gantry.gone rename to call_intent`) }},
	} {
		x[0]()
		r := dimsetest.Run(t, "storescu", append([]string{"-v", "-aec", "GANTRY"}, append(strings.Split(listen, ":"), s.Files[0])...)...)
		x[1]()
		if !strings.Contains(r.Output, "A700") && !strings.Contains(r.Output, "0xa700") && !strings.Contains(r.Output, "OutOfResources") {
			t.Errorf("%s: %s", name, r.Output)
		}
	}
	if r := dcmsend(t, listen, "GANTRY", s.Dir); !strings.Contains(r.Output, "with status SUCCESS  : 2") {
		t.Error(r.Output)
	}
	if n := f.count(`select count(*) from arrival where status = 0`); n != 2 {
		t.Errorf("%d arrivals", n)
	}
}

// TestReceiveDoc: the file of docs/dicom-receive.md is one that can be served.
func TestReceiveDoc(t *testing.T) {
	t.Parallel()
	page, err := os.ReadFile("../../docs/dicom-receive.md")
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(page), "```yaml\n")
	text, _, ok := strings.Cut(rest, "```")
	p, err := pipeline.Parse("ct-triage.yaml", []byte(text), all.Drivers(), func(string) (string, bool) { return "", false })
	if err != nil || !ok {
		t.Fatal(err)
	}
	if err := pipeline.Servable(p); err != nil {
		t.Error(err)
	}
	open := strings.Replace(strings.Replace(text, "    allow:\n", "", 1), "    commit: true\n", "", 1)
	for line := range strings.Lines(text) {
		if strings.Contains(line, "- {aet") {
			open = strings.Replace(open, line, "", 1)
		}
	}
	if _, err := pipeline.Parse("open.yaml", []byte(open), all.Drivers(), func(string) (string, bool) { return "", false }); err == nil || !strings.Contains(err.Error(), "allow_any") {
		t.Errorf("open to a network without a list: %v", err)
	}
}

// TestReceiveCommitted: Orthanc sends a study, asks for storage commitment of it and of an instance that it did not send, and is
// told, on an association of ours, which of them are safe.
func TestReceiveCommitted(t *testing.T) {
	t.Parallel()
	listen := freeAddress(t)
	_, port, _ := net.SplitHostPort(listen)
	number, _ := strconv.Atoi(port)
	archive := dimsetest.Orthanc(t, dimsetest.Settings{Modalities: map[string]dimsetest.Modality{"gantry": {AET: "GANTRY", Port: number}}})
	f := newFront(t, nil, gatehouse("us", serve(t, scoring).URL, listen, "GANTRY",
		fmt.Sprintf(`, commit: true, allow: [{aet: ORTHANC, from: 127.0.0.0/8, report: %q}]`, archive.Address()), "group: {by: study, quiet: 1m}"))
	s := dimsetest.NewStudy(t, 3, 64)
	var ids []string
	for _, file := range s.Files {
		ids = append(ids, archive.Load(t, file))
	}
	archive.Send(t, "gantry", ids[:2]...)
	for n, want := range map[int]string{2: "Success", 3: "Failure"} {
		var asked struct{ ID string }
		archive.Post(t, "/modalities/gantry/storage-commitment", map[string]any{"Resources": ids[:n]}, &asked)
		var got struct{ Status string }
		f.eventually("Orthanc is not told "+want+" of "+strconv.Itoa(n), func() bool {
			archive.Get(t, "/storage-commitment/"+asked.ID, &got)
			return got.Status == want
		})
	}
}
