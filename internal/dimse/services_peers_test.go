package dimse

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/gantry-imaging/gantry/internal/dimse/dimsetest"
)

const secondaryCapture = "1.2.840.10008.5.1.4.1.1.7"

// syntaxes are those that dcmtk 3.6.7 sends and receives.
var syntaxes = []string{
	ImplicitLE, ExplicitLE, ExplicitBE, DeflatedLE, "1.2.840.10008.1.2.5", "1.2.840.10008.1.2.4.50", "1.2.840.10008.1.2.4.51",
	"1.2.840.10008.1.2.4.57", "1.2.840.10008.1.2.4.70", "1.2.840.10008.1.2.4.80", "1.2.840.10008.1.2.4.81", "1.2.840.10008.1.2.4.90",
	"1.2.840.10008.1.2.4.91", "1.2.840.10008.1.2.4.92", "1.2.840.10008.1.2.4.93", "1.2.840.10008.1.2.4.100", "1.2.840.10008.1.2.4.101",
	"1.2.840.10008.1.2.4.102", "1.2.840.10008.1.2.4.103", "1.2.840.10008.1.2.4.104", "1.2.840.10008.1.2.4.105", "1.2.840.10008.1.2.4.106",
}

// declined are those that its storescp does not take, and natives those of dcmsend's own choice, since it writes every data set anew.
var (
	declined = []string{"1.2.840.10008.1.2.4.57", "1.2.840.10008.1.2.4.92", "1.2.840.10008.1.2.4.93"}
	natives  = map[string]string{ImplicitLE: "-xi", ExplicitLE: "-xe", ExplicitBE: "-xb", DeflatedLE: "-xd"}
)

// kept is an instance in a file.
type kept struct {
	file, class, instance, transfer string
	data                            []byte // the data set
}

// objects writes one small object for each transfer syntax. What those that are compressed hold is noise: nobody decodes it here.
func objects(t *testing.T) (dir string, list []kept) {
	t.Helper()
	dir = t.TempDir()
	for i, ts := range syntaxes {
		k := kept{file: filepath.Join(dir, fmt.Sprintf("%02d.dcm", i)), class: secondaryCapture, instance: fmt.Sprintf("1.2.826.0.1.3680043.2.%d", 100+i), transfer: ts}
		how := map[string]string{ImplicitLE: "+ti", ExplicitLE: "+te", ExplicitBE: "+tb", DeflatedLE: "+td"}[ts]
		set := Dataset{
			Text(8, 0x16, "UI", k.class), Text(8, 0x18, "UI", k.instance), Text(8, 0x60, "CS", "OT"), Text(0x10, 0x10, "PN", "TEST^CASE"),
			Text(0x20, 0xd, "UI", "1.2.826.0.1.3680043.2.7"), Text(0x20, 0xe, "UI", "1.2.826.0.1.3680043.2.8"),
		}
		for j, n := range []uint16{16, 16, 8, 8, 7} { // rows, columns, bits
			set = append(set, Element{Group: 0x28, Number: []uint16{0x10, 0x11, 0x100, 0x101, 0x102}[j], VR: "US", Value: []byte{byte(n), 0}})
		}
		set = append(set, Element{Group: 0x28, Number: 2, VR: "US", Value: []byte{1, 0}}, Text(0x28, 4, "CS", "MONOCHROME2"))
		if how != "" {
			set = append(set, Element{Group: 0x7fe0, Number: 0x10, VR: "OB", Value: noise(256)})
		}
		b, err := set.Encode(ExplicitLE)
		if err != nil {
			t.Fatal(err)
		}
		if how == "" {
			b = slices.Concat(b, []byte("\xe0\x7f\x10\x00OB\x00\x00\xff\xff\xff\xff"), element(0xFFFE, 0xE000), element(0xFFFE, 0xE000, noise(90_000)...), element(0xFFFE, 0xE0DD))
		}
		written := ExplicitLE
		if how == "" {
			written = ts
		}
		if err := os.WriteFile(k.file, part10(t, k, written, b), 0o600); err != nil {
			t.Fatal(err)
		}
		if how != "" {
			dimsetest.Must(t, "dcmconv", how, k.file, k.file)
		}
		k.data = dataOf(t, k.file)
		list = append(list, k)
	}
	return dir, list
}

