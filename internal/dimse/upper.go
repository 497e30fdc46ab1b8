package dimse

import (
	"io"
	"time"
)

// nextData reads PDUs and does what the table says about each, until data come. Its error says that none will.
func (a *Association) nextData(inside bool) error {
	for {
		h, err := a.header(inside)
		if err != nil {
			return a.broke(err, inside)
		}
		e, f := h.event(), h.check(a.limit)
		if f == nil && inside && (e == evtReleaseRQ || e == evtReleaseRP) {
			f = faultf(reasonUnexpected, CodeUnexpectedPDU, "read PDU: a release within a message")
		}
		if f != nil {
			e = evtInvalid
		}
		a.rest = h.length
		do := a.link.fire(e)
		if do == dt2 || do == ar6 {
			return nil
		}
		if err := a.obey(do, f); err != nil {
			return err
		}
	}
}

// header reads the next PDU's first six bytes. Between messages an acceptor waits for them as long as an association may be idle, which
// it is not while an operation of the peer's is under way; a requestor waits as long as the association lasts.
func (a *Association) header(inside bool) (pduHeader, error) {
	if !inside {
		if a.link.wait = a.link.times.Idle; a.link.machine.requestor {
			a.link.wait = 0
		}
		_, err := a.in.Peek(1)
		for err != nil && timeout(err) && a.occupied() && a.link.now() == sta6 {
			_, err = a.in.Peek(1)
		}
		if err != nil {
			return pduHeader{}, err
		}
	}
	a.link.wait = a.link.times.Data
	return readHeader(a.in, a.scratch[:])
}

// occupied says whether an operation of the peer's is under way, or was a moment ago.
func (a *Association) occupied() bool { return len(a.slots) > 0 || a.since() < a.link.times.Idle }

// since is how long ago the last message or operation of the peer's ended.
func (a *Association) since() time.Duration { return time.Since(time.Unix(0, a.last.Load())) }

// obey does what the table says about a PDU that brings no data; f is what is wrong with it, if anything.
func (a *Association) obey(do act, f *fault) error {
	switch do {
	case ar2, ar8, ar10:
		if err := a.skip(); err != nil {
			return a.broke(err, true)
		}
		return a.partings(do)
	case ar3:
		return errParted
	case aa3:
		return a.aborted()
	case aa7, aa8:
		if f == nil {
			f = faultf(reasonUnexpected, CodeUnexpectedPDU, "read PDU: of a type that may not come now")
		}
		a.link.breakOff(f.err, abortProvider, f.reason, a.link.times.Release)
		a.cancel(f.err)
		return f
	}
	return a.link.why() // the association was aborted meanwhile
}

// partings answers a release. What the peer asked for before it comes first; where both ask at once, the requestor answers first.
func (a *Association) partings(do act) error {
	if do == ar8 && !a.link.machine.requestor {
		return nil
	}
	if do == ar2 {
		a.settle()
	}
	now, err := a.link.say(evtReleased, control(pduReleaseRP, 0, 0, 0))
	switch {
	case err != nil:
		return a.over(evtClosed, err)
	case now == ar4:
		return errParted
	case now == actNone:
		return a.link.why()
	}
	return nil
}

// aborted reads the rest of the peer's A-ABORT.
func (a *Association) aborted() error {
	b := a.scratch[:shortSize]
	if _, err := io.ReadFull(a.in, b); err != nil {
		b[2], b[3] = abortProvider, reasonNone
	}
	return a.over(evtClosed, abortedBy(b[2], b[3]))
}

// skip passes over the rest of the current PDU.
func (a *Association) skip() error {
	n, err := a.in.Discard(int(a.rest))
	a.rest -= uint32(n)
	return err
}

// drain waits for the peer to close the connection once the association is over (Sta13), as long as the link allows.
func (a *Association) drain() {
	a.link.wait = a.link.times.Release
	for a.link.now() == sta13 {
		err := a.skip()
		var h pduHeader
		if err == nil {
			h, err = readHeader(a.in, a.scratch[:])
		}
		switch {
		case err != nil && timeout(err):
			a.link.fire(evtExpired)
		case err != nil:
			a.link.fire(evtClosed)
		default:
			e := h.event()
			if h.check(a.limit) != nil {
				e = evtInvalid
			}
			if a.link.fire(e) == aa7 {
				a.link.repeat()
			}
			a.rest = h.length
		}
	}
}
