package engine

import (
	"crypto/sha256"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/gantry-imaging/gantry/internal/gantry"
)

// What this process has in mind of a task's original is not read again, and makes the same items as what is read; what it
// has not is read.
func TestArrivedInMind(t *testing.T) {
	t.Parallel()
	body := slicesOf(t)[0]
	asked := ""
	for name, known := range map[string]bool{"in mind": true, "forgotten": false} {
		w := newWorld(t, each("a", gantry.EachPart, gantry.OnErrorFail))
		w.blobs["in"] = body
		w.step(t.Context(), gantry.Extracting, 0)
		read := w.items
		w.items = nil
		if known {
			w.original = gantry.Errorf(gantry.Transient, "", "the database is away")
		}
		w.came = func(task string) (gantry.Arrival, bool) {
			asked = task
			return gantry.Arrival{Location: "in", Size: int64(len(body)), SHA: sha256.Sum256(body), Name: "x", Source: "p/inbox"}, known
		}
		tr := w.step(t.Context(), gantry.Extracting, 0)
		if tr.Change != gantry.Advance || asked != "id" || len(read) == 0 || !cmp.Equal(w.items, read) {
			t.Errorf("%s: asked for %q, %+v, items %+v, were %+v", name, asked, tr, w.items, read)
		}
	}
}