// part10 is a file of a data set (PS3.10 section 7.1).
func part10(t *testing.T, k kept, transfer string, data []byte) []byte {
	t.Helper()
	meta, err := Dataset{
		{Group: 2, Number: 1, VR: "OB", Value: []byte{0, 1}}, Text(2, 2, "UI", k.class), Text(2, 3, "UI", k.instance), Text(2, 0x10, "UI", transfer), Text(2, 0x12, "UI", "1.2.3"),
	}.Encode(ExplicitLE)
	if err != nil {
		t.Fatal(err)
	}
	head := append(make([]byte, 128), "DICM\x02\x00\x00\x00UL\x04\x00"...)
	return slices.Concat(head, []byte{byte(len(meta)), byte(len(meta) >> 8), 0, 0}, meta, data)
}

// dataOf is a file's data set.
func dataOf(t *testing.T, file string) []byte {
	t.Helper()
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	_, data := split(t, b)
	return data
}

// archive is a handler that keeps what comes.
type archive struct {
	desk
	mu    sync.Mutex
	taken map[string]kept
}

func newArchive() *archive {
	a := &archive{taken: map[string]kept{}}
	a.store = func(_ context.Context, r StoreRequest) Response {
		b, err := io.ReadAll(r.Data)
		if err != nil {
			return Response{Status: StatusProcessing}
		}
		a.mu.Lock()
		defer a.mu.Unlock()
		a.taken[r.Instance] = kept{class: r.Class, instance: r.Instance, transfer: r.Context.Transfer, data: b}
		return Response{}
	}
	return a
}

// holds tells whether an object came as it was sent.
func (a *archive) holds(t *testing.T, k kept) {
	t.Helper()
	a.mu.Lock()
	defer a.mu.Unlock()
	got, ok := a.taken[k.instance]
	if !ok || got.transfer != k.transfer || got.class != k.class || !bytes.Equal(got.data, k.data) {
		t.Errorf("%s: came %v, in %s, %d bytes of %d", k.transfer, ok, got.transfer, len(got.data), len(k.data))
	}
}

func portOf(address string) string { return address[strings.LastIndexByte(address, ':')+1:] }

// TestEverySyntaxComes has dcmsend and storescu send an object in each transfer syntax; every byte of each data set comes.
func TestEverySyntaxComes(t *testing.T) {
	dir, list := objects(t)
	a := newArchive()
	s := serve(t, serverOf(a), time.Second)
	dimsetest.Must(t, "dcmsend", "-dn", "127.0.0.1", portOf(s.address), "+sd", dir)
	if len(a.taken) != len(list) {
		t.Errorf("%d of %d came", len(a.taken), len(list))
	}
	for _, k := range list {
		if option := natives[k.transfer]; option != "" {
			dimsetest.Must(t, "storescu", option, "127.0.0.1", portOf(s.address), k.file)
		}
		a.holds(t, k)
	}
}

// TestGDCM has gdcmscu echo and store. It ends in an exception of its own after its release, whoever the peer is.
func TestGDCM(t *testing.T) {
	_, list := objects(t)
	a := newArchive()
	s := serve(t, serverOf(a), time.Second)
	for _, args := range [][]string{{"--echo"}, {"--store"}} {
		args = append(args, "--call", "GANTRY", "127.0.0.1", portOf(s.address))
		if args[0] == "--store" {
			args = append(args, list[1].file)
		}
		if r := dimsetest.Run(t, "gdcmscu", args...); r.Exit != 0 && !strings.Contains(r.Output, "ProtocolStream") {
			t.Errorf("%v: %+v", args, r)
		}
	}
	a.holds(t, list[1])
}

// TestEverySyntaxGoes sends an object in each transfer syntax to storescp; every byte of each data set is in its files.
func TestEverySyntaxGoes(t *testing.T) {
	_, list := objects(t)
	p := dimsetest.Storescp(t, dimsetest.SCP{Exact: true})
	params := Params{Calling: "GANTRY", Called: "STORESCP"}
	for _, k := range list {
		params.Contexts = append(params.Contexts, Context{Abstract: k.class, Transfer: []string{k.transfer}})
	}
	a := ask(t, p.Address(), params)
	list = slices.DeleteFunc(list, func(k kept) bool {
		_, ok := a.Find(k.class, k.transfer)
		if !ok && !slices.Contains(declined, k.transfer) {
			t.Errorf("%s was not accepted", k.transfer)
		}
		return !ok
	})
	for _, k := range list {
		to, _ := a.Find(k.class, k.transfer)
		r, err := a.Store(t.Context(), StoreRequest{Context: to, Class: k.class, Instance: k.instance, Data: bytes.NewReader(k.data)})
		wantStatus(t, r, err, StatusSuccess)
	}
	if err := a.Release(t.Context()); err != nil {
		t.Fatal(err)
	}
	files := p.Wait(t, len(list))
	for _, k := range list {
		at := slices.IndexFunc(files, func(f string) bool { return strings.HasSuffix(f, k.instance) })
		if at < 0 || !bytes.Equal(dataOf(t, files[at]), k.data) {
			t.Errorf("%s: not there, or other bytes", k.transfer)
		}
	}
}

