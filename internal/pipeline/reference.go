package pipeline

import (
	"fmt"
	"reflect"
	"slices"
	"strings"
)

// Reference gives the keys of pipeline files as tables in Markdown, section by section: what each
// means, its values, bounds and default. docs/pipeline.md holds it.
func Reference(k Kinds) string {
	r := &reference{kinds: kinds{k}}
	r.section("The file", reflect.ValueOf(new(file)).Elem(), "")
	r.section("`group`", reflect.ValueOf(new(group)).Elem(), "")
	r.section("`expect` of `group`", reflect.ValueOf(new(archive)).Elem(), "archive")
	r.section("`extract`", reflect.ValueOf(new(extract)).Elem(), "")
	r.section("An entry of `stages`", reflect.ValueOf(new(stage)).Elem(), "")
	r.section("An entry of `sources`", reflect.ValueOf(new(inlet)).Elem(), "source")
	r.section("An entry of `processors`", reflect.ValueOf(new(process)).Elem(), "processor")
	r.section("`limits` of a processor", reflect.ValueOf(new(callLimits)).Elem(), "")
	r.section("`breaker` of these", reflect.ValueOf(new(breaker)).Elem(), "")
	r.section("An entry of `sinks`", reflect.ValueOf(new(outlet)).Elem(), "sink")
	r.section("An entry of `auth`", reflect.ValueOf(new(auth)).Elem(), "auth")
	r.section("`limits`", reflect.ValueOf(new(fileLimits)).Elem(), "")
	r.section("`timeouts`", reflect.ValueOf(new(timeouts)).Elem(), "")
	r.section("`retry`", reflect.ValueOf(new(retry)).Elem(), "")
	r.section("An entry of `move_if`", reflect.ValueOf(new(moveRule)).Elem(), "")
	r.section("An entry of `tests`", reflect.ValueOf(new(test)).Elem(), "")
	r.section("`expect` of a test", reflect.ValueOf(new(expect)).Elem(), "")
	r.functions()
	return strings.TrimRight(r.b.String(), "\n") + "\n"
}

type reference struct {
	kinds kinds
	b     strings.Builder
}

func (r *reference) line(format string, args ...any) { fmt.Fprintf(&r.b, format+"\n", args...) }

// section writes the table of a struct, and of each kind that it may be.
func (r *reference) section(title string, v reflect.Value, role string) {
	r.line("### %s\n", title)
	s := schemaOf(v)
	r.table(s.fields)
	if later := r.later(s, role); len(later) > 0 {
		r.line("In a later release: `%s`.\n", strings.Join(later, "`, `"))
	}
	if role == "" {
		return
	}
	for _, kind := range r.kinds.names(role) {
		config, ok := r.kinds.config(role, kind)
		if !ok {
			continue
		}
		r.line("#### `kind: %s`\n", kind)
		fields := schemaOf(reflect.ValueOf(config).Elem()).fields
		r.table(fields)
		for _, f := range fields {
			if f.v.Kind() == reflect.Struct && !scalar(f.v.Type()) {
				r.line("##### `%s` of `kind: %s`\n", f.name, kind)
				r.table(schemaOf(f.v).fields)
			}
			if t := f.v.Type(); t.Kind() == reflect.Slice && t.Elem().Kind() == reflect.Struct {
				r.line("##### Entries of `%s` of `kind: %s`\n", f.name, kind)
				r.table(schemaOf(reflect.New(t.Elem()).Elem()).fields)
			}
		}
	}
}

// later lists the keys of a later release, without those that a kind has already.
func (r *reference) later(s schema, role string) []string {
	if role == "" {
		return s.later
	}
	return slices.DeleteFunc(slices.Clone(s.later), func(name string) bool {
		for _, kind := range r.kinds.names(role) {
			if config, ok := r.kinds.config(role, kind); ok {
				if _, has := schemaOf(reflect.ValueOf(config).Elem()).field(name); has {
					return true
				}
			}
		}
		return false
	})
}

func (r *reference) table(fields []field) {
	r.line("| key | value | default | meaning |\n|---|---|---|---|")
	for _, f := range fields {
		def := f.tag.Get("default")
		switch _, has := f.tag.Lookup("default"); {
		case f.tag.Get("required") == "true":
			def = "*required*"
		case has && f.v.Kind() == reflect.Slice:
			def = "`[" + strings.Join(strings.Fields(def), ", ") + "]`"
		case has:
			def = "`" + def + "`"
		}
		r.line("| `%s` | %s | %s | %s |", f.name, valueOf(f), def, strings.ReplaceAll(f.tag.Get("doc"), "|", "\\|"))
	}
	r.line("")
}

// valueOf says in a few words what may stand behind a key.
func valueOf(f field) string {
	t := f.v.Type()
	if names := strings.Fields(f.tag.Get("one")); len(names) > 0 {
		words := "`" + strings.Join(names, "`, `") + "`"
		if t.Kind() == reflect.Slice {
			return "list of " + words
		}
		return words
	}
	switch {
	case t == anyType:
		return "anything"
	case !scalar(t):
		return collection(f)
	}
	out := map[reflect.Type]string{
		durationType: "duration", secretRefType: "reference to a secret", expressionType: "expression",
		reflect.TypeFor[Size](): "size", reflect.TypeFor[Rate](): "rate", reflect.TypeFor[sample](): "rate or number",
		reflect.TypeFor[need](): "`all`, `any` or a number", reflect.TypeFor[outputs](): "`any` or a number",
		reflect.TypeFor[window](): "`file`, `full`, `stored` or center/width", reflect.TypeFor[priority](): "`urgent`, `normal`, `offpeak` or expression",
	}[t]
	switch {
	case out != "":
	case t.Kind() == reflect.Bool:
		out = "`true`, `false`"
	case bare(t):
		out = "number"
	default:
		out = "text"
	}
	return out + span(f.tag.Get("min"), f.tag.Get("max"))
}

func collection(f field) string {
	t := f.v.Type()
	switch {
	case t.Kind() == reflect.Struct:
		return "see below"
	case f.tag.Get("names") == "true":
		return "entries by name"
	case t.Kind() == reflect.Map:
		return "entries by any text"
	case f.tag.Get("single") == "true":
		return "text, or list"
	}
	return "list"
}

func span(low, high string) string {
	switch {
	case low == "" && high == "":
		return ""
	case high == "":
		return " from " + low
	case low == "":
		return " up to " + high
	}
	return ", " + low + " to " + high
}

// functions writes what expressions know, whatever the file.
func (r *reference) functions() {
	r.line("### What expressions know\n")
	r.line("| where | name | type | meaning |\n|---|---|---|---|")
	steps := []step{{"STAGE", []string{"PROCESSOR"}}, {"this", []string{"PROCESSOR"}}}
	for _, at := range []struct {
		where string
		env   shape
	}{{"`when` and `priority` of the file", taskShape()}, {"`when` of a stage", stageShape(steps, false)}, {"`keep_if` of a stage", stageShape(steps, true)}} {
		for _, v := range at.env.variables("") {
			r.line("| %s | `%s` | %s | %s |", at.where, v.Name, v.Type, v.Doc)
		}
	}
	r.line("\n| function | gives |\n|---|---|")
	names := make([]string, 0, len(functions))
	for name := range functions {
		names = append(names, name)
	}
	slices.Sort(names)
	for _, name := range names {
		r.line("| `%s(x)` | %s |", name, functions[name].doc)
	}
}
