package dimse

import (
	"errors"
	"io"
	"slices"
	"time"

	"github.com/gantry-imaging/gantry/internal/gantry"
)

// maxSet bounds a command set in bytes. Usual are some 200.
const maxSet = 64 << 10

// errParted ends the reader's work after a release; the association then ends without an error.
var errParted = errors.New("association released")

// message is a DIMSE message on its way in or out.
type message struct {
	context byte
	command []byte    // the command set, implicit VR little endian, with its group length
	data    io.Reader // the data set's bytes as they are in the context's transfer syntax; nil: there is none
}

// read is the association's one reader, to its end.
func (a *Association) read() {
	for a.take() == nil {
		a.last.Store(time.Now().UnixNano())
		a.within.Store(false)
	}
	a.drain()
	a.finish()
}

// take has the next message dispatched. After an error nothing more can come; why is kept in the link.
func (a *Association) take() error {
	command, err := a.command()
	if err != nil {
		return err
	}
	data, err := hasData(command)
	if err != nil {
		return a.refuse(err)
	}
	m := message{context: a.fragment.context, command: command}
	if !data {
		if err := a.dispatch(a.ctx, m); err != nil {
			return a.refuse(err)
		}
		return nil
	}
	body := &dataReader{a: a, context: m.context}
	m.data = body
	if err := a.dispatch(a.ctx, m); err != nil {
		return a.refuse(err)
	}
	_, err = body.WriteTo(io.Discard)
	return err
}

// refuse aborts the association for a message that could not be dispatched.
func (a *Association) refuse(err error) error {
	f, ok := errors.AsType[*fault](err)
	if !ok {
		e, known := errors.AsType[*gantry.Error](err)
		if !known {
			e = gantry.Errorf(gantry.BadResponse, CodeMalformedPDU, "dispatch message: %w", err)
		}
		f = &fault{reason: reasonBadValue, err: e}
	}
	return a.breach(f)
}

// breach aborts the association for what the peer did.
func (a *Association) breach(f *fault) error {
	a.link.abort(evtInvalid, f.err, abortProvider, f.reason, a.link.times.Release)
	a.cancel(f.err)
	return f
}

// command reads a whole command set, in as many fragments as there are. Its context is that of a.fragment.
func (a *Association) command() ([]byte, error) {
	var set []byte
	var context byte
	for {
		inside := a.within.Load()
		if err := a.advance(inside); err != nil {
			return nil, err
		}
		f := &a.fragment
		switch {
		case !inside && !a.has(f.context):
			return nil, a.breach(faultf(reasonBadValue, CodeNoContext, "read message: its presentation context was not accepted"))
		case inside && f.context != context:
			return nil, a.breach(faultf(reasonUnexpectedPart, CodeUnexpectedPDU, "read message: a command set in two presentation contexts"))
		case !f.command():
			return nil, a.breach(faultf(reasonUnexpectedPart, CodeUnexpectedPDU, "read message: a data set where a command set is due"))
		case len(set)+int(min(f.n, maxSet+1)) > maxSet:
			return nil, a.breach(faultf(reasonBadValue, CodeSetTooLarge, "read message: a command set over 64 KiB"))
		}
		context = f.context
		a.within.Store(true)
		at := len(set)
		set = slices.Grow(set, int(f.n))[:at+int(f.n)]
		n, err := io.ReadFull(a.in, set[at:])
		a.took(n)
		if err != nil {
			return nil, a.broke(err, true)
		}
		if f.last() {
			return set, nil
		}
	}
}

// took counts bytes of the current fragment's value that were read.
func (a *Association) took(n int) {
	a.fragment.n -= uint32(n)
	a.rest -= uint32(n)
}

// advance goes to the next fragment, of the next PDU if the current one has none left. inside says that a message has begun.
func (a *Association) advance(inside bool) error {
	if a.rest == 0 {
		if err := a.nextData(inside); err != nil {
			return err
		}
	}
	if a.rest < fragmentSize {
		return a.breach(malformed("a rest of a PDU that is too short for a presentation data value"))
	}
	n, err := io.ReadFull(a.in, a.scratch[:fragmentSize])
	a.rest -= uint32(n)
	if err != nil {
		return a.broke(err, true)
	}
	f, bad := decodeFragment(a.scratch[:fragmentSize], a.rest+fragmentSize)
	if bad != nil {
		return a.breach(bad)
	}
	a.fragment = f
	return nil
}

// broke ends the association because the next bytes did not come.
func (a *Association) broke(err error, inside bool) error {
	if timeout(err) {
		code, what := CodeIdle, "nothing came between messages"
		a.link.mu.Lock()
		if a.link.machine.state != sta6 {
			code, what = CodeRelease, "the release was not answered"
		} else if inside {
			code, what = CodeData, "nothing more came within a message"
		}
		a.link.mu.Unlock()
		cause := gantry.Errorf(gantry.Timeout, code, "read association: %s", what)
		a.link.abort(evtAbort, cause, abortUser, reasonNone, min(linger, a.link.times.Release))
		a.cancel(cause)
		return cause
	}
	cause := gantry.Errorf(gantry.Transient, CodeConnectionLost, "read association: the connection broke")
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		cause = gantry.Errorf(gantry.Transient, CodeConnectionClosed, "read association: the peer closed the connection without a release")
	}
	return a.over(evtClosed, cause)
}

// over ends the association, on which nothing can be said any more.
func (a *Association) over(e evt, cause error) error {
	a.link.mu.Lock()
	a.link.machine.fire(e)
	if a.link.cause == nil {
		a.link.cause = cause
	}
	a.link.mu.Unlock()
	a.cancel(cause)
	return cause
}

// dataReader is the data set of the message that came last, straight from the connection.
type dataReader struct {
	a       *Association
	context byte
	begun   bool  // a fragment of it is there
	err     error // why nothing more comes: io.EOF after its end
}

// Read gives bytes of the data set; io.EOF after the last, and any other error if the association ends before.
func (d *dataReader) Read(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	if err := d.ready(); err != nil {
		return 0, err
	}
	n, err := d.a.in.Read(p[:min(len(p), int(d.a.fragment.n))])
	d.a.took(n)
	if err != nil {
		d.err = d.a.broke(err, true)
	}
	return n, d.err
}

// WriteTo writes what is left of the data set, without a copy between the connection's buffer and w.
func (d *dataReader) WriteTo(w io.Writer) (total int64, err error) {
	for {
		if err := d.ready(); err != nil {
			if err == io.EOF {
				return total, nil
			}
			return total, err
		}
		if _, err := d.a.in.Peek(1); err != nil {
			d.err = d.a.broke(err, true)
			return total, d.err
		}
		b, _ := d.a.in.Peek(min(d.a.in.Buffered(), int(d.a.fragment.n)))
		n, err := w.Write(b)
		_, _ = d.a.in.Discard(n) // they are buffered
		d.a.took(n)
		total += int64(n)
		if err != nil {
			return total, err
		}
	}
}

// ready goes to the next fragment that is not empty.
func (d *dataReader) ready() error {
	for d.err == nil && (d.a.fragment.n == 0 || !d.begun) {
		if d.begun && d.a.fragment.last() {
			d.err = io.EOF
			break
		}
		if d.a.ctx.Err() != nil {
			d.err = d.a.link.why()
			break
		}
		if d.err = d.a.advance(true); d.err != nil {
			break
		}
		f := d.a.fragment
		if f.context != d.context || f.command() {
			d.err = d.a.breach(faultf(reasonUnexpectedPart, CodeUnexpectedPDU, "read data set: another message within it"))
		}
		d.begun = true
	}
	return d.err
}
