package app

import (
	"context"
	"time"

	"github.com/gantry-imaging/gantry/internal/driver"
	"github.com/gantry-imaging/gantry/internal/gantry"
	"github.com/gantry-imaging/gantry/internal/postgres"
)

// Why says what a task waits for, or how it ended; the first cause is the one to look at.
type Why struct {
	Task   string  `json:"task"`
	State  string  `json:"state,omitempty"`
	Phase  string  `json:"phase,omitempty"` // empty once it has ended
	Causes []Cause `json:"causes"`
}

// Cause is one thing that a task waits for. docs/why.md lists the codes.
type Cause struct {
	Code    string     `json:"code"`
	Text    string     `json:"text"`            // a sentence, or two
	Until   *time.Time `json:"until,omitempty"` // by the database's clock
	Limit   string     `json:"limit,omitempty"` // the key that gantry limits lists
	Holders []Holder   `json:"holders,omitempty"`
}

// Holder is a process that holds something.
type Holder struct {
	Process   int64      `json:"process"`
	Host      string     `json:"host,omitempty"` // empty if it is gone
	Units     int        `json:"units,omitempty"`
	HeldUntil *time.Time `json:"held_until,omitempty"` // of a process that is gone: its calls may run until then
}

// The codes of causes, the most important first.
const (
	WhyUnknown       = "unknown_task"     // no task, or more than one, has this id
	WhyDone          = "done"             // it ended well
	WhyFailed        = "failed"           // it ended with an error
	WhyCancelled     = "cancelled"        // it was ended
	WhyAsked         = "asked"            // an operator's command is not carried out yet
	WhyPaused        = "paused"           // an operator paused the task
	WhyNoProcess     = "no_process"       // nobody is there to do anything
	WhyOwnerGone     = "owner_gone"       // the process that held it died
	WhyRunnerGone    = "runner_gone"      // gantry run is gone, and nobody else may take it
	WhyPipelineStop  = "pipeline_paused"  // no task of its pipeline may begin
	WhyOffPeak       = "off_peak"         // its window is not open
	WhyInProgress    = "in_progress_full" // the pipeline's limits.in_progress is used up
	WhyAhead         = "ahead"            // other tasks of its lane go first
	WhyBusy          = "processes_busy"   // every process has as many tasks as it takes
	WhyNext          = "next"             // nothing holds it
	WhyAlone         = "alone"            // it is to run alone, since processes died of it
	WhyWorking       = "working"          // a process works on it
	WhyStateFull     = "state_full"       // the pipeline's limit of the state is used up
	WhyTargetPaused  = "target_paused"    // an operator paused the target, or set its units to 0
	WhyTargetRests   = "target_rests"     // the target asked to be left alone
	WhyBreaker       = "breaker_open"     // the target failed too often in a row
	WhyProbe         = "breaker_probe"    // one call tries the target again
	WhyUnits         = "units_in_use"     // as many calls are under way as the target allows
	WhyRate          = "rate"             // no start is free before a time
	WhyCalls         = "calls"            // calls have no answer yet
	WhyPartsLater    = "parts_later"      // parts are tried again at a time
	WhyRetry         = "retry"            // the state is tried again at a time
	WhyParked        = "parked"           // there is nothing to do before a time
	WhyAnswers       = "answers"          // a service answers later
	WhyChildren      = "children"         // it waits for what it was divided into
	WhyChildOf       = "part_of"          // it is a part of another task
	WhyStateTime     = "state_time"       // when the time of its state is up
	WhyStateTimeOver = "state_time_over"  // it is up: the task fails when it is taken up
)

// Why says what a task waits for, by the scheduler's own rows. An id that means no task has the one cause
// WhyUnknown. The error is one of the database.
func (d *Database) Why(ctx context.Context, id string, drivers *driver.Register) (Why, error) {
	t, reason, err := d.find(ctx, id)
	if err != nil {
		return Why{}, err
	}
	if reason != "" {
		return Why{Task: id, Causes: []Cause{{Code: WhyUnknown, Text: sentence(reason)}}}, nil
	}
	p, err := d.pipelineOf(ctx, t, drivers)
	if err != nil {
		return Why{}, err
	}
	f, err := d.Facts(ctx, gantry.TaskID(t.Key), limitsOf(t.Pipeline, p))
	if err != nil {
		return Why{}, err
	}
	w := Why{Task: t.ID, State: f.State.String(), Causes: causes(f, p)}
	if !f.State.Final() {
		w.Phase = f.Phase.String()
	}
	return w, nil
}

// pipelineOf reads the version of a task's pipeline; nil if this program cannot read it, since it has other drivers.
func (d *Database) pipelineOf(ctx context.Context, t postgres.TaskRow, drivers *driver.Register) (*gantry.Pipeline, error) {
	id, err := d.VersionOf(ctx, gantry.TaskID(t.Key))
	if err != nil {
		return nil, err
	}
	p, err := d.versions(drivers).get(ctx, id)
	if gantry.CodeOf(err) == "bad_pipeline" {
		return nil, nil
	}
	return p, err
}

// limitsOf lists the keys of all limits that may hold a task of a pipeline up.
func limitsOf(name string, p *gantry.Pipeline) (keys []string) {
	for s := gantry.Extracting; s <= gantry.Responding; s++ {
		keys = append(keys, stateKey(name, s))
	}
	if p == nil {
		return keys
	}
	for _, x := range p.Processors {
		keys = append(keys, targetOf(x.Config).Key())
	}
	for _, x := range p.Sinks {
		keys = append(keys, targetOf(x.Config).Key())
	}
	return keys
}

// stateKey is the key of the limit of a pipeline's state.
func stateKey(name string, s gantry.State) string { return "pipeline:" + name + ":" + s.String() }
