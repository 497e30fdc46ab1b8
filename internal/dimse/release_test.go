package dimse

import (
	"context"
	"net"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/gantry-imaging/gantry/internal/gantry"
)

// TestReleaseCollision: both ask for release at once. The requestor answers first (PS3.8 section 7.2.2).
func TestReleaseCollision(t *testing.T) {
	defer goleak.VerifyNone(t, goleak.IgnoreCurrent())
	address := accepting(t, func(r raw) {
		r.expect(pduReleaseRQ)
		r.say(control(pduReleaseRQ, 0, 0, 0))
		r.expect(pduReleaseRP)
		r.say(control(pduReleaseRP, 0, 0, 0))
		r.expectEnd()
	})
	a := ask(t, address, plain())
	if err := a.Release(t.Context()); err != nil {
		t.Errorf("as requestor: %v", err)
	}
	near, far := pair(t)
	b := newAssociation(t.Context(), near, false, brief)
	go func() {
		h := &house{server: serverOf(newShelf()), base: t.Context(), most: 1, conns: map[net.Conn]*Association{}, large: make(chan struct{}, 1)}
		_, _ = h.greet(b, near)
		b.read()
	}()
	r := raw{far, t}
	r.say(request(t))
	r.expect(pduAssociateAC)
	ended := make(chan error, 1)
	go func() { ended <- b.Release(context.Background()) }()
	r.expect(pduReleaseRQ)
	r.say(control(pduReleaseRQ, 0, 0, 0), control(pduReleaseRP, 0, 0, 0))
	r.expect(pduReleaseRP)
	_ = r.Close()
	if err := <-ended; err != nil {
		t.Errorf("as acceptor: %v", err)
	}
}

// pair is a TCP connection.
func pair(t testing.TB) (near, far net.Conn) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	far = dial(t, l.Addr().String())
	if near, err = l.Accept(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = near.Close() })
	return near, far
}

// TestAfterTheRelease: what a peer says after it asked for release is not taken; a release that is not answered ends in an abort.
func TestAfterTheRelease(t *testing.T) {
	h := newShelf()
	s := serverOf(h)
	s.Timeouts = brief
	up := serve(t, s, time.Second)
	r := greeted(t, up.address)
	late := append(control(pduReleaseRQ, 0, 0, 0), pdata(pdv(3, 3, storeCommand("1.2.3")), pdv(3, 2, noise(10)))...)
	r.say(append(late, request(t)...))
	r.expect(pduReleaseRP)
	r.expect(pduAbort) // to the request (AA-7)
	r.expectEnd()
	if err := <-h.ends; err != nil {
		t.Errorf("ended with %v", err)
	}
	if _, ok := h.sum("1.2.3"); ok {
		t.Error("data after a release were taken")
	}
	p := plain()
	p.Timeouts = brief
	a := ask(t, accepting(t, func(r raw) {
		r.expect(pduReleaseRQ)
		r.expectAbort(abortUser, reasonNone)
	}), p)
	if err := a.Release(t.Context()); gantry.KindOf(err) != gantry.Timeout || gantry.CodeOf(err) != CodeRelease {
		t.Errorf("not answered: %v", err)
	}
	b := ask(t, accepting(t, func(r raw) {
		r.expect(pduReleaseRQ)
		r.expectAbort(abortUser, reasonNone)
	}), plain())
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if err := b.Release(ctx); gantry.CodeOf(err) != CodeAborted {
		t.Errorf("given up: %v", err)
	}
}

// TestReleaseWaitsForOperations: an operation that is under way when the peer asks for release is answered before the release is.
func TestReleaseWaitsForOperations(t *testing.T) {
	h := newShelf()
	h.gate = make(chan struct{})
	up := serve(t, serverOf(h), time.Second)
	r := greeted(t, up.address)
	r.say(pdata(pdv(3, 3, storeCommand("1.2.3")), pdv(3, 2, noise(10))), control(pduReleaseRQ, 0, 0, 0))
	time.AfterFunc(100*time.Millisecond, func() { close(h.gate) })
	if s := r.status(); s != StatusSuccess {
		t.Errorf("status %x", s)
	}
	r.expect(pduReleaseRP)
	_ = r.Close()
	if err := <-h.ends; err != nil {
		t.Error(err)
	}
}

// asker is a handler that asks the peer something on the same association, and does not look at its context.
type asker struct {
	*shelf
	a   *Association
	got chan error
}

func (k *asker) Attend(a *Association) { k.a = a }

func (k *asker) Commit(context.Context, Commitment) Response {
	_, err := k.a.Echo(context.Background())
	k.got <- err
	return Response{}
}

// TestHandlerThatWaitsForThePeer is woken at the end of the association, which waits for the handler.
func TestHandlerThatWaitsForThePeer(t *testing.T) {
	h := &asker{shelf: newShelf(), got: make(chan error, 1)}
	up := serve(t, serverOf(h), time.Second)
	r := greeted(t, up.address, func(m *associate) { m.contexts[1].abstract = StorageCommitment })
	d, err := Commitment{Transaction: "1.2", Instances: []Reference{{ctImage, "1.2.3"}}}.dataset()
	if err != nil {
		t.Fatal(err)
	}
	set, err := d.Encode(ExplicitLE)
	if err != nil {
		t.Fatal(err)
	}
	action := &command{field: fieldAction, id: 1, class: StorageCommitment, instance: StorageCommitmentInstance, action: actionCommit, data: true}
	r.say(pdata(pdv(3, controlCommand|controlLast, action.encode()), pdv(3, controlLast, set)))
	r.expect(pduData) // the echo
	r.say(encodeAbort(abortUser, reasonNone))
	if err := <-h.got; gantry.CodeOf(err) != CodeAborted {
		t.Errorf("the handler got %v", err)
	}
	if err := <-h.ends; gantry.CodeOf(err) != CodeAborted {
		t.Errorf("it was told %v", err)
	}
}
