package dimse

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"
	"testing"
	"testing/iotest"
	"testing/synctest"
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

// TestServices asks for each service that there is a handler for, in both directions.
func TestServices(t *testing.T) {
	us, them := sides(t, 1, 0, nil)
	var got StoreRequest
	var data []byte
	them.handle(&desk{
		store: func(_ context.Context, r StoreRequest) Response {
			got = r
			data, _ = io.ReadAll(r.Data)
			return Response{Status: 0xB000, Comment: "coerced"}
		},
		commit: func(_ context.Context, c Commitment) Response {
			if c.Transaction != "1.9" || len(c.Instances) != 1 || c.Instances[0].Instance != "1.2.3" || c.Failed != nil {
				t.Errorf("asked to commit %+v", c)
			}
			return Response{}
		},
	})
	us.handle(&desk{reported: func(_ context.Context, c Commitment) Response {
		if c.Transaction != "1.9" || len(c.Instances) != 1 || len(c.Failed) != 1 || c.Failed[0].Reason != 0x0112 {
			t.Errorf("told %+v", c)
		}
		return Response{}
	}})
	ctx := t.Context()
	r, err := us.echo(ctx)
	wantStatus(t, r, err, StatusSuccess)

	asked := storing(100_000)
	asked.Priority, asked.MoveAE, asked.MoveMessageID = 1, "MOVER", 12
	r, err = us.store(ctx, asked)
	wantStatus(t, r, err, 0xB000)
	if r.Comment != "coerced" || len(data) != 100_000 {
		t.Errorf("comment %q, %d bytes", r.Comment, len(data))
	}
	got.Data, asked.Data = nil, nil
	if got != asked {
		t.Errorf("got %+v, want %+v", got, asked)
	}
	one := Reference{ctClass, "1.2.3"}
	r, err = us.commit(ctx, Commitment{Transaction: "1.9", Instances: []Reference{one}})
	wantStatus(t, r, err, StatusSuccess)
	r, err = them.report(ctx, Commitment{Transaction: "1.9", Instances: []Reference{one}, Failed: []Failed{{one, 0x0112}}})
	wantStatus(t, r, err, StatusSuccess)
}

