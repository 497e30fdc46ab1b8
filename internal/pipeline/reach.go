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
	for _, known := range append([]string{x.takes.Prefix}, x.takes.Except...) {
		f.longest = max(f.longest, len(known))
	}
	for _, to := range x.moves {
		f.moved += len(to)
	}
	f.sources = append(f.sources, x)
}

// reach follows keys to the sources that take them, and from there to those that take them where such a source moves them: shorter
// ways first, and none to keys that others on a shorter one are more of. Where keys get longer than each source could have made them
// once, one of them goes on without end, which rounds finds. It ends early with a way that is enough,
// and gives false if there are too many.
func (f *flow) reach(from way, enough func(way) bool) (all []way, ok bool) {
	most := len(from.keys.Prefix) + f.longest + f.moved
	seen := map[string][]gantry.Keys{}
	for open := []way{from}; len(open) > 0; open = open[1:] {
		for i := range f.sources {
			x := &f.sources[i]
			keys, some := open[0].keys.In(x.takes)
			if !some || keys.Exceed(most, f.longest) {
				continue
			}
			name := fmt.Sprint(i, " ", keys.Beginning())
			if slices.ContainsFunc(seen[name], func(k gantry.Keys) bool { return k.Hold(keys) }) {
				continue
			}
			if len(all) == maxWays {
				return all, false
			}
			seen[name] = append(seen[name], keys)
			all = append(all, way{i, keys, open[0].text + " → " + x.name, open[0].through})
			if enough(all[len(all)-1]) {
				return all, true
			}
			for _, to := range x.moves {
				open = append(open, way{i, keys.Moved(x.takes.Prefix, to), open[0].text + " → " + x.mover, append(slices.Clip(open[0].through), i)})
			}
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
	ways, ok := f.reach(way{keys: config.Lays().Of(f.pipelines[from].Name), text: "sink " + short(sink.Name)}, func(way) bool { return false })
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
			if told[i] {
				continue
			}
			round := func(w way) bool { return w.to == i && w.keys.Endless(x.takes) }
			ways, ok := f.reach(way{keys: x.takes.Moved(x.takes.Prefix, to), text: x.mover, through: []int{i}}, round)
			at := x.at
			switch {
			case !ok:
				at.Text = fmt.Sprintf("inputs may be moved on in more than %d ways: nobody can tell whether they come back: %s", maxWays, x.mover)
				return append(problems, at)
			case len(ways) == 0 || !round(ways[len(ways)-1]):
				continue
			default:
				w := ways[len(ways)-1]
				for _, k := range w.through {
					told[k] = true
				}
				at.Text = "inputs would be moved without end: " + w.text
			}
			problems = append(problems, at)
		}
	}
	return problems
}
