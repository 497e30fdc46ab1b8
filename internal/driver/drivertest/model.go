package drivertest

import (
	"context"
	"slices"
	"sync"
	"time"

	"github.com/gantry-imaging/gantry/internal/gantry"
)

// Fault is a way in which a service goes wrong. What it is on the wire is the protocol's matter.
type Fault string

// The faults, and what a driver makes of each.
const (
	Fine      Fault = ""
	Busy      Fault = "busy"      // "not now", with Answer.RetryAfter: Unavailable
	Broken    Fault = "broken"    // an error inside the service: Transient
	Refusing  Fault = "refusing"  // this input never: Permanent
	Denying   Fault = "denying"   // not these credentials: Denied
	Missing   Fault = "missing"   // no such route or model: NotFound
	Babbling  Fault = "babbling"  // an answer of a kind that is not taken: BadResponse
	Resetting Fault = "resetting" // the connection breaks before the answer: Transient
	Cutting   Fault = "cutting"   // the connection breaks within the answer: Transient
	Silent    Fault = "silent"    // no answer until the caller goes: Timeout, or the caller's cancellation
)

// Answer is what the fake service of a protocol is to say. Media and Body are those of a result,
// or what an error is decorated with.
type Answer struct {
	Fault      Fault
	RetryAfter time.Duration
	Media      string
	Body       []byte
}

// Medium is one item as it came over the wire.
type Medium struct {
	Media string
	Body  []byte
}

// Posted is a request that came whole.
type Posted struct {
	Key   string
	Items []Medium
}

// Model is what stands behind the fake service of a protocol: the service hands it each whole
// request and says what it answers.
type Model struct {
	mu     sync.Mutex
	answer func(Posted) Answer
	posted []Posted
	came   chan struct{} // closed at the first request
}

func newModel() *Model {
	return &Model{came: make(chan struct{}), answer: func(p Posted) Answer {
		return Answer{Media: gantry.MediaPNG, Body: append([]byte("answer to "), p.Items[0].Body...)}
	}}
}

// Ask takes a request and gives the answer.
func (m *Model) Ask(p Posted) Answer {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.posted = append(m.posted, p); len(m.posted) == 1 {
		close(m.came)
	}
	return m.answer(p)
}

func (m *Model) set(a Answer) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.answer = func(Posted) Answer { return a }
}

func (m *Model) requests() []Posted {
	m.mu.Lock()
	defer m.mu.Unlock()
	return slices.Clone(m.posted)
}

// wait waits for the first request.
func (m *Model) wait(ctx context.Context) error {
	select {
	case <-m.came:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}
