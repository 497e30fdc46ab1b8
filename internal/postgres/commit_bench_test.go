package postgres_test

import (
	"bytes"
	"fmt"
	"testing"
	"time"

	"github.com/gantry-imaging/gantry/internal/gantry"
)

// BenchmarkCommit commits the writes of calls: as many intents as outcomes with an item and a part in
// one batch, as a process under load does. The server has fsync off, so the figures are of work,
// not of the disk.
func BenchmarkCommit(b *testing.B) {
	for _, calls := range []int{1, 8, 32} {
		b.Run(fmt.Sprintf("calls=%d", calls), func(b *testing.B) {
			bed := newBed(b)
			bed.enqueue(1)
			task := bed.claim(bed.worker, 1)[0]
			body := bytes.Repeat([]byte("x"), 1000)
			n := int32(0)
			for b.Loop() {
				var writes []*gantry.Write
				if n%planned == 0 { // calls divides planned
					bed.plan(task.Lease, n)
				}
				for range calls {
					n++
					writes = append(writes, bed.callWrites(task.Lease, n, body)...)
				}
				bed.commit(bed.worker, writes...)
			}
			b.ReportMetric(float64(b.Elapsed().Microseconds())/float64(b.N*calls), "us/call")
		})
	}
}

// planned is how many parts are planned at a time.
const planned = 512

// plan plans the parts after n, as a stage does before it calls for them.
func (b *bed) plan(l gantry.Lease, n int32) {
	w := &gantry.Write{Lease: l}
	for k := range int32(planned) {
		w.Plan = append(w.Plan, gantry.Part{PartKey: gantry.PartKey{Ordinal: n - n%planned + k + 1}, Count: 1, DueIn: -1})
	}
	b.commit(b.worker, w)
}

// callWrites are the two writes of one call.
func (b *bed) callWrites(l gantry.Lease, n int32, body []byte) []*gantry.Write {
	in := gantry.Intent{ID: b.ids.New(), Lease: l, Boundary: gantry.AtProcessor, Op: gantry.OpProcess, Limiter: b.limiter,
		Pipeline: b.pipeline, Part: gantry.PartKey{Ordinal: n}, Try: 1, ItemCount: 1, ItemsSHA: gantry.Digest{1}}
	part := gantry.Part{PartKey: in.Part, Status: gantry.PartOK, Attempt: 1, Count: 1, DueIn: -1}
	item := gantry.Item{ID: gantry.ItemID(n), Part: n, Media: gantry.MediaJSON, Size: int64(len(body)), SHA: gantry.Digest{2}, Body: body}
	out := &gantry.Outcome{ID: in.ID, Task: l.Task, Limiter: b.limiter, Status: 200, Took: 20 * time.Millisecond, ReqSize: 100_000,
		RespSize: int64(len(body)), ReqSHA: gantry.Digest{3}, RespSHA: gantry.Digest{2}}
	return []*gantry.Write{{Intent: &in}, {Lease: l, Outcome: out, Items: []gantry.Item{item}, Parts: []gantry.Part{part}}}
}
