package app

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/gantry-imaging/gantry/internal/gantry"
)

// TestOutcome is what came of one test of a pipeline file.
type TestOutcome struct {
	Pipeline    string         `json:"pipeline"`
	Name        string         `json:"name"`
	OK          bool           `json:"ok"`
	Seconds     float64        `json:"seconds"`
	Calls       map[string]int `json:"calls"`   // by processor; every try that left counts
	Outputs     int            `json:"outputs"` // files delivered, manifests apart
	Tasks       []Outcome      `json:"tasks"`   // by input
	Differences []Difference   `json:"differences"`
}

// Difference is something that is not as the test expects.
type Difference struct {
	What string `json:"what"`
	Want string `json:"want"`
	Got  string `json:"got"`
}

// RunTest takes the inputs of a test through its pipeline, with mocks in place of the processors that the
// test names, and holds what came of them to what it expects. The others are called. The tasks are of a
// pipeline named test:NAME, so that no record of the pipeline itself speaks of them. An error is that the
// test could not be run; what the test itself does wrong is a difference.
func (a *App) RunTest(ctx context.Context, p *gantry.Pipeline, t gantry.PipelineTest) (TestOutcome, error) {
	began := time.Now()
	out := TestOutcome{Pipeline: p.Name, Name: t.Name, Calls: map[string]int{}, Tasks: []Outcome{}, Differences: []Difference{}}
	mocks := map[string]gantry.Processor{}
	for _, name := range slices.Sorted(maps.Keys(t.Mock)) {
		m, err := newMock(t.Mock[name])
		if err != nil {
			out.differ("mock of "+name, "an answer", reasonOf(err))
		}
		mocks[name] = m
	}
	for i, input := range t.Input {
		if info, err := os.Stat(input); err != nil {
			out.differ(fmt.Sprintf("input %d", i+1), "a file", reasonOf(err))
		} else if !info.Mode().IsRegular() {
			out.differ(fmt.Sprintf("input %d", i+1), "a file", "no regular file")
		}
	}
	if len(out.Differences) > 0 {
		return out, nil
	}
	err := a.runMocked(ctx, p, t, mocks, &out)
	out.compare(t)
	out.OK = err == nil && len(out.Differences) == 0
	out.Seconds = time.Since(began).Seconds()
	return out, err
}

// runMocked runs the test and notes what came of it.
func (a *App) runMocked(ctx context.Context, p *gantry.Pipeline, t gantry.PipelineTest, mocks map[string]gantry.Processor, out *TestOutcome) error {
	folder, err := os.MkdirTemp("", "gantry-test-")
	if err != nil {
		return fmt.Errorf("make folder for results: %w", err)
	}
	defer os.RemoveAll(folder)
	var mu sync.Mutex
	out.Tasks, err = a.RunOnce(ctx, RunOptions{Pipeline: tested(p, mocks), Inputs: t.Input, Out: folder, Instead: mocks, Called: func(name string) {
		mu.Lock()
		out.Calls[name]++
		mu.Unlock()
	}})
	for _, o := range out.Tasks {
		for _, file := range o.Outputs {
			if path.Base(file) != "_manifest.json" {
				out.Outputs++
			}
		}
	}
	return err
}

// tested is a pipeline under its name in tests. Without a service that wants to be left alone, nothing waits
// between tries.
func tested(p *gantry.Pipeline, mocks map[string]gantry.Processor) *gantry.Pipeline {
	x := *p
	x.Name = "test:" + p.Name
	if !slices.ContainsFunc(p.Processors, func(y gantry.Processing) bool { return mocks[y.Name] == nil }) {
		x.Retry.Initial, x.Retry.Max = time.Millisecond, time.Millisecond
	}
	return &x
}

// compare notes where what came is not what the test expects.
func (o *TestOutcome) compare(t gantry.PipelineTest) {
	for i, task := range o.Tasks {
		code, state, failure := "", task.State, "none"
		if e := task.Error; e != nil {
			code, failure = e.Code, e.Code+": "+e.Message
			state += ", " + failure
		}
		if task.State != t.Expect.State.String() {
			o.differ(ofInput("state", i, t), t.Expect.State.String(), state)
		}
		if want := string(t.Expect.Error); want != "" && want != code {
			o.differ(ofInput("error", i, t), want, failure)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(t.Expect.Calls)) {
		if want := t.Expect.Calls[name]; o.Calls[name] != want {
			o.differ("calls of "+name, strconv.Itoa(want), strconv.Itoa(o.Calls[name]))
		}
	}
	if want := t.Expect.Outputs; want >= 0 && want != o.Outputs {
		o.differ("outputs", strconv.Itoa(want), strconv.Itoa(o.Outputs))
	}
}

func (o *TestOutcome) differ(what, want, got string) {
	o.Differences = append(o.Differences, Difference{what, want, got})
}

// ofInput says of which input something is, if there are several.
func ofInput(what string, i int, t gantry.PipelineTest) string {
	if len(t.Input) < 2 {
		return what
	}
	return fmt.Sprintf("%s of input %d", what, i+1)
}

// reasonOf is an error without the path, which the test names anyway.
func reasonOf(err error) string {
	if e, ok := errors.AsType[*fs.PathError](err); ok {
		return e.Err.Error()
	}
	return err.Error()
}
