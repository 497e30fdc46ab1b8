package dicom

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"hash"
	"io"
	"slices"

	"github.com/gantry-imaging/gantry/internal/dicom"
	"github.com/gantry-imaging/gantry/internal/dimse"
	"github.com/gantry-imaging/gantry/internal/gantry"
)

// outgoing is a Part 10 file to be sent.
type outgoing struct {
	size int64         // -1: not known
	sha  gantry.Digest // zero: not known
	open func(context.Context) (io.ReadCloser, error)
}

// sent is an instance that the peer has.
type sent struct {
	dicom.Object
	Status dimse.Status // a success or a warning
}

// send sends one file: its data set, byte for byte, on an association that has a context for its SOP class and transfer syntax. It
// makes one try. Errors are the file's own (Illegal; Transient with code size_mismatch or checksum_mismatch), those of an
// association that could not be had, Permanent with code not_accepted, and those of statuses.
func (s *sender) send(ctx context.Context, f outgoing) (x sent, err error) {
	err = s.sendAll(ctx, []outgoing{f}, func(_ int, y sent) { x = y })
	return x, err
}

// sendAll sends files one after another, on as few associations as will do, and tells of each that the peer has. It ends with the
// first error.
func (s *sender) sendAll(ctx context.Context, list []outgoing, told func(i int, x sent)) error {
	pairs, err := pairsOf(ctx, list)
	if err != nil {
		return err
	}
	t := &trip{sender: s}
	for i, f := range list {
		x, err := t.store(ctx, f, pairs)
		if err != nil {
			t.end(err)
			return err
		}
		told(i, x)
	}
	t.end(nil)
	return nil
}

// pairsOf lists what several files need, so that one association can be asked for all of them. Of one file it is found
// out when that is sent.
func pairsOf(ctx context.Context, list []outgoing) (pairs []pair, err error) {
	if len(list) < 2 {
		return nil, nil
	}
	known := map[pair]bool{}
	for _, f := range list {
		o, err := objectOf(ctx, f)
		if err != nil {
			return nil, err
		}
		if p := (pair{o.Class, o.Transfer}); !known[p] {
			known[p] = true
			pairs = append(pairs, p)
		}
	}
	return pairs, nil
}

// objectOf reads what a file says of itself.
func objectOf(ctx context.Context, f outgoing) (dicom.Object, error) {
	r, err := f.open(ctx)
	if err != nil {
		return dicom.Object{}, err
	}
	defer r.Close()
	o, _, err := dicom.Split(r)
	return o, err
}

// trip is what one call does on the associations of a pool, one after another.
type trip struct {
	sender *sender
	line   *line           // in use; nil: none
	call   gantry.Carriage // the running call on it; nil where there is no record
}

// on has the trip go on with an association on which need was proposed.
func (t *trip) on(ctx context.Context, need pair, also ...pair) error {
	if t.line != nil && t.line.proposed[need] && !t.line.ended() {
		return nil
	}
	t.end(nil)
	l, err := t.sender.borrow(ctx, need, also...)
	if err != nil {
		return err
	}
	t.line = l
	if l.conn != nil {
		if t.call, err = l.conn.Carry(ctx); err != nil {
			t.end(nil)
			return err
		}
	}
	return nil
}

// end gives the association back, or drops it after an error that was not an answer of the peer.
func (t *trip) end(err error) {
	l := t.line
	if l == nil {
		return
	}
	if t.call != nil {
		t.call.End(err)
	}
	t.line, t.call = nil, nil
	if err == nil || answered(err) {
		t.sender.giveBack(l)
	} else {
		t.sender.drop(l)
	}
}