// TestRefusals has requests answered that cannot be served; the association goes on.
func TestRefusals(t *testing.T) {
	us, them := sides(t, 1, 0, nil)
	them.handle(&desk{})
	ask := func(id byte, c command, data []byte) (Response, error) {
		var r io.Reader
		if data != nil {
			r = bytes.NewReader(data)
		}
		return us.one(t.Context(), Accepted{ID: id}, &c, r)
	}
	good, err := Commitment{Transaction: "1"}.dataset()
	if err != nil {
		t.Fatal(err)
	}
	set, _ := good.Encode(ExplicitLE)
	instance := StorageCommitmentInstance
	for name, c := range map[string]struct {
		id   byte
		c    command
		data []byte
		want Status
	}{
		"a class of another context":       {storeID, command{field: fieldStore, class: otherUID, instance: "1.2"}, set, StatusNotSupported},
		"no class":                         {storeID, command{field: fieldStore, instance: "1.2"}, set, StatusNotSupported},
		"no instance":                      {storeID, command{field: fieldStore, class: ctClass}, set, StatusInvalidInstance},
		"an instance that is no UID":       {storeID, command{field: fieldStore, class: ctClass, instance: "../x"}, set, StatusInvalidInstance},
		"no data":                          {storeID, command{field: fieldStore, class: ctClass, instance: "1.2"}, nil, StatusCannotUnderstand},
		"an echo of a class":               {storeID, command{field: fieldEcho, class: ctClass}, nil, StatusNotSupported},
		"a store of an echo":               {echoID, command{field: fieldStore, class: Verification, instance: "1.2"}, set, StatusNotSupported},
		"a query":                          {findID, command{field: fieldFind, class: StudyRootFind}, set, StatusUnrecognized},
		"an N-GET":                         {commitID, command{field: 0x0110, class: StorageCommitment}, nil, StatusUnrecognized},
		"a commitment of another class":    {storeID, command{field: fieldAction, class: ctClass, instance: instance, action: 1}, set, StatusNoSuchClass},
		"a commitment of another instance": {commitID, command{field: fieldAction, class: StorageCommitment, instance: "1.2", action: 1}, set, StatusNoSuchInstance},
		"another action":                   {commitID, command{field: fieldAction, class: StorageCommitment, instance: instance, action: 2}, set, StatusNoSuchAction},
		"another event":                    {commitID, command{field: fieldReport, class: StorageCommitment, instance: instance, event: 3}, set, StatusNoSuchEvent},
		"nothing to commit":                {commitID, command{field: fieldAction, class: StorageCommitment, instance: instance, action: 1}, nil, StatusInvalidArgument},
		"a commitment of nonsense":         {commitID, command{field: fieldAction, class: StorageCommitment, instance: instance, action: 1}, []byte("xx"), StatusInvalidArgument},
		"a commitment of 2 MiB":            {commitID, command{field: fieldAction, class: StorageCommitment, instance: instance, action: 1}, make([]byte, 2<<20), StatusInvalidArgument},
		"a commitment without a UID":       {commitID, command{field: fieldAction, class: StorageCommitment, instance: instance, action: 1}, []byte{}, StatusInvalidArgument},
	} {
		t.Run(name, func(t *testing.T) {
			r, err := ask(c.id, c.c, c.data)
			wantStatus(t, r, err, c.want)
		})
	}
	r, err := us.echo(t.Context())
	wantStatus(t, r, err, StatusSuccess)
	// Whoever has no handler answers nothing.
	r, err = them.echo(t.Context())
	wantStatus(t, r, err, StatusUnrecognized)
}

// TestUnread skips what a handler leaves of a data set, and keeps it from reading on once it has returned.
func TestUnread(t *testing.T) {
	us, them := sides(t, 1, 0, nil)
	var kept io.Reader
	them.handle(&desk{store: func(_ context.Context, r StoreRequest) Response {
		_, _ = io.ReadFull(r.Data, make([]byte, 10))
		kept = r.Data
		return Response{Status: StatusOutOfResources}
	}})
	for range 3 {
		r, err := us.store(t.Context(), storing(50_000))
		wantStatus(t, r, err, StatusOutOfResources)
		if n, err := kept.Read(make([]byte, 10)); n != 0 || err != io.EOF {
			t.Errorf("read %d bytes of a data set that was skipped, %v", n, err)
		}
	}
}

// TestPanic answers for a handler that panics, and says so at the end.
func TestPanic(t *testing.T) {
	us, them := sides(t, 1, 0, nil)
	h := &desk{store: func(context.Context, StoreRequest) Response { panic("patient's name") }}
	them.handle(h)
	for range 2 {
		r, err := us.store(t.Context(), storing(5000))
		wantStatus(t, r, err, StatusProcessing)
	}
	us.lose(errLost)
	<-them.ended
	if len(h.ended) != 1 || gantry.CodeOf(h.ended[0]) != CodePanic || !errors.Is(h.ended[0], errLost) || strings.Contains(h.ended[0].Error(), "patient") {
		t.Errorf("ended by %v", h.ended)
	}
}

// TestEarlyAnswer ends the sending when the peer refuses before it has all; the association goes on.
func TestEarlyAnswer(t *testing.T) {
	for _, c := range []struct {
		status Status
		ok     bool
	}{{StatusOutOfResources, true}, {StatusSuccess, false}, {0xB000, false}} {
		var got int64
		us, _ := sides(t, 1, 0, func(peer *side, c2 *command, m message) error {
			if c2.field != fieldStore {
				return peer.answer(c2, m.context, StatusSuccess, nil)
			}
			if err := peer.answer(c2, m.context, c.status, nil); err != nil {
				return err
			}
			var err error
			got, err = io.Copy(io.Discard, m.data)
			return err
		})
		r, err := us.store(t.Context(), storing(100_000_000))
		if !c.ok {
			wantError(t, err, gantry.BadResponse, CodeUnexpected)
			continue
		}
		wantStatus(t, r, err, c.status)
		if r, err = us.echo(t.Context()); err != nil || r.Status != StatusSuccess || got > 50_000_000 {
			t.Errorf("afterwards %v, %v; %d bytes went", r, err, got)
		}
	}
}

