package pipeline

import (
	"fmt"
	"slices"

	"github.com/gantry-imaging/gantry/internal/gantry"
)

// maxWays is how many ways of what was laid down are followed.
const maxWays = 10_000

// looking is a source, shared or a pipeline's own.
type looking struct {
	name  string // for people, as the next one
	mover string // what it is on a way on which it moves what it took
	at    Problem
	feeds []int // pipelines
	takes gantry.Keys
	moves []string
}

// way is one that keys may go from where they were laid down to a source.
type way struct {
	to      int // of the flow's sources
	keys    gantry.Keys
	text    string
	through []int // the sources that moved them
}

// look adds a source, if it can tell what it takes.
func (f *flow) look(e gantry.Endpoint, whose string, at Problem, feeds []int) {
	config, ok := e.Config.(gantry.Looking)
	if !ok {
		return
	}
	x := looking{name: "source " + short(e.Name), at: at, feeds: feeds, takes: config.Takes(), moves: config.Moves()}
	x.mover = x.name + " moves it"
	if whose != "" {
		x.mover = whose + "'s " + x.mover
	}
	if len(x.moves) > 0 {
		f.movers++
	}
	f.sources = append(f.sources, x)
}

// reach follows keys to the sources that take them, and from there to those that take them where such a source moves them: shorter
// ways first, and none on which a source must have moved them twice. It gives false if there are too many.
func (f *flow) reach(from way) (all []way, ok bool) {
	seen := map[string]bool{}
	for open := []way{from}; len(open) > 0 && len(open[0].through) <= f.movers; open = open[1:] {
		for i := range f.sources {
			x := &f.sources[i]
			keys, some := open[0].keys.In(x.takes)
			if name := fmt.Sprint(i, " ", keys); some && !seen[name] {
				seen[name] = true
				all = append(all, way{i, keys, open[0].text + " → " + x.name, open[0].through})
				for _, to := range x.moves {
					open = append(open, way{i, keys.Moved(x.takes.Prefix, to), open[0].text + " → " + x.mover, append(slices.Clip(open[0].through), i)})
				}
			}
		}
		if len(all) > maxWays {
			return nil, false
		}
	}
	return all, true
}

// followSink finds the pipelines that a sink's results come to.
func (f *flow) followSink(from, n int, sink gantry.Endpoint, at Problem) {
	config, ok := sink.Config.(gantry.Laying)
	if !ok {
		return
	}
	ways, ok := f.reach(way{keys: config.Lays(), text: "sink " + short(sink.Name)})
	if !ok {
		at.Text = fmt.Sprintf("sources may move results of sink %s in more than %d ways: nobody can tell whether they come back", short(sink.Name), maxWays)
		f.problems = append(f.problems, at)
	}
	told := map[int]bool{}
	for _, w := range ways {
		if !told[w.to] {
			told[w.to] = true
			for _, to := range f.sources[w.to].feeds {
				f.add(from, passage{to, w.text, n})
			}
		}
	}
}

// rounds reports sources that move objects on to one another without end, each round once.
func (f *flow) rounds() (problems Problems) {
	told := map[int]bool{}
	for i, x := range f.sources {
		for _, to := range x.moves {
			ways, _ := f.reach(way{keys: x.takes.Moved(x.takes.Prefix, to), text: x.mover, through: []int{i}}) // of too many these are as good as any
			for _, w := range ways {
				if w.to == i && w.keys.Grows(x.takes) && !told[i] {
					for _, k := range w.through {
						told[k] = true
					}
					at := x.at
					at.Text = "inputs would be moved without end: " + w.text
					problems = append(problems, at)
				}
			}
		}
	}
	return problems
}
