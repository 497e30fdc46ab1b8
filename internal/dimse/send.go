package dimse

import (
	"context"
	"io"

	"github.com/gantry-imaging/gantry/internal/gantry"
)

const (
	sendBuffer = 256 << 10 // what is written at once, if a data set is sent
	pdvHead    = headerSize + fragmentSize
	aheadSize  = 512
)

// send writes a message: the command, then the data to its end, in PDVs of at most what the peer takes. Messages do not mix. A
// message that cannot be brought to its end, because ctx ends or its data fail, aborts the association.
func (a *Association) send(ctx context.Context, m message) error {
	select {
	case a.sending <- struct{}{}:
	case <-ctx.Done():
		return waitedInVain(ctx)
	case <-a.ctx.Done():
		return context.Cause(a.ctx)
	}
	defer func() { <-a.sending }()
	if !a.has(m.context) {
		return gantry.Errorf(gantry.Illegal, CodeNoContext, "send message: its presentation context was not accepted")
	}
	if ctx.Err() != nil {
		return waitedInVain(ctx)
	}
	stop := context.AfterFunc(ctx, a.Abort)
	err := a.pack.message(a, m)
	if !stop() && err == nil {
		err = waitedInVain(ctx)
	}
	return err
}

// waitedInVain is the error of an operation whose context ended.
func waitedInVain(ctx context.Context) error {
	if context.Cause(ctx) == context.DeadlineExceeded {
		return gantry.Errorf(gantry.Timeout, CodeData, "send message: %w", context.DeadlineExceeded)
	}
	return gantry.Errorf(gantry.Transient, CodeAborted, "send message: %w", context.Cause(ctx))
}

// packer makes P-DATA-TF PDUs of a message, one PDV in each, and writes as many as its buffer holds at once.
type packer struct {
	buf   []byte
	n     int // bytes of whole PDUs in buf
	ahead [aheadSize]byte
}

// message sends a message.
func (p *packer) message(a *Association, m message) error {
	p.n = 0
	value := (a.chunk - fragmentSize) &^ 1
	size := pdvHead*(len(m.command)/value+1) + len(m.command)
	if m.data != nil {
		size = max(size+pdvHead, sendBuffer, pdvHead+value)
	}
	if len(p.buf) < size {
		p.buf = make([]byte, size)
	}
	for at := 0; ; {
		n := copy(p.buf[p.n+pdvHead:p.n+pdvHead+min(value, len(m.command)-at)], m.command[at:])
		at += n
		last := at == len(m.command)
		p.add(m.context, controlCommand, n, last)
		if last {
			break
		}
	}
	if m.data != nil {
		if err := p.data(a, m.context, m.data, value); err != nil {
			return err
		}
	}
	return p.flush(a)
}

// data packs a data set. Whether a fragment is the last is known once nothing follows it: a few bytes are read ahead.
func (p *packer) data(a *Association, id byte, r io.Reader, value int) error {
	ahead := p.ahead[:min(aheadSize, value)]
	have := 0
	for {
		if len(p.buf)-p.n < pdvHead+min(value, sendBuffer/4) {
			if err := p.flush(a); err != nil {
				return err
			}
		}
		room := p.buf[p.n+pdvHead:]
		room = room[:min(value, len(room)&^1)]
		n := copy(room, ahead[:have])
		more, err := io.ReadFull(r, room[n:])
		n += more
		if err == nil {
			have, err = io.ReadAtLeast(r, ahead, 1)
		}
		last := err == io.EOF || err == io.ErrUnexpectedEOF
		if err != nil && !last {
			a.Abort()
			return gantry.Errorf(gantry.KindOf(err), gantry.CodeOf(err), "send message: read its data set: %w", err)
		}
		p.add(id, 0, n, last)
		if last {
			return nil
		}
	}
}

// add makes a PDU of the n bytes that stand behind room for its heads.
func (p *packer) add(id, control byte, n int, last bool) {
	if last {
		control |= controlLast
	}
	b := p.buf[p.n:]
	putHeader(b, pduData, fragmentSize+n)
	putFragment(b[headerSize:], fragment{context: id, control: control, n: uint32(n)})
	p.n += pdvHead + n
}

// flush writes the PDUs that are there.
func (p *packer) flush(a *Association) error {
	if p.n == 0 {
		return nil
	}
	a.link.out.Lock()
	defer a.link.out.Unlock()
	if a.link.fire(evtSend) == actNone {
		return a.link.why()
	}
	err := a.link.write(p.buf[:p.n])
	p.n = 0
	if err != nil {
		a.link.fail(err)
	}
	return err
}
