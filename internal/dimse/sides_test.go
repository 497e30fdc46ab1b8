package dimse

import (
	"bytes"
	"context"
	"errors"
	"io"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/gantry-imaging/gantry/internal/gantry"
)

const (
	ctClass   = "1.2.840.10008.5.1.4.1.1.2"
	otherUID  = "1.2.826.0.1.3680043.2.1"
	echoID    = 1
	storeID   = 3
	findID    = 5
	commitID  = 7
	anotherID = 9
)

// testContexts are accepted in these tests.
func testContexts() []Accepted {
	return []Accepted{
		{ID: echoID, Abstract: Verification, Transfer: ImplicitLE}, {ID: storeID, Abstract: ctClass, Transfer: ExplicitLE},
		{ID: findID, Abstract: StudyRootFind, Transfer: ImplicitLE}, {ID: commitID, Abstract: StorageCommitment, Transfer: ExplicitLE},
		{ID: anotherID, Abstract: PatientRootFind, Transfer: DeflatedLE},
	}
}

var errLost = gantry.Errorf(gantry.Transient, "connection_lost", "read: the connection is lost")

// errLetGo ends a side as a release does.
var errLetGo = errors.New("released")

// side is one side of an association without a network. What the other sends it dispatches, or a script takes.
type side struct {
	operations
	other  *side
	in     chan message
	window chan struct{}
	script func(*command, message) error

	ctx     context.Context
	lose    context.CancelCauseFunc
	sending sync.Mutex
	under   sync.WaitGroup
	out     error // why its reader ended
	ended   chan struct{}
}

// sides makes both sides; script, if there is one, is what the second does with messages.
func sides(t *testing.T, window int, response time.Duration, script func(peer *side, c *command, m message) error) (us, them *side) {
	t.Helper()
	ctx, lose := context.WithCancelCause(context.Background())
	make1 := func() *side {
		return &side{in: make(chan message), window: make(chan struct{}, window), ctx: ctx, lose: lose, ended: make(chan struct{})}
	}
	us, them = make1(), make1()
	us.other, them.other = them, us
	us.open(us, window, response)
	them.open(them, window, response)
	if script != nil {
		them.script = func(c *command, m message) error { return script(them, c, m) }
	}
	go us.read()
	go them.read()
	t.Cleanup(func() {
		lose(errLost)
		<-us.ended
		<-them.ended
	})
	return us, them
}

func (s *side) read() {
	defer close(s.ended)
	for s.out == nil {
		select {
		case m := <-s.in:
			c, err := decodeCommand(m.command)
			if err == nil && s.script != nil {
				err = s.script(c, m)
			} else {
				err = s.dispatch(s.ctx, m)
			}
			if err != nil {
				s.lose(err)
			}
		case <-s.ctx.Done():
			s.out = context.Cause(s.ctx)
		}
	}
	s.under.Wait()
	if s.out == errLetGo {
		s.end(nil)
		return
	}
	s.end(s.out)
}

func (s *side) send(ctx context.Context, m message) error {
	s.sending.Lock()
	defer s.sending.Unlock()
	var w *io.PipeWriter
	data := m.data
	if data != nil {
		var r *io.PipeReader
		r, w = io.Pipe()
		defer context.AfterFunc(s.ctx, func() { w.CloseWithError(context.Cause(s.ctx)) })()
		m.data = r
	}
	select {
	case s.other.in <- m:
	case <-s.ctx.Done():
		return context.Cause(s.ctx)
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	if data == nil {
		return nil
	}
	_, err := io.CopyBuffer(struct{ io.Writer }{w}, struct{ io.Reader }{data}, make([]byte, 1000))
	w.CloseWithError(err)
	return err
}

func (s *side) run(do func(context.Context)) error {
	select {
	case s.window <- struct{}{}:
	case <-s.ctx.Done():
		return context.Cause(s.ctx)
	}
	s.under.Go(func() {
		do(s.ctx)
		<-s.window
	})
	return nil
}

func (s *side) Abort() {
	s.lose(gantry.Errorf(gantry.Transient, "association_aborted", "aborted by us"))
}
func (s *side) Contexts() []Accepted { return testContexts() }

func (s *side) Find(abstract, transfer string) (Accepted, bool) {
	for _, c := range testContexts() {
		if c.Abstract == abstract && (transfer == "" || c.Transfer == transfer) {
			return c, true
		}
	}
	return Accepted{}, false
}

// answer sends a response to a request.
func (s *side) answer(c *command, id byte, status Status, data []byte) error {
	r := command{field: c.field | fieldResponse, respondedTo: c.id, class: c.class, status: status, data: data != nil}
	m := message{context: id, command: r.encode()}
	if data != nil {
		m.data = bytes.NewReader(data)
	}
	return s.send(s.ctx, m)
}

// desk is a handler whose methods the test gives; those that are nil are not to be called.
type desk struct {
	store    func(context.Context, StoreRequest) Response
	commit   func(context.Context, Commitment) Response
	reported func(context.Context, Commitment) Response

	mu    sync.Mutex
	ended []error
}

func (d *desk) Store(ctx context.Context, r StoreRequest) Response  { return d.store(ctx, r) }
func (d *desk) Commit(ctx context.Context, c Commitment) Response   { return d.commit(ctx, c) }
func (d *desk) Reported(ctx context.Context, c Commitment) Response { return d.reported(ctx, c) }

func (d *desk) Ended(err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.ended = append(d.ended, err)
}

func storing(n int) StoreRequest {
	return StoreRequest{
		Context: Accepted{ID: storeID, Abstract: ctClass, Transfer: ExplicitLE}, Class: ctClass, Instance: "1.2.3",
		Data: strings.NewReader(strings.Repeat("d", n)),
	}
}

func wantStatus(t *testing.T, r Response, err error, want Status) {
	t.Helper()
	if err != nil || r.Status != want {
		t.Errorf("got %04x, %v, want %04x", uint16(r.Status), err, uint16(want))
	}
}

func wantError(t *testing.T, err error, kind gantry.Kind, code gantry.Code) {
	t.Helper()
	if err == nil || gantry.KindOf(err) != kind || gantry.CodeOf(err) != code {
		t.Errorf("got %v (%v, %s), want %v, %s", err, gantry.KindOf(err), gantry.CodeOf(err), kind, code)
	}
}
