package dicom

import (
	"bytes"
	"context"
	"errors"
	"io"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/gantry-imaging/gantry/internal/dicom"
	"github.com/gantry-imaging/gantry/internal/dimse"
	"github.com/gantry-imaging/gantry/internal/driver/drivertest"
	"github.com/gantry-imaging/gantry/internal/gantry"
	"github.com/gantry-imaging/gantry/internal/sample"
)

// box is an inbox of one expectation in memory, as it must be for what is tested; that of the product is tested where the database is.
type box struct {
	blobs gantry.Blobs

	mu       sync.Mutex
	err      error // of every method
	state    gantry.AwaitedState
	expected []gantry.Awaited
	asked    int // whether something is wanted
	wanted   bool
	belongs  gantry.Belongs
	took     []gantry.Incoming
	list     []gantry.Incoming
	visits   []gantry.Visit
}

func (b *box) Expect(_ context.Context, x gantry.Awaited) (gantry.AwaitedState, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.expected = append(b.expected, x)
	return b.state, b.err
}
func (b *box) Look(context.Context, string) (gantry.AwaitedState, error) { return b.state, b.err }
func (b *box) Results(context.Context, string) ([]gantry.Incoming, error) {
	return b.list, b.err
}
func (b *box) Open(_ context.Context, x gantry.Incoming) (io.ReadCloser, error) {
	return io.NopCloser(bytes.NewReader(x.Body)), b.err
}
func (b *box) Blob(ctx context.Context, where string) (gantry.Blob, error) {
	return b.blobs.Open(ctx, where)
}
func (b *box) Wanted(context.Context, gantry.Incoming) (bool, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.asked++
	return b.wanted, b.err
}
func (b *box) Take(_ context.Context, x gantry.Incoming) (gantry.Belongs, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.took = append(b.took, x)
	return b.belongs, b.err
}

func (b *box) Visited(v gantry.Visit) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.visits = append(b.visits, v)
}

var errAway = gantry.Errorf(gantry.Unavailable, "away", "look: the database is away")

// images are Part 10 files of one study.
func images(t testing.TB, n int) [][]byte {
	t.Helper()
	files, err := sample.CT(n, 16)
	if err != nil {
		t.Fatal(err)
	}
	return files
}

// processorTo makes a processor whose service is at an address.
func processorTo(t testing.TB, a *archive, b gantry.Inbox, await AwaitConfig) *processor {
	t.Helper()
	to := configTo(t, a.address)
	await.Listen = "127.0.0.1:11112"
	p, err := NewProcessor(t.Context(), ProcessorConfig{Host: to.Host, Port: to.Port, AET: "PACS", Await: await}, drivertest.Egress(t))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.(*processor).out.close)
	if b != nil {
		p.(gantry.Awaiting).Attend(b)
	}
	return p.(*processor)
}

// requestOf is a request that sends files, and what it received.
func requestOf(files ...[]byte) (*gantry.Request, *[]string) {
	req, got := &gantry.Request{Key: "k", Of: gantry.Submission{Task: 7, Try: 1}}, &[]string{}
	for _, f := range files {
		req.Items = append(req.Items, gantry.Item{Media: gantry.MediaDICOM, Size: int64(len(f))})
	}
	req.Open = func(_ context.Context, i int) (io.ReadCloser, error) {
		return io.NopCloser(bytes.NewReader(files[i])), nil
	}
	req.Receive = func(_ context.Context, media string, size int64, r io.Reader) error {
		b, err := io.ReadAll(r)
		if media != gantry.MediaDICOM || int64(len(b)) != size {
			err = errors.New("it is not what it says")
		}
		*got = append(*got, string(b))
		return err
	}
	return req, got
}

