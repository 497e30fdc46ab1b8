// Package driver keeps the register of drivers: which kinds of source, processor, sink and archive there
// are, what their settings look like, and how one is made from them. The register is a value that
// package all fills, one line per driver; each driver is a folder beside this file, and drivertest
// holds what every one of them must do.
package driver

import (
	"context"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"

	"github.com/gantry-imaging/gantry/internal/gantry"
)

// Codes of a driver that could not be asked for. Both are Illegal.
const (
	CodeUnknownKind gantry.Code = "unknown_kind"
	CodeWrongConfig gantry.Code = "wrong_config"
)

// Register knows drivers by their boundary and kind. It is filled once and read by many.
type Register struct {
	entries map[key]entry
}

type key struct {
	role gantry.Boundary
	kind string
}

type entry struct {
	config func() any // a pointer to a new zero config
	open   func(ctx context.Context, config any, egress gantry.Egress) (any, error)
}

// New makes an empty register.
func New() *Register { return &Register{entries: map[key]entry{}} }

// Source adds a kind of source whose settings are a C: a struct that says its Target
// (gantry.Targeted) and, where it has rules, checks them (gantry.Checked). It panics if the kind is
// taken or C is no such struct.
func Source[C any](r *Register, kind string, open func(context.Context, C, gantry.Egress) (gantry.Source, error)) {
	add(r, gantry.AtSource, kind, open)
}

// Processor adds a kind of processor, as Source does.
func Processor[C any](r *Register, kind string, open func(context.Context, C, gantry.Egress) (gantry.Processor, error)) {
	add(r, gantry.AtProcessor, kind, open)
}

// Sink adds a kind of sink, as Source does.
func Sink[C any](r *Register, kind string, open func(context.Context, C, gantry.Egress) (gantry.Sink, error)) {
	add(r, gantry.AtSink, kind, open)
}

// Archive adds a kind of archive that is asked for counts, as Source does.
func Archive[C any](r *Register, kind string, open func(context.Context, C, gantry.Egress) (gantry.Expecting, error)) {
	add(r, gantry.AtArchive, kind, open)
}

func add[C, P any](r *Register, role gantry.Boundary, kind string, open func(context.Context, C, gantry.Egress) (P, error)) {
	k := key{role, kind}
	if _, taken := r.entries[k]; taken || kind == "" {
		panic(fmt.Sprintf("driver: the kind %q of %s has no name or is there twice", kind, role))
	}
	if _, ok := any(new(C)).(gantry.Targeted); !ok || reflect.TypeFor[C]().Kind() != reflect.Struct {
		panic(fmt.Sprintf("driver: the config of %s %q is no struct with a Target", role, kind))
	}
	r.entries[k] = entry{
		config: func() any { return new(C) },
		open: func(ctx context.Context, config any, egress gantry.Egress) (any, error) {
			switch c := config.(type) {
			case C:
				return open(ctx, c, egress)
			case *C:
				if c != nil {
					return open(ctx, *c, egress)
				}
			}
			return nil, gantry.Errorf(gantry.Illegal, CodeWrongConfig, "open %s of kind %s: its config is a %T", role, kind, config)
		},
	}
}

// Config gives a pointer to a new zero config of a kind, to be filled by the tags of its fields;
// false if there is no such kind at this boundary.
func (r *Register) Config(role gantry.Boundary, kind string) (any, bool) {
	e, ok := r.entries[key{role, kind}]
	if !ok {
		return nil, false
	}
	return e.config(), true
}

// Kinds lists the kinds at a boundary in order of their names.
func (r *Register) Kinds(role gantry.Boundary) []string {
	var kinds []string
	for k := range maps.Keys(r.entries) {
		if k.role == role {
			kinds = append(kinds, k.kind)
		}
	}
	slices.Sort(kinds)
	return kinds
}

// NewSource makes a source from a filled config, which is what Config gave or what that points
// to. An unknown kind is Illegal with code unknown_kind; other errors are the driver's.
func (r *Register) NewSource(ctx context.Context, kind string, config any, egress gantry.Egress) (gantry.Source, error) {
	return open[gantry.Source](ctx, r, gantry.AtSource, kind, config, egress)
}

// NewProcessor makes a processor, as NewSource does.
func (r *Register) NewProcessor(ctx context.Context, kind string, config any, egress gantry.Egress) (gantry.Processor, error) {
	return open[gantry.Processor](ctx, r, gantry.AtProcessor, kind, config, egress)
}

// NewSink makes a sink, as NewSource does.
func (r *Register) NewSink(ctx context.Context, kind string, config any, egress gantry.Egress) (gantry.Sink, error) {
	return open[gantry.Sink](ctx, r, gantry.AtSink, kind, config, egress)
}

// NewArchive makes an archive, as NewSource does.
func (r *Register) NewArchive(ctx context.Context, kind string, config any, egress gantry.Egress) (gantry.Expecting, error) {
	return open[gantry.Expecting](ctx, r, gantry.AtArchive, kind, config, egress)
}

func open[P any](ctx context.Context, r *Register, role gantry.Boundary, kind string, config any, egress gantry.Egress) (P, error) {
	var none P
	e, ok := r.entries[key{role, kind}]
	if !ok {
		return none, gantry.Errorf(gantry.Illegal, CodeUnknownKind, "open %s: no kind %q, only %s", role, kind, strings.Join(r.Kinds(role), ", "))
	}
	p, err := e.open(ctx, config, egress)
	if err != nil {
		return none, err
	}
	return p.(P), nil
}
