// Package metrics counts what one process does, for Prometheus, on a registry of its own. Labels are
// names from pipeline files and words of ours, never anything that was read from an input. Read
// metrics.go (what is observed), sources.go (of sources), then census.go (what is asked for when somebody
// scrapes).
package metrics

import (
	"net/http"
	"runtime"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/gantry-imaging/gantry/internal/gantry"
)

// Metrics are the metrics of one process. All methods may be called concurrently, and on nil, where they
// do nothing.
type Metrics struct {
	registry *prometheus.Registry
	calls    *prometheus.CounterVec
	latency  *prometheus.HistogramVec
	wait     *prometheus.HistogramVec
	bytes    *prometheus.CounterVec
	ended    *prometheus.CounterVec
	rows     prometheus.Histogram
	commits  prometheus.Histogram
	blobs    prometheus.Counter
	answers  *prometheus.CounterVec
	asked    *prometheus.CounterVec
	closed   *prometheus.CounterVec
	sources  sources
	arriving arriving
}

// Endpoint is where a call goes, by the names of the pipeline file.
type Endpoint struct {
	Pipeline string
	Name     string // of the source, processor or sink
}

var (
	endpointLabels = []string{"pipeline", "boundary", "endpoint"}
	callSeconds    = []float64{.001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30, 60, 300}
	commitSeconds  = []float64{.0005, .001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 5}
)

// New makes the metrics of a process that runs a version built from a revision.
func New(version, revision string) *Metrics {
	m := &Metrics{registry: prometheus.NewRegistry(),
		calls: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "gantry_calls_total", Help: "Calls that ended, by how they did; kind is that of the error."},
			append(endpointLabels, "outcome", "kind")),
		latency: prometheus.NewHistogramVec(prometheus.HistogramOpts{Name: "gantry_call_seconds", Help: "From the first byte sent to the last received, of calls that were sent.",
			Buckets: callSeconds}, endpointLabels),
		wait: prometheus.NewHistogramVec(prometheus.HistogramOpts{Name: "gantry_call_wait_seconds", Help: "From a call's record to its first byte: the commit and the limits.",
			Buckets: callSeconds}, endpointLabels),
		bytes: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "gantry_call_bytes_total", Help: "Bytes of bodies sent and received."},
			append(endpointLabels, "direction")),
		ended: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "gantry_tasks_ended_total", Help: "Tasks that this process brought to an end."},
			[]string{"pipeline", "state"}),
		rows: prometheus.NewHistogram(prometheus.HistogramOpts{Name: "gantry_commit_rows", Help: "Writes in one commit.",
			Buckets: prometheus.ExponentialBuckets(1, 2, 12)}),
		commits: prometheus.NewHistogram(prometheus.HistogramOpts{Name: "gantry_commit_seconds", Help: "How long a commit took.", Buckets: commitSeconds}),
		blobs:   prometheus.NewCounter(prometheus.CounterOpts{Name: "gantry_blob_bytes_total", Help: "Bytes that this process made durable in the blob store."}),
		answers: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "gantry_callbacks_total", Help: "Callbacks that this process took, by what became of them."},
			[]string{"verdict"}),
		asked: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "gantry_archive_questions_total", Help: "Questions that this process put to archives, by what came of them: counted, unknown, failed."},
			[]string{"pipeline", "outcome"}),
		closed: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "gantry_collections_closed_total", Help: "Collections that this process closed, by what closed them."},
			[]string{"pipeline", "reason"}),
	}
	m.sources, m.arriving = newSources(m.registry), newArriving(m.registry)
	info := prometheus.NewGauge(prometheus.GaugeOpts{Name: "gantry_build_info", Help: "1; the labels say what runs.",
		ConstLabels: prometheus.Labels{"version": version, "revision": revision, "go": runtime.Version()}})
	info.Set(1)
	m.registry.MustRegister(info, m.calls, m.latency, m.wait, m.bytes, m.ended, m.rows, m.commits, m.blobs, m.answers, m.asked, m.closed,
		collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	return m
}

// Handler answers a scrape.
func (m *Metrics) Handler() http.Handler {
	return promhttp.HandlerFor(m.registry, promhttp.HandlerOpts{MaxRequestsInFlight: 4, Timeout: 20 * time.Second})
}

// Call notes a call that has ended and is on record.
func (m *Metrics) Call(b gantry.Boundary, e Endpoint, o gantry.Outcome) {
	if m == nil {
		return
	}
	at := []string{e.Pipeline, b.String(), e.Name}
	kind := ""
	if o.Result != gantry.ResultOK {
		kind = o.Kind.String()
	}
	m.calls.WithLabelValues(append(at, o.Result.String(), kind)...).Inc()
	if o.Result == gantry.ResultNotSent {
		return
	}
	m.latency.WithLabelValues(at...).Observe(o.Took.Seconds())
	m.wait.WithLabelValues(at...).Observe(o.Sent.Seconds())
	m.bytes.WithLabelValues(append(at, "sent")...).Add(float64(o.ReqSize))
	m.bytes.WithLabelValues(append(at, "received")...).Add(float64(o.RespSize))
}

// Ended notes a task that reached a final state.
func (m *Metrics) Ended(pipeline string, s gantry.State) {
	if m != nil {
		m.ended.WithLabelValues(pipeline, s.String()).Inc()
	}
}

// Commit notes one commit of so many writes.
func (m *Metrics) Commit(rows int, took time.Duration) {
	if m != nil {
		m.rows.Observe(float64(rows))
		m.commits.Observe(took.Seconds())
	}
}

// Blob notes bytes that were made durable in the blob store.
func (m *Metrics) Blob(bytes int64) {
	if m != nil {
		m.blobs.Add(float64(bytes))
	}
}

// Callback notes a callback by what became of it.
func (m *Metrics) Callback(v gantry.Verdict) {
	if m != nil {
		m.answers.WithLabelValues(v.String()).Inc()
	}
}

// Asked notes a question to a pipeline's archive by what came of it: counted, unknown or failed.
func (m *Metrics) Asked(pipeline, outcome string) {
	if m != nil {
		m.asked.WithLabelValues(pipeline, outcome).Inc()
	}
}

// Closed notes a collection that was closed, by what closed it.
func (m *Metrics) Closed(pipeline string, reason gantry.Code) {
	if m != nil {
		m.closed.WithLabelValues(pipeline, string(reason)).Inc()
	}
}
