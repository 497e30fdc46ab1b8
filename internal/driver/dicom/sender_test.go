package dicom

import (
	"context"
	"errors"
	"net"
	"os"
	"runtime"
	"sync"
	"testing"
	"time"

	"github.com/gantry-imaging/gantry/internal/dimse"
	"github.com/gantry-imaging/gantry/internal/gantry"
)

// TestSend sends objects of every native syntax and some that are packed, and the archive has their data sets, byte for byte.
func TestSend(t *testing.T) {
	t.Parallel()
	a := archiveAt(t, &archive{}, nil)
	s := senderTo(t, a)
	own := &counted{Egress: s.egress}
	s.egress = own
	want := map[string][]byte{}
	for i, size := range []int{0, 1, 1000, 128 << 10, 300_001, 3 << 20} {
		for j, ts := range []string{dimse.ImplicitLE, dimse.ExplicitLE, syntaxJPEG} {
			uid := uidOf(10*i + j)
			b, dataset := part10(classCT, uid, ts, size)
			x, err := s.send(t.Context(), fileFrom(b))
			if err != nil || x.Instance != uid || x.Class != classCT || x.Transfer != ts || x.Status != dimse.StatusSuccess {
				t.Fatalf("%s, %d bytes: %+v, %v", ts, size, x.Status, err)
			}
			want[uid] = dataset
		}
	}
	a.want(t, want)
	if _, n := a.seen(); n != 3 || own.most != 3 {
		t.Errorf("%d associations, %d at once; each syntax that was new needs one", n, own.most)
	}
}

// counted counts the connections that are open on this side: the peer learns later that one is not any more.
type counted struct {
	gantry.Egress
	mu         sync.Mutex
	open, most int
}

type countedConn struct {
	net.Conn
	close func()
}

func (c *countedConn) Close() error {
	err := c.Conn.Close()
	c.close()
	return err
}

func (c *counted) DialContext(ctx context.Context, network, address string) (net.Conn, error) {
	conn, err := c.Egress.DialContext(ctx, network, address)
	if err != nil {
		return nil, err
	}
	c.add(1)
	return &countedConn{conn, sync.OnceFunc(func() { c.add(-1) })}, nil
}

func (c *counted) add(n int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.open += n
	c.most = max(c.most, c.open)
}

// TestSendPool never has more associations than it may, whatever is sent side by side, and uses them again.
func TestSendPool(t *testing.T) {
	t.Parallel()
	a := archiveAt(t, &archive{slow: time.Millisecond}, nil)
	s := senderTo(t, a, func(p *peering) { p.most = 3 })
	own := &counted{Egress: s.egress}
	s.egress = own
	want := map[string][]byte{}
	var mu sync.Mutex
	var wg sync.WaitGroup
	for i := range 60 {
		wg.Go(func() {
			class, uid := []string{classCT, classCapture}[i%2], uidOf(i)
			b, dataset := part10(class, uid, []string{dimse.ImplicitLE, dimse.ExplicitLE}[i/2%2], 50_000)
			if _, err := s.send(t.Context(), fileFrom(b)); err != nil {
				t.Error(err)
			}
			mu.Lock()
			defer mu.Unlock()
			want[uid] = dataset
		})
	}
	wg.Wait()
	a.want(t, want)
	if stores, n := a.seen(); stores != 60 || own.most != 3 || n > 20 {
		t.Errorf("%d stores on %d associations, %d at once", stores, n, own.most)
	}
}

// TestSendAll asks for all that a batch needs at once.
func TestSendAll(t *testing.T) {
	t.Parallel()
	a := archiveAt(t, &archive{}, nil)
	s := senderTo(t, a)
	var list []outgoing
	want := map[string][]byte{}
	for i := range 12 {
		b, dataset := part10([]string{classCT, classCapture}[i%2], uidOf(i), []string{dimse.ImplicitLE, dimse.ExplicitLE, syntaxJPEG}[i%3], 1000)
		list, want[uidOf(i)] = append(list, fileFrom(b)), dataset
	}
	var told []int
	if err := s.sendAll(t.Context(), list, func(i int, x sent) { told = append(told, i) }); err != nil || len(told) != 12 {
		t.Fatal(err, told)
	}
	a.want(t, want)
	if _, n := a.seen(); n != 1 || len(a.proposals[0].Contexts) != 6 {
		t.Errorf("%d associations, %d contexts, want one with 6", n, len(a.proposals[0].Contexts))
	}
}

// TestSendManyContexts sends more kinds of objects than an association has contexts.
func TestSendManyContexts(t *testing.T) {
	t.Parallel()
	a := archiveAt(t, &archive{}, nil)
	s := senderTo(t, a)
	var list []outgoing
	for i := range 300 {
		b, _ := part10("1.2.3."+uidOf(i)[5:], uidOf(i), dimse.ExplicitLE, 10)
		list = append(list, fileFrom(b))
	}
	n := 0
	if err := s.sendAll(t.Context(), list, func(int, sent) { n++ }); err != nil || n != 300 {
		t.Fatal(err, n)
	}
	_, associations := a.seen()
	for _, p := range a.proposals {
		if len(p.Contexts) > maxContexts {
			t.Errorf("%d contexts", len(p.Contexts))
		}
	}
	if associations != 3 {
		t.Errorf("%d associations", associations)
	}
}