// TestDataFails gives the error of what is to be sent, and aborts: half a data set cannot be brought to an end.
func TestDataFails(t *testing.T) {
	us, them := sides(t, 1, 0, nil)
	var read error
	them.handle(&desk{store: func(_ context.Context, r StoreRequest) Response {
		_, read = io.Copy(io.Discard, r.Data)
		return Response{}
	}})
	r := storing(0)
	bad := errors.New("disk")
	r.Data = io.MultiReader(strings.NewReader("abc"), failing{bad})
	if _, err := us.store(t.Context(), r); !errors.Is(err, bad) {
		t.Error(err)
	}
	<-them.ended
	if read == nil {
		t.Error("the peer took half a data set for a whole one")
	}
}

// TestOddLength sends no data set of an odd length: peers abort for one. One that is deflated gets the zero that it lacks.
func TestOddLength(t *testing.T) {
	for _, wrap := range []func(io.Reader) io.Reader{func(r io.Reader) io.Reader { return r }, iotest.DataErrReader, iotest.OneByteReader} {
		us, them := sides(t, 1, 0, nil)
		var got []byte
		them.handle(&desk{store: func(_ context.Context, r StoreRequest) Response {
			got, _ = io.ReadAll(r.Data)
			return Response{}
		}})
		for text, want := range map[string]string{"abc": "abc\x00", "abcd": "abcd", "": "", strings.Repeat("x", 999): strings.Repeat("x", 999) + "\x00"} {
			r := storing(0)
			r.Context.Transfer, r.Data = DeflatedLE, wrap(strings.NewReader(text))
			answer, err := us.store(t.Context(), r)
			wantStatus(t, answer, err, StatusSuccess)
			if string(got) != want {
				t.Errorf("got %q, want %q", got, want)
			}
		}
		r := storing(0)
		r.Data = wrap(strings.NewReader("abc"))
		_, err := us.store(t.Context(), r)
		wantError(t, err, gantry.Illegal, CodeOddLength)
		<-us.ended
	}
}

type failing struct{ err error }

func (f failing) Read([]byte) (int, error) { return 0, f.err }

// TestWindow has as many operations under way as were agreed on, answered in any order, and no more.
func TestWindow(t *testing.T) {
	const window = 4
	var held []*command
	us, them := sides(t, window, 0, func(peer *side, c *command, m message) error {
		if held = append(held, c); len(held) < window {
			return nil
		}
		for i := len(held) - 1; i >= 0; i-- { // the last first
			if err := peer.answer(held[i], m.context, Status(0xC000+held[i].priority), nil); err != nil {
				return err
			}
		}
		held = held[:0]
		return nil
	})
	var group sync.WaitGroup
	for i := range 5 * window {
		group.Go(func() {
			r, err := us.one(t.Context(), Accepted{ID: storeID}, &command{field: fieldStore, class: ctClass, instance: "1.2", priority: uint16(i)}, nil)
			wantStatus(t, r, err, Status(0xC000+i))
		})
	}
	group.Wait()
	if len(us.waiting) != 0 || len(us.invoking) != 0 {
		t.Errorf("%d wait, %d are under way", len(us.waiting), len(us.invoking))
	}
	them.lose(errLost)
	_, err := us.echo(t.Context())
	wantError(t, err, gantry.Transient, "connection_lost")
}

