package pipeline

import (
	"errors"
	"fmt"
	"slices"

	"github.com/gantry-imaging/gantry/internal/gantry"
)

// Served is what one installation serves: pipelines, and the sources that several of them share.
type Served struct {
	Pipelines []*gantry.Pipeline
	Shared    []gantry.Shared
	Chains    []string // pipelines whose results another one takes, as a line for people each
}

// LoadServed is LoadAll for pipelines that are served with shared sources. Routes to names that no pipeline has, two
// limits for one target, ways on which results come back to the pipeline that they are of, and sources that move inputs round and round are mistakes too.
func LoadServed(paths []string, sources []Shared, k Kinds, env func(string) (string, bool)) (*Served, error) {
	return together(paths, sources, k, env, false)
}

// CheckServed is LoadServed for files that are all there is: where there are several, a rule of move_if that names a
// pipeline which is not among them is a mistake too.
func CheckServed(paths []string, sources []Shared, k Kinds, env func(string) (string, bool)) (*Served, error) {
	return together(paths, sources, k, env, true)
}

func together(paths []string, sources []Shared, k Kinds, env func(string) (string, bool), moves bool) (*Served, error) {
	all, places, err := loadAll(paths, k, env)
	if err != nil {
		return nil, err
	}
	problems := append(strayRoutes(all, sources), unlikeLimits(all, places)...)
	if moves && len(all) > 1 {
		problems = append(problems, strayMoves(all, places)...)
	}
	s := &Served{Pipelines: all}
	for _, x := range sources {
		s.Shared = append(s.Shared, x.Shared)
	}
	f := newFlow(all, sources, places)
	problems = slices.Concat(problems, f.problems, f.loops(places))
	if len(problems) > 0 {
		return nil, problems
	}
	s.Chains = f.chains()
	return s, nil
}

// strayRoutes finds routes to pipelines that there are not, to those with a source of the same name, and to those that would read
// again what the source takes away.
func strayRoutes(all []*gantry.Pipeline, sources []Shared) (problems Problems) {
	known := map[string]*gantry.Pipeline{}
	for _, p := range all {
		known[p.Name] = p
	}
	for _, s := range sources {
		for i, r := range s.Routes {
			p, at := known[r.To], s.to[i]
			switch {
			case !isName(r.To): // reported by checkRoutes
			case p == nil:
				at.Text = fmt.Sprintf("to: no pipeline here is named %s%s", short(r.To), didYouMean(nearest(r.To, sorted(known))))
				problems = append(problems, at)
			case hasSource(p, s.Name):
				at.Text = fmt.Sprintf("to: %s has a source %s of its own", short(r.To), short(s.Name))
				problems = append(problems, at)
			case fleets(s.Config, p.Collect) != "":
				at.Text = fmt.Sprintf("to: %s collects, and source %s %s", short(r.To), short(s.Name), rerunsAgain)
				problems = append(problems, at)
			}
		}
	}
	return problems
}

// unlikeLimits finds targets for which two files give other limits: there is one row for each target, which the file that
// was read last would decide. What is wrong within a file, checkTargets reported.
func unlikeLimits(all []*gantry.Pipeline, places []spots) (problems Problems) {
	type first struct {
		limits gantry.Limits
		at     Problem
	}
	found := map[string]first{}
	for i, p := range all {
		told := map[string]bool{} // once a file and target
		for j, x := range p.Processors {
			t, ok := x.Config.(gantry.Targeted)
			if !ok {
				continue
			}
			key, at := t.Target().Key(), places[i].limits[j]
			other, ok := found[key]
			if !ok {
				found[key] = first{x.Limits, at}
			} else if other.limits != x.Limits && !told[key] {
				told[key] = true
				at.Text = fmt.Sprintf("limits: %s:%d:%d calls the same target, %s, with other limits", other.at.File, other.at.Line, other.at.Col, key)
				problems = append(problems, at)
			}
		}
	}
	return problems
}

func hasSource(p *gantry.Pipeline, name string) bool {
	for _, e := range p.Sources {
		if e.Name == name {
			return true
		}
	}
	return false
}

// Servable tells whether each pipeline can be served: it needs a source of its own or a route to it, and a sink.
func (s *Served) Servable() error {
	fed := map[string]bool{}
	for _, x := range s.Shared {
		for _, r := range x.Routes {
			fed[r.To] = true
		}
	}
	var mistakes []error
	for _, p := range s.Pipelines {
		if len(p.Sources) == 0 && fed[p.Name] {
			if len(p.Sinks) == 0 {
				mistakes = append(mistakes, noSinks(p))
			}
			continue
		}
		mistakes = append(mistakes, Servable(p))
	}
	return errors.Join(mistakes...)
}

// NamePool is before the name of a shared source where names of pipelines stand in records; no pipeline is called so.
const NamePool = "source:"
