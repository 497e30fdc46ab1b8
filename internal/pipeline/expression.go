package pipeline

import (
	"errors"
	"fmt"
	"reflect"
	"regexp"
	"regexp/syntax"
	"strings"

	"github.com/expr-lang/expr/ast"
	"github.com/expr-lang/expr/conf"
	source "github.com/expr-lang/expr/file"
	"github.com/expr-lang/expr/vm"

	"github.com/gantry-imaging/gantry/internal/gantry"
)

// expression is a field that holds the text of an expression. Which variables it knows depends on
// where it stands, so it is compiled when the whole file has been read.
type expression string

// Limits on one expression.
const (
	maxExpression = 2048    // bytes
	maxNodes      = 300     // nodes of its tree
	maxPattern    = 2000    // instructions of a regular expression, each of which may look at every character
	maxSteps      = 50_000  // elements of lists that one evaluation looks at
	maxMemory     = 200_000 // elements of lists that one evaluation makes
)

// condition is a compiled expression. It holds nothing of an evaluation, so several may run at once.
type condition struct {
	text    string
	program *vm.Program
}

// String gives the expression as it stands in the file.
func (c *condition) String() string { return c.text }

// mistake is something wrong in an expression, at a place counted in characters from 0.
type mistake struct {
	at   int
	text string
}

// compile checks an expression against what it may know, and makes it ready to run. It gives a
// condition or mistakes.
func compile(src string, env shape) (*condition, []mistake) {
	if _, mistakes := checked(src, env, true); len(mistakes) > 0 {
		return nil, mistakes
	}
	program, err := rewrittenAs(src, true)
	if err != nil {
		return nil, []mistake{located(err)}
	}
	return &condition{src, program}, nil
}

// newConfig is the language without what has an effect, reads a clock, or makes much from little.
func newConfig() *conf.Config {
	c := conf.CreateNew()
	c.MaxNodes, c.Optimize, c.DisableIfOperator = maxNodes, false, true
	for name := range c.Builtins {
		if !predicates[name] {
			c.Disabled[name] = true
		}
	}
	for name := range c.Disabled {
		delete(c.Builtins, name)
	}
	c.Expect, c.ExpectAny = reflect.Bool, true
	return c
}

// predicates are the functions that take an expression about the elements of a list.
var predicates = map[string]bool{"all": true, "any": true, "none": true, "one": true, "count": true, "filter": true, "map": true, "find": true, "sum": true}

// located is an error of the library as a mistake. Its texts quote nothing but the expression.
func located(err error) mistake {
	e, ok := errors.AsType[*source.Error](err)
	if !ok {
		if got, ok := strings.CutPrefix(err.Error(), "expected bool, but got "); ok {
			return mistake{0, "it gives " + plainType(got) + ", not true or false"}
		}
		return mistake{0, plainType(err.Error())}
	}
	text := strings.Replace(plainType(e.Message), "unexpected token EOF", "it ends too early", 1)
	if name, ok := strings.CutPrefix(text, "unknown field "); ok {
		text = "no field " + short(name) + didYouMean(nearest(name, []string{"ok", "result"}))
	}
	return mistake{e.From, text}
}

// typeNames are the library's names of types, and those of the reference.
var typeNames = map[string]string{
	"map[string]interface {}": "object", "map[string]interface{}": "object", "map[string]string": "object", "[]interface {}": "list",
	"string": "text", "float64": "number", "int": "number", "array": "list",
}

var typePattern = regexp.MustCompile(`map\[string\]interface ?\{\}|map\[string\]string|\[\]interface \{\}|\b(string|float64|int|array)\b`)

// plainType says types in the words of the reference.
func plainType(s string) string {
	return typePattern.ReplaceAllStringFunc(s, func(t string) string { return typeNames[t] })
}

// linter finds what the language has and pipeline files have not, and names that nobody knows.
type linter struct {
	env   shape
	found []mistake
}

func (l *linter) note(n ast.Node, format string, args ...any) {
	l.found = append(l.found, mistake{n.Location().From, fmt.Sprintf(format, args...)})
}