// TestConcurrentStores are taken at once up to the window.
func TestConcurrentStores(t *testing.T) {
	const window = 3
	us, them := sides(t, window, 0, nil)
	together := make(chan struct{}, window)
	release := make(chan struct{})
	them.handle(&desk{store: func(_ context.Context, r StoreRequest) Response {
		n, _ := io.Copy(io.Discard, r.Data)
		together <- struct{}{}
		<-release
		return Response{Status: Status(0xC000 + n)}
	}})
	var group sync.WaitGroup
	for i := range window {
		group.Go(func() {
			r, err := us.store(t.Context(), storing(2*i))
			wantStatus(t, r, err, Status(0xC000+2*i))
		})
	}
	for range window {
		<-together
	}
	close(release)
	group.Wait()
}

// TestDuplicateID refuses a request with the message ID of one under way.
func TestDuplicateID(t *testing.T) {
	us, them := sides(t, 2, 0, nil)
	begun, release := make(chan struct{}), make(chan struct{})
	them.handle(&desk{store: func(_ context.Context, r StoreRequest) Response {
		_, _ = io.Copy(io.Discard, r.Data)
		close(begun)
		<-release
		return Response{}
	}})
	answers := make(chan Status, 2)
	us.script = func(c *command, _ message) error {
		answers <- c.status
		return nil
	}
	store := command{field: fieldStore, id: 7, class: ctClass, instance: "1.2", data: true}
	for range 2 {
		if err := us.send(t.Context(), message{context: storeID, command: store.encode(), data: strings.NewReader("x")}); err != nil {
			t.Fatal(err)
		}
	}
	<-begun
	if s := <-answers; s != StatusDuplicateID {
		t.Errorf("%04x", uint16(s))
	}
	close(release)
	if s := <-answers; s != StatusSuccess {
		t.Errorf("%04x", uint16(s))
	}
}

// TestCancelled ends the context of an operation that the peer cancels.
func TestCancelled(t *testing.T) {
	us, them := sides(t, 1, 0, nil)
	begun := make(chan uint16, 1)
	them.handle(&desk{store: func(ctx context.Context, r StoreRequest) Response {
		_, _ = io.Copy(io.Discard, r.Data)
		begun <- r.MoveMessageID
		<-ctx.Done()
		return Response{Status: StatusCancel}
	}})
	go func() {
		<-begun
		c := command{field: fieldCancel, respondedTo: 1}
		_ = us.send(t.Context(), message{context: storeID, command: c.encode()})
	}()
	r, err := us.store(t.Context(), storing(2))
	wantStatus(t, r, err, StatusCancel)
}

// TestUnexpected aborts when the peer answers what was not asked, or not as it may.
func TestUnexpected(t *testing.T) {
	for name, wrong := range map[string]command{
		"no such message":   {field: fieldEcho | fieldResponse, respondedTo: 99},
		"another operation": {field: fieldStore | fieldResponse, respondedTo: 1},
		"a pending echo":    {field: fieldEcho | fieldResponse, respondedTo: 1, status: StatusPending},
	} {
		us, _ := sides(t, 1, 0, func(peer *side, _ *command, m message) error {
			return peer.send(peer.ctx, message{context: m.context, command: wrong.encode()})
		})
		_, err := us.echo(t.Context())
		wantError(t, err, gantry.BadResponse, CodeUnexpected)
		_ = name
	}
	us, _ := sides(t, 1, 0, func(peer *side, _ *command, m message) error {
		return peer.send(peer.ctx, message{context: m.context, command: []byte("nonsense")})
	})
	_, err := us.echo(t.Context())
	wantError(t, err, gantry.BadResponse, CodeMalformedCommand)
	us, them := sides(t, 1, 0, nil)
	them.handle(&desk{})
	_, err = us.one(t.Context(), Accepted{ID: 99}, &command{field: fieldEcho, class: Verification}, nil)
	wantError(t, err, gantry.BadResponse, CodeUnexpected)
}

