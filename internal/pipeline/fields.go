package pipeline

import (
	"encoding"
	"fmt"
	"reflect"
	"slices"
	"strings"
)

// The tags of a field, in the grammar and in drivers' configs alike:
//
//	yaml:"url"         its key; a field without it is no part of the file
//	doc:"…"            what it means, for the reference and the schema
//	required:"true"    it must be there and not be empty
//	filled:"true"      it may be absent, but not empty: that would be taken for absent
//	default:"5m"       what stands in for it, as written in a file
//	min:"1" max:"9"    bounds of a number, duration, size or rate, as written in a file
//	one:"fail skip"    the names it knows
//	later:"tar 7z"     names that a later release knows; on a blank field, keys
//	soon:"true"        its key belongs to a later release, which lays down here what it will mean
//	path:"true"        a path, relative to the folder of the pipeline file
//	bucket:"true"      a path, or s3://bucket/prefix
//	single:"true"      a list whose only entry may stand without brackets
//	names:"true"       a map whose keys are names that other places refer to
//	role:"source"      whose kinds the entries of a map are
//	version:"no"       it is no part of the resolved pipeline, nor of the version
//
// A struct embedded in another shares its mapping. A field tagged yaml:",kind" holds a pointer to
// the struct that goes with the value of the key kind, and that shares the mapping too.

// field is one key that a mapping may have.
type field struct {
	name string
	v    reflect.Value
	tag  reflect.StructTag
}

// schema is what one mapping may hold.
type schema struct {
	fields []field
	later  []string
	kind   reflect.Value // the field for the config that goes with kind; invalid if there is none
}

// schemaOf lists the fields of a struct, with those of embedded structs and of the config that its
// kind has brought in. The last definition of a key wins, so a driver may take over a key.
func schemaOf(v reflect.Value) schema {
	var s schema
	for i := range v.NumField() {
		f := v.Type().Field(i)
		name := f.Tag.Get("yaml")
		switch {
		case f.Name == "_":
			s.later = append(s.later, strings.Fields(f.Tag.Get("later"))...)
		case name == ",kind":
			s.kind = v.Field(i)
		case f.Anonymous && name == "":
			s.join(schemaOf(v.Field(i)))
		case f.Tag.Get("soon") == "true":
			s.later = append(s.later, name)
		case name != "" && name != "-":
			s.fields = append(s.fields, field{name, v.Field(i), f.Tag})
		}
	}
	if config := s.kind; config.IsValid() && !config.IsNil() {
		s.join(schemaOf(config.Elem().Elem()))
	}
	return s
}

func (s *schema) join(t schema) {
	for _, f := range t.fields {
		s.fields = slices.DeleteFunc(s.fields, func(g field) bool { return g.name == f.name })
		s.fields = append(s.fields, f)
	}
	s.later = append(s.later, t.later...)
	if t.kind.IsValid() {
		s.kind = t.kind
	}
}

func (s schema) field(name string) (field, bool) {
	for _, f := range s.fields {
		if f.name == name {
			return f, true
		}
	}
	return field{}, false
}

func (s schema) names() []string {
	names := make([]string, len(s.fields))
	for i, f := range s.fields {
		names[i] = f.name
	}
	return names
}

// scalar tells whether values of the type are written as one word.
func scalar(t reflect.Type) bool {
	if reflect.PointerTo(t).Implements(reflect.TypeFor[encoding.TextUnmarshaler]()) {
		return true
	}
	return t.Kind() != reflect.Struct && t.Kind() != reflect.Slice && t.Kind() != reflect.Map
}

// setDefault gives a field that is absent its default, and so the fields of a struct.
func setDefault(f field) {
	text, ok := f.tag.Lookup("default")
	switch {
	case !scalar(f.v.Type()) && f.v.Kind() == reflect.Struct:
		for _, g := range schemaOf(f.v).fields {
			setDefault(g)
		}
	case !ok:
	case f.v.Kind() == reflect.Slice:
		f.v.Set(reflect.ValueOf(strings.Fields(text)).Convert(f.v.Type()))
	default:
		if err := setText(f.v, text); err != nil {
			panic(fmt.Sprintf("pipeline: default of %s: %v", f.name, err))
		}
	}
}

// bare tells whether values of the type stand without quotes: true, 5, 2.5.
func bare(t reflect.Type) bool {
	if t == durationType || reflect.PointerTo(t).Implements(reflect.TypeFor[encoding.TextUnmarshaler]()) {
		return false
	}
	return t.Kind() == reflect.Bool || t.Kind() == reflect.Int || t.Kind() == reflect.Int64 || t.Kind() == reflect.Float64
}