// TestTheirQuery has findscu ask us, who answer no queries: it says so, and nothing breaks.
func TestTheirQuery(t *testing.T) {
	s := serve(t, serverOf(newArchive()), time.Second)
	out := dimsetest.Run(t, "findscu", "-v", "-S", "-k", "QueryRetrieveLevel=STUDY", "127.0.0.1", portOf(s.address))
	if !strings.Contains(out.Output, "0x211") {
		t.Errorf("findscu ended with %d:\n%s", out.Exit, out.Output)
	}
	dimsetest.Must(t, "echoscu", "--repeat", "20", "127.0.0.1", portOf(s.address))
}

// TestFindAtDcmqrscp asks dcmqrscp for studies and images, all and only some of them.
func TestFindAtDcmqrscp(t *testing.T) {
	p := dimsetest.Dcmqrscp(t, dimsetest.Archive{})
	study := dimsetest.NewStudy(t, 30, 16)
	dimsetest.Must(t, "dcmsend", append([]string{"-aec", "ARCHIVE", "127.0.0.1", strconv.Itoa(p.Port)}, study.Files...)...)
	a := ask(t, p.Address(), Params{Calling: "GANTRY", Called: "ARCHIVE", Contexts: []Context{
		{Abstract: StudyRootFind, Transfer: []string{ImplicitLE, ExplicitLE}}, {Abstract: PatientRootFind, Transfer: []string{ExplicitLE}},
	}})
	findEach(t, a, study.UID, len(study.Files))
	r, err := a.Query(t.Context(), PatientRootFind, Dataset{Text(8, 0x52, "CS", "PATIENT"), Text(0x10, 0x20, "LO", ""), Text(0x10, 0x10, "PN", "NOBODY")}, func(Dataset) error {
		return errors.New("somebody was found")
	})
	wantStatus(t, r, err, StatusSuccess)
	if err := a.Release(t.Context()); err != nil {
		t.Error(err)
	}
}

// findEach asks for a study, for its images, and for the first three of them.
func findEach(t *testing.T, a *Association, study string, images int) {
	t.Helper()
	found := 0
	r, err := a.Query(t.Context(), StudyRootFind, Dataset{Text(8, 0x52, "CS", "STUDY"), Text(0x20, 0xd, "UI", study), Text(0x20, 0x1208, "IS", "")}, func(d Dataset) error {
		if found++; d.Get(0x20, 0xd) != study || d.Get(0x20, 0x1208) != "" && d.Get(0x20, 0x1208) != strconv.Itoa(images) {
			t.Errorf("found %+v", d)
		}
		return nil
	})
	wantStatus(t, r, err, StatusSuccess)
	if found != 1 {
		t.Errorf("%d studies", found)
	}
	image := Dataset{Text(8, 0x52, "CS", "IMAGE"), Text(8, 0x18, "UI", ""), Text(0x20, 0xd, "UI", study)}
	uids := map[string]bool{}
	series := ""
	r, err = a.Query(t.Context(), StudyRootFind, Dataset{Text(8, 0x52, "CS", "SERIES"), Text(0x20, 0xe, "UI", ""), Text(0x20, 0xd, "UI", study)}, func(d Dataset) error {
		series = d.Get(0x20, 0xe)
		return nil
	})
	wantStatus(t, r, err, StatusSuccess)
	image = append(image, Text(0x20, 0xe, "UI", series))
	r, err = a.Query(t.Context(), StudyRootFind, image, func(d Dataset) error { uids[d.Get(8, 0x18)] = true; return nil })
	wantStatus(t, r, err, StatusSuccess)
	if len(uids) != images {
		t.Errorf("%d images, want %d", len(uids), images)
	}
	calls, enough := 0, errors.New("enough")
	r, err = a.Query(t.Context(), StudyRootFind, image, func(Dataset) error {
		if calls++; calls == 3 {
			return enough
		}
		return nil
	})
	if !errors.Is(err, enough) || calls != 3 || r.Status.Class() != Cancelled && r.Status.Class() != Success {
		t.Errorf("%v, %v after %d", r, err, calls)
	}
}