// TestProcessorSubmits lays down what is awaited before the first object leaves, and sends all of them.
func TestProcessorSubmits(t *testing.T) {
	t.Parallel()
	b := &box{state: gantry.AwaitedState{Ticket: "17"}}
	a := archiveAt(t, &archive{status: func(n int, _ dimse.StoreRequest) dimse.Status {
		b.mu.Lock()
		defer b.mu.Unlock()
		if len(b.expected) != 1 {
			t.Errorf("object %d left while nothing was awaited", n)
		}
		return dimse.StatusSuccess
	}}, nil)
	p := processorTo(t, a, b, AwaitConfig{Modality: "SR", SOPClass: "1.2.3", Within: time.Minute})
	files := images(t, 3)
	req, _ := requestOf(files...)
	ticket, err := p.Submit(t.Context(), req, "")
	if err != nil || ticket.ID != "17" {
		t.Fatalf("ticket %+v, %v", ticket, err)
	}
	want := gantry.Awaited{Submission: req.Of, Called: "GANTRY", Calling: "PACS", Modality: "SR", Class: "1.2.3", Count: 1}
	sets := map[string][]byte{}
	for _, f := range files {
		o := split(t, f)
		sets[o.uid] = o.set
		want.Sent = append(want.Sent, o.uid)
		h, err := dicom.Head(bytes.NewReader(f), -1)
		if err != nil {
			t.Fatal(err)
		}
		want.Studies = []string{h.StudyInstance}
	}
	if diff := cmp.Diff([]gantry.Awaited{want}, b.expected); diff != "" {
		t.Errorf("awaited (-want +got):\n%s", diff)
	}
	a.want(t, sets)
	if d := p.Deferral(); d.Deadline != time.Minute || !d.Inbox || d.Callback != "" {
		t.Errorf("it waits as %+v", d)
	}
}

// TestProcessorAnsweredBefore sends nothing for what an earlier try was answered for.
func TestProcessorAnsweredBefore(t *testing.T) {
	t.Parallel()
	a := archiveAt(t, &archive{}, nil)
	p := processorTo(t, a, &box{state: gantry.AwaitedState{Ticket: "17", Ready: true}}, AwaitConfig{})
	req, _ := requestOf(images(t, 1)...)
	ticket, err := p.Submit(t.Context(), req, "")
	if stores, _ := a.seen(); err != nil || ticket.ID != "17" || ticket.After <= 0 || stores != 0 {
		t.Errorf("ticket %+v, %v, %d stores", ticket, err, stores)
	}
}

// TestProcessorRefuses sends nothing where what would come back could not be known, and hands on what the service says.
func TestProcessorRefuses(t *testing.T) {
	t.Parallel()
	a := archiveAt(t, &archive{status: func(int, dimse.StoreRequest) dimse.Status { return dimse.StatusOutOfResources }}, nil)
	noStudy, _ := part10(classCT, "2.25.1", dimse.ExplicitLE, 32)
	for name, c := range map[string]struct {
		box   gantry.Inbox
		files [][]byte
		kind  gantry.Kind
		code  gantry.Code
		sent  int
	}{
		"no inbox":    {nil, images(t, 1), gantry.Illegal, CodeNoInbox, 0},
		"nothing":     {&box{}, nil, gantry.Illegal, CodeNoItems, 0},
		"no DICOM":    {&box{}, [][]byte{[]byte("hello")}, gantry.Illegal, dicom.CodeNotDICOM, 0},
		"no study":    {&box{}, [][]byte{noStudy}, gantry.Illegal, CodeNoStudy, 0},
		"no database": {&box{err: errAway}, images(t, 1), gantry.Unavailable, "away", 0},
		"the service": {&box{}, images(t, 1), gantry.Unavailable, CodeOutOfResources, 1},
	} {
		before, _ := a.seen()
		req, _ := requestOf(c.files...)
		_, err := processorTo(t, a, c.box, AwaitConfig{}).Submit(t.Context(), req, "")
		wantError(t, name, err, c.kind, c.code)
		if after, _ := a.seen(); after-before != c.sent {
			t.Errorf("%s: %d objects were sent", name, after-before)
		}
	}
}

// TestProcessorCollects hands on what came, in order, once it is complete.
func TestProcessorCollects(t *testing.T) {
	t.Parallel()
	a := archiveAt(t, &archive{}, nil)
	b := &box{state: gantry.AwaitedState{Ticket: "17", Came: 1, In: time.Second}, list: []gantry.Incoming{{Size: 1, Body: []byte("a")}, {Size: 2, Body: []byte("bb")}}}
	p := processorTo(t, a, b, AwaitConfig{Count: 2})
	req, got := requestOf(images(t, 1)...)
	ticket := gantry.Ticket{ID: "17"}
	if x, err := p.Poll(t.Context(), ticket); err != nil || x.Ready || x.After != time.Second {
		t.Errorf("progress %+v, %v", x, err)
	}
	wantError(t, "before", p.Collect(t.Context(), ticket, req), gantry.Transient, gantry.CodeNotReady)
	b.state = gantry.AwaitedState{Ticket: "17", Came: 2, Ready: true}
	if x, err := p.Poll(t.Context(), ticket); err != nil || !x.Ready {
		t.Errorf("progress %+v, %v", x, err)
	}
	if err := p.Collect(t.Context(), ticket, req); err != nil || !slices.Equal(*got, []string{"a", "bb"}) {
		t.Errorf("collected %q, %v", *got, err)
	}
	req.Receive = func(context.Context, string, int64, io.Reader) error { return errAway }
	wantError(t, "receiving", p.Collect(t.Context(), ticket, req), gantry.Unavailable, "away")
	b.err = errAway
	_, err := p.Poll(t.Context(), ticket)
	wantError(t, "polling", err, gantry.Unavailable, "away")
	wantError(t, "collecting", p.Collect(t.Context(), ticket, req), gantry.Unavailable, "away")
	wantError(t, "at once", p.Process(t.Context(), req), gantry.Illegal, CodeSyncLater)
	wantError(t, "a callback", p.Unpack(t.Context(), gantry.Callback{}, req), gantry.Illegal, CodeSyncLater)
	if err := p.Abandon(t.Context(), ticket); err != nil {
		t.Error(err)
	}
	_, err = processorTo(t, a, nil, AwaitConfig{}).Poll(t.Context(), ticket)
	wantError(t, "without an inbox", err, gantry.Illegal, CodeNoInbox)
}

