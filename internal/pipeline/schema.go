package pipeline

import (
	"bytes"
	"encoding/json"
	"fmt"
	"reflect"
	"strings"
)

const (
	schemaDialect = "https://json-schema.org/draft/2020-12/schema"

	variablePattern = `\$\{env:[A-Za-z_][A-Za-z0-9_]*\}`
	secretPattern   = `^\$\{(env:[A-Za-z_][A-Za-z0-9_]*|file:/[^{}$]+)\}$`
	durationPattern = `^([0-9]{1,4}d)?([0-9]+(\.[0-9]*)?(ns|us|µs|ms|s|m|h))*$`
	numberPattern   = `[-+]?[0-9.]+([eE][-+]?[0-9]+)?`
)

// object is a JSON Schema, or a part of one.
type object = map[string]any

// Schema gives the JSON Schema (draft 2020-12) of pipeline files, for editors: the keys of the grammar
// and of the drivers with their types, names, bounds and defaults. What spans several keys, and
// whether a name is defined, only Parse can tell.
func Schema(k Kinds) ([]byte, error) {
	w := &schemaWriter{kinds: kinds{k}, defs: object{}}
	root := w.object(reflect.ValueOf(new(file)).Elem(), "")
	root["$schema"], root["title"], root["$defs"] = schemaDialect, "gantry pipeline", w.defs
	root["required"] = append(root["required"].([]any), "gantry")
	root["properties"].(object)["gantry"].(object)["const"] = "v1"
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	e.SetIndent("", "  ")
	if err := e.Encode(root); err != nil {
		return nil, fmt.Errorf("write the schema: %w", err)
	}
	return b.Bytes(), nil
}

// described is a scalar type of the grammar that says what texts it takes.
type described interface{ schema() object }

func (Size) schema() object {
	return object{"type": "string", "pattern": "^[0-9]+(B|KiB|MiB|GiB|TiB)$"}
}
func (Rate) schema() object {
	return object{"type": "string", "pattern": "^" + numberPattern + "/[smh]$"}
}
func (need) schema() object {
	return object{"anyOf": []any{object{"enum": []any{"all", "any"}}, object{"type": "integer", "minimum": 1, "maximum": maxEntries}}}
}
func (sample) schema() object {
	return object{"anyOf": []any{Rate(0).schema(), object{"type": "number", "exclusiveMinimum": 0}}}
}
func (window) schema() object {
	return object{"type": "string", "pattern": "^(file|full|stored|" + numberPattern + "/" + numberPattern + ")$"}
}
func (outputs) schema() object {
	return object{"anyOf": []any{object{"enum": []any{"any"}}, object{"type": "integer", "minimum": 0}}}
}

type schemaWriter struct {
	kinds kinds
	defs  object // what goes with each kind
}

// object describes a mapping that a struct is decoded from, whose kinds are those of a role.
func (w *schemaWriter) object(v reflect.Value, role string) object {
	s := schemaOf(v)
	if s.kind.IsValid() && s.kind.IsNil() {
		return w.choice(v, role)
	}
	properties, required := object{}, []any{}
	for _, f := range s.fields {
		properties[f.name] = w.field(f)
		if f.tag.Get("required") == "true" {
			required = append(required, f.name)
		}
	}
	out := object{"type": "object", "properties": properties, "additionalProperties": false}
	if len(required) > 0 {
		out["required"] = required
	}
	return out
}

// choice describes a mapping whose other keys go with its kind.
func (w *schemaWriter) choice(v reflect.Value, role string) object {
	var names, rules []any
	for _, kind := range w.kinds.names(role) {
		config, ok := w.kinds.config(role, kind)
		if !ok {
			continue
		}
		of := reflect.New(v.Type()).Elem()
		schemaOf(of).kind.Set(reflect.ValueOf(config))
		def := w.object(of, role)
		def["properties"].(object)["kind"] = object{"const": kind}
		name := role + "-" + kind
		w.defs[name] = def
		names = append(names, kind)
		rules = append(rules, object{
			"if":   object{"required": []any{"kind"}, "properties": object{"kind": object{"const": kind}}},
			"then": object{"$ref": "#/$defs/" + name},
		})
	}
	return object{
		"type": "object", "required": []any{"kind"}, "allOf": rules,
		"properties": object{"kind": object{"enum": names, "description": "The driver."}},
	}
}

// field describes the value of one key.
func (w *schemaWriter) field(f field) object {
	out := w.value(f)
	if doc := f.tag.Get("doc"); doc != "" {
		out["description"] = doc
	}
	if text, ok := f.tag.Lookup("default"); ok {
		out["default"] = defaultValue(f, text)
	}
	return out
}

func (w *schemaWriter) value(f field) object {
	t := f.v.Type()
	switch {
	case t == anyType:
		return object{}
	case scalar(t):
		return scalarSchema(f)
	case t.Kind() == reflect.Struct:
		return w.object(f.v, f.tag.Get("role"))
	case t.Kind() == reflect.Slice:
		return w.list(f)
	}
	out := object{"type": "object", "maxProperties": maxEntries,
		"additionalProperties": w.value(field{f.name, reflect.New(t.Elem()).Elem(), f.tag})}
	if f.tag.Get("names") == "true" {
		out["propertyNames"] = object{"pattern": namePattern.String()}
	}
	return out
}

func (w *schemaWriter) list(f field) object {
	each := w.value(field{f.name, reflect.New(f.v.Type().Elem()).Elem(), f.tag})
	out := object{"type": "array", "items": each, "maxItems": maxEntries}
	if f.v.Type().Elem().Kind() == reflect.String {
		out["uniqueItems"] = true
	}
	if f.tag.Get("required") == "true" {
		out["minItems"] = 1
	}
	if f.tag.Get("single") == "true" {
		return object{"anyOf": []any{each, out}}
	}
	return out
}

// scalarSchema describes one word.
func scalarSchema(f field) object {
	t := f.v.Type()
	if d, ok := f.v.Interface().(described); ok {
		return d.schema()
	}
	switch {
	case t == durationType:
		return object{"type": "string", "minLength": 1, "pattern": durationPattern}
	case t == secretRefType:
		return object{"type": "string", "pattern": secretPattern}
	case t == expressionType:
		return object{"type": "string", "minLength": 1, "maxLength": maxExpression}
	case t.Kind() == reflect.Bool:
		return object{"type": "boolean"}
	case bare(t):
		return bounds(f)
	}
	out := object{"type": "string"}
	if names := strings.Fields(f.tag.Get("one")); len(names) > 0 {
		return object{"anyOf": []any{object{"enum": anys(names)}, object{"type": "string", "pattern": variablePattern}}}
	}
	if f.tag.Get("required") == "true" || f.tag.Get("filled") == "true" {
		out["minLength"] = 1
	}
	return out
}

func bounds(f field) object {
	out := object{"type": "number"}
	if f.v.CanInt() {
		out["type"] = "integer"
	}
	for tag, key := range map[string]string{"min": "minimum", "max": "maximum"} {
		if text := f.tag.Get(tag); text != "" {
			out[key] = json.Number(text)
		}
	}
	return out
}

// defaultValue is a default as it would stand in a file.
func defaultValue(f field, text string) any {
	switch {
	case f.v.Kind() == reflect.Slice:
		return anys(strings.Fields(text))
	case f.v.Kind() == reflect.Bool:
		return text == "true"
	case bare(f.v.Type()):
		return json.Number(text)
	}
	return text
}

func anys(names []string) []any {
	out := make([]any, len(names))
	for i, n := range names {
		out[i] = n
	}
	return out
}
