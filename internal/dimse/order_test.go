package dimse

import (
	"context"
	"io"
	"strings"
	"sync"
	"testing"
	"testing/iotest"
)

// bare is an association on which the test decides what sending does, for orders of events that a connection brings about only by chance.
type bare struct {
	operations
	under sync.WaitGroup
	sends func(m message) error
}

func newBare(sends func(b *bare, m message) error) *bare {
	b := &bare{}
	b.sends = func(m message) error { return sends(b, m) }
	b.open(b, 1, 0)
	return b
}

func (b *bare) send(_ context.Context, m message) error { return b.sends(m) }
func (b *bare) Abort()                                  {}
func (b *bare) Contexts() []Accepted                    { return testContexts() }
func (b *bare) Find(abstract, _ string) (Accepted, bool) {
	return Accepted{ID: echoID, Abstract: abstract, Transfer: ImplicitLE}, true
}

func (b *bare) run(do func(context.Context)) error {
	b.under.Go(func() { do(context.Background()) })
	return nil
}

// answerNow has the peer answer a request.
func (b *bare) answerNow(m message, status Status) error {
	c, err := decodeCommand(m.command)
	if err != nil {
		return err
	}
	r := command{field: c.field | fieldResponse, respondedTo: c.id, status: status}
	return b.dispatch(context.Background(), message{context: m.context, command: r.encode()})
}

// TestBrokenIsNotAnswered sends no answer for an instance that did not come whole, whatever its handler thinks of it.
func TestBrokenIsNotAnswered(t *testing.T) {
	for _, end := range []error{errLost, io.ErrUnexpectedEOF, nil} {
		sent := 0
		b := newBare(func(*bare, message) error { sent++; return nil })
		b.handle(&desk{store: func(_ context.Context, r StoreRequest) Response {
			_, _ = io.Copy(io.Discard, r.Data)
			return Response{Status: StatusSuccess}
		}})
		var data io.Reader = strings.NewReader("data")
		if end != nil {
			data = io.MultiReader(data, iotest.ErrReader(end))
		}
		c := command{field: fieldStore, id: 1, class: ctClass, instance: "1.2", data: true}
		err := b.dispatch(t.Context(), message{context: storeID, command: c.encode(), data: data})
		b.under.Wait()
		if err != end || sent != map[bool]int{true: 1, false: 0}[end == nil] {
			t.Errorf("%v: dispatched with %v, %d answers", end, err, sent)
		}
	}
}

// TestAnswerBeforeTheEnd gives the answer that came before the association ended, not its end.
func TestAnswerBeforeTheEnd(t *testing.T) {
	for range 50 { // of two things that have happened a select takes either
		b := newBare(func(b *bare, m message) error {
			defer b.end(errLost)
			return b.answerNow(m, StatusSuccess)
		})
		r, err := b.echo(t.Context())
		wantStatus(t, r, err, StatusSuccess)
	}
}

// TestAnswerBeforeAFailure gives the answer of a peer that refuses and closes, not the failure to send it more.
func TestAnswerBeforeAFailure(t *testing.T) {
	b := newBare(func(b *bare, m message) error {
		if err := b.answerNow(m, StatusOutOfResources); err != nil {
			t.Error(err)
		}
		return errLost
	})
	r, err := b.store(t.Context(), storing(2))
	wantStatus(t, r, err, StatusOutOfResources)
}
