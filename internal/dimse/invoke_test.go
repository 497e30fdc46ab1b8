package dimse

import (
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
