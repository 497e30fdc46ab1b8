package pipeline

import (
	"fmt"
	"maps"
	"slices"

	"github.com/gantry-imaging/gantry/internal/gantry"
	"go.yaml.in/yaml/v4"
)

// checkStages holds the keys of stages against one another and against the processors.
func (d *decoder) checkStages(f *file) {
	processors := d.names("processor", "processors", sorted(f.Processors))
	processors.unsure = len(f.Stages) == 0 || d.misspelt("stages", ".call")
	seen := map[string]bool{}
	for i, s := range f.Stages {
		path := fmt.Sprintf("stages[%d]", i)
		d.checkName(join(path, "name"), s.Name)
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

// checkExtract refuses settings of pictures that are not made.
func (d *decoder) checkExtract(f *file) {
	x := f.Extract
	if _, ok := d.places["extract.sample"]; ok && x.Video == "" && !d.hasMistake("extract") {
		d.at(d.keyOf("extract.sample"), "sample: it means nothing without video")
	}
	if _, ok := d.places["extract.window"]; ok && x.Frames != "png" && x.Frames != "jpeg" && !d.hasMistake("extract") {
		d.at(d.keyOf("extract.window"), "window: it means nothing without frames: png or jpeg")
	}
}

// hasMistake tells whether a key of a section was not understood.
func (d *decoder) hasMistake(section string) bool {
	p := d.placeOf(section).value
	return slices.ContainsFunc(d.list, func(x Problem) bool {
		return slices.ContainsFunc(p.Content, func(n *yaml.Node) bool { return n.Line == x.Line && n.Column == x.Col })
	})
}

// checkTests refuses processors that there are not, and two tests of one name.
func (d *decoder) checkTests(f *file) {
	processors := d.names("processor", "processors", sorted(f.Processors))
	seen := map[string]bool{}
	for i, t := range f.Tests {
		path := fmt.Sprintf("tests[%d]", i)
		if seen[t.Name] && t.Name != "" {
			d.at(d.placeOf(join(path, "name")).value, "name: another test is named %s", short(t.Name))
		}
		seen[t.Name] = true
		d.useKeys(processors, join(path, "mock"), slices.Sorted(maps.Keys(t.Mock)))
		d.useKeys(processors, join(path, "expect.calls"), slices.Sorted(maps.Keys(t.Expect.Calls)))
	}
}

// useKeys holds the keys of a mapping to names.
func (d *decoder) useKeys(n *names, path string, keys []string) {
	for _, name := range keys {
		if !n.open && !slices.Contains(n.defined, name) {
			d.at(d.keyOf(join(path, name)), "%s: no %s %s%s", last(path), n.what, short(name), didYouMean(nearest(name, n.defined)))
		}
	}
}

// compileAll compiles every expression of a file and keeps the conditions by their paths.
func (d *decoder) compileAll(f *file) {
	d.conditions = map[string]*condition{}
	d.compile("when", f.When, taskShape())
	var steps []step
	for i, s := range f.Stages {
		steps = append(steps, step{s.Name, s.Call})
		path := fmt.Sprintf("stages[%d]", i)
		d.compile(join(path, "when"), s.When, stageShape(steps, false))
		d.compile(join(path, "keep_if"), s.KeepIf, stageShape(steps, true))
	}
}

func (d *decoder) compile(path string, e expression, env shape) {
	if e == "" {
		return
	}
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
