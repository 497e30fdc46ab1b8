package engine

import (
	"context"
	"crypto/sha256"
	"slices"
	"testing"
	"time"

	"github.com/gantry-imaging/gantry/internal/gantry"
)

// notary is a sink that confirms, and where that is kept.
type notary struct {
	*world
	within time.Duration

	rows      []gantry.Asked
	count     int32
	confirmed []string // ids that the server was asked under
	refuse    error    // what it says to that
	crash     error    // what keeping a request fails with, after it is kept
	answers   int      // that were put on record
}

// confirming makes the world's second sink one that confirms JSON, beside one that does not.
func (w *world) confirming() *notary {
	n := &notary{world: w, within: time.Minute}
	w.confirms = n
	w.plan.Sinks = append(w.plan.Sinks, Sink{Name: "pacs", Index: 1, Limiter: 10, Sink: notarized{sink{w}, n}})
	return n
}

type notarized struct {
	sink
	n *notary
}

func (s notarized) Deliver(ctx context.Context, d gantry.Delivery) error {
	d.Path = "pacs:" + d.Path
	return s.sink.Deliver(ctx, d)
}

func (s notarized) Confirmation() *gantry.Confirmation {
	if s.n.within == 0 {
		return nil
	}
	return &gantry.Confirmation{Within: s.n.within}
}

func (s notarized) Confirm(_ context.Context, id string, out []gantry.Delivery) error {
	if len(out) != 2 {
		s.n.t.Errorf("asked about %d files", len(out))
	}
	s.n.confirmed = append(s.n.confirmed, id)
	return s.n.refuse
}

func (n *notary) Asked(context.Context, gantry.TaskID, int16, int16) (int32, []gantry.Asked, error) {
	return n.count, slices.Clone(n.rows), nil
}

func (n *notary) Ask(_ context.Context, a gantry.Asking) error {
	if !slices.ContainsFunc(n.rows, func(x gantry.Asked) bool { return x.ID == a.ID }) {
		n.rows = append(n.rows, gantry.Asked{Asking: a})
	}
	return n.crash
}

func (n *notary) Taken(_ context.Context, _ gantry.Lease, id string) error {
	for i := range n.rows {
		if n.rows[i].ID == id {
			n.rows[i].Taken = true
		}
	}
	return nil
}

func (n *notary) GiveUp(context.Context, gantry.Lease, int16, int16, int16) error {
	for i := range n.rows {
		n.rows[i].Over = true
	}
	return nil
}

func (n *notary) Came(_ context.Context, r body) body {
	n.answers++
	return r
}

// answer has the server answer the last request: the files at these paths are not kept.
func (n *notary) answer(lost ...string) {
	a := &gantry.Answer{Kept: int32(2 - len(lost))}
	var kept []gantry.Digest
	for _, path := range []string{first, second} {
		if !slices.Contains(lost, path) {
			kept = append(kept, sha256.Sum256([]byte(path)))
		}
	}
	a.Names = gantry.NamesDigest(kept)
	for _, path := range lost {
		a.Failed = append(a.Failed, gantry.Unconfirmed{Name: sha256.Sum256([]byte(path)), Reason: 0x0112})
	}
	n.rows[len(n.rows)-1].Answer = a
	n.count++
}

// responds runs the state once, and gives what the sinks got in it.
func (n *notary) responds() (gantry.Transition, []string) {
	n.put = nil
	tr := n.step(n.t.Context(), gantry.Responding, 1)
	return tr, slices.Sorted(slices.Values(n.put))
}

func (n *notary) parks(what string, heard int32) {
	n.t.Helper()
	if tr, _ := n.responds(); tr.Change != gantry.Park || tr.After <= 0 || tr.After > n.within || tr.Heard != heard {
		n.t.Errorf("%s: %+v", what, tr)
	}
}

// twoAnswers is a world that is about to respond with an answer about each of two pictures.
func twoAnswers(t *testing.T) *notary {
	w := newWorld(t, each("s", gantry.EachPart, gantry.OnErrorFail))
	w.leaves(2)
	n := w.confirming()
	if tr := w.step(t.Context(), gantry.Inferring, 0); tr.To != gantry.Responding {
		t.Fatalf("%+v", tr)
	}
	return n
}
