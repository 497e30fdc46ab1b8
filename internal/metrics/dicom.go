package metrics

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/gantry-imaging/gantry/internal/gantry"
)

// arriving are the metrics of sources that instances are sent to over DICOM. Their label is pipeline/source.
type arriving struct {
	open      *prometheus.GaugeVec
	ended     *prometheus.CounterVec
	instances *prometheus.CounterVec
	bytes     *prometheus.CounterVec
	took      *prometheus.HistogramVec
	failures  *prometheus.CounterVec
}

func newArriving(r *prometheus.Registry) arriving {
	counter := func(name, help string, labels ...string) *prometheus.CounterVec {
		return prometheus.NewCounterVec(prometheus.CounterOpts{Name: "gantry_dicom_" + name, Help: help}, append([]string{"source"}, labels...))
	}
	x := arriving{
		open:      prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: "gantry_dicom_associations", Help: "Associations of peers that are open."}, []string{"source"}),
		ended:     counter("associations_total", "Associations of peers, by how they ended: released, aborted, or rejected at once.", "end"),
		instances: counter("instances_total", "Instances that came, by what became of them: stored, known (the same bytes were on record) or refused.", "result"),
		bytes:     counter("received_bytes_total", "Bytes of the data sets of instances that were taken."),
		took: prometheus.NewHistogramVec(prometheus.HistogramOpts{Name: "gantry_dicom_store_seconds", Help: "From the beginning of an instance until it was durable and on record.",
			Buckets: []float64{.001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30, 60}}, []string{"source"}),
		failures: counter("failures_total", "Associations that were turned away or broke off, and instances that were not taken, by reason.", "code"),
	}
	r.MustRegister(x.open, x.ended, x.instances, x.bytes, x.took, x.failures)
	return x
}

// Received notes an instance that was taken.
func (m *Metrics) Received(source string, known bool, size int64, took time.Duration) {
	if m == nil {
		return
	}
	result := "stored"
	if known {
		result = "known"
	}
	m.arriving.instances.WithLabelValues(source, result).Inc()
	m.arriving.bytes.WithLabelValues(source).Add(float64(size))
	m.arriving.took.WithLabelValues(source).Observe(took.Seconds())
}

// Visited notes a step of a peer's stay.
func (m *Metrics) Visited(source string, v gantry.Visit) {
	if m == nil {
		return
	}
	switch v.Step {
	case gantry.VisitBegan:
		m.arriving.open.WithLabelValues(source).Inc()
	case gantry.VisitLeft, gantry.VisitBroken:
		m.arriving.open.WithLabelValues(source).Dec()
		m.arriving.ended.WithLabelValues(source, v.Step.String()).Inc()
	case gantry.VisitRefused:
		m.arriving.ended.WithLabelValues(source, v.Step.String()).Inc()
	case gantry.VisitNotTaken:
		m.arriving.instances.WithLabelValues(source, v.Step.String()).Inc()
	}
	if v.Code != "" {
		m.arriving.failures.WithLabelValues(source, string(v.Code)).Inc()
	}
}
