package pipeline

import (
	"fmt"
	"regexp"

	"github.com/gantry-imaging/gantry/internal/gantry"
)

// laterFolder are the folders that a task's later deliveries and legs lie in, beside those of the stages.
var laterFolder = regexp.MustCompile(`^(r|leg)[0-9]+$`)

// checkStages holds the keys of stages against one another and against the processors.
func (d *decoder) checkStages(f *file) {
	processors := d.names("processor", "processors", sorted(f.Processors))
	processors.unsure = len(f.Stages) == 0 || d.misspelt("stages", ".call")
	seen := map[string]bool{}
	for i, s := range f.Stages {
		path := fmt.Sprintf("stages[%d]", i)
		d.checkName(join(path, "name"), s.Name)
		if laterFolder.MatchString(s.Name) {
			d.at(d.placeOf(join(path, "name")).value, "name: %s is what the folder of a later delivery or leg is called, beside those of the stages", short(s.Name))
		}
		if seen[s.Name] && s.Name != "" {
			d.at(d.placeOf(join(path, "name")).value, "name: another stage is named %s", short(s.Name))
		}
		seen[s.Name] = true
		d.checkStage(path, s)
		for j, name := range s.Call {
			at := fmt.Sprintf("%s.call[%d]", path, j)
			d.use(processors, name, at)
		}
		processors.unsure = processors.unsure || len(s.Call) == 0
	}
	d.unused(processors)
}

// checkStage looks for keys that do not go with the stage's mode and each.
func (d *decoder) checkStage(path string, s stage) {
	fanout, batch := s.Mode == string(gantry.Fanout), s.Each == string(gantry.EachBatch)
	_, hasMax := d.places[join(path, "max")]
	_, hasNeed := d.places[join(path, "need")]
	if len(s.Call) > 1 && !fanout && s.Mode != "" {
		d.at(d.placeOf(join(path, "call")).value, "call: a %s stage calls one processor, not %d", s.Mode, len(s.Call))
	}
	switch {
	case hasMax && !batch && s.Each != "":
		d.at(d.keyOf(join(path, "max")), "max: it goes with each: batch, not with each: %s", s.Each)
	case batch && !hasMax && !d.meant[join(path, "max")]:
		d.at(d.placeOf(join(path, "each")).value, "each: batch wants max, how many parts one call has at most")
	}
	switch {
	case hasNeed && !fanout && s.Mode != "":
		d.at(d.keyOf(join(path, "need")), "need: it goes with mode: fanout, not with mode: %s", s.Mode)
	case fanout && int(s.Need) > len(s.Call) && len(s.Call) > 0:
		d.at(d.placeOf(join(path, "need")).value, "need: %d of %d processors can never answer", s.Need, len(s.Call))
	}
}

// compileAll compiles every expression of a file and keeps the conditions by their paths.
func (d *decoder) compileAll(f *file) {
	d.compile("when", f.When, taskShape())
	for _, name := range sorted(f.Sources) {
		d.compileRule(join(join("sources", name), "when"), f.Sources[name].endpoint, f.Sources[name].When)
	}
	d.ranking = d.compileRanking(f.ordering)
	var steps []step
	for i, s := range f.Stages {
		steps = append(steps, step{s.Name, s.Call})
		path := fmt.Sprintf("stages[%d]", i)
		d.compile(join(path, "when"), s.When, stageShape(steps, false))
		d.compile(join(path, "keep_if"), s.KeepIf, stageShape(steps, true))
	}
	for i, r := range f.MoveIf {
		d.compile(fmt.Sprintf("move_if[%d].when", i), r.When, failureShape())
	}
}

func (d *decoder) compile(path string, e expression, env shape) {
	if e == "" {
		return
	}
	env.recorded = d.resolved
	c, mistakes := compile(string(e), env)
	n := d.placeOf(path).value
	for _, m := range mistakes {
		line, col := d.within(n, m.at)
		d.add(line, col, "%s: %s", last(path), m.text)
	}
	if c != nil {
		d.conditions[path] = c
	}
}
