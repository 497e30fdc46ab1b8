package dimse

import (
	"bytes"
	"context"
	"errors"
	"strconv"
	"testing"
	"time"

	"github.com/gantry-imaging/gantry/internal/dimse/dimsetest"
)

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
		if got, _ := ours.get(study.Instances[i]); !bytes.Equal(got.data, dataOf(t, file)) {
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
