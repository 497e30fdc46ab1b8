package pipeline

import (
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"

	"github.com/gantry-imaging/gantry/internal/gantry"
)

// Kinds knows the drivers: which kinds there are at a boundary, and the settings of each as a
// pointer to a new zero config.
type Kinds interface {
	Config(role gantry.Boundary, kind string) (any, bool)
	Kinds(role gantry.Boundary) []string
}

// Parse reads a pipeline file. file is its path, for messages and for relative paths in it; env
// looks up variables. The error is Problems, with every mistake in the file.
func Parse(path string, src []byte, k Kinds, env func(string) (string, bool)) (*gantry.Pipeline, error) {
	abs, err := filepath.Abs(path)
	if err != nil {
		return nil, err
	}
	d := &decoder{report: newReport(path, src), kinds: kinds{k}, env: env, dir: filepath.Dir(abs), places: map[string]place{}}
	return d.parse(src, maxFile)
}

// ParseResolved reads what Pipeline.Resolved holds, for tasks that still run on that version. Limits
// and priority, which are no part of a version, come out as defaults.
func ParseResolved(resolved []byte, k Kinds) (*gantry.Pipeline, error) {
	d := &decoder{report: newReport("resolved", resolved), kinds: kinds{k}, resolved: true, places: map[string]place{}}
	return d.parse(resolved, maxResolved)
}

func (d *decoder) parse(src []byte, limit int) (*gantry.Pipeline, error) {
	if d.tree(src, limit) == nil {
		return nil, d.err()
	}
	var f file
	if d.checkVersion() {
		d.object(d.root, "", reflect.ValueOf(&f).Elem(), "")
		if !d.resolved && f.Stages != nil || len(d.list) == 0 {
			d.checkNames(&f)
		}
	}
	if err := d.err(); err != nil {
		return nil, err
	}
	return f.build()
}

// build turns the file into what the rest of gantry works with. Lists that the file has as mappings
// are in the order of their names.
func (f *file) build() (*gantry.Pipeline, error) {
	resolved, version, err := resolve(f)
	if err != nil {
		return nil, err
	}
	p := &gantry.Pipeline{
		Name: f.Name, Description: f.Description, Version: version, Resolved: resolved, Priority: int16(f.Priority),
		InProgress: f.Limits.InProgress, OnError: gantry.ErrorPolicy(f.OnError),
		Extract: gantry.Extract{Archives: f.Extract.Archives, Depth: f.Extract.Depth, MaxBytes: int64(f.Extract.MaxBytes),
			MaxEntries: f.Extract.MaxEntries, MaxRatio: f.Extract.MaxRatio},
		Timeouts: gantry.Timeouts(f.Timeouts),
		Retry:    gantry.RetryPolicy(f.Retry),
		Sources:  f.endpoints(f.Sources),
		Sinks:    f.endpoints(f.Sinks),
	}
	for _, name := range slices.Sorted(maps.Keys(f.Processors)) {
		x := f.Processors[name]
		p.Processors = append(p.Processors, gantry.Processing{Endpoint: f.endpoint(name, x.endpoint), Timeout: x.Timeout,
			Limits: gantry.Limits{Concurrency: x.Limits.Concurrency, Rate: float64(x.Limits.Rate), Burst: x.Limits.Burst}})
	}
	for _, s := range f.Stages {
		p.Stages = append(p.Stages, gantry.Stage{Name: s.Name, Mode: gantry.Mode(s.Mode), Each: gantry.Each(s.Each), Call: s.Call,
			OnError: gantry.ErrorPolicy(s.OnError)})
	}
	return p, nil
}

func (f *file) endpoints(m map[string]endpoint) []gantry.Endpoint {
	var out []gantry.Endpoint
	for _, name := range slices.Sorted(maps.Keys(m)) {
		out = append(out, f.endpoint(name, m[name]))
	}
	return out
}

func (f *file) endpoint(name string, e endpoint) gantry.Endpoint {
	return gantry.Endpoint{Name: name, Kind: e.Kind, Config: e.Config, Auth: f.credential(e.Auth)}
}

func (f *file) credential(name string) *gantry.Credential {
	switch c := f.Auth[name].Config.(type) {
	case *bearer:
		return &gantry.Credential{Name: name, Kind: "bearer", Token: c.Token}
	case *basic:
		return &gantry.Credential{Name: name, Kind: "basic", Username: c.Username, Password: c.Password}
	}
	return nil
}

// Load reads one pipeline file.
func Load(path string, k Kinds, env func(string) (string, bool)) (*gantry.Pipeline, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	src, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", path, err)
	}
	return Parse(path, src, k, env)
}

// LoadAll reads files, and of folders the *.yaml and *.yml in them. Two pipelines of one name are a
// mistake. The error is Problems with the mistakes of all files, unless a file cannot be read.
func LoadAll(paths []string, k Kinds, env func(string) (string, bool)) ([]*gantry.Pipeline, error) {
	files, err := find(paths)
	if err != nil {
		return nil, err
	}
	var list []*gantry.Pipeline
	var all Problems
	where := map[string]string{}
	for _, file := range files {
		p, err := Load(file, k, env)
		if problems, ok := err.(Problems); ok {
			all = append(all, problems...)
			continue
		}
		if err != nil {
			return nil, err
		}
		if first, taken := where[p.Name]; taken {
			all = append(all, Problem{File: file, Text: fmt.Sprintf("name: %s is the name of the pipeline in %s", short(p.Name), first)})
		}
		where[p.Name] = file
		list = append(list, p)
	}
	if all != nil {
		return nil, all
	}
	return list, nil
}

func find(paths []string) ([]string, error) {
	var files []string
	for _, p := range paths {
		info, err := os.Stat(p)
		if err != nil {
			return nil, err
		}
		if !info.IsDir() {
			files = append(files, p)
			continue
		}
		entries, err := os.ReadDir(p)
		if err != nil {
			return nil, err
		}
		for _, e := range entries {
			if ext := strings.ToLower(filepath.Ext(e.Name())); !e.IsDir() && (ext == ".yaml" || ext == ".yml") && !strings.HasPrefix(e.Name(), ".") {
				files = append(files, filepath.Join(p, e.Name()))
			}
		}
	}
	return files, nil
}

// Servable says what a pipeline lacks to be served: sources and sinks, which `gantry run` brings
// itself.
func Servable(p *gantry.Pipeline) error {
	switch {
	case len(p.Sources) == 0:
		return fmt.Errorf("pipeline %s: no sources; only gantry run brings its own", p.Name)
	case len(p.Sinks) == 0:
		return fmt.Errorf("pipeline %s: no sinks; only gantry run brings its own", p.Name)
	}
	return nil
}
