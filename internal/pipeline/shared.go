package pipeline

import (
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"reflect"

	"github.com/gantry-imaging/gantry/internal/gantry"
)

// shared is a source of a deployment file: one that feeds several pipelines.
type shared struct {
	endpoint
	Match  string  `yaml:"match" default:"first" one:"first all" doc:"first: an arrival goes to the pipeline of the first route that takes it; all: to those of each."`
	Routes []route `yaml:"routes" required:"true" doc:"Which arrivals go to which pipeline, in their order."`
}

type route struct {
	When expression `yaml:"when" doc:"Which arrivals; without it, all."`
	To   string     `yaml:"to" required:"true" doc:"The name of the pipeline."`
}

// Shared is a source of a deployment file, with its place and those of its routes for what comes out only beside the
// pipelines.
type Shared struct {
	gantry.Shared
	at Problem
	to []Problem // where each route says where to
}

// checkShared holds the parts of the sources of a deployment file against one another.
func (d *decoder) checkShared(x *Deployment) {
	credentials := d.names("credential", "auth", sorted(x.Auth))
	credentials.unsure = d.misspelt("sources", ".auth")
	for _, name := range sorted(x.Sources) {
		s, path := x.Sources[name], join("sources", name)
		if _, ok := d.places[path+".auth"]; ok {
			d.use(credentials, s.Auth, path+".auth")
		}
		if _, ok := factsOf(s.Config); !ok && s.Config != nil {
			d.at(d.placeOf(path+".kind").value, "kind: an upload names its pipeline; a source of kind %s stands in the pipeline's file", s.Kind)
			continue
		}
		d.checkRoutes(path, s)
	}
	d.unused(credentials)
}

// checkRoutes compiles the rules of a source and finds routes that no arrival gets to.
func (d *decoder) checkRoutes(path string, s shared) {
	last := -1 // the first route that takes everything
	for i, r := range s.Routes {
		at := fmt.Sprintf("%s.routes[%d]", path, i)
		d.compileRule(join(at, "when"), s.endpoint, r.When)
		if r.To != "" && !isName(r.To) {
			d.at(d.placeOf(join(at, "to")).value, "to: %s is no name of a pipeline", short(r.To))
		}
		_, asked := d.places[join(at, "when")]
		switch {
		case s.Match != string(gantry.MatchFirst):
		case last >= 0:
			d.at(d.placeOf(at).value, "nothing comes to this route: the one in line %d takes everything, and match is first",
				d.placeOf(fmt.Sprintf("%s.routes[%d]", path, last)).value.Line)
		case !asked && !d.meant[join(at, "when")]:
			last = i
		}
	}
}

// shared makes the sources that a deployment file describes; of one with mistakes, their names and routes alone.
func (d *decoder) shared(x *Deployment, right bool) ([]Shared, error) {
	var all []Shared
	for _, name := range sorted(x.Sources) {
		s := x.Sources[name]
		out := Shared{Shared: gantry.Shared{Endpoint: gantry.Endpoint{Name: name}}, at: d.keySpot(join("sources", name))}
		for i, r := range s.Routes {
			out.Routes = append(out.Routes, gantry.Route{To: r.To})
			out.to = append(out.to, d.spot(fmt.Sprintf("sources.%s.routes[%d].to", name, i)))
		}
		if right {
			out.Shared = d.buildShared(name, s, x.Auth, join("sources", name))
			f := sharedFile{Name: name, Source: s, Auth: x.Auth[s.Auth]}
			var err error
			if out.Resolved, out.Version, err = resolveShared(&f); err != nil {
				return nil, err
			}
		}
		all = append(all, out)
	}
	return all, nil
}

func (d *decoder) buildShared(name string, s shared, auth map[string]auth, path string) gantry.Shared {
	out := gantry.Shared{Endpoint: s.build(name, auth), Match: gantry.Match(s.Match)}
	for i, r := range s.Routes {
		out.Routes = append(out.Routes, gantry.Route{When: d.rule(fmt.Sprintf("%s.routes[%d].when", path, i)), To: r.To})
	}
	return out
}

// sharedFile is what the version of a shared source consists of.
type sharedFile struct {
	Name   string `yaml:"name" required:"true"`
	Source shared `yaml:"source" required:"true" role:"source"`
	Auth   auth   `yaml:"auth" role:"auth"`
}

// resolveShared writes a shared source as resolve does a pipeline.
func resolveShared(f *sharedFile) ([]byte, gantry.Digest, error) {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	if err := e.Encode(plain(reflect.ValueOf(f).Elem())); err != nil {
		return nil, gantry.Digest{}, fmt.Errorf("write the resolved source: %w", err)
	}
	out := bytes.TrimSuffix(b.Bytes(), []byte("\n"))
	return out, sha256.Sum256(out), nil
}

// ParseShared makes a shared source from its Resolved alone, as ParseResolved does a pipeline.
func ParseShared(resolved []byte, k Kinds) (gantry.Shared, error) {
	r := newReport("resolved source", resolved)
	d := newDecoder(r, k)
	d.resolved = true
	var f sharedFile
	if r.tree(resolved, maxResolved) != nil {
		d.object(r.root, "", reflect.ValueOf(&f).Elem(), "")
		d.checkRoutes("source", f.Source)
	}
	if err := r.err(); err != nil {
		return gantry.Shared{}, err
	}
	out := d.buildShared(f.Name, f.Source, map[string]auth{f.Source.Auth: f.Auth}, "source")
	out.Resolved, out.Version = resolved, sha256.Sum256(resolved)
	return out, nil
}
