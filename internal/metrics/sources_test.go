package metrics_test

import (
	"testing"
	"time"

	"github.com/gantry-imaging/gantry/internal/gantry"
	"github.com/gantry-imaging/gantry/internal/metrics"
)

// TestSources notes what sources bring; a process without metrics notes nothing.
func TestSources(t *testing.T) {
	t.Parallel()
	m := metrics.New("v1", "")
	for _, x := range []*metrics.Metrics{m, nil} {
		x.Arrived("p/in", gantry.Accepted)
		x.Arrived("p/in", gantry.SourceGone)
		x.Heard("p/in", "sqs", time.Unix(1000, 5e8))
		x.Lag("p/in", 300*time.Millisecond)
		x.Swept("p/in", gantry.Sweep{Began: time.Unix(2000, 0), Took: 3 * time.Second, Objects: 70, Missed: 2})
		x.Swept("p/in", gantry.Sweep{Began: time.Unix(3000, 0), Took: time.Second, Objects: 71, Missed: 1})
		x.TakeUp("p/in", gantry.TakeUp{Backlog: true, Passed: 9, Cursor: "DOE^JANE"})
		x.SourceFailed("p/in", "access_denied")
	}
	mustHold(t, scrape(t, m),
		`gantry_source_arrivals_total{source="p/in",status="accepted"} 1`,
		`gantry_source_arrivals_total{source="p/in",status="source_gone"} 1`,
		`gantry_source_told_total{channel="sqs",source="p/in"} 1`,
		`gantry_source_last_event_timestamp_seconds{channel="sqs",source="p/in"} 1000.5`,
		`gantry_source_lag_seconds_bucket{source="p/in",le="0.25"} 0`,
		`gantry_source_lag_seconds_bucket{source="p/in",le="0.5"} 1`,
		`gantry_source_sweeps_total{source="p/in"} 2`,
		`gantry_source_mismatches_total{source="p/in"} 3`,
		`gantry_source_last_sweep_timestamp_seconds{source="p/in"} 3000`,
		`gantry_source_last_sweep_seconds{source="p/in"} 1`,
		`gantry_source_last_sweep_objects{source="p/in"} 71`,
		`gantry_source_backlog{source="p/in"} 1`,
		`gantry_source_backlog_passed{source="p/in"} 9`,
		`gantry_source_errors_total{code="access_denied",source="p/in"} 1`)
	m.TakeUp("p/in", gantry.TakeUp{Taken: true})
	mustHold(t, scrape(t, m), `gantry_source_backlog{source="p/in"} 0`)
}
