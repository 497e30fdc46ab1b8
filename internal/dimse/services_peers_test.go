package dimse

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
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

func (a *archive) get(instance string) (kept, bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	k, ok := a.taken[instance]
	return k, ok
}

// holds tells whether an object came as it was sent.
func (a *archive) holds(t *testing.T, k kept) {
	t.Helper()
	got, ok := a.get(k.instance)
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
	for _, k := range list {
		if _, ok := a.get(k.instance); !ok {
			t.Errorf("%s did not come", k.transfer)
		}
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

// TestWindowWithOurselves agrees on four operations at once, has so many under way, and mixes none of them up.
func TestWindowWithOurselves(t *testing.T) {
	const window = 4
	a := newArchive()
	together, store := make(chan struct{}, window), a.store
	a.store = func(ctx context.Context, r StoreRequest) Response {
		answer := store(ctx, r)
		together <- struct{}{}
		for len(together) < window && ctx.Err() == nil { // the first to come wait for the others
			time.Sleep(time.Millisecond)
		}
		return answer
	}
	s := serve(t, &Server{Admit: func(context.Context, Proposal) (Terms, error) {
		return Terms{Handler: a, Accept: takeAll, Window: 9}, nil
	}}, time.Second)
	params := plain()
	params.Window = window
	us := ask(t, s.address, params)
	if got := us.Peer().Window; got != window {
		t.Fatalf("a window of %d", got)
	}
	to, _ := us.Find(ctImage, "")
	var group sync.WaitGroup
	var list []kept
	for i := range window {
		k := kept{class: ctImage, instance: fmt.Sprintf("1.2.%d", i), transfer: to.Transfer, data: noise(200_000 + 2*i)}
		list = append(list, k)
		group.Go(func() {
			r, err := us.Store(t.Context(), StoreRequest{Context: to, Class: k.class, Instance: k.instance, Data: bytes.NewReader(k.data)})
			wantStatus(t, r, err, StatusSuccess)
		})
	}
	group.Wait()
	for _, k := range list {
		a.holds(t, k)
	}
	if err := us.Release(t.Context()); err != nil {
		t.Error(err)
	}
}

// hasty is a handler that refuses an instance before it has it.
type hasty struct {
	archive
	with *Association
	got  chan int64
}

func (h *hasty) Attend(a *Association) { h.with = a }

// TestEarlyAnswerOverTCP brings the message to its end when the peer refuses early: the peer reads a whole data set, which is short.
func TestEarlyAnswerOverTCP(t *testing.T) {
	const size = 200_000_000
	h, done := &hasty{got: make(chan int64, 1)}, make(chan struct{})
	h.store = func(ctx context.Context, r StoreRequest) Response {
		c := command{field: fieldStore | fieldResponse, respondedTo: 1, class: r.Class, instance: r.Instance, status: StatusOutOfResources}
		if err := h.with.send(ctx, message{context: r.Context.ID, command: c.encode()}); err != nil {
			t.Error(err)
		}
		n, err := io.Copy(io.Discard, r.Data)
		if err != nil {
			t.Error(err)
		}
		h.got <- n
		<-done // the second answer that follows is one too many
		return Response{}
	}
	s := serve(t, serverOf(h), time.Second)
	us := ask(t, s.address, plain())
	to, _ := us.Find(ctImage, "")
	r, err := us.Store(t.Context(), StoreRequest{Context: to, Class: ctImage, Instance: "1.2", Data: io.LimitReader(zeros{}, size)})
	wantStatus(t, r, err, StatusOutOfResources)
	if n := <-h.got; n >= size/2 {
		t.Errorf("%d bytes went", n)
	}
	us.Abort()
	close(done)
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) { return len(p), nil }
