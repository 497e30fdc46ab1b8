package engine

import (
	"context"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/gantry-imaging/gantry/internal/gantry"
)

// lasting is the world's second sink as one that keeps what it took once.
type lasting struct{ notarized }

func (lasting) Lasts() {}

// withLasting is a world that is about to respond, with two outputs, whose second sink keeps what it took; by the record that is the first of them.
func withLasting(t *testing.T) (n *notary, asked *[]int16) {
	n, asked = twoAnswers(t), new([]int16)
	n.plan.Sinks[1].Sink = lasting{notarized{sink{n.world}, n}}
	var outputs []gantry.Item
	for _, x := range n.items {
		if x.Stage == 0 {
			outputs = append(outputs, x)
		}
	}
	slices.SortFunc(outputs, func(a, b gantry.Item) int { return int(a.Origin) - int(b.Origin) })
	n.world.taken = func(sink int16) ([]gantry.Digest, error) {
		*asked = append(*asked, sink)
		return []gantry.Digest{itemsDigest(outputs[:1]), {1}}, nil
	}
	return n, asked
}

// TestDeliverWhatIsNotTaken gives a sink that keeps what it took the rest alone, and asks nobody about one that makes sure itself.
func TestDeliverWhatIsNotTaken(t *testing.T) {
	t.Parallel()
	n, asked := withLasting(t)
	tr, put := n.responds()
	if diff := cmp.Diff([]string{"id/_manifest.json", first, second, "pacs:" + second}, put); diff != "" || tr.Change != gantry.Park {
		t.Errorf("%+v\n%s", tr, diff)
	}
	if diff := cmp.Diff([]int16{1}, *asked); diff != "" {
		t.Errorf("asked about sinks: %s", diff)
	}
	if n.rows[0].Count != 2 {
		t.Errorf("the server is asked about %d", n.rows[0].Count)
	}
}

// TestDeliverAllOnceUnconfirmed: what the server did not confirm proves nothing by the record, and is all delivered again.
func TestDeliverAllOnceUnconfirmed(t *testing.T) {
	t.Parallel()
	n, asked := withLasting(t)
	n.rows = []gantry.Asked{{Asking: gantry.Asking{ID: "2.25.1", Sink: 1}, Taken: true, Over: true}}
	if _, put := n.responds(); !slices.Equal(put, everything) || len(*asked) > 0 {
		t.Errorf("delivered %v, asked about %v", put, *asked)
	}
}

// TestDeliverUnknown delivers nothing while it cannot be found out what was taken.
func TestDeliverUnknown(t *testing.T) {
	t.Parallel()
	n, _ := withLasting(t)
	n.world.taken = func(int16) ([]gantry.Digest, error) {
		return nil, gantry.Errorf(gantry.Unavailable, "", "no database")
	}
	if tr, put := n.responds(); tr.Change != gantry.Retry || slices.Contains(put, "pacs:"+first) {
		t.Errorf("%+v, delivered %v", tr, put)
	}
}

// crowded is a sink that keeps what it took, is slow with the first output and refuses the second.
type crowded struct {
	lasting
	begun chan struct{} // closed once the first is being given
	done  *atomic.Bool  // the first was taken
}

func (r crowded) Deliver(ctx context.Context, d gantry.Delivery) error {
	if d.Path == second {
		<-r.begun
		return gantry.Errorf(gantry.Unavailable, "out_of_resources", "no room")
	}
	close(r.begun)
	select {
	case <-time.After(100 * time.Millisecond):
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	r.done.Store(true)
	return nil
}

// TestDeliverToTheEnd does not break off what such a sink is being given when another output is refused.
func TestDeliverToTheEnd(t *testing.T) {
	t.Parallel()
	n, _ := withLasting(t)
	n.world.taken = func(int16) ([]gantry.Digest, error) { return nil, nil }
	r := crowded{n.plan.Sinks[1].Sink.(lasting), make(chan struct{}), &atomic.Bool{}}
	n.plan.Sinks[1].Sink = r
	if tr, _ := n.responds(); tr.Change != gantry.Retry || tr.Code != "out_of_resources" || !r.done.Load() {
		t.Errorf("%+v, the first was taken: %v", tr, r.done.Load())
	}
}

// TestDeliverCutShort: what is not begun since its context ended is not taken for delivered.
func TestDeliverCutShort(t *testing.T) {
	t.Parallel()
	for name, had := range map[string]taken{"a sink": nil, "one that lasts": {}} {
		n, _ := withLasting(t)
		ctx, end := context.WithCancel(t.Context())
		end()
		w := &work{e: New(Options{Store: n, Session: n, Caller: n, Blobs: n.blobs, Plans: n}), plan: n.plan}
		if err := w.deliverAll(ctx, 1, []delivered{{}, {}}, had); err == nil {
			t.Errorf("%s: it is taken for delivered", name)
		}
	}
}
