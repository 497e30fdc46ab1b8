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
	next      [][]passage // by pipeline
}

// looking is a source, shared or a pipeline's own.
type looking struct {
	gantry.Endpoint
	of    int   // the pipeline that it stands in; -1: it is shared
	at    int   // which of those it is there
	feeds []int // pipelines
}

// passage is one way from a pipeline to another.
type passage struct {
	to   int
	by   string // for people
	sink int    // of the pipeline that it leaves; -1: a task is moved
}

// newFlow finds every passage.
func newFlow(s *Served) *flow {
	f := &flow{pipelines: s.Pipelines, next: make([][]passage, len(s.Pipelines))}
	index := map[string]int{}
	for i, p := range s.Pipelines {
		index[p.Name] = i
	}
	for i, e := range s.Shared {
		x := looking{Endpoint: e.Endpoint, of: -1, at: i}
		for _, r := range e.Routes {
			if to, ok := index[r.To]; ok {
				x.feeds = append(x.feeds, to)
			}
		}
		f.sources = append(f.sources, x)
	}
	for i, p := range s.Pipelines {
		for n, e := range p.Sources {
			f.sources = append(f.sources, looking{e, i, n, []int{i}})
		}
	}
	for i, p := range s.Pipelines {
		for n, sink := range p.Sinks {
			ways := f.reach(sink, "sink "+short(sink.Name))
			for k, x := range f.sources {
				for _, to := range x.feeds {
					if way, ok := ways[k]; ok {
						f.add(i, passage{to, way, n})
					}
				}
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

// reach finds the sources that what is laid down from somewhere comes to, with a shortest way to each for people: those that take
// it there, and on to those that take it where such a source moves it.
func (f *flow) reach(from gantry.Endpoint, name string) map[int]string {
	type place struct {
		gantry.Endpoint
		way string
	}
	ways := map[int]string{}
	for open := []place{{from, name}}; len(open) > 0; open = open[1:] {
		for i, x := range f.sources {
			if _, seen := ways[i]; !seen && takes(x.Endpoint, open[0].Endpoint) {
				ways[i] = open[0].way + " → source " + short(x.Name)
				open = append(open, place{x.Endpoint, open[0].way + " → " + f.mover(x)})
			}
		}
	}
	return ways
}

// mover names a source that moves what it took.
func (f *flow) mover(x looking) string {
	whose := ""
	if x.of >= 0 {
		whose = f.pipelines[x.of].Name + "'s "
	}
	return whose + "source " + short(x.Name) + " moves it"
}

func takes(source, sink gantry.Endpoint) bool {
	t, ok := source.Config.(gantry.Taker)
	return ok && t.Takes(sink.Config)
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

// rounds reports sources that move objects on to one another without end, each round at its first source. Only what stands in one
// deployment can meet so: two sources of one file that take what the other moves are refused with the file.
func (f *flow) rounds(places []spots, shared []Shared) (problems Problems) {
	told := map[int]bool{}
	for i, x := range f.sources {
		ways := f.reach(x.Endpoint, f.mover(x))
		if _, back := ways[i]; !back || told[i] {
			continue
		}
		for k, y := range f.sources {
			if _, back := f.reach(y.Endpoint, "")[i]; back {
				_, there := ways[k]
				told[k] = told[k] || there
			}
		}
		var at Problem
		if x.of < 0 {
			at = shared[x.at].at
		} else {
			at = places[x.of].sources[x.at]
		}
		at.Text = "inputs would be moved without end: " + ways[i]
		problems = append(problems, at)
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
