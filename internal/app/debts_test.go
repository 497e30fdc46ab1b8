package app_test

import (
	"context"
	"fmt"
	"net"
	"strconv"
	"testing"
	"time"

	"github.com/gantry-imaging/gantry/internal/dimse"
	"github.com/gantry-imaging/gantry/internal/dimse/dimsetest"
)

// reportTaker is a peer that is told what is committed.
type reportTaker chan dimse.Commitment

func (reportTaker) Store(context.Context, dimse.StoreRequest) dimse.Response {
	return dimse.Response{Status: dimse.StatusProcessing}
}
func (reportTaker) Commit(context.Context, dimse.Commitment) dimse.Response {
	return dimse.Response{Status: dimse.StatusProcessing}
}
func (r reportTaker) Reported(_ context.Context, c dimse.Commitment) dimse.Response {
	r <- c
	return dimse.Response{}
}
func (reportTaker) Ended(error) {}

// listenFor takes reports at an address until the test ends.
func listenFor(t testing.TB, address string) reportTaker {
	t.Helper()
	l, err := net.Listen("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	r := make(reportTaker, 4)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	s := &dimse.Server{Admit: func(context.Context, dimse.Proposal) (dimse.Terms, error) {
		return dimse.Terms{Handler: r, Accept: func(dimse.Context) int { return 0 }}, nil
	}}
	go func() { defer close(done); s.Serve(ctx, l, 100*time.Millisecond) }()
	t.Cleanup(func() { cancel(); <-done })
	return r
}

// askToCommit asks for storage commitment, and leaves.
func askToCommit(t testing.TB, listen string, c dimse.Commitment) {
	t.Helper()
	conn, err := net.Dial("tcp", listen)
	if err != nil {
		t.Fatal(err)
	}
	a, err := dimse.Request(t.Context(), conn, dimse.Params{Calling: "CT1", Called: "GANTRY", Contexts: []dimse.Context{
		{Abstract: dimse.StorageCommitment, Transfer: []string{dimse.ExplicitLE}}}})
	if err != nil {
		t.Fatal(err)
	}
	defer a.Abort()
	if r, err := a.Commit(t.Context(), c); err != nil || r.Status != dimse.StatusSuccess {
		t.Fatalf("%04x, %v", uint16(r.Status), err)
	}
	if err := a.Release(t.Context()); err != nil {
		t.Error(err)
	}
}

// TestReportAfterRestart: a peer that cannot be reached asked for storage commitment, and the process ended. Another process tells it, and
// nothing of what it asked stays.
func TestReportAfterRestart(t *testing.T) {
	t.Parallel()
	listen, at := freeAddress(t), freeAddress(t)
	r := newRig(t, nil)
	src := gatehouse("us", serve(t, scoring).URL, listen, "GANTRY", fmt.Sprintf(`, commit: true, allow: [{aet: DCMSEND}, {aet: CT1, report: %q}]`, at), "group: {by: study, quiet: 1m}")
	s := dimsetest.NewStudy(t, 1, 64)
	t.Run("first", func(t *testing.T) {
		first := *r
		first.t = t
		first.front(src)
		if got := dcmsend(t, listen, "GANTRY", s.Files[0]); got.Exit != 0 {
			t.Fatal(got.Output)
		}
		ref := dimse.Reference{Class: "1.2.840.10008.5.1.4.1.1.2", Instance: s.Instances[0]}
		askToCommit(t, listen, dimse.Commitment{Transaction: "2.25.77", Instances: []dimse.Reference{ref, {Class: ref.Class, Instance: "1.2.3"}}})
		first.eventually("nobody tried", func() bool { return first.count(`select count(*) from debt where tries > 0 and due is not null`) == 1 })
	})
	told := listenFor(t, at)
	second := *r
	second.App = r.beside()
	second.front(src)
	select {
	case c := <-told:
		if c.Transaction != "2.25.77" || len(c.Instances) != 1 || c.Instances[0].Instance != s.Instances[0] || len(c.Failed) != 1 || c.Failed[0].Reason != 0x0112 {
			t.Errorf("%+v", c)
		}
	case <-time.After(within):
		t.Fatal("nobody was told")
	}
	r.eventually("it is owed yet", func() bool {
		return r.count(`select count(*) from debt where due is null and request is null and given is null`) == 1
	})
}

// TestCommittedOverTLS: Orthanc sends a study over TLS, with a certificate, asks for storage commitment, and is told so over TLS, by one with a
// certificate.
func TestCommittedOverTLS(t *testing.T) {
	t.Parallel()
	listen := freeAddress(t)
	_, port, _ := net.SplitHostPort(listen)
	number, _ := strconv.Atoi(port)
	authority := dimsetest.NewAuthority(t)
	ours, theirs := authority.Issue(t, "gantry"), authority.Issue(t, "archive")
	archive := dimsetest.Orthanc(t, dimsetest.Settings{More: map[string]any{
		"DicomTlsEnabled": true, "DicomTlsCertificate": theirs.Cert, "DicomTlsPrivateKey": theirs.Key, "DicomTlsTrustedCertificates": theirs.CA,
		"DicomModalities": map[string]any{"gantry": map[string]any{"AET": "GANTRY", "Host": "127.0.0.1", "Port": number, "UseDicomTls": true}},
	}})
	f := newFront(t, nil, gatehouse("us", serve(t, scoring).URL, listen, "GANTRY", fmt.Sprintf(
		`, commit: true, cert: %q, key: %q, ca: %q, allow: [{aet: ORTHANC, certificate: archive, report: %q}]`, ours.Cert, ours.Key, ours.CA, archive.Address()), "group: {by: study, quiet: 1m}"))
	s := dimsetest.NewStudy(t, 2, 64)
	var ids []string
	for _, file := range s.Files {
		ids = append(ids, archive.Load(t, file))
	}
	archive.Send(t, "gantry", ids...)
	var asked struct{ ID string }
	archive.Post(t, "/modalities/gantry/storage-commitment", map[string]any{"Resources": ids}, &asked)
	var got struct{ Status string }
	f.eventually("Orthanc is not told", func() bool {
		archive.Get(t, "/storage-commitment/"+asked.ID, &got)
		return got.Status == "Success"
	})
}
