package pipeline

import (
	"fmt"
	"slices"
	"strings"

	"github.com/gantry-imaging/gantry/internal/gantry"
)

// flow is where results and tasks of pipelines go: what a sink lays down where a source looks becomes a task of
// another pipeline, and so does what a source moves to where another one looks. Rules are taken to hold: whether they ever do,
// nobody can tell.
type flow struct {
	pipelines []*gantry.Pipeline
	sources   []looking
	longest   int         // of what sources look at of the beginnings of keys
	moved     int         // characters of all that they put there
	next      [][]passage // by pipeline
	problems  Problems
}

// passage is one way from a pipeline to another.
type passage struct {
	to   int
	by   string // for people
	sink int    // of the pipeline that it leaves; -1: a task is moved
}

// newFlow finds every passage. places are those of the pipelines.
func newFlow(pipelines []*gantry.Pipeline, shared []Shared, places []spots) *flow {
	f := &flow{pipelines: pipelines, next: make([][]passage, len(pipelines))}
	index := map[string]int{}
	for i, p := range pipelines {
		index[p.Name] = i
	}
	for _, s := range shared {
		var feeds []int
		for _, r := range s.Routes {
			if to, ok := index[r.To]; ok {
				feeds = append(feeds, to)
			}
		}
		f.look(s.Endpoint, "", s.at, feeds)
	}
	for i, p := range pipelines {
		for n, e := range p.Sources {
			f.look(e, p.Name, places[i].sources[n], []int{i})
		}
	}
	f.problems = f.rounds()
	for i, p := range pipelines {
		for n, sink := range p.Sinks {
			if len(f.problems) == 0 { // else there may be ways without end
				f.followSink(i, n, sink, places[i].sinks[n])
			}
		}
		for _, r := range p.MoveIf {
			if to, ok := index[r.To]; ok {
				f.add(i, passage{to, "move_if", -1})
			}
		}
	}
	return f
}

func (f *flow) add(from int, p passage) {
	if !slices.Contains(f.next[from], p) {
		f.next[from] = append(f.next[from], p)
	}
}

// loops reports ways on which results come back, each at the sink where it begins. Moves alone are bounded by
// their legs.
func (f *flow) loops(places []spots) (problems Problems) {
	told := map[string]bool{}
	for from, passages := range f.next {
		for _, p := range passages {
			if p.sink < 0 {
				continue
			}
			back, ok := f.path(p.to, from)
			if !ok {
				continue
			}
			way := append([]passage{p}, back...)
			if key := f.through(from, way); !told[key] {
				told[key] = true
				at := places[from].sinks[p.sink]
				at.Text = "results would come back as inputs without end: " + f.text(from, way)
				problems = append(problems, at)
			}
		}
	}
	return problems
}

// path finds a shortest way from one pipeline to another; of no passages, if they are the same.
func (f *flow) path(from, to int) ([]passage, bool) {
	came := map[int][]passage{from: {}}
	for open := []int{from}; len(open) > 0; open = open[1:] {
		at := open[0]
		if at == to {
			return came[at], true
		}
		for _, p := range f.next[at] {
			if _, seen := came[p.to]; !seen {
				came[p.to] = append(slices.Clip(came[at]), p)
				open = append(open, p.to)
			}
		}
	}
	return nil, false
}

// through names the passages of a way, wherever it begins.
func (f *flow) through(from int, way []passage) string {
	var all []string
	for _, p := range way {
		all = append(all, fmt.Sprint(from, " ", p.by, " ", p.to))
		from = p.to
	}
	slices.Sort(all)
	return strings.Join(all, "\n")
}

// text writes a way for people.
func (f *flow) text(from int, way []passage) string {
	var b strings.Builder
	b.WriteString(f.pipelines[from].Name)
	for _, p := range way {
		b.WriteString(" → " + p.by + " → " + f.pipelines[p.to].Name)
	}
	return b.String()
}

// chains lists the passages by which results of one pipeline become inputs of another.
func (f *flow) chains() (all []string) {
	for from, passages := range f.next {
		for _, p := range passages {
			if p.sink >= 0 {
				all = append(all, f.text(from, []passage{p}))
			}
		}
	}
	return all
}
