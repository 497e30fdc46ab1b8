package app

import (
	"context"

	"github.com/gantry-imaging/gantry/internal/api"
	"github.com/gantry-imaging/gantry/internal/driver"
	"github.com/gantry-imaging/gantry/internal/gantry"
	"github.com/gantry-imaging/gantry/internal/postgres"
)

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
	WhyConfirm       = "confirmation"     // a sink's server is to say whether it keeps what it got
	WhyChildren      = "children"         // it waits for what it was divided into
	WhyChildOf       = "part_of"          // it is a part of another task
	WhyStateTime     = "state_time"       // when the time of its state is up
	WhyStateTimeOver = "state_time_over"  // it is up: the task fails when it is taken up
	WhyIncomplete    = "incomplete"       // its collection was closed before all came that were expected
)

// Why says what a task waits for, by the scheduler's own rows. An id that means no task has the one cause
// WhyUnknown. The error is one of the database.
func (d *Database) Why(ctx context.Context, id string, drivers *driver.Register) (api.Why, error) {
	t, reason, err := d.find(ctx, id)
	if err != nil {
		return api.Why{}, err
	}
	if reason != "" {
		return api.Why{Task: id, Causes: []api.Cause{{Code: WhyUnknown, Text: sentence(reason)}}}, nil
	}
	return d.explain(ctx, t, drivers)
}

// Why says what a task waits for. One that nobody knows is NotFound with code no_task.
func (a *App) Why(ctx context.Context, id string) (api.Why, error) {
	t, err := a.Store.TaskByID(ctx, id)
	if err != nil {
		return api.Why{}, err
	}
	return (&Database{Store: a.Store}).explain(ctx, t, a.Drivers)
}

// explain says what a task that was found waits for.
func (d *Database) explain(ctx context.Context, t postgres.TaskRow, drivers *driver.Register) (api.Why, error) {
	p, err := d.pipelineOf(ctx, t, drivers)
	if err != nil {
		return api.Why{}, err
	}
	f, err := d.Facts(ctx, gantry.TaskID(t.Key), limitsOf(t.Pipeline, p))
	if err != nil {
		return api.Why{}, err
	}
	if c, ok, err := d.CollectionOf(ctx, t.Key); err != nil {
		return api.Why{}, err
	} else if ok {
		f.Collection = &c
	}
	w := api.Why{Task: t.ID, State: f.State.String(), Causes: causes(f, p)}
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
