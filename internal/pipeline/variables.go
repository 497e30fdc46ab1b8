package pipeline

import (
	_ "embed"
	"maps"
	"slices"
	"strings"

	"github.com/expr-lang/expr/types"

	"github.com/gantry-imaging/gantry/internal/gantry"
)

// Variable is one name that an expression may use.
type Variable struct {
	Name string // as it is written: dicom.<Keyword>, stages.models.lvef
	Type string // text, number, list, or any
	Doc  string
}

// Field is one expression field of a pipeline file with what it may speak of.
type Field struct {
	Path      string // priority, when, stages.models.when, stages.models.keep_if
	Variables []Variable
}

// shape is what is known of a value before there is one: an object with fields, a list, or any
// value at all.
type shape struct {
	kind   string           // text, number, bool, any, object, list, keywords, texts
	fields map[string]shape // of an object
	elem   *shape           // of a list
	doc    string
	why    string // of an object: what to say of a field that it does not have

	recorded bool // of all: the expression is of a version that tasks began with, to which bounds that came later do not apply
}

func text(doc string) shape   { return shape{kind: "text", doc: doc} }
func number(doc string) shape { return shape{kind: "number", doc: doc} }

// dicomShape is the tags of a DICOM file by keyword (PS3.6 chapter 6).
var dicomShape = shape{kind: "keywords", doc: "an attribute by its DICOM keyword; empty if the file has none, or is no DICOM file"}

// taskShape is what the when of a whole file knows.
func taskShape() shape {
	return shape{kind: "object", fields: map[string]shape{
		"dicom": dicomShape,
		"object": {kind: "object", fields: map[string]shape{
			"size": number("its bytes"), "media": text("its media type, by content"), "source": text("the name of the source it came from"),
			"count": number("how many objects there are, of a collection; empty of one object alone. The size is then that of all, the type the one that all have"),
		}},
		"items": {kind: "object", fields: map[string]shape{"count": number("how many files and frames the task holds after extracting")}},
	}}
}

// failureShape is what a rule of move_if knows.
func failureShape() shape {
	return shape{kind: "object", fields: map[string]shape{
		"error": {kind: "object", fields: map[string]shape{
			"kind":  text("transient, timeout, unavailable, bad_response, denied, not_found, permanent or illegal"),
			"code":  text("the reason code"),
			"stage": text("the name of the stage that failed; empty in other states"),
		}},
		"state":   text("the state that failed: queued, extracting, ingesting, inferring or responding"),
		"attempt": number("which try of the state it was, from 1"),
		"leg":     number("how often the task was moved before"),
	}}
}

// step is what later expressions may say about a stage.
type step struct {
	name string
	call []string
}

// stageShape is what an expression of the last of the steps knows; keepIf tells which of the two.
func stageShape(steps []step, keepIf bool) shape {
	earlier, own := steps[:len(steps)-1], steps[len(steps)-1]
	answer := shape{kind: "object", fields: map[string]shape{
		"ok": {kind: "bool", doc: "whether it answered"}, "result": {kind: "any", doc: "the JSON that it answered"},
	}}
	stages := shape{kind: "object", fields: map[string]shape{}, why: "it speaks of earlier stages only"}
	for _, s := range earlier {
		of := shape{kind: "object", fields: map[string]shape{}}
		for _, c := range s.call {
			of.fields[c] = shape{kind: "list", elem: &answer, doc: "what it answered for each origin, in their order"}
		}
		stages.fields[s.name] = of
	}
	root := shape{kind: "object", fields: map[string]shape{
		"dicom":  dicomShape,
		"stages": stages,
		"item": {kind: "object", fields: map[string]shape{
			"media": text("its media type, by content"), "size": number("its bytes; 0 of a frame of a DICOM file"),
			"frame": number("which frame of its file it is, from 1; 0 if it is no frame"), "index": number("its place among the task's origins, from 0"),
		}},
	}}
	if !keepIf {
		root.why = "result and results are for keep_if: before a call there is no answer"
		return root
	}
	results := shape{kind: "object", fields: map[string]shape{}}
	for _, c := range own.call {
		results.fields[c] = shape{kind: "any", doc: "the JSON that this processor answered"}
	}
	root.fields["results"] = results
	if len(own.call) == 1 {
		root.fields["result"] = shape{kind: "any", doc: "the JSON that the processor answered"}
	} else {
		root.why = "a stage with several processors has results.<processor>"
	}
	return root
}

// typ is the shape for the type checker.
func (s shape) typ() types.Type {
	switch s.kind {
	case "text":
		return types.String
	case "number":
		return types.Int
	case "bool":
		return types.Bool
	case "keywords", "texts":
		return types.TypeOf(map[string]string{})
	case "list":
		return types.Array(s.elem.typ())
	case "object":
		m := types.Map{}
		for k, f := range s.fields {
			m[k] = f.typ()
		}
		return m
	}
	return types.Any
}

// names lists the fields that an object has, or the keywords there are.
func (s shape) names() []string {
	if s.kind == "keywords" {
		return keywords()
	}
	return slices.Sorted(maps.Keys(s.fields))
}

// has tells whether there may be a field of the name.
func (s shape) has(name string) bool {
	switch s.kind {
	case "object":
		_, ok := s.fields[name]
		return ok
	case "keywords":
		return !strings.Contains(name, "\n") && strings.Contains("\n"+keywordLines, "\n"+name+"\n")
	}
	return true
}

// variables lists the leaves of a shape under their whole names.
func (s shape) variables(name string) []Variable {
	switch s.kind {
	case "object":
		var out []Variable
		for _, k := range s.names() {
			out = append(out, s.fields[k].variables(member(name, k))...)
		}
		return out
	case "keywords":
		return []Variable{{name + ".<Keyword>", "text", s.doc}}
	case "texts":
		return []Variable{{name + ".<name>", "text", s.doc}}
	case "list":
		return append([]Variable{{name, "list", s.doc}}, s.elem.variables(name+"[0]")...)
	}
	return []Variable{{name, s.kind, s.doc}}
}

// member writes a field's name behind its object's.
func member(object, name string) string {
	switch {
	case object == "":
		return name
	case strings.Contains(name, "-") || name[0] >= '0' && name[0] <= '9':
		return object + `["` + name + `"]`
	}
	return object + "." + name
}

// Variables lists what each expression field of a pipeline knows, whether or not it is used.
func Variables(p *gantry.Pipeline) []Field {
	fields := []Field{{"when", taskShape().variables("")}}
	var steps []step
	for _, s := range p.Stages {
		steps = append(steps, step{s.Name, s.Call})
		fields = append(fields,
			Field{"stages." + s.Name + ".when", stageShape(steps, false).variables("")},
			Field{"stages." + s.Name + ".keep_if", stageShape(steps, true).variables("")})
	}
	if len(p.MoveIf) > 0 {
		fields = append(fields, Field{"move_if", failureShape().variables("")})
	}
	fields = append(fields, Field{"priority", taskShape().variables("")})
	for _, e := range p.Sources {
		if known, ok := factsOf(e.Config); ok {
			fields = append(fields, Field{"sources." + e.Name + ".when", arrivalShape(e.Kind, known).variables("")})
		}
	}
	return fields
}

//go:embed keywords.txt
var keywordLines string

// keywords are the attributes' keywords of the DICOM data dictionary (PS3.6 chapter 6), sorted.
func keywords() []string { return strings.Fields(keywordLines) }
