package engine

import (
	"testing"

	"github.com/gantry-imaging/gantry/internal/gantry"
)

// TestScannedAsItCame does not read a file to scan it that was scanned as it came, and marks the warning of then. It reads one of
// which nobody knows, or that lies nowhere.
func TestScannedAsItCame(t *testing.T) {
	t.Parallel()
	body := slicesOf(t)[0]
	for name, c := range map[string]struct {
		at      string
		warning gantry.Code
		read    bool
	}{
		"known":   {at: "here"},
		"warning": {at: "here", warning: "odd_length"},
		"nowhere": {warning: "empty", read: true},
		"unknown": {at: "there", warning: "empty", read: true},
	} {
		w := newWorld(t, each("a", gantry.EachPart, gantry.OnErrorFail))
		w.scans = func(at string) (gantry.Code, bool) { return c.warning, at == "here" }
		w.items = []gantry.Item{{ID: 0, Parent: gantry.NoItem, Stage: gantry.OriginalStage, Media: gantry.MediaDICOM, Location: c.at, Size: int64(len(body))}}
		tr := w.step(t.Context(), gantry.Ingesting, 0)
		if advanced := tr.Change == gantry.Advance; advanced == c.read {
			t.Errorf("%s: advanced %t: %+v", name, advanced, tr)
		}
		if w.items[0].Reason != c.warning {
			t.Errorf("%s: marked %q", name, w.items[0].Reason)
		}
	}
}
