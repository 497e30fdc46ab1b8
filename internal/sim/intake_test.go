package sim

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"

	"github.com/gantry-imaging/gantry/internal/gantry"
	"github.com/gantry-imaging/gantry/internal/gate"
)

// intake makes tasks of objects in the order of package app: known, number, copy on record, admit.
type intake struct {
	p     *proc
	st    *link
	gate  *gate.Gate
	wake  func(lanes ...int32)
	ctx   context.Context // ends with the lease
	under sync.WaitGroup  // objects that are under way
}

var key = []byte("a key of the deployment")

// accept makes one object durable, if the process still takes any.
func (in *intake) accept(x object) error {
	in.p.mu.Lock()
	if in.p.feed != in {
		in.p.mu.Unlock()
		return errNobody
	}
	in.under.Add(1)
	in.p.mu.Unlock()
	defer in.under.Done()
	return in.take(in.ctx, x)
}

func (in *intake) take(ctx context.Context, x object) error {
	r := in.p.run
	pl, ids := r.world.pipelines[x.pipeline], r.ids[x.pipeline]
	source := pl.Name + "/in"
	a := gantry.Arrival{Source: source, RefMAC: gantry.MAC(key, "ref", source, x.ref), Name: x.ref, Sequencer: "1"}
	known, err := ask(ctx, in.st, query("known", x.ref, often), func() (bool, error) { return r.db.Known(ctx, source, a.RefMAC, a.Sequencer) })
	if known || err != nil {
		return err
	}
	numbers, err := ask(ctx, in.st, query("number", x.ref, often), func() ([]int64, error) { return r.db.ArrivalIDs(ctx, 1) })
	if err != nil {
		return err
	}
	a.ID = numbers[0]
	if err := in.copyIn(ctx, x.ref, x.body, &a, ids); err != nil {
		return err
	}
	a.Version = a.SHA.String()
	of := gantry.Admission{Arrival: a, PublicID: gantry.PublicID(key, pl.Name, source, x.ref, a.Version, ""), Pipeline: ids.pipeline, Lane: ids.lane,
		Priority: pl.Priority, Within: pl.Timeouts.Queued}
	members := []gantry.Arrival{a}
	for i, body := range x.more {
		m, err := in.member(ctx, fmt.Sprintf("%s/%d", x.ref, i), body, a, ids)
		if err != nil {
			return err
		}
		members = append(members, m)
	}
	err = in.p.call(ctx, query("enqueue", x.ref, often), func() error {
		if x.more != nil {
			_, err := r.db.Collect(ctx, of, members)
			return err
		}
		_, err := r.db.Enqueue(ctx, []gantry.Admission{of})
		return err
	})
	if err == nil {
		in.wake(ids.lane)
	}
	return err
}

// member makes the bytes of another member of a collection durable.
func (in *intake) member(ctx context.Context, ref string, body []byte, first gantry.Arrival, ids pipelineIDs) (gantry.Arrival, error) {
	a := gantry.Arrival{Source: first.Source, RefMAC: gantry.MAC(key, "ref", first.Source, ref), Name: ref, Sequencer: "1"}
	numbers, err := ask(ctx, in.st, query("number", ref, often), func() ([]int64, error) { return in.p.run.db.ArrivalIDs(ctx, 1) })
	if err != nil {
		return a, err
	}
	a.ID = numbers[0]
	err = in.copyIn(ctx, ref, body, &a, ids)
	a.Version = a.SHA.String()
	return a, err
}

func (in *intake) copyIn(ctx context.Context, ref string, bytesOf []byte, a *gantry.Arrival, ids pipelineIDs) error {
	var staged gantry.Staged
	spec := gantry.CallSpec{Intent: gantry.Intent{Boundary: gantry.AtSource, Op: gantry.OpGet, Limiter: ids.source, Arrival: a.ID, Pipeline: ids.pipeline, Try: 1}}
	return in.gate.Call(ctx, spec, func(ctx context.Context) error {
		o := op{kind: "get", name: ref, odds: often, lo: time.Millisecond, hi: 30 * time.Millisecond}
		if err := in.p.call(ctx, o, func() error { return nil }); err != nil {
			return err
		}
		body := gate.Local(ctx, io.NopCloser(bytes.NewReader(bytesOf)), false)
		defer body.Close()
		var err error
		staged, err = blobs{in.p}.Stage(ctx, body, int64(len(bytesOf)), 1<<30)
		return err
	}, func(ctx context.Context, err error) (*gantry.Write, error) {
		if err != nil {
			return nil, err
		}
		a.SHA, a.Size = staged.SHA(), staged.Size()
		a.Location, err = staged.Commit(ctx)
		return nil, err
	})
}

// source announces an object until some process has acknowledged it, and now and then again.
func (r *run) source(i int, x object) {
	defer r.sources.Done()
	time.Sleep(x.at)
	again := 0
	for n := 0; ; n++ {
		d := r.dice.of("announce", x.ref, n)
		if r.announce(x, d) == nil {
			if again++; again > 3 || !d.more(1).hits(r.faults.twice) {
				break
			}
			time.Sleep(d.more(2).between(0, 3*time.Second))
			continue
		}
		if r.over() {
			return
		}
		time.Sleep(d.more(3).between(50*time.Millisecond, 2*time.Second))
	}
	r.check.acknowledge(x)
}

var errNobody = errors.New("no process takes objects now")

// announce tells a process of an object, or two at once.
func (r *run) announce(x object, d dice) error {
	living := r.feeds()
	if len(living) == 0 {
		return errNobody
	}
	first := living[d.more(10).below(len(living))]
	if d.more(11).hits(r.faults.twice) {
		other := living[d.more(12).below(len(living))]
		r.sources.Go(func() { other.accept(x) })
	}
	return first.accept(x)
}
