package pipeline

import (
	"fmt"

	"go.yaml.in/yaml/v4"

	"github.com/gantry-imaging/gantry/internal/gantry"
)

// strayMoves finds rules of move_if that lead to pipelines which are not among those that there are.
func strayMoves(all []*gantry.Pipeline, places []spots) (problems Problems) {
	var names []string
	known := map[string]bool{}
	for _, p := range all {
		names = append(names, p.Name)
		known[p.Name] = true
	}
	for i, p := range all {
		for j, r := range p.MoveIf {
			if !known[r.To] {
				at := places[i].moves[j]
				at.Text = fmt.Sprintf("to: no pipeline here is named %s%s", short(r.To), didYouMean(nearest(r.To, names)))
				problems = append(problems, at)
			}
		}
	}
	return problems
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
func (d *decoder) spot(path string) Problem { return d.spotAt(d.placeOf(path).value) }

// keySpot is where a key stands.
func (d *decoder) keySpot(path string) Problem { return d.spotAt(d.keyOf(path)) }

func (d *decoder) spotAt(n *yaml.Node) Problem {
	p := Problem{File: d.file, Line: n.Line, Col: n.Column}
	p.Source, p.Caret = d.excerpt(n.Line, n.Column)
	return p
}