// Visit looks at one node.
func (l *linter) Visit(node *ast.Node) {
	switch n := (*node).(type) {
	case *ast.IdentifierNode:
		if _, ok := functions[n.Value]; !ok {
			l.name(n, l.env, n.Value, "")
		}
	case *ast.MemberNode:
		if name, ok := n.Property.(*ast.StringNode); ok {
			if of, path, known := l.shape(n.Node); known {
				l.name(n.Property, of, name.Value, path)
			}
		}
	case *ast.CallNode:
		if _, ok := n.Callee.(*ast.IdentifierNode); !ok {
			l.note(n, "only functions are called")
		}
	case *ast.BinaryNode:
		l.operator(n)
	case *ast.PointerNode:
		if n.Name != "" {
			l.note(n, "unknown name %s", short("#"+n.Name))
		}
	case *ast.VariableDeclaratorNode, *ast.SequenceNode, *ast.SliceNode, *ast.MapNode, *ast.BytesNode:
		l.note(n, "expressions here have no variables of their own, sequences, slices or objects")
	}
}

func (l *linter) operator(n *ast.BinaryNode) {
	switch n.Operator {
	case "..", "**", "^":
		l.note(n, "the operator %s is not among those of pipeline files", n.Operator)
	case "matches":
		if pattern, ok := n.Right.(*ast.StringNode); !ok {
			l.note(n.Right, "what a text must match stands here in quotes")
		} else if size := instructions(pattern.Value); size > maxPattern && !l.env.recorded {
			l.note(n.Right, "the pattern comes to %d instructions; %d are allowed: write shorter repeats", size, maxPattern)
		}
	}
}

// instructions counts those of a regular expression, of which few characters may make many; 0 if it is none.
func instructions(pattern string) int {
	tree, err := syntax.Parse(pattern, syntax.Perl)
	if err != nil {
		return 0 // located says why
	}
	p, err := syntax.Compile(tree.Simplify())
	if err != nil {
		return 0
	}
	return len(p.Inst)
}

// name reports a field that an object does not have.
func (l *linter) name(at ast.Node, of shape, name, path string) {
	if of.has(name) {
		return
	}
	what := "unknown name " + short(name)
	if path != "" {
		what = path + " has no " + short(name)
	}
	if path == "dicom" {
		what = short(name) + " is no DICOM keyword"
	}
	hint := didYouMean(nearest(name, of.names()))
	if hint == "" && of.why != "" {
		hint = "; " + of.why
	}
	l.note(at, "%s%s", what, hint)
}

// shape finds what is known of a node, and how it is written; false if that is nothing, or if its
// mistake is reported elsewhere.
func (l *linter) shape(n ast.Node) (shape, string, bool) {
	switch n := n.(type) {
	case *ast.IdentifierNode:
		s, ok := l.env.fields[n.Value]
		return s, n.Value, ok
	case *ast.ChainNode:
		return l.shape(n.Node)
	case *ast.MemberNode:
		of, path, ok := l.shape(n.Node)
		if !ok {
			return shape{}, "", false
		}
		if name, ok := n.Property.(*ast.StringNode); ok && of.kind == "object" {
			s, ok := of.fields[name.Value]
			return s, member(path, name.Value), ok
		}
		if of.kind == "list" {
			return *of.elem, path + "[]", true
		}
	}
	return shape{}, "", false
}

// Holds gives the expression's value for variables; package doc says which. A field that is missing
// is nil, and so is what is reckoned from it: it equals nothing else, is neither less nor more than
// anything, and does not hold. Values that do not fit their operators, a list that is missing, and
// an evaluation beyond the limits are Illegal with code bad_expression.
func (c *condition) Holds(vars map[string]any) (bool, error) {
	out, err := evaluate(c.program, vars)
	if err != nil {
		return false, err
	}
	holds, ok := out.(bool)
	if !ok {
		return false, gantry.Errorf(gantry.Illegal, CodeBadExpression, "evaluate expression: %w", errNotBool)
	}
	return holds, nil
}

// evaluate runs an expression on variables. Its error says nothing of their values.
func evaluate(program *vm.Program, vars map[string]any) (any, error) {
	env := make(map[string]any, len(vars)+2)
	env["dicom"] = map[string]string(nil) // no DICOM file: every attribute is empty
	for name, v := range vars {
		if v != nil {
			env[name] = v
		}
	}
	env[runName] = &run{}
	machine := vm.VM{MemoryBudget: maxMemory}
	out, err := machine.Run(program, env)
	if err == nil {
		return out, nil
	}
	why := unfit("its values do not fit its operators")
	if e, ok := errors.AsType[unfit](err); ok {
		why = e
	}
	return nil, gantry.Errorf(gantry.Illegal, CodeBadExpression, "evaluate expression: %w", why)
}

// CodeBadExpression is the reason of a condition that could not be evaluated.
const CodeBadExpression gantry.Code = "bad_expression"
