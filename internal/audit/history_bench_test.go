package audit_test

import (
	"runtime"
	"testing"
	"time"

	"github.com/gantry-imaging/gantry/internal/audit"
	"github.com/gantry-imaging/gantry/internal/postgres"
)

// million makes 200,000 tasks that are done: a million events, a part, an output and a call each.
var million = []string{
	`insert into arrival(id, source, ref_mac, version, size) select n, 'p/in', sha256(n::text::bytea), 'v', 1 from generate_series(1, 200000) n`,
	`insert into task(public_id, arrival, pipeline, final_state, finished_at) select 'task' || n, n, (select min(id) from pipeline_version), 5, now() from generate_series(1, 200000) n`,
	`insert into task_event(task_id, seq, worker, from_state, to_state, attempt, change) select id, 2 + s, 1, s, s + 1, 0, case s when 4 then 4 else 0 end from task, generate_series(0, 4) s`,
	`insert into part(task_id, ordinal, leg, stage, processor, status, attempt, first, count) select id, 0, 0, 0, 0, 2, 1, 0, 1 from task`,
	`insert into item(task_id, id, parent, origin, ordinal, stage) select id, 1, 0, 0, 0, 0 from task`,
	`insert into call_intent(task_id, id, worker, limiter, pipeline, part, seq, item_count, boundary, op, leg, stage, processor, generation, try, items_sha)
		select id, (lpad(to_hex((extract(epoch from now()) * 1000)::bigint + id / 10), 12, '0') || '7000a' || lpad(to_hex(id), 15, '0'))::uuid, 1, (select min(id) from limiter), 1, 0, 5, 1, 1, 1, 0, 0, 0, 0, 1, '' from task`,
	`insert into call_outcome(task_id, id, sent_us, ttfb_us, took_us, req_size, resp_size, limiter, status, result, kind, req_sha, resp_sha)
		select task_id, id, 0, 0, 50, 1, 1, limiter, 200, 0, 0, '', '' from call_intent`,
	`analyze`,
}

// BenchmarkVerify holds a million events and 200,000 calls to their rules, and reports the memory that it takes.
func BenchmarkVerify(b *testing.B) {
	x := newBed(b)
	for _, sql := range million {
		x.forge(sql)
	}
	for b.Loop() {
		begun := time.Now()
		var most uint64
		sum, err := audit.History(b.Context(), x.Store, postgres.Filter{}, func(v audit.Violation) error { b.Fatalf("%+v", v); return nil })
		if err != nil || sum.Events != 1000000 {
			b.Fatalf("%+v: %v", sum, err)
		}
		b.ReportMetric(float64(sum.Events)/time.Since(begun).Seconds(), "events/s")
		begun = time.Now()
		use, err := audit.Limits(b.Context(), x.Store, "", time.Time{}, func(audit.Breach) error { return nil })
		if err != nil || len(use) != 1 || use[0].Calls != 200000 {
			b.Fatalf("%+v: %v", use, err)
		}
		b.ReportMetric(float64(use[0].Calls)/time.Since(begun).Seconds(), "calls/s")
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		most = max(most, m.Sys)
		b.ReportMetric(float64(most)/(1<<20), "MiB")
	}
}
