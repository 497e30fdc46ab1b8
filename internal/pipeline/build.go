package pipeline

import (
	"cmp"
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"strings"

	"github.com/gantry-imaging/gantry/internal/gantry"
	"go.yaml.in/yaml/v4"
)

// checkVersion looks at the key that says how the rest is to be read. It gives false if nothing
// else in the file is worth a look.
func (d *decoder) checkVersion() bool {
	if d.resolved || d.root.Kind != yaml.MappingNode {
		return true
	}
	for i := 0; i+1 < len(d.root.Content); i += 2 {
		k, v := d.root.Content[i], d.root.Content[i+1]
		switch {
		case k.Value != "gantry":
			continue
		case v.Kind == yaml.ScalarNode && v.Value != "v1":
			d.at(v, "gantry: %s is not a grammar that this release reads%s", short(v.Value), didYouMean("v1"))
			return false
		case i > 0:
			d.at(k, "gantry: v1 must be the first key")
		}
		return true
	}
	if len(d.root.Content) == 0 || nearest(d.root.Content[0].Value, []string{"gantry"}) == "" {
		d.at(d.root, "gantry: v1 must be the first key")
	}
	return true
}

// isDeployment reports a file that was taken for a pipeline, such as one in a folder that is checked: it has no stages, and a key
// that deployment files alone have.
func (d *decoder) isDeployment() bool {
	var is *yaml.Node
	for i := 0; i < len(d.root.Content) && d.root.Kind == yaml.MappingNode; i += 2 {
		switch k := d.root.Content[i]; k.Value {
		case "stages":
			return false
		case "pipelines", "database", "listen", "home":
			is = cmp.Or(is, k)
		}
	}
	if is != nil {
		d.at(is, "%s: stands in a deployment file, and no pipeline has it: gantry check --config %s", is.Value, filepath.Base(d.file))
	}
	return is != nil
}

// names is the use that one part of a file makes of what another part defines.
type names struct {
	what, key string
	defined   []string
	used      map[string]bool
	open      bool // a mistake in the definitions hides some, so nothing can be called missing
	unsure    bool // a mistake elsewhere hides a use, so nothing can be called unused
}

// names begins with what is defined under a top-level key.
func (d *decoder) names(what, key string, defined []string) *names {
	p, ok := d.places[key]
	open := d.meant[key] || ok && len(defined) == 0 && (p.value.Kind != yaml.MappingNode || len(p.value.Content) > 0)
	return &names{what: what, key: key, defined: defined, used: map[string]bool{}, open: open}
}

// use notes one use of a name, at the path where it stands.
func (d *decoder) use(n *names, name, path string) {
	if name == "" {
		n.unsure = true
		return
	}
	if n.open || slices.Contains(n.defined, name) {
		n.used[name] = true
		return
	}
	hint := nearest(name, n.defined)
	n.used[hint] = true
	d.at(d.placeOf(path).value, "%s: no %s %s%s", last(path), n.what, short(name), didYouMean(hint))
}

// unused reports the definitions that nothing uses.
func (d *decoder) unused(n *names) {
	for _, name := range n.defined {
		if !n.used[name] && !n.unsure {
			d.at(d.keyOf(join(n.key, name)), "%s %s is used by nothing", n.what, short(name))
		}
	}
}

// misspelt tells whether a path with one of the endings was probably meant by an unknown key.
func (d *decoder) misspelt(endings ...string) bool {
	for path := range d.meant {
		if slices.ContainsFunc(endings, func(e string) bool { return strings.HasSuffix(path, e) }) {
			return true
		}
	}
	return false
}

// checkNames holds the parts of a file against one another.
func (d *decoder) checkNames(f *file) {
	d.checkName("name", f.Name)
	d.checkStages(f)
	credentials := d.names("credential", "auth", sorted(f.Auth))
	credentials.unsure = d.misspelt("sources", "sinks", "processors", "group", "group.expect", ".auth")
	use := func(path string, e endpoint) {
		if _, ok := d.places[path+".auth"]; ok {
			d.use(credentials, e.Auth, path+".auth")
		}
	}
	for _, name := range sorted(f.Sources) {
		use(join("sources", name), f.Sources[name].endpoint)
	}
	for _, name := range sorted(f.Sinks) {
		use(join("sinks", name), f.Sinks[name].endpoint)
	}
	for _, name := range sorted(f.Processors) {
		use(join("processors", name), f.Processors[name].endpoint)
	}
	d.checkArchive(f, use)
	d.unused(credentials)
	d.checkTests(f)
	d.checkTargets(f)
	d.checkPatience(f)
	d.checkLoops(f)
	d.checkMoves(f)
	d.checkMarker(f)
	d.checkReruns(f)
}

// checkLoops refuses a sink whose results a source of the same pipeline would take, and a source whose inputs
// another would take once they are moved.
func (d *decoder) checkLoops(f *file) {
	for _, from := range sorted(f.Sources) {
		config := f.Sources[from].Config
		for _, to := range sorted(f.Sinks) {
			if gantry.TakesResults(config, f.Sinks[to].Config, f.Name) {
				d.at(d.keyOf(join("sinks", to)), "source %s would take what sink %s lays down, again and again", short(from), short(to))
			}
		}
		source, ok := config.(gantry.Looking)
		for _, by := range sorted(f.Sources) {
			mover, moves := f.Sources[by].Config.(gantry.Looking)
			if ok && moves && by != from && slices.ContainsFunc(mover.Moves(), func(to string) bool { return gantry.TakesMoved(source, mover, to) }) {
				d.at(d.keyOf(join("sources", by)), "source %s would take what source %s moves, a second time", short(from), short(by))
			}
		}
	}
}