// TestProcessorConfig says of each mistake where it is, and what stands in for what is not said.
func TestProcessorConfig(t *testing.T) {
	t.Parallel()
	sound := ProcessorConfig{Host: "10.0.0.9", AET: "REPORTER", Await: AwaitConfig{Modality: "SR", Within: 15 * time.Minute}}
	if found := sound.Check(); found != nil {
		t.Fatal(found)
	}
	c := sound.withDefaults()
	want := Place{Listen: ":11112", AET: "GANTRY", Allow: []Allowed{{AET: "REPORTER"}}}
	if k := sound.Target().Key(); k != "dicom://10.0.0.9:104/REPORTER" || c.Await.count() != 1 {
		t.Error(k, c.Await.count())
	}
	if got := c.place(); got.Listen != want.Listen || got.AET != want.AET || len(got.Allow) != 1 || got.Allow[0] != want.Allow[0] || got.Last {
		t.Errorf("it is called at %+v", got)
	}
	for key, change := range map[string]func(*ProcessorConfig){
		"host":                  func(c *ProcessorConfig) { c.Host = "10.0.0.9:104" },
		"aet":                   func(c *ProcessorConfig) { c.AET = "" },
		"calling":               func(c *ProcessorConfig) { c.Calling = `A\B` },
		"tls.cert":              func(c *ProcessorConfig) { c.TLS.Cert = "x" },
		"await.modality":        func(c *ProcessorConfig) { c.Await.Modality = "sr" },
		"await.sop_class":       func(c *ProcessorConfig) { c.Await.SOPClass = "1..2" },
		"await.quiet":           func(c *ProcessorConfig) { c.Await.Quiet = time.Hour },
		"await.from":            func(c *ProcessorConfig) { c.Await.From = strings.Repeat("A", 17) },
		"await.aet":             func(c *ProcessorConfig) { c.Await.AET = " A" },
		"await.network":         func(c *ProcessorConfig) { c.Await.Network = "10.0.0.0/99" },
		"await.certificate":     func(c *ProcessorConfig) { c.Await.Certificate = "reporter" },
		"await.listen":          func(c *ProcessorConfig) { c.Await.Listen = "11112" },
		"await.listen_tls.cert": func(c *ProcessorConfig) { c.Await.TLS.CA = "x" },
	} {
		c := sound
		change(&c)
		found := c.Check()
		if len(found) != 1 || found[0].Key != key {
			t.Errorf("%s: %+v", key, found)
		}
		if _, err := NewProcessor(t.Context(), c, drivertest.Egress(t)); gantry.CodeOf(err) != CodeBadConfig {
			t.Errorf("%s: %v", key, err)
		}
	}
	open := sound
	open.Await.From = "*"
	if found := open.Check(); len(found) != 1 || found[0].Key != "await.listen" {
		t.Errorf("whoever calls from anywhere: %+v", found)
	}
	open.Await.Network = "10.0.0.9"
	if found := open.Check(); found != nil || open.withDefaults().place().Allow[0].From.String() != "10.0.0.9/32" {
		t.Errorf("from one address: %+v", found)
	}
	quiet := AwaitConfig{Quiet: time.Second}
	if quiet.count() != 0 || (AwaitConfig{Quiet: time.Second, Count: 3}).count() != 3 {
		t.Error("quiet counts")
	}
	if _, err := NewProcessor(t.Context(), ProcessorConfig{Host: "h", AET: "A", TLS: TLSConfig{CA: "/nowhere"}}, drivertest.Egress(t)); gantry.CodeOf(err) != CodeBadConfig {
		t.Errorf("an authority that is not there: %v", err)
	}
}
