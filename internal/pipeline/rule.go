package pipeline

import (
	"github.com/expr-lang/expr/ast"

	"github.com/gantry-imaging/gantry/internal/gantry"
)

// rule is a condition about an arriving object with what has to be found out before it is asked.
type rule struct {
	*condition
	facts gantry.Facts
}

// Facts says what the expression speaks of.
func (r rule) Facts() gantry.Facts { return r.facts }

// factsOf says which facts the objects of a source have; false if none can be asked about before its bytes are
// there, as of an upload.
func factsOf(config any) (known gantry.Facts, ok bool) {
	if t, is := config.(gantry.Targeted); is && t.Target().Scheme == "upload" {
		return 0, false
	}
	if c, is := config.(gantry.Describing); is {
		known = c.Describes()
	}
	return known | gantry.FactHeader, config != nil
}

// arrivalShape is what a rule about the objects of a source knows.
func arrivalShape(kind string, known gantry.Facts) shape {
	object := shape{kind: "object", why: "objects of a source of kind " + kind + " have none", fields: map[string]shape{
		"key": text("where it lies: its key in the bucket, its path below the folder"), "name": text("the part of its key after the last slash"),
		"size": number("its bytes"), "source": text("the name of the source"),
	}}
	if known.Has(gantry.FactHead) {
		object.fields["content_type"] = text("the media type that it was put with; one request an object")
		object.fields["metadata"] = shape{kind: "texts", doc: "what was put beside it, by a name in small letters; nothing if there is none; one request an object"}
	}
	if known.Has(gantry.FactTags) {
		object.fields["tags"] = shape{kind: "texts", doc: "one of its tags; nothing if it has none of that name; one request an object"}
	}
	dicom := dicomShape
	dicom.doc += "; reads the beginning of the object"
	return shape{kind: "object", fields: map[string]shape{"object": object, "dicom": dicom}}
}

// RuleVariables lists what the rules of a shared source may speak of.
func RuleVariables(s gantry.Shared) []Variable {
	known, _ := factsOf(s.Config)
	return arrivalShape(s.Kind, known).variables("")
}

// compileRule compiles the rule at a path, about the objects of a source.
func (d *decoder) compileRule(path string, e endpoint, when expression) {
	if when == "" || e.Config == nil {
		return
	}
	known, ok := factsOf(e.Config)
	if !ok {
		d.at(d.keyOf(path), "when: nothing is known of an upload before it is there; the when of the pipeline is asked later")
		return
	}
	d.compile(path, when, arrivalShape(e.Kind, known))
	if d.conditions[path] != nil {
		d.facts[path] = factsIn(string(when), known)
	}
}

// rule gives a compiled rule; nil, and no interface that holds nil, if there is none.
func (d *decoder) rule(path string) gantry.Rule {
	if c := d.conditions[path]; c != nil {
		return rule{c, d.facts[path]}
	}
	return nil
}

// factsIn finds what a checked expression speaks of.
func factsIn(src string, known gantry.Facts) gantry.Facts {
	tree, mistakes := checked(src, arrivalShape("", known), true)
	if len(mistakes) > 0 {
		return known
	}
	v := &mentions{}
	ast.Walk(&tree.Node, v)
	if v.whole != v.named { // object stands alone, or its field is reckoned
		return known
	}
	return v.facts & known
}

// mentions collects what an expression speaks of.
type mentions struct {
	facts        gantry.Facts
	whole, named int // how often object stands there, and how often before the name of a field
}

// Visit looks at one node.
func (m *mentions) Visit(node *ast.Node) {
	switch n := (*node).(type) {
	case *ast.IdentifierNode:
		switch n.Value {
		case "object":
			m.whole++
		case "dicom":
			m.facts |= gantry.FactHeader
		}
	case *ast.MemberNode:
		of, isObject := n.Node.(*ast.IdentifierNode)
		name, isName := n.Property.(*ast.StringNode)
		if !isObject || of.Value != "object" || !isName {
			return
		}
		m.named++
		switch name.Value {
		case "content_type", "metadata":
			m.facts |= gantry.FactHead
		case "tags":
			m.facts |= gantry.FactTags
		}
	}
}