// store sends one file.
func (t *trip) store(ctx context.Context, f outgoing, also []pair) (x sent, err error) {
	r, err := f.open(ctx)
	if err != nil {
		return x, unsent{err}
	}
	defer r.Close()
	in := &tally{ctx: ctx, r: r, want: f}
	if !f.sha.IsZero() {
		in.sum = sha256.New()
	}
	o, data, err := dicom.Split(in)
	if err != nil {
		return x, unsent{err}
	}
	if data, err = evened(f, o, data); err != nil {
		return x, unsent{err}
	}
	need := pair{o.Class, o.Transfer}
	if i := slices.Index(also, need); i >= 0 {
		also = also[i:] // those before it have been sent
	}
	if err := t.on(ctx, need, also...); err != nil {
		return x, err
	}
	accepted, ok := t.line.Find(need.class, need.transfer)
	if !ok {
		return x, declined{gantry.Errorf(gantry.Permanent, CodeNotAccepted, "send: the peer takes no objects of this SOP class in this transfer syntax")}
	}
	if t.call != nil {
		data = t.call.Body(data)
	}
	resp, err := t.line.Store(ctx, dimse.StoreRequest{Context: accepted, Class: o.Class, Instance: o.Instance, Data: data})
	if err != nil && in.err != nil {
		return x, in.err
	}
	if err != nil {
		return x, broken(ctx, err)
	}
	return sent{o, resp.Status}, t.judge(resp.Status, storeError)
}

// evened gives a data set an even number of bytes, as fragments of a message have (PS3.8 section E.2). A deflated one is padded
// (PS3.5 section A.5); one with a value of odd length, which must not be, cannot be sent as it is.
func evened(f outgoing, o dicom.Object, data io.Reader) (io.Reader, error) {
	switch {
	case f.size < 0 || (f.size-o.At)%2 == 0:
		return data, nil
	case o.Transfer == dimse.DeflatedLE:
		return io.MultiReader(data, bytes.NewReader([]byte{0})), nil
	}
	return nil, gantry.Errorf(gantry.Permanent, CodeOddLength, "send: the data set has an odd number of bytes, which no message can carry")
}

// broken is why there was no response: the end of ctx, if that is why.
func broken(ctx context.Context, err error) error {
	if err != nil && ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return err
}

// judge keeps a status for the record and says what it means.
func (t *trip) judge(status dimse.Status, mean func(dimse.Status) *gantry.Error) error {
	if t.call != nil {
		t.call.Status(int(status))
	}
	if err := mean(status); err != nil {
		return declined{err}
	}
	return nil
}

// unsent is an error of a file of which nothing was sent: the association is as good as before.
type unsent struct{ error }

// Unwrap gives the error.
func (u unsent) Unwrap() error { return u.error }

// declined is what the peer answered: the association is as good as before.
type declined struct{ error }

// Unwrap gives the error.
func (r declined) Unwrap() error { return r.error }

// answered tells an error after which the association can be used.
func answered(err error) bool {
	_, is := errors.AsType[declined](err)
	_, not := errors.AsType[unsent](err)
	return is || not
}

// tally reads a file until ctx ends, and ends in an error if it is not what it should be. Then the message that it is sent in never
// becomes whole. Errors are kept: the association that broke off for one does not tell of it.
type tally struct {
	ctx  context.Context
	r    io.Reader
	want outgoing
	sum  hash.Hash // nil: the digest is not known
	n    int64
	err  error // other than io.EOF
}

// Read reads on.
func (t *tally) Read(p []byte) (int, error) {
	if t.err != nil {
		return 0, t.err
	}
	if t.err = t.ctx.Err(); t.err != nil {
		return 0, t.err
	}
	n, err := t.r.Read(p)
	t.n += int64(n)
	if t.sum != nil {
		t.sum.Write(p[:n])
	}
	switch {
	case t.want.size >= 0 && (t.n > t.want.size || err == io.EOF && t.n < t.want.size):
		err = gantry.Errorf(gantry.Transient, CodeSizeMismatch, "read file: it is not the %d bytes that it should be", t.want.size)
	case err == io.EOF && t.sum != nil && gantry.Digest(t.sum.Sum(nil)) != t.want.sha:
		err = gantry.Errorf(gantry.Transient, CodeChecksumMismatch, "read file: its bytes are not those that its digest speaks of")
	}
	if err != nil && err != io.EOF {
		t.err = err
	}
	return n, err
}
