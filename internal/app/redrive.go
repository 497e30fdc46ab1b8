package app

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/gantry-imaging/gantry/internal/driver"
	"github.com/gantry-imaging/gantry/internal/gantry"
	"github.com/gantry-imaging/gantry/internal/postgres"
)

// The results of a redrive's Verdict.
const (
	ResultRedriven = "redriven" // the task goes on from the first stage that is called again
	ResultPlanned  = "planned"  // it would; nothing was changed
)

// PartsSelection says which parts a redrive selects by how they ended.
type PartsSelection string

// The selections. PartsSkipped are those that a stage's when left out: they are called whatever it says now.
const (
	PartsAll     PartsSelection = "all"
	PartsFailed  PartsSelection = "failed"
	PartsSkipped PartsSelection = "skipped"
)

// statuses gives the statuses of the parts that are selected.
func (p PartsSelection) statuses() []gantry.PartStatus {
	switch p {
	case PartsFailed:
		return []gantry.PartStatus{gantry.PartFailed}
	case PartsSkipped:
		return []gantry.PartStatus{gantry.PartSkipped}
	}
	return []gantry.PartStatus{gantry.PartPlanned, gantry.PartOut, gantry.PartOK, gantry.PartFailed}
}

// Selection says what of a task is called again. Empty fields select all.
type Selection struct {
	Stage     string
	Processor string
	Parts     PartsSelection
	Dry       bool // only say what would be
}

// Redriven is what a redrive calls again.
type Redriven struct {
	Generation int            `json:"generation"` // of the parts
	Calls      []RedriveCalls `json:"calls"`
}

// RedriveCalls is how many parts of one processor are called again at least.
type RedriveCalls struct {
	Stage     string `json:"stage"`
	Processor string `json:"processor"`
	Parts     int    `json:"parts"`
}

// Redrive calls what is selected of a task that has ended again, under the pipeline version that it began with and
// the next generation, and then what comes out otherwise by that. A task that gave anything to a sink delivers
// under another prefix. The error is one of the database.
func (d *Database) Redrive(ctx context.Context, id, by string, what Selection, drivers *driver.Register) (Verdict, error) {
	t, reason, err := d.find(ctx, id)
	if err != nil || reason != "" {
		return refusal(id, "", reason), err
	}
	return d.Redriving(by, what, drivers)(ctx, t)
}

// Redriving is Redrive for a task that was found.
func (d *Database) Redriving(by string, what Selection, drivers *driver.Register) Act {
	v := d.versions(drivers)
	return func(ctx context.Context, t postgres.TaskRow) (Verdict, error) { return d.redrive(ctx, t, by, what, v) }
}

func (d *Database) redrive(ctx context.Context, t postgres.TaskRow, by string, what Selection, of *versions) (Verdict, error) {
	s, _ := gantry.ParseState(t.State)
	a, err := d.Ancestry(ctx, gantry.TaskID(t.Key))
	switch {
	case err != nil:
		return Verdict{}, err
	case !s.Final():
		return refusal(t.ID, t.State, "it has not ended"), nil
	case a.Role == gantry.Shard:
		return refusal(t.ID, t.State, "it is a range of another task, which can be redriven: "+a.Parent), nil
	case a.Run:
		return refusal(t.ID, t.State, "it belonged to gantry run, which is over: run the input again"), nil
	}
	to, err := s.Next(gantry.Redrive)
	if err != nil {
		return Verdict{}, gantry.Errorf(gantry.Illegal, "", "redrive task: %w", err)
	}
	p, err := of.get(ctx, a.Pipeline)
	if err != nil {
		return Verdict{}, err
	}
	calls, reason := what.calls(p)
	if reason != "" {
		return refusal(t.ID, t.State, reason), nil
	}
	within := p.Timeouts
	got, err := d.Store.Redrive(ctx, postgres.Redrive{Task: gantry.TaskID(t.Key), Top: a.Top, Calls: calls, Statuses: what.Parts.statuses(), Within: within.Inferring,
		Waiting: 2*within.Inferring + within.Responding, Priority: p.Priority, By: by, Dry: what.Dry})
	switch {
	case err != nil:
		return Verdict{}, err
	case got.Refused != "":
		return refusal(t.ID, t.State, got.Refused), nil
	}
	v := Verdict{Task: t.ID, Result: ResultRedriven, State: to.String(), Redrive: &Redriven{Generation: int(got.Generation)}}
	if what.Dry {
		v.Result, v.State = ResultPlanned, t.State
	}
	for _, c := range got.Calls {
		st := p.Stages[c.Stage]
		v.Redrive.Calls = append(v.Redrive.Calls, RedriveCalls{Stage: st.Name, Processor: st.Call[c.Processor], Parts: c.Parts})
	}
	return v, nil
}

// calls lists the processors of stages that are selected; reason says why there is none.
func (s Selection) calls(p *gantry.Pipeline) (out []postgres.RedriveCall, reason string) {
	var stages, processors []string
	for i, st := range p.Stages {
		stages = append(stages, st.Name)
		if s.Stage != "" && s.Stage != st.Name {
			continue
		}
		for c, name := range st.Call {
			if processors = append(processors, name); s.Processor == "" || s.Processor == name {
				out = append(out, postgres.RedriveCall{Stage: int16(i), Processor: int16(c)})
			}
		}
	}
	switch {
	case len(out) > 0:
		return out, ""
	case !slices.Contains(stages, s.Stage) && s.Stage != "":
		return nil, fmt.Sprintf("its pipeline version has no stage %q: it has %s", s.Stage, strings.Join(stages, ", "))
	}
	slices.Sort(processors)
	return nil, fmt.Sprintf("no such stage calls %q: there are %s", s.Processor, strings.Join(slices.Compact(processors), ", "))
}