// TestNoResponse gives up waiting, and aborts, whatever the peer does not do.
func TestNoResponse(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		us, _ := sides(t, 1, time.Minute, func(*side, *command, message) error { return nil })
		begun := time.Now()
		_, err := us.echo(t.Context())
		wantError(t, err, gantry.Timeout, CodeNoResponse)
		if d := time.Since(begun); d != time.Minute {
			t.Errorf("after %s", d)
		}
		_, err = us.echo(t.Context())
		wantError(t, err, gantry.Transient, "association_aborted")
	})
}

// TestGivenUp leaves an operation whose context ends; the response, when it comes, disturbs nobody, and the window is free again.
func TestGivenUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		us, _ := sides(t, 1, 0, func(peer *side, c *command, m message) error {
			time.Sleep(time.Second)
			return peer.answer(c, m.context, StatusSuccess, nil)
		})
		ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
		defer cancel()
		_, err := us.echo(ctx)
		wantError(t, err, gantry.Timeout, "timeout")
		_, err = us.echo(ctx) // has no place in the window
		wantError(t, err, gantry.Timeout, "timeout")
		r, err := us.echo(t.Context())
		wantStatus(t, r, err, StatusSuccess)

		gone, give := context.WithCancelCause(t.Context())
		give(gantry.ErrCancelled)
		if _, err = us.echo(gone); !errors.Is(err, gantry.ErrCancelled) {
			t.Error(err)
		}
	})
}

// TestLost wakes all who wait when the association ends, and tells the handler once.
func TestLost(t *testing.T) {
	for _, why := range []error{errLost, nil} {
		asked := make(chan struct{}, 8)
		us, them := sides(t, 8, 0, func(*side, *command, message) error {
			asked <- struct{}{}
			return nil
		})
		h := &desk{}
		us.handle(h)
		var group sync.WaitGroup
		for range 8 {
			group.Go(func() {
				_, err := us.echo(t.Context())
				wantError(t, err, gantry.Transient, map[bool]gantry.Code{true: CodeEarlyEnd, false: "connection_lost"}[why == nil])
			})
		}
		for range 8 {
			<-asked
		}
		them.lose(cmp.Or(why, errLetGo))
		<-us.ended
		group.Wait()
		if len(h.ended) != 1 || !errors.Is(h.ended[0], why) {
			t.Errorf("ended by %v", h.ended)
		}
	}
}

// TestIllegal refuses to send what no peer may be sent.
func TestIllegal(t *testing.T) {
	us, _ := sides(t, 1, 0, nil)
	bad := storing(2)
	bad.Instance = "../x"
	_, err := us.store(t.Context(), bad)
	wantError(t, err, gantry.Illegal, CodeBadUID)
	bad = storing(2)
	bad.Data = nil
	_, err = us.store(t.Context(), bad)
	wantError(t, err, gantry.Illegal, gantry.CodeMalformed)
	_, err = us.commit(t.Context(), Commitment{Transaction: "x"})
	wantError(t, err, gantry.Illegal, CodeBadUID)
	many := Commitment{Transaction: "1", Instances: make([]Reference, 10_000)}
	for i := range many.Instances {
		many.Instances[i] = Reference{"1.2", "1.2.3"}
	}
	_, err = us.commit(t.Context(), many)
	wantError(t, err, gantry.Illegal, gantry.CodeTooLarge)
	_, err = us.query(t.Context(), otherUID, nil, nil)
	wantError(t, err, gantry.Permanent, CodeNotOffered)
	_, err = us.query(t.Context(), PatientRootFind, nil, nil) // accepted, but deflated
	wantError(t, err, gantry.Permanent, CodeNotOffered)
	many.Instances = many.Instances[:4900]
	for i := range many.Instances {
		many.Instances[i] = Reference{strings.Repeat("1", 64), fmt.Sprintf("%064d", i)}
	}
	if d, err := many.dataset(); err != nil {
		t.Error(err)
	} else if _, err := d.Encode(ExplicitLE); err != nil {
		t.Errorf("4,900 instances: %v", err)
	}
}