// TestOrthanc stores in Orthanc, finds it there, has Orthanc send it to us, and commits storage in both directions.
func TestOrthanc(t *testing.T) {
	ours := newArchive()
	answers, requests := make(chan Commitment, 1), make(chan Commitment, 1)
	ours.reported = func(_ context.Context, c Commitment) Response { answers <- c; return Response{} }
	ours.commit = func(_ context.Context, c Commitment) Response { requests <- c; return Response{} }
	s := serve(t, serverOf(ours), time.Second)
	port, _ := strconv.Atoi(portOf(s.address))
	p := dimsetest.Orthanc(t, dimsetest.Settings{Modalities: map[string]dimsetest.Modality{"us": {AET: "GANTRY", Port: port}}})
	study := dimsetest.NewStudy(t, 4, 32)
	const ct = "1.2.840.10008.5.1.4.1.1.2"
	to := func(contexts ...Context) *Association {
		return ask(t, p.Address(), Params{Calling: "GANTRY", Called: "ORTHANC", Contexts: contexts})
	}
	a := to(Context{Abstract: Verification, Transfer: []string{ImplicitLE}}, Context{Abstract: ct, Transfer: []string{ExplicitLE}},
		Context{Abstract: StudyRootFind, Transfer: []string{ExplicitLE}}, Context{Abstract: StorageCommitment, Transfer: []string{ExplicitLE}})
	r, err := a.Echo(t.Context())
	wantStatus(t, r, err, StatusSuccess)
	context, _ := a.Find(ct, "")
	request := Commitment{Transaction: "1.2.826.0.1.3680043.2.55"}
	for i, file := range study.Files {
		r, err := a.Store(t.Context(), StoreRequest{Context: context, Class: ct, Instance: study.Instances[i], Data: bytes.NewReader(dataOf(t, file))})
		wantStatus(t, r, err, StatusSuccess)
		request.Instances = append(request.Instances, Reference{ct, study.Instances[i]})
	}
	findEach(t, a, study.UID, len(study.Files))

	// Ours to them; they answer on an association of their own.
	request.Instances = append(request.Instances, Reference{ct, "1.2.826.0.1.3680043.2.404"})
	r, err = a.Commit(t.Context(), request)
	wantStatus(t, r, err, StatusSuccess)
	answer := receive(t, answers)
	if answer.Transaction != request.Transaction || len(answer.Instances) != 4 || len(answer.Failed) != 1 || answer.Failed[0].Reason != uint16(StatusNoSuchInstance) {
		t.Errorf("Orthanc answered %+v", answer)
	}
	// They send to us.
	p.Send(t, "us", p.Studies(t)...)
	for i, file := range study.Files {
		if got := ours.taken[study.Instances[i]].data; !bytes.Equal(got, dataOf(t, file)) {
			t.Errorf("instance %d came back as other bytes", i)
		}
	}
	theirs(t, p, requests, to, Reference{ct, study.Instances[0]})
}

// theirs is storage commitment that Orthanc asks us for.
func theirs(t *testing.T, p *dimsetest.Archived, requests <-chan Commitment, to func(...Context) *Association, one Reference) {
	t.Helper()
	var asked struct{ ID, Path string }
	p.Post(t, "/modalities/us/storage-commitment", map[string]any{"DicomInstances": []map[string]string{{"SOPClassUID": one.Class, "SOPInstanceUID": one.Instance}}}, &asked)
	got := receive(t, requests)
	if len(got.Instances) != 1 || got.Instances[0] != one {
		t.Errorf("Orthanc asks for %+v", got)
	}
	b := to(Context{Abstract: StorageCommitment, Transfer: []string{ExplicitLE}, SCP: true})
	r, err := b.Report(t.Context(), got)
	wantStatus(t, r, err, StatusSuccess)
	if err := b.Release(t.Context()); err != nil {
		t.Error(err)
	}
	var state struct{ Status string }
	p.Get(t, asked.Path, &state)
	if state.Status != "Success" {
		t.Errorf("Orthanc thinks %q of our answer", state.Status)
	}
}

func receive[T any](t *testing.T, from <-chan T) (x T) {
	t.Helper()
	select {
	case x = <-from:
	case <-time.After(20 * time.Second):
		t.Fatal("nothing came within 20 s")
	}
	return x
}
