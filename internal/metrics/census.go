package metrics

import (
	"context"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// TaskCount is how many tasks of a pipeline that have not ended are in a state and a phase.
type TaskCount struct {
	Pipeline, State, Phase string
	Tasks                  int64
}

// Census is what a scrape asks for. Each function may be nil.
type Census struct {
	Tasks   func(context.Context) ([]TaskCount, error) // of all processes
	Waiting func() (units, starts int)                 // calls of this process that wait for a unit, or for a start, of their target's limit
	Out     func(context.Context) ([]PartCount, error) // of all processes
	Free    func() (bytes int64, err error)            // of the blob store's disk
	Now     func() time.Time
}

const (
	tasksEvery  = 10 * time.Second // however often somebody scrapes
	tasksWithin = 5 * time.Second
)

var (
	tasksDesc   = prometheus.NewDesc("gantry_tasks", "Tasks that have not ended, of all processes. Phase: ready waits to be claimed, owned is worked on, delayed waits for a time, waiting for its children, paused for an operator.", []string{"pipeline", "state", "phase"}, nil)
	waitingDesc = prometheus.NewDesc("gantry_calls_waiting", "Calls of this process that are on record and wait for a unit or a start of their target's limit.", []string{"for"}, nil)
	outDesc     = prometheus.NewDesc("gantry_parts_out", "Parts whose answer a service owes, of all processes. Each holds a unit of its target's limit.", []string{"target"}, nil)
	freeDesc    = prometheus.NewDesc("gantry_blob_free_bytes", "Free bytes where the blob store is.", nil, nil)
	failedDesc  = prometheus.NewDesc("gantry_census_errors_total", "Scrapes for which the tasks could not be counted.", nil, nil)
)

// Take makes scrapes ask c.
func (m *Metrics) Take(c Census) {
	if m != nil {
		m.registry.MustRegister(&census{Census: c})
	}
}

type census struct {
	Census
	mu     sync.Mutex
	at     time.Time
	tasks  []TaskCount
	out    []PartCount
	failed int
}

// PartCount is how many parts are out at a target.
type PartCount struct {
	Target string
	Parts  int64
}

// Describe is part of prometheus.Collector.
func (c *census) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{tasksDesc, waitingDesc, outDesc, freeDesc, failedDesc} {
		ch <- d
	}
}

// Collect is part of prometheus.Collector.
func (c *census) Collect(ch chan<- prometheus.Metric) {
	if c.Tasks != nil {
		tasks, failed := c.count()
		for _, t := range tasks {
			ch <- prometheus.MustNewConstMetric(tasksDesc, prometheus.GaugeValue, float64(t.Tasks), t.Pipeline, t.State, t.Phase)
		}
		for _, o := range c.parts() {
			ch <- prometheus.MustNewConstMetric(outDesc, prometheus.GaugeValue, float64(o.Parts), o.Target)
		}
		ch <- prometheus.MustNewConstMetric(failedDesc, prometheus.CounterValue, float64(failed))
	}
	if c.Waiting != nil {
		units, starts := c.Waiting()
		ch <- prometheus.MustNewConstMetric(waitingDesc, prometheus.GaugeValue, float64(units), "unit")
		ch <- prometheus.MustNewConstMetric(waitingDesc, prometheus.GaugeValue, float64(starts), "start")
	}
	if c.Free != nil {
		if n, err := c.Free(); err == nil {
			ch <- prometheus.MustNewConstMetric(freeDesc, prometheus.GaugeValue, float64(n))
		}
	}
}

// count asks for the tasks, or gives what it knows if that is fresh; nothing if it cannot be known.
func (c *census) count() ([]TaskCount, int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.at.IsZero() && c.Now().Sub(c.at) < tasksEvery {
		return c.tasks, c.failed
	}
	ctx, cancel := context.WithTimeout(context.Background(), tasksWithin)
	defer cancel()
	tasks, err := c.Tasks(ctx)
	var out []PartCount
	if err == nil && c.Out != nil {
		out, err = c.Out(ctx)
	}
	if err != nil {
		c.failed++
		c.out = nil
		return nil, c.failed
	}
	c.tasks, c.out, c.at = tasks, out, c.Now()
	return c.tasks, c.failed
}

// parts gives what was found out along with the tasks.
func (c *census) parts() []PartCount {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.out
}