// TestSendStatus holds every class of status to what it means.
func TestSendStatus(t *testing.T) {
	t.Parallel()
	for status, want := range map[dimse.Status]gantry.Error{
		0xA700: {Kind: gantry.Unavailable, Code: CodeOutOfResources}, 0xA702: {Kind: gantry.Unavailable, Code: CodeOutOfResources},
		0xA900: {Kind: gantry.Permanent, Code: CodeMismatch}, 0xA9FF: {Kind: gantry.Permanent, Code: CodeMismatch},
		0xC000: {Kind: gantry.Permanent, Code: CodeNotUnderstood}, 0xCABC: {Kind: gantry.Permanent, Code: CodeNotUnderstood},
		0x0110: {Kind: gantry.Transient, Code: CodeProcessing}, 0x0124: {Kind: gantry.Denied, Code: CodeNotAuthorized},
		0x0122: {Kind: gantry.Permanent, Code: CodeNotSupported}, 0x0211: {Kind: gantry.Permanent, Code: CodeNotSupported},
		0x0117: {Kind: gantry.Permanent, Code: CodeRefused}, 0x0212: {Kind: gantry.Permanent, Code: CodeRefused}, 0xFE00: {Kind: gantry.BadResponse, Code: CodeStrangeStatus},
	} {
		err := storeError(status)
		if err == nil || err.Kind != want.Kind || err.Code != want.Code {
			t.Errorf("%04X: %v", status, err)
		}
	}
	a := archiveAt(t, &archive{status: func(n int, _ dimse.StoreRequest) dimse.Status {
		return []dimse.Status{0xB000, 0xB006, 0xB007, 0x0111, 0xA700, 0xC001, 0x0110}[n-1]
	}}, nil)
	s := senderTo(t, a)
	for i, want := range []gantry.Code{"", "", "", "", CodeOutOfResources, CodeNotUnderstood, CodeProcessing} {
		b, _ := part10(classCT, uidOf(1), dimse.ExplicitLE, 100)
		x, err := s.send(t.Context(), fileFrom(b))
		if gantry.CodeOf(err) != want || err == nil && x.Status == dimse.StatusSuccess {
			t.Errorf("%d: %04X, %v", i, x.Status, err)
		}
		wantDiscreet(t, "send", err)
	}
	if _, n := a.seen(); n != 1 {
		t.Errorf("%d associations: an answer ends none", n)
	}
}

// TestSendCancelled ends with its context, wherever that is, and gives its places back.
func TestSendCancelled(t *testing.T) {
	t.Parallel()
	a := archiveAt(t, &archive{slow: 300 * time.Millisecond}, nil)
	s := senderTo(t, a, func(p *peering) { p.most = 1 })
	b, _ := part10(classCT, uidOf(1), dimse.ExplicitLE, 100_000)
	for _, after := range []time.Duration{0, time.Millisecond, 50 * time.Millisecond} {
		ctx, cancel := context.WithTimeout(t.Context(), after)
		_, err := s.send(ctx, fileFrom(b))
		cancel()
		if !errors.Is(err, context.DeadlineExceeded) && !errors.Is(err, os.ErrDeadlineExceeded) { // the socket may see it first
			t.Errorf("after %s: %v", after, err)
		}
	}
	busy, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	wg.Go(func() { s.send(t.Context(), fileFrom(b)) })
	time.Sleep(50 * time.Millisecond)
	time.AfterFunc(20*time.Millisecond, cancel)
	if _, err := s.send(busy, fileFrom(b)); !errors.Is(err, context.Canceled) { // it waits for the only place
		t.Error(err)
	}
	wg.Wait()
	if _, err := s.send(t.Context(), fileFrom(b)); err != nil {
		t.Error(err)
	}
}

// TestSendIdle ends associations that nobody uses, and leaves nothing behind.
func TestSendIdle(t *testing.T) {
	before := runtime.NumGoroutine() + 2 // those of the archive
	a := archiveAt(t, &archive{}, nil)
	s := senderTo(t, a, func(p *peering) { p.idle = 30 * time.Millisecond })
	for i := range 3 {
		b, _ := part10(classCT, uidOf(i), dimse.ExplicitLE, 100)
		if _, err := s.send(t.Context(), fileFrom(b)); err != nil {
			t.Fatal(err)
		}
		time.Sleep(150 * time.Millisecond)
	}
	if _, n := a.seen(); n != 3 {
		t.Errorf("%d associations", n)
	}
	a.mu.Lock()
	open := a.open
	a.mu.Unlock()
	if open != 0 {
		t.Errorf("%d associations are open", open)
	}
	for range 50 {
		if runtime.NumGoroutine() <= before {
			return
		}
		time.Sleep(20 * time.Millisecond)
	}
	stacks := make([]byte, 1<<16)
	t.Errorf("%d goroutines, %d before\n%s", runtime.NumGoroutine(), before, stacks[:runtime.Stack(stacks, true)])
}

// TestSendOnDeadLine goes on with another association after the peer ended the one that was kept.
func TestSendOnDeadLine(t *testing.T) {
	t.Parallel()
	a := archiveAt(t, &archive{}, nil)
	s := senderTo(t, a)
	b, _ := part10(classCT, uidOf(1), dimse.ExplicitLE, 100)
	for range 2 {
		if _, err := s.send(t.Context(), fileFrom(b)); err != nil {
			t.Fatal(err)
		}
		s.mu.Lock()
		for _, l := range s.free {
			l.Abort()
			<-l.Done()
		}
		s.mu.Unlock()
	}
	if _, n := a.seen(); n != 2 {
		t.Errorf("%d associations", n)
	}
}
