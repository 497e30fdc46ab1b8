package dimse

import (
	"context"
	"errors"
	"io"
	"sync"

	"github.com/gantry-imaging/gantry/internal/gantry"
)

// Statuses that only a handler's caller answers with (PS3.7 annex C).
const (
	StatusInvalidInstance Status = 0x0117 // the SOP Instance UID is no UID
	StatusDuplicateID     Status = 0x0210 // the message ID is that of an operation under way
)

// perform has a request answered. It returns once the data set was read to its end, or skipped.
func (o *operations) perform(c *command, m message) error {
	at, ok := o.context(m.context)
	if !ok {
		return gantry.Errorf(gantry.BadResponse, CodeUnexpected, "take a request: its presentation context was not accepted")
	}
	data := &incoming{r: m.data, done: make(chan struct{}), skipped: make(chan struct{})}
	err := o.carrier.run(func(ctx context.Context) {
		work, cancel := context.WithCancel(ctx)
		defer cancel()
		r := o.tracked(work, cancel, c, at, data)
		data.stop()
		<-data.skipped
		if data.broken() == nil {
			o.reply(ctx, c, m.context, r)
		}
	})
	if err != nil {
		return err
	}
	return data.skip()
}

// tracked serves a request that can be cancelled by its message ID.
func (o *operations) tracked(ctx context.Context, cancel context.CancelFunc, c *command, at Accepted, data *incoming) Response {
	if !o.enter(c.id, cancel) {
		return Response{Status: StatusDuplicateID}
	}
	defer o.leave(c.id)
	return o.serve(ctx, c, at, data)
}

// enter notes an operation by its message ID; false if there is one under way with the same.
func (o *operations) enter(id uint16, cancel context.CancelFunc) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.works[id] != nil {
		return false
	}
	o.works[id] = cancel
	return true
}

func (o *operations) leave(id uint16) {
	o.mu.Lock()
	defer o.mu.Unlock()
	delete(o.works, id)
}

// cancelled does what C-CANCEL-RQ asks for; it has no response of its own, and may come too late.
func (o *operations) cancelled(id uint16) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if cancel := o.works[id]; cancel != nil {
		cancel()
	}
}

// reply sends a response. If that fails the association is ending, and the peer learns it from that.
func (o *operations) reply(ctx context.Context, to *command, id byte, r Response) {
	response := command{
		field: to.field | fieldResponse, respondedTo: to.id, class: to.class, instance: to.instance, event: to.event, action: to.action,
		status: r.Status, comment: r.Comment,
	}
	_ = o.carrier.send(ctx, message{context: id, command: response.encode()})
}

// serve has the handler do what a request asks for.
func (o *operations) serve(ctx context.Context, c *command, at Accepted, data *incoming) (r Response) {
	defer func() {
		if recover() != nil { // what it says may hold patient data
			o.mu.Lock()
			o.panicked = true
			o.mu.Unlock()
			r = Response{Status: StatusProcessing}
		}
	}()
	o.mu.Lock()
	h := o.handler
	o.mu.Unlock()
	switch {
	case h == nil:
		return Response{Status: StatusUnrecognized}
	case c.field == fieldEcho:
		return Response{Status: classStatus(c, at, Verification, StatusNotSupported)}
	case c.field == fieldStore:
		return serveStore(ctx, h, c, at, data)
	case c.field == fieldAction, c.field == fieldReport:
		return serveCommitment(ctx, h, c, at, data)
	}
	return Response{Status: StatusUnrecognized}
}

// classStatus says wrong for a request whose class is not want, or not that of its context.
func classStatus(c *command, at Accepted, want string, wrong Status) Status {
	if c.class != at.Abstract || c.class != want {
		return wrong
	}
	return StatusSuccess
}

func serveStore(ctx context.Context, h Handler, c *command, at Accepted, data *incoming) Response {
	switch {
	case c.class != at.Abstract, c.class == Verification, c.class == StorageCommitment:
		return Response{Status: StatusNotSupported}
	case c.instance == "":
		return Response{Status: StatusInvalidInstance}
	case data.r == nil:
		return Response{Status: StatusCannotUnderstand, Comment: "no data set"}
	}
	return h.Store(ctx, StoreRequest{
		Context: at, Class: c.class, Instance: c.instance, Priority: c.priority, MoveAE: c.moveAE, MoveMessageID: c.moveID, Data: data,
	})
}

func serveCommitment(ctx context.Context, h Handler, c *command, at Accepted, data *incoming) Response {
	switch {
	case classStatus(c, at, StorageCommitment, StatusNoSuchClass) != StatusSuccess:
		return Response{Status: StatusNoSuchClass}
	case c.instance != StorageCommitmentInstance:
		return Response{Status: StatusNoSuchInstance}
	case c.field == fieldAction && c.action != actionCommit:
		return Response{Status: StatusNoSuchAction}
	case c.field == fieldReport && c.event != eventCommitted && c.event != eventIncomplete:
		return Response{Status: StatusNoSuchEvent}
	case data.r == nil:
		return Response{Status: StatusInvalidArgument, Comment: "no data set"}
	}
	set, err := readDataset(data, at.Transfer)
	if err != nil {
		return Response{Status: StatusInvalidArgument, Comment: "data set is malformed or too large"}
	}
	commitment, err := commitmentOf(set)
	switch {
	case err != nil:
		return Response{Status: StatusInvalidArgument, Comment: "data set lacks valid UIDs"}
	case c.field == fieldAction:
		return h.Commit(ctx, commitment)
	}
	return h.Reported(ctx, commitment)
}

// incoming is the data set of a request on its way to a handler. The handler has it until it has read it to its end, or returns.
type incoming struct {
	done    chan struct{} // closed when the handler reads no more
	skipped chan struct{} // closed when what it left is skipped

	mu      sync.Mutex
	r       io.Reader // nil if there is none
	stopped bool
	err     error // io.EOF at the end
}

// Read reads what has come. After the handler has returned it gives io.EOF.
func (i *incoming) Read(p []byte) (int, error) {
	i.mu.Lock()
	defer i.mu.Unlock()
	if i.stopped {
		if i.err != nil {
			return 0, i.err
		}
		return 0, io.EOF
	}
	n, err := i.r.Read(p)
	if err != nil {
		i.err, i.stopped = err, true
		close(i.done)
	}
	return n, err
}

// stop takes the data set from the handler.
func (i *incoming) stop() {
	i.mu.Lock()
	defer i.mu.Unlock()
	if !i.stopped {
		i.stopped = true
		close(i.done)
	}
}

// skip waits until the handler reads no more, and skips the rest. It fails if the data set does not come to its end.
func (i *incoming) skip() error {
	<-i.done
	i.mu.Lock()
	defer i.mu.Unlock()
	if i.r != nil && i.err == nil {
		if _, i.err = io.Copy(io.Discard, i.r); i.err == nil {
			i.err = io.EOF
		}
	}
	close(i.skipped)
	if errors.Is(i.err, io.EOF) {
		return nil
	}
	return i.err
}

// broken is why the data set did not come to its end; nil if it did.
func (i *incoming) broken() error {
	i.mu.Lock()
	defer i.mu.Unlock()
	if errors.Is(i.err, io.EOF) {
		return nil
	}
	return i.err
}
