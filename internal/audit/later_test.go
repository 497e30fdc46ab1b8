package audit_test

import (
	"crypto/rand"
	"testing"
	"time"

	"github.com/gantry-imaging/gantry/internal/audit"
	"github.com/gantry-imaging/gantry/internal/gantry"
)

// TestAnswersTakeNoUnit counts submissions alone against a limit: answers that are fetched, or that came, hold none and may come
// in bunches.
func TestAnswersTakeNoUnit(t *testing.T) {
	t.Parallel()
	b := newBed(t)
	from := time.Now().Add(-time.Minute).Truncate(time.Millisecond)
	ids := gantry.NewIDs(func() time.Time { return from }, rand.Reader)
	for _, op := range []gantry.Op{gantry.OpSubmit, gantry.OpCollect, gantry.OpCallback} {
		for range 2 * (1 + int(op-gantry.OpSubmit)) {
			in := &gantry.Intent{ID: ids.New(), Boundary: gantry.AtProcessor, Op: op, Limiter: b.limiter, Pipeline: b.pipeline}
			b.commit(b.worker, &gantry.Write{Intent: in})
			b.commit(b.worker, &gantry.Write{Outcome: &gantry.Outcome{ID: in.ID, Limiter: b.limiter, Result: gantry.ResultOK, Took: time.Second}})
		}
	}
	b.limits(audit.Usage{Target: "http://a", Units: 2, Rate: 4, Burst: 2, Calls: 2, AtOnce: 2, WithLost: 2, Starts: 2})
}
