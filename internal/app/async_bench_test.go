package app_test

import (
	"fmt"
	"os"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/gantry-imaging/gantry/internal/gantry"
)

// cloneSQL makes more parked tasks after the likeness of one, since all that there is of them are their rows.
const cloneSQL = `with t as (
  insert into task(public_id, arrival, pipeline, run) select 'clone' || n, t.arrival, t.pipeline, t.run
  from generate_series(1, $1::int) n cross join (select * from task order by id limit 1) t returning id),
h as (
  insert into task_hot(id, lane, phase, run_at, state, state_until, seq) select t.id, h.lane, h.phase, h.run_at, h.state, h.state_until, h.seq
  from t cross join (select * from task_hot where phase = 2 order by id limit 1) h)
insert into part(task_id, ordinal, leg, stage, processor, status, first, count, out_limiter, out_until, out_deadline, ticket, submits)
select t.id, ordinal, leg, stage, processor, status, first, count, out_limiter, out_until, out_deadline, ticket, submits
from t cross join (select * from part where status = 1 order by task_id limit 1) p`

// BenchmarkParked parks tasks that wait for callbacks, as many as GANTRY_PARKED says (10,000 without it), the first
// thousand by a service and the others by their rows, and measures what this process, with the service and the source in it,
// needs while nothing comes: resident memory and processor time, which includes watching the folder. One round is
// enough: -benchtime 1x.
func BenchmarkParked(b *testing.B) {
	n := 10_000
	if s := os.Getenv("GANTRY_PARKED"); s != "" {
		n, _ = strconv.Atoi(s)
	}
	real := min(n, 1000)
	for range b.N {
		y := newYard(b, -1, "callback: \"${env:FARM}\", deadline: 10h", "concurrency: 20000")
		stop := y.serve(y.hook.URL)
		begun := time.Now()
		for i := range real {
			y.put(fmt.Sprintf("%d.png", i), noise(8, [32]byte{byte(i), byte(i >> 8)}))
		}
		y.until("all are parked", 10*time.Minute, func() bool { return y.count(`select count(*) from task_hot where phase = 2`) == real })
		b.ReportMetric(float64(real)/time.Since(begun).Seconds(), "tasks/s")
		if _, err := y.Store.Pool().Exec(b.Context(), cloneSQL, n-real); err != nil {
			b.Fatal(err)
		}
		runtime.GC()
		const rest = 20 * time.Second
		time.Sleep(2 * time.Second)
		before := processorTime(b)
		time.Sleep(rest)
		b.ReportMetric(100*(processorTime(b)-before).Seconds()/rest.Seconds(), "cpu%")
		b.ReportMetric(residentMB(b), "MB")
		begun = time.Now()
		if _, err := y.Store.Stranded(b.Context(), 1); err != nil {
			b.Fatal(err)
		}
		b.ReportMetric(float64(time.Since(begun).Microseconds())/1000, "sweep-ms")
		begun = time.Now()
		for _, j := range y.all() {
			y.answer(j, gantry.CallbackAccepted)
		}
		b.ReportMetric(float64(real)/time.Since(begun).Seconds(), "callbacks/s")
		y.until("they are done", 10*time.Minute, func() bool { return y.count(`select count(*) from task_hot`) == n-real })
		b.ReportMetric(float64(real)/time.Since(begun).Seconds(), "answered/s")
		stop()
	}
}

func processorTime(tb testing.TB) time.Duration {
	var r syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &r); err != nil {
		tb.Fatal(err)
	}
	return time.Duration(r.Utime.Nano() + r.Stime.Nano())
}

func residentMB(tb testing.TB) float64 {
	s, err := os.ReadFile("/proc/self/status")
	if err != nil {
		tb.Skip("no /proc")
	}
	_, rest, _ := strings.Cut(string(s), "VmRSS:")
	kb, _, _ := strings.Cut(strings.TrimSpace(rest), " ")
	n, err := strconv.Atoi(kb)
	if err != nil {
		tb.Fatal(err)
	}
	return float64(n) / 1024
}
