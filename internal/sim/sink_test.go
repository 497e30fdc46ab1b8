package sim

import (
	"bytes"
	"context"
	"crypto/sha256"
	"fmt"
	"io"
	"sync"
	"time"

	"github.com/gantry-imaging/gantry/internal/gantry"
	"github.com/gantry-imaging/gantry/internal/gate"
)

// stored is an object at the sink.
type stored struct {
	body []byte
	puts int
}

// sink is a process's way to the sink, which keeps what is there (If-None-Match: *).
type sink struct {
	run *run
	p   *proc
	w   gantry.WorkerID
}

// Deliver puts one file.
func (s sink) Deliver(ctx context.Context, out gantry.Delivery) error {
	m := gate.MeterFrom(ctx)
	if m == nil {
		s.run.check.fail("a file goes to the sink on no record")
		return errNet
	}
	r, err := out.Open(ctx)
	if err != nil {
		return err
	}
	defer r.Close()
	body, err := io.ReadAll(m.CountRequest(r))
	if err != nil {
		return err
	}
	if s.run.busy(out.Path) {
		return gantry.Errorf(gantry.Unavailable, "http_503", "put file: slow down")
	}
	o := op{kind: "sink", name: out.Path, odds: often, bounded: true, lo: 500 * time.Microsecond, hi: 20 * time.Millisecond}
	err = s.p.call(ctx, o, func() error { return s.run.put(s.w, out, body) })
	if err != nil && gantry.KindOf(err) == gantry.Transient {
		return transient(err)
	}
	m.LastByte()
	return err
}

// busy tells whether the sink takes a file some other time. It does so for no task very often.
func (r *run) busy(path string) bool {
	r.landing.Lock()
	defer r.landing.Unlock()
	task := taskOf(path)
	r.refused[path]++
	n := r.refused[path]
	if d := r.dice.of("sink", path, 0); !d.hits(r.faults.sink) || n > 1+d.more(1).below(2) || r.refused[task] >= 4 {
		return false
	}
	r.refused[task]++
	return true
}

// put is what the sink does.
func (r *run) put(w gantry.WorkerID, out gantry.Delivery, body []byte) error {
	r.check.delivered(w, out.Path)
	if out.Manifest {
		r.check.manifest(out.Path, body)
	}
	x := r.sink[out.Path]
	switch {
	case x == nil:
		r.sink[out.Path] = &stored{body, 1}
		return nil
	case r.broken.Overwrite:
		x.body, x.puts = body, x.puts+1
		return nil
	case bytes.Equal(x.body, body):
		return nil
	}
	return gantry.Errorf(gantry.Permanent, gantry.CodeConflict, "put file: other bytes are there")
}

// hasty is a sink that keeps files back until the manifest is there: the control of the order.
type hasty struct {
	gantry.Sink
	mu   sync.Mutex
	kept map[string][]gantry.Delivery // by task
}

// Deliver delivers the manifest before what it speaks of.
func (h *hasty) Deliver(ctx context.Context, out gantry.Delivery) error {
	task := taskOf(out.Path)
	h.mu.Lock()
	if !out.Manifest {
		h.kept[task] = append(h.kept[task], out)
		h.mu.Unlock()
		return nil
	}
	kept := h.kept[task]
	delete(h.kept, task)
	h.mu.Unlock()
	if err := h.Sink.Deliver(ctx, out); err != nil {
		return err
	}
	for _, x := range kept {
		if err := h.Sink.Deliver(ctx, x); err != nil {
			return err
		}
	}
	return nil
}

// blobs is a process's way to the blob store, which all share.
type blobs struct{ p *proc }

// Stage reads bytes into memory.
func (b blobs) Stage(_ context.Context, r io.Reader, _, limit int64) (gantry.Staged, error) {
	all, err := io.ReadAll(io.LimitReader(r, limit+1))
	if err != nil {
		return nil, err
	}
	return &staged{b.p, all, sha256.Sum256(all)}, nil
}

// Open finds bytes by where they lie.
func (b blobs) Open(_ context.Context, location string) (gantry.Blob, error) {
	b.p.run.landing.Lock()
	defer b.p.run.landing.Unlock()
	all, ok := b.p.run.blobs[location]
	if !ok {
		b.p.run.check.fail("there are no bytes at %s", location)
		return nil, fmt.Errorf("open blob: it is not there")
	}
	return blob{bytes.NewReader(all)}, nil
}

type blob struct{ *bytes.Reader }

// Close does nothing.
func (blob) Close() error { return nil }

type staged struct {
	p   *proc
	all []byte
	sha gantry.Digest
}

func (s *staged) Size() int64        { return int64(len(s.all)) }
func (s *staged) SHA() gantry.Digest { return s.sha }
func (s *staged) Discard()           {}

// Inline gives what is small.
func (s *staged) Inline() []byte {
	if len(s.all) > gantry.InlineLimit {
		return nil
	}
	return s.all
}

// Commit makes the bytes durable.
func (s *staged) Commit(ctx context.Context) (string, error) {
	at := s.sha.String()
	o := op{kind: "blob", name: at, odds: often, bounded: true, lo: 200 * time.Microsecond, hi: 5 * time.Millisecond}
	return at, s.p.call(ctx, o, func() error {
		s.p.run.blobs[at] = s.all
		return nil
	})
}
