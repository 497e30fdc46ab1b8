package engine

import (
	"encoding/json"
	"io"
	"slices"
	"testing"

	"github.com/gantry-imaging/gantry/internal/gantry"
)

// TestResults reads what a task delivered from its rows alone, in a process that never saw it, also after
// it was delivered anew under another prefix.
func TestResults(t *testing.T) {
	t.Parallel()
	w := newWorld(t, each("a", gantry.EachPart, gantry.OnErrorFail))
	w.leaves(3)
	w.process = answer1(gantry.MediaJSON, `{"score": 1}`)
	if tr := w.step(t.Context(), gantry.Inferring, 0); tr.To != gantry.Responding {
		t.Fatalf("inferring left with %+v", tr)
	}
	if tr := w.step(t.Context(), gantry.Responding, 0); tr.To != gantry.Done {
		t.Fatalf("responding left with %+v", tr)
	}
	e := New(Options{Store: w, Session: w, Blobs: w.blobs, Plans: w, Rand: func() float64 { return 0.5 }, Scratch: t.TempDir()})
	var first []byte
	for delivery := range int16(2) {
		r, err := e.Results(t.Context(), gantry.Task{Lease: lease, PublicID: "id", State: gantry.Responding, Delivery: delivery})
		if err != nil {
			t.Fatal(err)
		}
		defer r.Close()
		var m manifest
		if err := json.Unmarshal(r.Manifest, &m); err != nil || len(m.Outputs) < 3 {
			t.Fatalf("%d outputs, %v", len(m.Outputs), err)
		}
		if first == nil {
			first = r.Manifest
		}
		if string(first) != string(r.Manifest) {
			t.Errorf("another delivery has another manifest:\n%s", r.Manifest)
		}
		for _, o := range m.Outputs {
			if delivery == 0 && !slices.Contains(w.put, "id/"+o.Path) {
				t.Errorf("%s was not delivered: %v", o.Path, w.put)
			}
			x, b, err := r.Open(t.Context(), o.Path)
			if err != nil {
				t.Fatal(err)
			}
			body, err := io.ReadAll(b)
			b.Close()
			if err != nil || int64(len(body)) != o.Bytes || x.Size != o.Bytes || x.Media != o.Media || x.SHA.String() != o.SHA256 {
				t.Errorf("%s: %q as %s of %d bytes, %v", o.Path, body, x.Media, x.Size, err)
			}
		}
		for _, path := range []string{"", "none", "../id/a/000001.json", "_manifest.json", "/a/000001.json"} {
			if _, _, err := r.Open(t.Context(), path); gantry.CodeOf(err) != CodeNoOutput || gantry.KindOf(err) != gantry.NotFound {
				t.Errorf("%q: %v", path, err)
			}
		}
	}
}
