package main

import (
	"bufio"
	"context"
	"crypto/rand"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/gantry-imaging/gantry/internal/gantry"
	"github.com/gantry-imaging/gantry/internal/heap"
	"github.com/gantry-imaging/gantry/internal/postgres"
	"github.com/gantry-imaging/gantry/internal/scheduler"
)

// What the worker processes of a crew do with tasks.
const (
	workStates   = "states"   // five states, nothing else
	workParts    = "parts"    // and one part, under the limit of a target
	workWhole    = "whole"    // and the record of what a task with one part calls, sends and delivers
	workTakeover = "takeover" // hold on to each task, but let one that was rescued go on
	workUnits    = "units"    // call a target without end, and write down when
)

const (
	targetKey   = "http://bench"
	targetUnits = 256
	shortLease  = 3 * time.Second
)

// hand is a worker process.
type hand struct {
	mode    string
	session *scheduler.Session
	limiter int32
	ids     *gantry.IDs
	shifts  shifts
}

// workAs is one worker process of a crew.
func workAs(ctx context.Context, mode, dsn, out string) error {
	store, err := postgres.Open(ctx, dsn)
	if err != nil {
		return err
	}
	defer store.Close()
	defer heap.Roomy.Keep()() // as every process that works on tasks
	h := &hand{mode: mode, ids: gantry.NewIDs(time.Now, rand.Reader)}
	units := targetUnits
	opts := scheduler.Options{Tasks: 500}
	switch mode {
	case workTakeover:
		opts.TTL = shortLease
	case workUnits:
		units = usedUnits
	}
	if h.limiter, err = store.EnsureLimiter(ctx, targetKey, gantry.LimiterSpec{MaxUnits: units, Burst: 1, Hold: time.Minute}, true); err != nil {
		return err
	}
	rated, err := store.EnsureLimiter(ctx, ratedKey, gantry.LimiterSpec{MaxUnits: -1, Rate: usedRate, Burst: usedBurst, Hold: time.Minute}, true)
	if err != nil {
		return err
	}
	fmt.Println("ready")
	in := bufio.NewReader(os.Stdin)
	if _, err := in.ReadByte(); err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	go func() { io.Copy(io.Discard, in); cancel() }()
	err = scheduler.Run(ctx, store, opts, func(loops context.Context, s *scheduler.Session) (scheduler.Begin, error) {
		h.session = s
		if mode == workUnits {
			h.shifts.begin(ctx, loops, s, h.limiter, rated)
		}
		return func(gantry.Task) (scheduler.Step, func()) { return h.step, func() {} }, nil
	})
	if err == nil && mode == workUnits {
		err = h.shifts.write(out)
	}
	return err
}

// step makes the step of a task in its mode.
func (h *hand) step(ctx context.Context, t gantry.Task) gantry.Transition {
	var err error
	switch {
	case h.mode == workParts && t.State == gantry.Inferring:
		err = h.onePart(ctx, t)
	case h.mode == workWhole:
		err = h.whole(ctx, t)
	case h.mode == workTakeover && t.State == gantry.Extracting && t.Crashes == 0:
		<-ctx.Done()
		return gantry.Transition{}
	}
	if err != nil {
		return gantry.Transition{}
	}
	return nextState(ctx, t)
}

// onePart plans a part, waits for a unit and writes the part down as done.
func (h *hand) onePart(ctx context.Context, t gantry.Task) error {
	part := gantry.Part{PartKey: gantry.PartKey{Ordinal: 1}, Count: 1, DueIn: -1}
	if err := h.session.Commit(ctx, &gantry.Write{Lease: t.Lease, Plan: []gantry.Part{part}}); err != nil {
		return err
	}
	release, err := h.session.Acquire(ctx, h.limiter, t.Priority)
	if err != nil {
		return err
	}
	defer release()
	part.Status, part.Attempt = gantry.PartOK, 1
	return h.session.Commit(ctx, &gantry.Write{Lease: t.Lease, Parts: []gantry.Part{part}})
}

// whole writes what the engine writes for a file that is one part: its item, a part, a call of a model that
// answers with JSON of 300 bytes, and two of a sink, for the result and the manifest.
func (h *hand) whole(ctx context.Context, t gantry.Task) error {
	part := gantry.Part{PartKey: gantry.PartKey{Ordinal: 1}, Count: 1, DueIn: -1}
	switch t.State {
	case gantry.Extracting:
		return h.session.Commit(ctx, &gantry.Write{Lease: t.Lease, Items: []gantry.Item{{Origin: 0, Parent: gantry.NoItem, Stage: gantry.OriginalStage,
			Name: "slice.dcm", Media: gantry.MediaDICOM, Size: 524_288, SHA: gantry.Digest{1}, Location: "seg/000000000001:4096"}}})
	case gantry.Inferring:
		plan := []gantry.Part{part} // with the intent, as the engine has it of a stage that is one part
		part.Status, part.Attempt = gantry.PartOK, 1
		return h.call(ctx, t, gantry.AtProcessor, gantry.OpProcess, plan, &gantry.Write{Parts: []gantry.Part{part},
			Items: []gantry.Item{{ID: 1, Ordinal: 0, Part: 1, Media: gantry.MediaJSON, Size: 300, SHA: gantry.Digest{2}, Body: make([]byte, 300)}}})
	case gantry.Responding:
		if err := h.call(ctx, t, gantry.AtSink, gantry.OpPut, nil, &gantry.Write{}); err != nil {
			return err
		}
		return h.call(ctx, t, gantry.AtSink, gantry.OpManifest, nil, &gantry.Write{})
	}
	return nil
}

// call puts one call on record, with parts that are planned for it and what came of it.
func (h *hand) call(ctx context.Context, t gantry.Task, at gantry.Boundary, op gantry.Op, plan []gantry.Part, w *gantry.Write) error {
	in := gantry.Intent{ID: h.ids.New(), Lease: t.Lease, Boundary: at, Op: op, Limiter: h.limiter, Pipeline: t.Pipeline, Try: 1,
		Part: gantry.PartKey{Ordinal: 1}, ItemCount: 1, ItemsSHA: gantry.Digest{3}}
	if err := h.session.Commit(ctx, &gantry.Write{Lease: t.Lease, Intent: &in, Plan: plan}); err != nil {
		return err
	}
	release, err := h.session.Acquire(ctx, h.limiter, t.Priority)
	if err != nil {
		return err
	}
	release()
	w.Lease = t.Lease
	w.Outcome = &gantry.Outcome{ID: in.ID, Task: t.Task, Limiter: h.limiter, Status: 200, Took: time.Millisecond, TTFB: time.Millisecond,
		ReqSize: 524_288, ReqSHA: gantry.Digest{1}}
	if at == gantry.AtProcessor {
		w.Outcome.RespSize, w.Outcome.RespSHA = 300, gantry.Digest{2}
	}
	return h.session.Commit(ctx, w)
}
