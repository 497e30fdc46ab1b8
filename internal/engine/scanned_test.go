package engine

import (
	"crypto/sha256"
	"testing"

	"github.com/gantry-imaging/gantry/internal/gantry"
)

// TestScannedAsItCame does not read a file to scan it that was scanned as it came, and marks the warning of then. It reads one of
// which nobody knows, or whose digest is not known.
func TestScannedAsItCame(t *testing.T) {
	t.Parallel()
	body := slicesOf(t)[0]
	for name, c := range map[string]struct {
		sha     gantry.Digest
		warning gantry.Code
		read    bool
	}{
		"known":     {sha: sha256.Sum256(body)},
		"warning":   {sha: sha256.Sum256(body), warning: "odd_length"},
		"no digest": {warning: "empty", read: true}, // as it lies nowhere
		"unknown":   {sha: gantry.Digest{1}, warning: "empty", read: true},
	} {
		w := newWorld(t, each("a", gantry.EachPart, gantry.OnErrorFail))
		w.scans = func(d gantry.Digest) (gantry.Code, bool) { return c.warning, d == sha256.Sum256(body) }
		w.items = []gantry.Item{{ID: 0, Parent: gantry.NoItem, Stage: gantry.OriginalStage, Media: gantry.MediaDICOM, Location: "not here", Size: int64(len(body)), SHA: c.sha}}
		tr := w.step(t.Context(), gantry.Ingesting, 0)
		if advanced := tr.Change == gantry.Advance; advanced == c.read {
			t.Errorf("%s: advanced %t: %+v", name, advanced, tr)
		}
		if w.items[0].Reason != c.warning {
			t.Errorf("%s: marked %q", name, w.items[0].Reason)
		}
	}
}
