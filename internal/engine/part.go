package engine

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"io"
	"math"
	"slices"
	"sync"

	"github.com/gantry-imaging/gantry/internal/gantry"
	"github.com/gantry-imaging/gantry/internal/media"
)

// maxAnswer is the largest output of a processor, in bytes.
const maxAnswer = 1 << 30

// answer is what came back for one part, staged but not durable.
type answer struct {
	outputs []output

	mu    sync.Mutex // the body may still be sent when the answer is there
	marks []gantry.ItemMark
	alone *gantry.Item // of which the digest is known, and which was all of the request, to its end; nil: none was
}

// note keeps the digest of an input that was read whole for the first time.
func (a *answer) note(m gantry.ItemMark) {
	a.mu.Lock()
	a.marks = append(a.marks, m)
	a.mu.Unlock()
}

func (a *answer) noted() []gantry.ItemMark {
	a.mu.Lock()
	defer a.mu.Unlock()
	return slices.Clone(a.marks)
}

type output struct {
	media string
	blob  gantry.Staged
}

func (a *answer) discard() {
	for _, o := range a.outputs {
		o.blob.Discard()
	}
}

// runPart makes one try of one part. What comes of the try is committed with the call's outcome;
// the error is one that stops the whole task.
func (w *work) runPart(ctx context.Context, call Call, u unit) error {
	u.sent = w.itemsOf(u.inputs)
	defer w.hold(ctx, u.sent)()
	spec := gantry.CallSpec{Timeout: call.Timeout, Intent: gantry.Intent{Op: gantry.OpProcess}}
	if u.fresh {
		spec.Plan = []gantry.Part{u.Part}
	}
	return w.attempt(ctx, call, u, spec,
		func(ctx context.Context, a *answer) (gantry.Ticket, error) {
			return gantry.Ticket{}, call.Processor.Process(ctx, w.request(u, a))
		})
}

// attempt makes one recorded call for a part, of which spec says what is its own. What send received is kept;
// a ticket in its place lets the part go out.
func (w *work) attempt(ctx context.Context, call Call, u unit, spec gantry.CallSpec, send func(context.Context, *answer) (gantry.Ticket, error)) error {
	p := u.Part
	in := &spec.Intent
	a := &answer{}
	defer a.discard()
	spec.Holds = a.holds
	spec.Priority, in.Lease, in.Boundary, in.Limiter, in.Pipeline = w.task.Priority, w.task.Lease, gantry.AtProcessor, call.Limiter, w.plan.ID
	in.Part, in.Try, in.ItemCount, in.ItemsSHA = p.PartKey, p.Attempt+1, int32(len(u.sent)), itemsDigest(u.sent)
	var made []gantry.Item
	var marks []gantry.ItemMark
	var ticket gantry.Ticket
	err := w.e.Caller.Call(ctx, spec,
		func(ctx context.Context) (err error) { ticket, err = send(ctx, a); return err },
		func(ctx context.Context, err error) (*gantry.Write, error) {
			if err == nil && ticket.ID == "" {
				made, err = w.keep(context.WithoutCancel(ctx), u, a)
			}
			marks = a.noted()
			if err != nil {
				if halted(ctx, err) || w.gone() != nil {
					return nil, err
				}
				if p = w.afterFailure(p.Submitted(in.Op), err); in.Op == gantry.OpCollect {
					p = w.stillOut(u.Part, p, call, err)
				}
				return &gantry.Write{Parts: []gantry.Part{p}}, err
			}
			if p = p.Submitted(in.Op); ticket.ID != "" {
				p = w.goOut(p, call, ticket)
			} else {
				p = p.Ended(gantry.PartOK)
			}
			return &gantry.Write{Items: made, Parts: []gantry.Part{p}, Marks: marks, Of: w.owner}, nil
		})
	if errors.Is(err, gantry.ErrFenced) || errors.Is(err, gantry.ErrNotRecorded) {
		return err
	}
	if gone := w.gone(); err != nil && gone != nil {
		return gone
	}
	if errors.Is(err, gantry.ErrHeld) {
		return nil // the stage is left as it is once the calls under way have ended
	}
	if err == nil || p != u.Part {
		w.setPart(p)
		w.addItems(made...)
		for _, m := range marks { // the gate filled in what was sent
			w.mark(m)
		}
		return nil
	}
	return err
}

// halted tells an end of the try that says nothing about the part: the lease is lost, the process
// stops, the pipeline is paused, or the state's time is up.
func halted(ctx context.Context, err error) bool {
	return errors.Is(err, gantry.ErrFenced) || errors.Is(err, gantry.ErrHeld) || ctx.Err() != nil
}

// afterFailure is the part after a try that failed: due again after a pause, or failed for good. A target
// that asks to be left alone for a time is asked again after it, however often that is: the part is not at
// fault, and the state's time bounds it.
func (w *work) afterFailure(p gantry.Part, err error) gantry.Part {
	p = p.Ended(gantry.PartPlanned)
	p.Reason = gantry.CodeOf(err)
	if wait := gantry.RetryAfterOf(err); wait > 0 && gantry.KindOf(err) == gantry.Unavailable {
		p.Asked = min(p.Asked, math.MaxInt16-2) + 1
		p.Attempt = max(p.Attempt, p.Asked)                              // it never runs over
		p.DueIn = w.plan.Retry.Pause(1, w.e.Rand(), wait).Microseconds() // and no longer than the fleet leaves it alone
		return p
	}
	if w.plan.Retry.MayRetry(tried(err), int(p.Attempt-p.Asked)) {
		p.DueIn = w.plan.Retry.Pause(int(p.Attempt-p.Asked), w.e.Rand(), gantry.RetryAfterOf(err)).Microseconds()
		return p
	}
	p.Status, p.DueIn = gantry.PartFailed, -1
	w.mu.Lock()
	w.kinds[p.PartKey] = gantry.KindOf(err)
	w.mu.Unlock()
	return p
}

