package pipeline

import (
	"fmt"

	"github.com/gantry-imaging/gantry/internal/gantry"
)

// CheckAll is LoadAll for files that are all there is: where there are several, a rule of move_if that names a
// pipeline which is not among them is a mistake too.
func CheckAll(paths []string, k Kinds, env func(string) (string, bool)) ([]*gantry.Pipeline, error) {
	all, places, err := loadAll(paths, k, env)
	if err != nil || len(all) < 2 {
		return all, err
	}
	var names []string
	known := map[string]bool{}
	for _, p := range all {
		names = append(names, p.Name)
		known[p.Name] = true
	}
	var problems Problems
	for i, p := range all {
		for j, r := range p.MoveIf {
			if !known[r.To] {
				at := places[i].moves[j]
				at.Text = fmt.Sprintf("to: no pipeline here is named %s%s", short(r.To), didYouMean(nearest(r.To, names)))
				problems = append(problems, at)
			}
		}
	}
	if len(problems) > 0 {
		return nil, problems
	}
	return all, nil
}

// checkMoves looks at where the rules of move_if lead. Pipelines may move to one another: legs bounds how often.
func (d *decoder) checkMoves(f *file) {
	for i, r := range f.MoveIf {
		path := fmt.Sprintf("move_if[%d].to", i)
		switch {
		case r.To == "":
		case !isName(r.To):
			d.at(d.placeOf(path).value, "to: %s is no name of a pipeline", short(r.To))
		case r.To == f.Name:
			d.at(d.placeOf(path).value, "to: a task cannot move to the pipeline that it is in; retry says how often it is tried there")
		}
	}
}

// spot is where a value stands in a file without mistakes.
func (d *decoder) spot(path string) Problem {
	n := d.placeOf(path).value
	p := Problem{File: d.file, Line: n.Line, Col: n.Column}
	p.Source, p.Caret = d.excerpt(n.Line, n.Column)
	return p
}
