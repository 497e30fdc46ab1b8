package dicom

import (
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/tls"
	"encoding/binary"
	"io"
	"maps"
	"math/rand/v2"
	"net"
	"slices"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/gantry-imaging/gantry/internal/dimse"
	"github.com/gantry-imaging/gantry/internal/driver/drivertest"
	"github.com/gantry-imaging/gantry/internal/gantry"
)

// Classes that the tests send.
const (
	classCT      = "1.2.840.10008.5.1.4.1.1.2"
	classCapture = "1.2.840.10008.5.1.4.1.1.7"
	syntaxJPEG   = "1.2.840.10008.1.2.4.50"
)

// elementOf encodes one element with a short length.
func elementOf(implicit bool, tag uint32, vr, value string) []byte {
	if len(value)%2 == 1 {
		value += "\x00"
	}
	b := binary.LittleEndian.AppendUint16(nil, uint16(tag>>16))
	b = binary.LittleEndian.AppendUint16(b, uint16(tag))
	switch {
	case implicit:
		b = binary.LittleEndian.AppendUint32(b, uint32(len(value)))
	case vr == "OB" || vr == "OW":
		b = binary.LittleEndian.AppendUint32(append(b, vr[0], vr[1], 0, 0), uint32(len(value)))
	default:
		b = binary.LittleEndian.AppendUint16(append(b, vr...), uint16(len(value)))
	}
	return append(b, value...)
}

// part10 makes a file with n bytes of pixels, and gives its data set too.
func part10(class, instance, transfer string, n int) (file, dataset []byte) {
	implicit := transfer == dimse.ImplicitLE
	pixels := make([]byte, n+n%2)
	rand.NewChaCha8(sha256.Sum256([]byte(instance))).Read(pixels)
	dataset = slices.Concat(elementOf(implicit, 0x00080016, "UI", class), elementOf(implicit, 0x00080018, "UI", instance),
		elementOf(implicit, 0x00100010, "PN", "DOE^JANE"), elementOf(implicit, 0x7fe00010, "OW", string(pixels)))
	meta := slices.Concat(elementOf(false, 0x00020002, "UI", class), elementOf(false, 0x00020003, "UI", instance), elementOf(false, 0x00020010, "UI", transfer))
	head := append(make([]byte, 128), "DICM"...)
	head = append(head, elementOf(false, 0x00020000, "UL", string(binary.LittleEndian.AppendUint32(nil, uint32(len(meta)))))...)
	return slices.Concat(head, meta, dataset), dataset
}

func fileFrom(b []byte) outgoing {
	return outgoing{size: int64(len(b)), sha: sha256.Sum256(b), open: func(context.Context) (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(b)), nil }}
}

func uidOf(n int) string { return "2.25." + strconv.Itoa(1000+n) }

// archive is a peer of our own.
type archive struct {
	// What it does; set before it is called.
	status func(n int, r dimse.StoreRequest) dimse.Status // of the nth object; nil: success
	takes  func(dimse.Context) bool                       // nil: everything
	admit  func(dimse.Proposal) error
	commit func(dimse.Commitment) dimse.Status
	slow   time.Duration // for each object

	handler func() dimse.Handler // of an association; nil: itself

	address string

	mu        sync.Mutex
	got       map[string][]byte // data sets by SOP Instance UID
	stores    int
	commits   []dimse.Commitment
	proposals []dimse.Proposal
	open      int
	ends      []error // of associations; nil: it was released
}

// archiveAt starts it. It ends with the test.
func archiveAt(t testing.TB, a *archive, secure *tls.Config) *archive {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	a.address, a.got = l.Addr().String(), map[string][]byte{}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	s := &dimse.Server{Admit: a.enter, TLS: secure}
	go func() {
		defer close(done)
		s.Serve(ctx, l, 100*time.Millisecond)
	}()
	t.Cleanup(func() { cancel(); <-done })
	return a
}

func (a *archive) enter(_ context.Context, p dimse.Proposal) (dimse.Terms, error) {
	if a.admit != nil {
		if err := a.admit(p); err != nil {
			return dimse.Terms{}, err
		}
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	a.proposals = append(a.proposals, p)
	a.open++
	h := dimse.Handler(a)
	if a.handler != nil {
		h = a.handler()
	}
	return dimse.Terms{Handler: h, Accept: func(c dimse.Context) int {
		if a.takes != nil && !a.takes(c) {
			return -2
		}
		return 0
	}}, nil
}

// Store keeps an object, whatever it answers.
func (a *archive) Store(_ context.Context, r dimse.StoreRequest) dimse.Response {
	b, err := io.ReadAll(r.Data)
	if err != nil {
		return dimse.Response{Status: dimse.StatusOutOfResources}
	}
	time.Sleep(a.slow)
	a.mu.Lock()
	defer a.mu.Unlock()
	a.stores++
	status := dimse.StatusSuccess
	if a.status != nil {
		status = a.status(a.stores, r)
	}
	if c := status.Class(); c == dimse.Success || c == dimse.Warning {
		a.got[r.Instance] = b
	}
	return dimse.Response{Status: status, Comment: "DOE^JANE"}
}

// Commit keeps the request.
func (a *archive) Commit(_ context.Context, c dimse.Commitment) dimse.Response {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.commits = append(a.commits, c)
	if a.commit != nil {
		return dimse.Response{Status: a.commit(c)}
	}
	return dimse.Response{}
}

// Reported is nothing that it waits for.
func (a *archive) Reported(context.Context, dimse.Commitment) dimse.Response {
	return dimse.Response{Status: dimse.StatusNoSuchInstance}
}

// Ended counts.
func (a *archive) Ended(err error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.ends = append(a.ends, err)
	a.open--
}

func (a *archive) want(t *testing.T, want map[string][]byte) {
	t.Helper()
	a.mu.Lock()
	defer a.mu.Unlock()
	if !maps.EqualFunc(a.got, want, bytes.Equal) {
		t.Errorf("the archive holds %d objects, want %d, or their bytes differ", len(a.got), len(want))
	}
}

func (a *archive) seen() (stores, associations int) {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.stores, len(a.proposals)
}

// senderTo makes a sender that is closed with the test.
func senderTo(t testing.TB, a *archive, change ...func(*peering)) *sender {
	p := peering{address: a.address, calling: "GANTRY", called: "PACS", timeouts: dimse.Timeouts{Data: 5 * time.Second, Response: 5 * time.Second}}
	for _, c := range change {
		c(&p)
	}
	s := newSender(drivertest.Egress(t), p)
	t.Cleanup(s.close)
	return s
}

// wantError holds an error to its kind and code, and to what it may say.
func wantError(t *testing.T, what string, err error, kind gantry.Kind, code gantry.Code) {
	t.Helper()
	if err == nil || gantry.KindOf(err) != kind || gantry.CodeOf(err) != code {
		t.Errorf("%s: %v (%s, %s), want %s, %s", what, err, gantry.KindOf(err), gantry.CodeOf(err), kind, code)
	}
	wantDiscreet(t, what, err)
}

func wantDiscreet(t *testing.T, what string, err error) {
	t.Helper()
	for _, secret := range []string{"DOE", "2.25.", "1.2.840"} {
		if err != nil && bytes.Contains([]byte(err.Error()), []byte(secret)) {
			t.Errorf("%s: an error says %s: %v", what, secret, err)
		}
	}
}