// tried is the kind of error that the rules for tries go by: a job that was lost is missing no more than an answer that
// was lost on its way.
func tried(err error) gantry.Kind {
	if gantry.CodeOf(err) == gantry.CodeJobLost {
		return gantry.Transient
	}
	return gantry.KindOf(err)
}

func (w *work) request(u unit, a *answer) *gantry.Request {
	return &gantry.Request{
		Key:   w.key(u.PartKey),
		Of:    gantry.Submission{Task: w.task.Task, PartKey: u.PartKey, Try: u.Submits},
		Items: u.sent,
		Open: func(ctx context.Context, i int) (body, error) {
			r, err := w.open(ctx, u.sent[i])
			if err != nil {
				return nil, err
			}
			return a.sends(u.sent[i], r), nil
		},
		Receive: func(ctx context.Context, kind string, size int64, r io.Reader) error {
			checked, err := checkContent(kind, r)
			if err != nil {
				return err
			}
			blob, err := w.e.Blobs.Stage(ctx, checked, size, maxAnswer)
			if err != nil {
				return blamed(err)
			}
			a.outputs = append(a.outputs, output{media: kind, blob: blob})
			return nil
		},
	}
}

// checkContent holds an answer to the kind that it claims, by its first bytes and, for pictures, by their
// structure. What does not hold is the service's fault.
func checkContent(kind string, r io.Reader) (io.Reader, error) {
	if kind == gantry.MediaJSON {
		return r, nil
	}
	head := make([]byte, media.HeadSize)
	n, err := io.ReadFull(r, head)
	if err != nil && !errors.Is(err, io.ErrUnexpectedEOF) && !errors.Is(err, io.EOF) {
		return nil, err
	}
	if is := media.Detect(head[:n]); is != kind && (is != "" || kind == gantry.MediaPNG || kind == gantry.MediaJPEG || kind == gantry.MediaDICOM) {
		return nil, gantry.Errorf(gantry.BadResponse, "unexpected_content", "read answer: it says %s and is not", kind)
	}
	return blame{media.Verify(kind, &begun{head: head[:n], r: r})}, nil
}

// begun is a stream whose first bytes were read already.
type begun struct {
	head []byte
	r    io.Reader
}

// Read gives the first bytes, then the others.
func (b *begun) Read(p []byte) (int, error) {
	if len(b.head) > 0 {
		n := copy(p, b.head)
		b.head = b.head[n:]
		return n, nil
	}
	return b.r.Read(p)
}

// Digest is that of the whole stream.
func (b *begun) Digest() (gantry.Digest, int64, bool) { return gantry.DigestOf(b.r) }

// blame turns a verdict on an answer's bytes into a bad response: the input is not at fault.
type blame struct{ r io.Reader }

// Digest is that of the stream that is passed on.
func (b blame) Digest() (gantry.Digest, int64, bool) { return gantry.DigestOf(b.r) }

// Read passes bytes on.
func (b blame) Read(p []byte) (int, error) {
	n, err := b.r.Read(p)
	return n, blamed(err)
}

func blamed(err error) error {
	if err != nil && gantry.KindOf(err) == gantry.Illegal {
		return gantry.Errorf(gantry.BadResponse, gantry.CodeOf(err), "read answer: %w", err)
	}
	return err
}

// keep makes the answer's outputs durable and gives their items. What a batch was answered for each
// of its origins, in their order, descends from that one.
func (w *work) keep(ctx context.Context, u unit, a *answer) ([]gantry.Item, error) {
	var made []gantry.Item
	for i, o := range a.outputs {
		x := gantry.Item{ID: w.nextID(), Parent: u.inputs[0], Origin: u.First, Ordinal: int32(i), Leg: u.Leg, Stage: u.Stage,
			Processor: u.Processor, Part: u.Ordinal, Generation: u.Generation, Media: o.media, Size: o.blob.Size(), SHA: o.blob.SHA()}
		if x.Body = o.blob.Inline(); x.Body == nil {
			location, err := o.blob.Commit(ctx)
			if err != nil {
				return nil, err
			}
			x.Location = location
		}
		made = append(made, x)
	}
	if lined(w.plan.Stages[u.Stage], u.origins, made) {
		next := 0
		for i := range made {
			if made[i].Media != gantry.MediaJSON {
				made[i].Origin, made[i].Parent = u.origins[next], u.origins[next]
				next++
			}
		}
	}
	return made, nil
}

// itemsDigest is SHA-256 over the ids of the items and their digests, zero where not known.
func itemsDigest(items []gantry.Item) gantry.Digest {
	h := sha256.New()
	var n [4]byte
	for _, x := range items {
		binary.BigEndian.PutUint32(n[:], uint32(x.ID))
		h.Write(n[:])
		h.Write(x.SHA[:])
	}
	return gantry.Digest(h.Sum(nil))
}
