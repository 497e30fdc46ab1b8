package metrics_test

import (
	"testing"
	"time"

	"github.com/gantry-imaging/gantry/internal/gantry"
	"github.com/gantry-imaging/gantry/internal/metrics"
)

// TestArriving notes what peers send; a process without metrics notes nothing.
func TestArriving(t *testing.T) {
	t.Parallel()
	m := metrics.New("v1", "")
	for _, x := range []*metrics.Metrics{m, nil} {
		x.Received("p/in", false, 100, 30*time.Millisecond)
		x.Received("p/in", true, 50, time.Millisecond)
		for range 3 {
			x.Visited("p/in", gantry.Visit{Step: gantry.VisitBegan})
		}
		x.Visited("p/in", gantry.Visit{Step: gantry.VisitLeft})
		x.Visited("p/in", gantry.Visit{Step: gantry.VisitBroken, Code: "association_aborted"})
		x.Visited("p/in", gantry.Visit{Step: gantry.VisitRefused, Code: "calling_ae"})
		x.Visited("p/in", gantry.Visit{Step: gantry.VisitNotTaken, Code: "truncated"})
	}
	mustHold(t, scrape(t, m),
		`gantry_dicom_associations{source="p/in"} 1`,
		`gantry_dicom_associations_total{end="released",source="p/in"} 1`,
		`gantry_dicom_associations_total{end="aborted",source="p/in"} 1`,
		`gantry_dicom_associations_total{end="rejected",source="p/in"} 1`,
		`gantry_dicom_instances_total{result="stored",source="p/in"} 1`,
		`gantry_dicom_instances_total{result="known",source="p/in"} 1`,
		`gantry_dicom_instances_total{result="refused",source="p/in"} 1`,
		`gantry_dicom_received_bytes_total{source="p/in"} 150`,
		`gantry_dicom_store_seconds_bucket{source="p/in",le="0.025"} 1`,
		`gantry_dicom_store_seconds_bucket{source="p/in",le="0.05"} 2`,
		`gantry_dicom_failures_total{code="calling_ae",source="p/in"} 1`)
}