// checkTargets refuses two limits for one target: calls are counted by target, whatever it is
// called here. It needs everything else to be right.
func (d *decoder) checkTargets(f *file) {
	first := map[string]string{}
	for _, name := range sorted(f.Processors) {
		x := f.Processors[name]
		t, ok := x.Config.(gantry.Targeted)
		if !ok || len(d.list) > 0 {
			return
		}
		key := t.Target().Key()
		if other, ok := first[key]; !ok {
			first[key] = name
		} else if f.Processors[other].Limits != x.Limits {
			d.at(d.keyOf(join("processors", name)+".limits"), "limits: processor %s calls the same target, %s, with other limits", short(other), key)
		}
	}
}

// checkName reports what is no name; one that could not be read was reported before.
func (d *decoder) checkName(path, name string) {
	if name != "" && !isName(name) {
		d.at(d.placeOf(path).value, "name: %s is no name; a name has 1 to 63 of a-z, 0-9 and -", short(name))
	}
}

// build makes the pipeline that a file describes. Definitions come in the order of their names,
// so that the resolved file, whose keys are sorted, gives the same.
func (d *decoder) build(f *file) *gantry.Pipeline {
	p := &gantry.Pipeline{
		Name: f.Name, Description: f.Description, Priority: f.Priority.fixed, Order: f.ordering.build(d.ranking),
		Group: f.Group.divide(), Collect: f.Group.collect(f.Auth), When: d.condition("when"),
		Extract: gantry.Extract{
			Archives: f.Extract.Archives, Frames: gantry.Rendering(f.Extract.Frames), Video: gantry.Rendering(f.Extract.Video),
			Window: string(f.Extract.Window), Sample: float64(f.Extract.Sample), Depth: f.Extract.Depth, MaxBytes: int64(f.Extract.MaxBytes),
			MaxEntries: f.Extract.MaxEntries, MaxRatio: f.Extract.MaxRatio, Shard: f.Extract.Shard,
		},
		InProgress: f.Limits.InProgress,
		States:     f.Limits.states(),
		Timeouts:   gantry.Timeouts(f.Timeouts),
		Retry:      gantry.RetryPolicy(f.Retry),
		OnError:    gantry.ErrorPolicy(f.OnError),
	}
	for _, name := range sorted(f.Sources) {
		source := f.Sources[name].build(name, f.Auth)
		source.When = d.rule(join(join("sources", name), "when"))
		p.Sources = append(p.Sources, source)
	}
	for _, name := range sorted(f.Sinks) {
		sink := f.Sinks[name].build(name, f.Auth)
		sink.Rejoin = gantry.Rejoin(f.Sinks[name].Rejoin)
		p.Sinks = append(p.Sinks, sink)
	}
	for _, name := range sorted(f.Processors) {
		x := f.Processors[name]
		p.Processors = append(p.Processors, gantry.Processing{
			Endpoint: x.build(name, f.Auth), Timeout: x.Timeout,
			Limits: gantry.Limits{Concurrency: x.Limits.Concurrency, Rate: float64(x.Limits.Rate), Burst: x.Limits.Burst,
				Breaker: gantry.Breaker(x.Limits.Breaker), Adaptive: x.Limits.Adaptive},
		})
	}
	for i, s := range f.Stages {
		path := fmt.Sprintf("stages[%d].", i)
		p.Stages = append(p.Stages, gantry.Stage{
			Name: s.Name, Mode: gantry.Mode(s.Mode), Each: gantry.Each(s.Each), Call: s.Call, Max: s.Max, Need: int(s.Need),
			When: d.condition(path + "when"), KeepIf: d.condition(path + "keep_if"),
			Pass: gantry.Pass(s.Pass), OnError: gantry.ErrorPolicy(s.OnError),
		})
	}
	for i, r := range f.MoveIf {
		p.MoveIf = append(p.MoveIf, gantry.MoveRule{When: d.condition(fmt.Sprintf("move_if[%d].when", i)), To: r.To, Legs: r.Legs})
	}
	for _, t := range f.Tests {
		p.Tests = append(p.Tests, t.build())
	}
	return p
}

// condition gives a compiled expression; nil, and no interface that holds nil, if there is none.
func (d *decoder) condition(path string) gantry.Condition {
	if c := d.conditions[path]; c != nil {
		return c
	}
	return nil
}

func (t test) build() gantry.PipelineTest {
	state, _ := gantry.ParseState(t.Expect.State)
	return gantry.PipelineTest{Name: t.Name, Input: t.Input, Mock: t.Mock, Expect: gantry.Expectation{
		State: state, Calls: t.Expect.Calls, Outputs: int(t.Expect.Outputs), Error: gantry.Code(t.Expect.Error),
	}}
}

func (e endpoint) build(name string, auth map[string]auth) gantry.Endpoint {
	out := gantry.Endpoint{Name: name, Kind: e.Kind, Config: e.Config}
	if e.Auth == "" {
		return out
	}
	out.Auth = &gantry.Credential{Name: e.Auth, Kind: auth[e.Auth].Kind}
	switch c := auth[e.Auth].Config.(type) {
	case *bearer:
		out.Auth.Token = c.Token
	case *basic:
		out.Auth.Username, out.Auth.Password = c.Username, c.Password
	case *headerAuth:
		out.Auth.Header, out.Auth.Value = c.Header, c.Value
	case *awsKeys:
		out.Auth.Region, out.Auth.Profile, out.Auth.RoleARN = c.Region, c.Profile, c.RoleARN
		out.Auth.AccessKeyID, out.Auth.SecretAccessKey, out.Auth.SessionToken = c.AccessKeyID, c.SecretAccessKey, c.SessionToken
	}
	return out
}

func sorted[T any](m map[string]T) []string { return slices.Sorted(maps.Keys(m)) }
