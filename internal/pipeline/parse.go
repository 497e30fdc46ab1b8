package pipeline

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"path/filepath"
	"reflect"

	"github.com/gantry-imaging/gantry/internal/gantry"
)

// Kinds is the register of drivers as far as pipeline files need it.
type Kinds interface {
	// Config makes the zero config of a kind of driver, as a pointer to a struct with the tags of
	// fields.go. It gives false for a kind that there is not.
	Config(role gantry.Boundary, kind string) (any, bool)
	// Kinds lists the kinds of a role.
	Kinds(role gantry.Boundary) []string
}

// Parse reads the text of a pipeline file. The file's name is for messages and, through its
// folder, for relative paths; env is asked for the variables of ${env:NAME} outside of secrets.
// A text with mistakes gives all of them, as Problems.
func Parse(file string, src []byte, k Kinds, env func(string) (string, bool)) (*gantry.Pipeline, error) {
	p, _, err := parse(file, src, k, env)
	return p, err
}

// spots are places of a file that is right, for mistakes that come out beside other files.
type spots struct {
	name  Problem
	moves []Problem // where the rules of move_if say where to
	sinks []Problem // the sinks, in the order of their names

	sources []Problem // the same of the sources
	limits  []Problem // those of the processors, in the order of their names
}

// parse is Parse that also gives the file's spots.
func parse(name string, src []byte, k Kinds, env func(string) (string, bool)) (*gantry.Pipeline, spots, error) {
	abs, err := filepath.Abs(name)
	if err != nil {
		return nil, spots{}, fmt.Errorf("find the folder of %s: %w", name, err)
	}
	r := newReport(name, src)
	d := newDecoder(r, k)
	d.env, d.dir = env, filepath.Dir(abs)
	var f file
	if r.tree(src, maxFile) != nil && d.checkVersion() && !d.isDeployment() {
		d.object(r.root, "", reflect.ValueOf(&f).Elem(), "")
		d.checkNames(&f)
		d.compileAll(&f)
	}
	if err := r.err(); err != nil {
		return nil, spots{}, err
	}
	p := d.build(&f)
	if p.Resolved, p.Version, err = resolve(&f); err != nil {
		return nil, spots{}, err
	}
	at := spots{name: d.spot("name")}
	for i := range f.MoveIf {
		at.moves = append(at.moves, d.spot(fmt.Sprintf("move_if[%d].to", i)))
	}
	for _, name := range sorted(f.Sinks) {
		at.sinks = append(at.sinks, d.keySpot(join("sinks", name)))
	}
	for _, name := range sorted(f.Sources) {
		at.sources = append(at.sources, d.keySpot(join("sources", name)))
	}
	for _, name := range sorted(f.Processors) {
		at.limits = append(at.limits, d.keySpot(join("processors", name)+".limits"))
	}
	return p, at, nil
}

// ParseResolved makes a pipeline from its Resolved alone: the version that a running task began
// with. It needs no environment and no file, and applies none of the rules that were checked when
// the text was written. Limits, priority and description, which are no part of a version, are
// the defaults. A text that does not fit the grammar or the drivers gives Problems.
func ParseResolved(resolved []byte, k Kinds) (*gantry.Pipeline, error) {
	f, d, err := parseResolved(resolved, k)
	if err != nil {
		return nil, err
	}
	p := d.build(f)
	p.Resolved, p.Version = resolved, sha256.Sum256(resolved)
	return p, nil
}

func parseResolved(resolved []byte, k Kinds) (*file, *decoder, error) {
	r := newReport("resolved pipeline", resolved)
	d := newDecoder(r, k)
	d.resolved = true
	var f file
	if r.tree(resolved, maxResolved) != nil {
		d.object(r.root, "", reflect.ValueOf(&f).Elem(), "")
		d.compileAll(&f)
	}
	return &f, d, r.err()
}

// Servable tells whether a pipeline can be served: it needs a source to wait for and a sink to
// deliver to, which gantry run brings along instead.
func Servable(p *gantry.Pipeline) error {
	var mistakes []error
	if len(p.Sources) == 0 {
		mistakes = append(mistakes, gantry.Errorf(gantry.Illegal, "", "pipeline %s has no sources to wait for", p.Name))
	}
	if len(p.Sinks) == 0 {
		mistakes = append(mistakes, noSinks(p))
	}
	return errors.Join(mistakes...)
}

func noSinks(p *gantry.Pipeline) error {
	return gantry.Errorf(gantry.Illegal, "", "pipeline %s has no sinks to deliver to", p.Name)
}
