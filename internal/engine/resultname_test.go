package engine

import (
	"testing"

	"github.com/gantry-imaging/gantry/internal/gantry"
)

// Whatever a medium is, what gantry check takes for a name of a result is how it is called.
func TestNamesOfResults(t *testing.T) {
	t.Parallel()
	for _, kind := range []string{gantry.MediaDICOM, gantry.MediaPNG, gantry.MediaJSON, gantry.MediaJPEG, gantry.MediaNPY, gantry.MediaZIP, gantry.MediaTAR, gantry.MediaGZIP, gantry.MediaZSTD,
		gantry.MediaMP4, gantry.MediaMKV, gantry.MediaAVI, ""} {
		for _, name := range []string{"000001", "1000000", "000001-2", "task", "task-12", "rejoined"} {
			if !gantry.MayBeResult(name + suffix(kind)) {
				t.Errorf("%s: a result of %q is called so", name+suffix(kind), kind)
			}
		}
	}
}
