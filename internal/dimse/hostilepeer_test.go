package dimse

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"os"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/gantry-imaging/gantry/internal/gantry"
)

// acceptor is a raw peer that is called: it does what play says with the first connection, then reads to its end.
func acceptor(t testing.TB, play func(r raw)) (address string) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		c, err := l.Accept()
		if err != nil {
			return
		}
		defer c.Close()
		play(raw{c, t})
	}()
	t.Cleanup(func() {
		_ = l.Close()
		<-done
	})
	return l.Addr().String()
}

// acceptance is the A-ASSOCIATE-AC for plain().
func acceptance(t testing.TB, change ...func(*associate)) []byte {
	t.Helper()
	m := &associate{kind: pduAssociateAC, version: 1, application: applicationContext, user: userInfo{limited: true, class: "1.2"}, contexts: []presentation{
		{id: 1, transfer: []string{ImplicitLE}}, {id: 3, transfer: []string{ExplicitLE}}, {id: 5, transfer: []string{jpegLS}}}}
	for _, c := range change {
		c(m)
	}
	b, err := m.encode()
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// accepting answers a request and goes on.
func accepting(t testing.TB, then func(r raw), change ...func(*associate)) string {
	return acceptor(t, func(r raw) {
		r.expect(pduAssociateRQ)
		r.say(acceptance(t, change...))
		then(r)
	})
}

// TestAnswersToRequests: each answer to a request for an association is an error of the right kind and code, and the connection is closed.
func TestAnswersToRequests(t *testing.T) {
	defer goleak.VerifyNone(t, goleak.IgnoreCurrent())
	rejected := func(transient bool, source, reason byte) []byte {
		return encodeReject(&Rejection{Transient: transient, Source: source, Reason: reason})
	}
	for name, c := range map[string]struct {
		say   []byte
		kind  gantry.Kind
		code  gantry.Code
		abort bool // we answer with an abort
	}{
		"called unknown":      {rejected(false, 1, 7), gantry.Denied, CodeCalledUnknown, false},
		"calling unknown":     {rejected(false, 1, 3), gantry.Denied, CodeCallingUnknown, false},
		"application context": {rejected(false, 1, 2), gantry.Denied, CodeApplication, false},
		"no reason":           {rejected(false, 1, 1), gantry.Denied, CodeRejected, false},
		"protocol version":    {rejected(false, 2, 2), gantry.Denied, CodeProtocolVersion, false},
		"no reason of ACSE":   {rejected(true, 2, 1), gantry.Unavailable, CodeRejected, false},
		"congestion":          {rejected(true, 3, 1), gantry.Unavailable, CodeCongestion, false},
		"limit":               {rejected(true, 3, 2), gantry.Unavailable, CodeLocalLimit, false},
		"limit for good":      {rejected(false, 3, 2), gantry.Unavailable, CodeLocalLimit, false},
		"called for now":      {rejected(true, 1, 7), gantry.Unavailable, CodeCalledUnknown, false},
		"unheard of":          {rejected(false, 9, 9), gantry.Denied, CodeRejected, false},
		"aborted":             {encodeAbort(abortProvider, reasonNone), gantry.Transient, CodeAborted, false},
		"closed":              {nil, gantry.Transient, CodeConnectionClosed, false},
		"half":                {acceptance(t)[:50], gantry.Transient, CodeConnectionClosed, false},
		"data":                {pdata(pdv(1, 3, echoCommand())), gantry.BadResponse, CodeUnexpectedPDU, true},
		"release":             {control(pduReleaseRQ, 0, 0, 0), gantry.BadResponse, CodeUnexpectedPDU, true},
		"HTTP":                {[]byte("HTTP/1.1 400 Bad Request\r\n\r\n"), gantry.BadResponse, CodeMalformedPDU, true},
		"4 GB":                {[]byte{pduAssociateAC, 0, 0xFF, 0xFF, 0xFF, 0xFF}, gantry.BadResponse, CodePDUTooLarge, true},
		"context unknown":     {acceptance(t, func(m *associate) { m.contexts[0].id = 9 }), gantry.BadResponse, CodeMalformedPDU, true},
		"syntax unknown":      {acceptance(t, func(m *associate) { m.contexts[0].transfer = []string{ExplicitBE} }), gantry.BadResponse, CodeMalformedPDU, true},
		"context twice":       {acceptance(t, func(m *associate) { m.contexts[1].id = 1 }), gantry.BadResponse, CodeMalformedPDU, true},
	} {
		address := acceptor(t, func(r raw) {
			r.t = nest(t, name)
			r.expect(pduAssociateRQ)
			r.say(c.say)
			if c.abort {
				r.expect(pduAbort)
			}
			_ = r.Conn.(*net.TCPConn).CloseWrite()
			r.expectEnd()
		})
		conn := dial(t, address)
		_, err := Request(t.Context(), conn, plain())
		if gantry.KindOf(err) != c.kind || gantry.CodeOf(err) != c.code {
			t.Errorf("%s: %v (%s, %s)", name, err, gantry.KindOf(err), gantry.CodeOf(err))
		}
		if _, err := conn.Write([]byte{0}); !errors.Is(err, net.ErrClosed) {
			t.Errorf("%s: the connection is open", name)
		}
		if r, ok := errors.AsType[*Rejection](err); ok != (c.say != nil && c.say[0] == pduAssociateRJ) {
			t.Errorf("%s: a rejection: %v %v", name, r, ok)
		}
	}
}

func TestRequestsThatAreNotAnswered(t *testing.T) {
	defer goleak.VerifyNone(t, goleak.IgnoreCurrent())
	silent := func() string {
		return acceptor(t, func(r raw) {
			r.expect(pduAssociateRQ)
			r.expectAbort(abortUser, reasonNone)
		})
	}
	p := plain()
	p.Timeouts = brief
	if _, err := Request(t.Context(), dial(t, silent()), p); gantry.KindOf(err) != gantry.Timeout || gantry.CodeOf(err) != CodeArtim {
		t.Errorf("%v", err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if _, err := Request(ctx, dial(t, silent()), plain()); gantry.KindOf(err) != gantry.Timeout || !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("%v", err)
	}
	hold := make(chan struct{})
	defer close(hold)
	deaf := acceptor(t, func(raw) { <-hold })
	ctx, quit := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer quit()
	began := time.Now()
	if _, err := Request(ctx, dial(t, deaf), plain()); gantry.KindOf(err) != gantry.Timeout || time.Since(began) > linger*3/4 {
		t.Errorf("%v after %s", err, time.Since(began))
	}
	ctx, stop := context.WithCancelCause(t.Context())
	why := gantry.Errorf(gantry.Permanent, gantry.CodeCancelled, "an operator cancelled")
	time.AfterFunc(50*time.Millisecond, func() { stop(why) })
	if _, err := Request(ctx, dial(t, silent()), plain()); !errors.Is(err, why) {
		t.Errorf("%v", err)
	}
}

// TestBadParams are not asked for at all.
func TestBadParams(t *testing.T) {
	for name, change := range map[string]func(*Params){
		"no title":     func(p *Params) { p.Called = "" },
		"blank title":  func(p *Params) { p.Calling = "   " },
		"long title":   func(p *Params) { p.Called = "SEVENTEEN LETTERS" },
		"backslash":    func(p *Params) { p.Called = `A\B` },
		"control":      func(p *Params) { p.Called = "A\nB" },
		"no context":   func(p *Params) { p.Contexts = nil },
		"129 contexts": func(p *Params) { p.Contexts = make([]Context, 129) },
		"no syntax":    func(p *Params) { p.Contexts[0].Transfer = nil },
		"no abstract":  func(p *Params) { p.Contexts[0].Abstract = "" },
		"window":       func(p *Params) { p.Window = 1 << 16 },
		"maximum":      func(p *Params) { p.MaxPDU = -1 },
		"identity":     func(p *Params) { p.Identity = &Identity{Type: 1, Primary: make([]byte, 1<<16)} },
		"identity in sum": func(p *Params) {
			p.Identity = &Identity{Type: 2, Primary: make([]byte, 40000), Secondary: make([]byte, 40000)}
		},
	} {
		p := plain()
		change(&p)
		near, far := net.Pipe()
		if _, err := Request(t.Context(), near, p); gantry.KindOf(err) != gantry.Illegal || gantry.CodeOf(err) != CodeBadParams {
			t.Errorf("%s: %v", name, err)
		}
		if n, err := far.Read(make([]byte, 1)); n != 0 || err != io.EOF {
			t.Errorf("%s: %d bytes, %v", name, n, err)
		}
	}
}

// endless is data without an end.
type endless struct{}

func (endless) Read(p []byte) (int, error) { return len(p), nil }

// TestPeerThatReadsNothing: a peer that does not take what we send is left, and so is one when ctx ends meanwhile.
func TestPeerThatReadsNothing(t *testing.T) {
	defer goleak.VerifyNone(t, goleak.IgnoreCurrent())
	for name, wait := range map[string]time.Duration{"timeout": 0, "cancelled": 100 * time.Millisecond} {
		hold := make(chan struct{})
		address := accepting(t, func(raw) { <-hold })
		p := plain()
		ctx, cancel := context.WithCancel(t.Context())
		if wait == 0 {
			p.Timeouts = brief
		} else {
			time.AfterFunc(wait, cancel)
		}
		a := ask(t, address, p)
		began := time.Now()
		_, err := a.Store(ctx, storeOf(a, "1.2.3", endless{}))
		if d := time.Since(began); err == nil || d > 5*time.Second {
			t.Errorf("%s: %v after %s", name, err, d)
		}
		<-a.Done()
		if d := time.Since(began); d > 8*time.Second {
			t.Errorf("%s: it ended after %s", name, d)
		}
		if _, err := a.Echo(t.Context()); err == nil {
			t.Errorf("%s: it goes on", name)
		}
		close(hold)
		cancel()
	}
}

// halfConn takes half of what is written first, and then everything.
type halfConn struct {
	deafConn
	wrote []byte
	n     int
}

func (h *halfConn) Read([]byte) (int, error) { return 0, io.EOF }

func (h *halfConn) Write(p []byte) (int, error) {
	if h.n++; h.n == 1 {
		p = p[:len(p)/2]
		h.wrote = append(h.wrote, p...)
		return len(p), os.ErrDeadlineExceeded
	}
	h.wrote = append(h.wrote, p...)
	return len(p), nil
}

// TestNothingFollowsAPartOfAPDU: what came after it would be taken for the rest of it.
func TestNothingFollowsAPartOfAPDU(t *testing.T) {
	c := &halfConn{}
	a := newAssociation(t.Context(), c, true, brief)
	a.link.machine.state = sta6
	a.establish([]Accepted{{ID: 1, Abstract: Verification, Transfer: ImplicitLE, SCU: true}}, 1<<16, 1)
	m := message{context: 1, command: echoCommand()}
	if err := a.send(t.Context(), m); gantry.KindOf(err) != gantry.Timeout || gantry.CodeOf(err) != CodeData {
		t.Errorf("%v", err)
	}
	n := len(c.wrote)
	if err := a.send(t.Context(), m); gantry.CodeOf(err) != CodeConnectionLost {
		t.Errorf("%v", err)
	}
	a.Abort()
	if len(c.wrote) != n || n == 0 {
		t.Errorf("%d bytes, then %d", n, len(c.wrote)-n)
	}
}

// TestDataThatFail: a data set that cannot be read to its end aborts the association, for what was sent has no end.
func TestDataThatFail(t *testing.T) {
	h := newShelf()
	up := serve(t, serverOf(h), time.Second)
	a := ask(t, up.address, plain())
	at, _ := a.Find(ctImage, ExplicitLE)
	torn := gantry.Errorf(gantry.NotFound, "gone", "it is gone")
	err := a.send(t.Context(), message{context: at.ID, command: storeCommand("1.2.3"), data: io.MultiReader(bytes.NewReader(noise(1<<20)), spent{torn})})
	if !errors.Is(err, torn) || gantry.KindOf(err) != gantry.NotFound {
		t.Errorf("%v", err)
	}
	<-a.Done()
	if err := <-h.ends; gantry.CodeOf(err) != CodeAborted {
		t.Errorf("the peer saw %v", err)
	}
	if _, ok := h.sum("1.2.3"); ok {
		t.Error("it was taken")
	}
}

type spent struct{ err error }

func (f spent) Read([]byte) (int, error) { return 0, f.err }

// TestSendsThatCannotBe leave the association as it is.
func TestSendsThatCannotBe(t *testing.T) {
	up := serve(t, serverOf(newShelf()), time.Second)
	a := ask(t, up.address, plain())
	if err := a.send(t.Context(), message{context: 99, command: echoCommand()}); gantry.KindOf(err) != gantry.Illegal || gantry.CodeOf(err) != CodeNoContext {
		t.Errorf("%v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := a.send(ctx, message{context: 1, command: echoCommand()}); !errors.Is(err, context.Canceled) {
		t.Errorf("%v", err)
	}
	if r, err := a.Echo(t.Context()); err != nil || r.Status != StatusSuccess {
		t.Errorf("%v %v", r, err)
	}
	if err := a.Release(t.Context()); err != nil {
		t.Error(err)
	}
}
