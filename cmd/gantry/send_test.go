package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/gantry-imaging/gantry/internal/dicom"
	"github.com/gantry-imaging/gantry/internal/dimse"
	"github.com/gantry-imaging/gantry/internal/dimse/dimsetest"
	"github.com/gantry-imaging/gantry/internal/gantry"
)

// dataOf is a file's data set, byte for byte.
func dataOf(t *testing.T, file string) []byte {
	t.Helper()
	f, err := os.Open(file)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	_, data, err := dicom.Split(f)
	if err != nil {
		t.Fatal(err)
	}
	b, err := io.ReadAll(data)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// TestSend sends what is DICOM below a folder, and nothing else, as it is.
func TestSend(t *testing.T) {
	p := dimsetest.Storescp(t, dimsetest.SCP{Exact: true})
	s := dimsetest.NewStudy(t, 3, 32)
	below := filepath.Join(s.Dir, "deep", "er")
	if err := os.MkdirAll(below, 0o755); err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string]string{"notes.dcm": "no DICOM, whatever its name", "empty": ""} {
		if err := os.WriteFile(filepath.Join(below, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	moved := filepath.Join(below, "image.txt")
	if err := os.Rename(s.Files[2], moved); err != nil {
		t.Fatal(err)
	}
	s.Files[2] = moved
	wantTyped(t, exitOK, []string{"sent     " + s.Files[0], "sent     " + moved, "skipped  " + filepath.Join(below, "empty"), "3 sent, 2 skipped"},
		"send", p.Address(), s.Dir, "--called", "STORESCP")
	files := p.Wait(t, 3)
	for i, uid := range s.Instances {
		at := slices.IndexFunc(files, func(f string) bool { return strings.HasSuffix(f, uid) })
		if at < 0 || !bytes.Equal(dataOf(t, files[at]), dataOf(t, s.Files[i])) {
			t.Errorf("%d: not there, or other bytes", i)
		}
	}
	var list []delivery
	out := wantTyped(t, exitFailed, nil, "send", p.Address(), s.Files[0], filepath.Join(below, "notes.dcm"), "--json")
	if err := json.Unmarshal([]byte(out), &list); err != nil || len(list) != 2 || list[0].Outcome != wasSent || list[0].Status != "0000" ||
		list[0].Instance != s.Instances[0] || list[1].Outcome != wasFailed || list[1].Reason != "not_dicom" {
		t.Errorf("%v\n%s", err, out)
	}
}

func TestSendUsage(t *testing.T) {
	wantTyped(t, exitUsage, nil, "send", "127.0.0.1:1")
	wantTyped(t, exitUsage, []string{"no such file"}, "send", "127.0.0.1:1", "no-such-file")
	wantTyped(t, exitUsage, []string{"--commit-listen needs --commit"}, "send", "127.0.0.1:1", ".", "--commit-listen", "127.0.0.1:0")
	wantTyped(t, exitUsage, nil, "send", "127.0.0.1", ".")
	wantTyped(t, exitFailed, []string{"0 sent"}, "send", "127.0.0.1:1", t.TempDir())
	s := dimsetest.NewStudy(t, 1, 16)
	wantTyped(t, exitFailed, []string{"no connection", "not tried", "0 sent, 1 failed"}, "send", "127.0.0.1:1", s.Dir)
}

// pacs is a server of ours whose answers the test gives.
type pacs struct {
	store  func(a *dimse.Association, n int, r dimse.StoreRequest) dimse.Response
	commit func(a *dimse.Association, c dimse.Commitment) dimse.Response

	mu           sync.Mutex
	associations int
	taken        int
}

// session is one association with it.
type session struct {
	*pacs
	with *dimse.Association
}

func (s *session) Attend(a *dimse.Association) { s.with = a }
func (s *session) Ended(error)                 {}

func (s *session) Reported(context.Context, dimse.Commitment) dimse.Response {
	return dimse.Response{Status: dimse.StatusNotAuthorized}
}

func (s *session) Commit(_ context.Context, c dimse.Commitment) dimse.Response {
	return s.commit(s.with, c)
}

func (s *session) Store(_ context.Context, r dimse.StoreRequest) dimse.Response {
	_, _ = io.Copy(io.Discard, r.Data)
	s.mu.Lock()
	s.taken++
	n := s.taken
	s.mu.Unlock()
	return s.store(s.with, n, r)
}

// serve starts it; accept says which contexts it takes, nil all.
func (p *pacs) serve(t *testing.T, accept func(dimse.Context) int) (address string) {
	t.Helper()
	if accept == nil {
		accept = func(dimse.Context) int { return 0 }
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	done := make(chan error, 1)
	server := &dimse.Server{Admit: func(context.Context, dimse.Proposal) (dimse.Terms, error) {
		p.mu.Lock()
		defer p.mu.Unlock()
		p.associations++
		return dimse.Terms{Handler: &session{pacs: p}, Accept: accept}, nil
	}}
	go func() { done <- server.Serve(ctx, l, time.Second) }()
	t.Cleanup(func() {
		stop()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	return l.Addr().String()
}

// TestSendAnswers shows every kind of answer for what it is.
func TestSendAnswers(t *testing.T) {
	s := dimsetest.NewStudy(t, 4, 16)
	p := &pacs{store: func(_ *dimse.Association, n int, _ dimse.StoreRequest) dimse.Response {
		return []dimse.Response{{}, {Status: 0xB000, Comment: "name\tchanged"}, {Status: 0xA702}, {Status: 0xC123, Comment: "no"}}[n-1]
	}}
	wantTyped(t, exitFailed, []string{
		"sent     " + s.Files[0] + "\n", "warning  " + s.Files[1] + ": elements were changed (0xB000): name?changed\n", "failed   " + s.Files[2] + ": out of resources (0xA702)\n",
		"failed   " + s.Files[3] + ": not understood, or not processed (0xC123): no\n", "2 sent, 1 warning, 2 failed\n",
	}, append([]string{"send", p.serve(t, nil)}, s.Files...)...)
	warned := &pacs{store: func(*dimse.Association, int, dimse.StoreRequest) dimse.Response {
		return dimse.Response{Status: 0xB006}
	}}
	wantTyped(t, exitOK, []string{"4 sent, 4 warnings\n"}, "send", warned.serve(t, nil), s.Dir)
}

// TestSendContexts proposes each transfer syntax apart, tells what the peer does not take, and asks for as many associations as needed.
func TestSendContexts(t *testing.T) {
	s := dimsetest.NewStudy(t, 2, 16)
	dimsetest.Must(t, "dcmcrle", s.Files[1], s.Files[1])
	ok := func(*dimse.Association, int, dimse.StoreRequest) dimse.Response { return dimse.Response{} }
	p := &pacs{store: ok}
	address := p.serve(t, func(c dimse.Context) int {
		if len(c.Transfer) != 1 {
			t.Errorf("proposed %v", c.Transfer)
		}
		if c.Transfer[0] != dimse.ExplicitLE {
			return -2
		}
		return 0
	})
	wantTyped(t, exitFailed, []string{"accepted no presentation context for SOP class 1.2.840.10008.5.1.4.1.1.2 in transfer syntax 1.2.840.10008.1.2.5", "1 sent, 1 failed"},
		append([]string{"send", address}, s.Files...)...)

	dir := t.TempDir()
	file, err := os.ReadFile(s.Files[0])
	if err != nil {
		t.Fatal(err)
	}
	ct := []byte("1.2.840.10008.5.1.4.1.1.2\x00")
	for i := range 300 {
		b := bytes.ReplaceAll(file, ct, fmt.Appendf(nil, "1.2.840.10008.5.1.4.1.%04d", 1000+i))
		if err := os.WriteFile(filepath.Join(dir, fmt.Sprint(i)), b, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	many := &pacs{store: ok}
	wantTyped(t, exitOK, []string{"300 sent"}, "send", many.serve(t, nil), dir)
	if many.associations != 3 || many.taken != 300 {
		t.Errorf("%d associations, %d instances", many.associations, many.taken)
	}
}

// TestSendBroken goes on with another association after one that broke, but not without end.
func TestSendBroken(t *testing.T) {
	s := dimsetest.NewStudy(t, 5, 16)
	p := &pacs{store: func(a *dimse.Association, n int, _ dimse.StoreRequest) dimse.Response {
		if n == 3 {
			a.Abort()
		}
		return dimse.Response{}
	}}
	wantTyped(t, exitFailed, []string{"failed   " + s.Files[2] + ": association aborted by the peer", "4 sent, 1 failed"}, append([]string{"send", p.serve(t, nil)}, s.Files...)...)
	if p.associations != 2 {
		t.Errorf("%d associations", p.associations)
	}
	never := &pacs{store: func(a *dimse.Association, _ int, _ dimse.StoreRequest) dimse.Response {
		a.Abort()
		return dimse.Response{}
	}}
	wantTyped(t, exitFailed, []string{"0 sent, 5 failed", "not tried"}, append([]string{"send", never.serve(t, nil)}, s.Files...)...)
	if never.associations != 1 {
		t.Errorf("%d associations", never.associations)
	}
}

// TestSendOdd gives up a file of an odd length, and sends the others.
func TestSendOdd(t *testing.T) {
	s := dimsetest.NewStudy(t, 3, 16)
	f, err := os.OpenFile(s.Files[0], os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.Write([]byte{0}); err != nil {
		t.Fatal(err)
	}
	f.Close()
	p := &pacs{store: func(*dimse.Association, int, dimse.StoreRequest) dimse.Response { return dimse.Response{} }}
	wantTyped(t, exitFailed, []string{"failed   " + s.Files[0] + ": the data set has an odd number of bytes", "2 sent, 1 failed"}, append([]string{"send", p.serve(t, nil)}, s.Files...)...)
	if p.associations != 1 {
		t.Errorf("%d associations", p.associations)
	}
}

// TestSendCorpus sends every valid object of the corpus to storescp; the bytes of each data set are those that it writes.
func TestSendCorpus(t *testing.T) {
	dir := os.Getenv("GANTRY_CORPUS")
	if dir == "" {
		t.Skip("GANTRY_CORPUS is not set: it names the folder with manifest.json")
	}
	b, err := os.ReadFile(filepath.Join(dir, "manifest.json"))
	if err != nil {
		t.Fatal(err)
	}
	var rows []struct{ Path, Kind, Expect string }
	if err := json.Unmarshal(b, &rows); err != nil {
		t.Fatal(err)
	}
	p := dimsetest.Storescp(t, dimsetest.SCP{Exact: true, Args: []string{"--unique-filenames"}})
	args := []string{"send", p.Address(), "--json"}
	for _, r := range rows {
		if r.Kind == "dicom" && strings.HasPrefix(r.Expect, "accept") {
			args = append(args, filepath.Join(dir, r.Path))
		}
	}
	_, out, errs := typed(t, args...)
	var list []delivery
	if err := json.Unmarshal([]byte(out), &list); err != nil || len(list) < 150 {
		t.Fatalf("%d files, %v\n%s", len(list), err, errs)
	}
	want, sent := map[string]int{}, 0
	for _, d := range list {
		switch {
		case d.Outcome == wasSent:
			sent++
			data := dataOf(t, d.File)
			if d.Transfer == dimse.DeflatedLE && len(data)%2 == 1 {
				data = append(data, 0) // PS3.5 section A.5
			}
			want[string(data)]++
		case d.Reason == string(dimse.CodeNotOffered), d.Reason == string(dimse.CodeOddLength), d.Reason == "missing_uid":
			t.Logf("%s: %s", filepath.Base(d.File), d.Text) // the peer's own limits, and files that no protocol can carry
		default:
			t.Errorf("%s: %+v", filepath.Base(d.File), d)
		}
	}
	for _, f := range p.Wait(t, sent) {
		got := dataOf(t, f)
		if want[string(got)]--; want[string(got)] < 0 {
			t.Errorf("%s: other bytes than any that were sent", filepath.Base(f))
		}
	}
	t.Logf("%d of %d objects went", sent, len(list))
}

// TestOfFile tells what is wrong with a file, after which the peer is as good as before, from what is wrong with the peer.
func TestOfFile(t *testing.T) {
	for err, want := range map[error]bool{
		&fs.PathError{Op: "read", Path: "x", Err: io.ErrUnexpectedEOF}:                                    true,
		gantry.Errorf(gantry.Illegal, dimse.CodeOddLength, "an odd number of bytes"):                      true,
		gantry.Errorf(gantry.Transient, dimse.CodeAborted, "association aborted"):                         false,
		gantry.Errorf(gantry.BadResponse, dimse.CodeUnexpected, "an answer to what nobody has asked for"): false,
	} {
		if got := ofFile(err); got != want {
			t.Errorf("%v: %v", err, got)
		}
	}
}
