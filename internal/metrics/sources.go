package metrics

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/gantry-imaging/gantry/internal/gantry"
)

// sources are the metrics of the sources that this process watches. Their label is pipeline/source.
type sources struct {
	arrivals *prometheus.CounterVec
	told     *prometheus.CounterVec
	heard    *prometheus.GaugeVec
	lag      *prometheus.HistogramVec
	sweeps   *prometheus.CounterVec
	missed   *prometheus.CounterVec
	swept    *prometheus.GaugeVec
	took     *prometheus.GaugeVec
	objects  *prometheus.GaugeVec
	backlog  *prometheus.GaugeVec
	passed   *prometheus.GaugeVec
	failures *prometheus.CounterVec
}

var lagSeconds = []float64{.01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30, 60, 300, 900, 3600}

func newSources(r *prometheus.Registry) sources {
	counter := func(name, help string, labels ...string) *prometheus.CounterVec {
		return prometheus.NewCounterVec(prometheus.CounterOpts{Name: "gantry_source_" + name, Help: help}, append([]string{"source"}, labels...))
	}
	gauge := func(name, help string, labels ...string) *prometheus.GaugeVec {
		return prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: "gantry_source_" + name, Help: help}, append([]string{"source"}, labels...))
	}
	s := sources{
		arrivals: counter("arrivals_total", "Objects that this process put on record, by what became of them.", "status"),
		told:     counter("told_total", "New objects that a channel told this process of.", "channel"),
		heard:    gauge("last_event_timestamp_seconds", "When a channel last told this process of a new object.", "channel"),
		lag: prometheus.NewHistogramVec(prometheus.HistogramOpts{Name: "gantry_source_lag_seconds", Help: "From an object's own time, or its event's, to the commit of its arrival.",
			Buckets: lagSeconds}, []string{"source"}),
		sweeps:   counter("sweeps_total", "Listings of everything."),
		missed:   counter("mismatches_total", "Objects that a listing of everything found though nothing had told of them."),
		swept:    gauge("last_sweep_timestamp_seconds", "When the last listing of everything began."),
		took:     gauge("last_sweep_seconds", "How long the last listing of everything took."),
		objects:  gauge("last_sweep_objects", "Objects that the last listing of everything found."),
		backlog:  gauge("backlog", "1 while objects are taken up that were there before."),
		passed:   gauge("backlog_passed", "Objects of the backlog that were passed so far."),
		failures: counter("errors_total", "Failures of a channel, or of reading an object.", "code"),
	}
	r.MustRegister(s.arrivals, s.told, s.heard, s.lag, s.sweeps, s.missed, s.swept, s.took, s.objects, s.backlog, s.passed, s.failures)
	return s
}

// Arrived notes an object that was put on record.
func (m *Metrics) Arrived(source string, s gantry.ArrivalStatus) {
	if m != nil {
		m.sources.arrivals.WithLabelValues(source, s.String()).Inc()
	}
}

// Heard notes that a channel told of a new object.
func (m *Metrics) Heard(source, channel string, at time.Time) {
	if m != nil {
		m.sources.told.WithLabelValues(source, channel).Inc()
		m.sources.heard.WithLabelValues(source, channel).Set(seconds(at))
	}
}

// Lag notes how long after its own time an object's arrival was committed.
func (m *Metrics) Lag(source string, d time.Duration) {
	if m != nil {
		m.sources.lag.WithLabelValues(source).Observe(d.Seconds())
	}
}

// Swept notes a listing of everything.
func (m *Metrics) Swept(source string, s gantry.Sweep) {
	if m != nil {
		m.sources.sweeps.WithLabelValues(source).Inc()
		m.sources.missed.WithLabelValues(source).Add(float64(s.Missed))
		m.sources.swept.WithLabelValues(source).Set(seconds(s.Began))
		m.sources.took.WithLabelValues(source).Set(s.Took.Seconds())
		m.sources.objects.WithLabelValues(source).Set(float64(s.Objects))
	}
}

// TakeUp notes how far what was there before was taken up.
func (m *Metrics) TakeUp(source string, p gantry.TakeUp) {
	if m != nil {
		busy := 0.0
		if p.Backlog {
			busy = 1
		}
		m.sources.backlog.WithLabelValues(source).Set(busy)
		m.sources.passed.WithLabelValues(source).Set(float64(p.Passed))
	}
}

// SourceFailed notes that a channel failed, or the reading of an object.
func (m *Metrics) SourceFailed(source string, code gantry.Code) {
	if m != nil {
		m.sources.failures.WithLabelValues(source, string(code)).Inc()
	}
}

func seconds(t time.Time) float64 { return float64(t.UnixMilli()) / 1000 }
