package dimse

import (
	"bytes"
	"context"
	"errors"
	"io"
	"strings"
	"sync"
	"testing"

	"github.com/gantry-imaging/gantry/internal/gantry"
)

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
