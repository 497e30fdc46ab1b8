package pipeline

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"reflect"
	"regexp"
	"slices"
	"strings"

	"github.com/expr-lang/expr/ast"
	"github.com/expr-lang/expr/checker"
	"github.com/expr-lang/expr/compiler"
	"github.com/expr-lang/expr/parser"
	"github.com/expr-lang/expr/vm"

	"github.com/gantry-imaging/gantry/internal/gantry"
)

// ordering is what a file says about which of its tasks go first.
type ordering struct {
	Priority priority    `yaml:"priority" default:"normal" version:"no" doc:"Which tasks go first: urgent, normal or offpeak, or an expression that gives one of these words or a number from 0, the most urgent, to 9; docs/order.md."`
	Order    string      `yaml:"order" default:"arrival" one:"arrival finish_first" version:"no" doc:"finish_first lets tasks that have reached inference go before tasks of the same priority that have not."`
	OffPeak  []offWindow `yaml:"offpeak" single:"true" version:"no" doc:"When tasks of priority offpeak are begun, as days, hours and time zone: mon-fri 22:00-06:00 Europe/Berlin. Without it at any time."`
}

// priority is a task's place in the order of work: by its name, or by an expression.
type priority struct {
	fixed int16
	text  string // of an expression
}

var priorityNames = map[string]int16{"urgent": gantry.PriorityUrgent, "normal": gantry.PriorityNormal, "offpeak": gantry.PriorityOffPeak}

var wordPattern = regexp.MustCompile(`^[A-Za-z0-9_-]+$`)

// UnmarshalText reads urgent, normal or offpeak, or an expression, which is compiled later.
func (p *priority) UnmarshalText(b []byte) error {
	text := string(b)
	if n, ok := priorityNames[text]; ok {
		*p = priority{fixed: n}
		return nil
	}
	switch names := []string{"urgent", "normal", "offpeak"}; {
	case wordPattern.MatchString(text) || strings.TrimSpace(text) == "":
		return fmt.Errorf("%s is not one of %s%s", short(text), strings.Join(names, ", "), didYouMean(nearest(text, names)))
	case len(text) > maxExpression:
		return fmt.Errorf("%d bytes, more than the %d of an expression", len(text), maxExpression)
	case strings.ContainsFunc(text, func(c rune) bool { return !printable(c) }):
		return errors.New("it holds a control character")
	case strings.Contains(text, "${"):
		return errors.New("no variables are put into expressions")
	}
	*p = priority{fixed: gantry.PriorityNormal, text: text}
	return nil
}

// MarshalText gives what UnmarshalText reads.
func (p priority) MarshalText() ([]byte, error) {
	for name, n := range priorityNames {
		if p.text == "" && p.fixed == n {
			return []byte(name), nil
		}
	}
	return []byte(p.text), nil
}

func (priority) schema() object {
	return object{"anyOf": []any{object{"enum": []any{"urgent", "normal", "offpeak"}},
		object{"type": "string", "pattern": "[^A-Za-z0-9_-]", "maxLength": maxExpression}}}
}

// offWindow is a time of the week.
type offWindow struct{ gantry.Window }

// UnmarshalText reads what gantry.ParseWindow does.
func (w *offWindow) UnmarshalText(b []byte) (err error) {
	if w.Window, err = gantry.ParseWindow(string(b)); err != nil {
		return fmt.Errorf("%s: %w", short(string(b)), err)
	}
	return nil
}

// MarshalText gives the window in its one spelling.
func (w offWindow) MarshalText() ([]byte, error) { return []byte(w.String()), nil }

func (offWindow) schema() object {
	days, hour := `(sun|mon|tue|wed|thu|fri|sat)(-(sun|mon|tue|wed|thu|fri|sat))?`, `[0-2][0-9]:[0-5][0-9]`
	return object{"type": "string", "pattern": `^\s*(` + days + `(,` + days + `)*\s+)?` + hour + `-` + hour + `\s+[A-Za-z0-9_+/-]+\s*$`}
}

// build makes the order that a file describes.
func (o ordering) build(rank *ranking) gantry.Order {
	out := gantry.Order{FinishFirst: o.Order == "finish_first"}
	for _, w := range o.OffPeak {
		out.OffPeak = append(out.OffPeak, w.Window)
	}
	if rank != nil {
		out.Ranking = rank
	}
	return out
}

// compileRanking makes the expression of a priority ready to run, if it is one.
func (d *decoder) compileRanking(o ordering) *ranking {
	if o.Priority.text == "" {
		return nil
	}
	env := taskShape()
	env.recorded = d.resolved
	c, mistakes := compileRanking(o.Priority.text, env)
	n := d.placeOf("priority").value
	for _, m := range mistakes {
		line, col := d.within(n, m.at)
		d.add(line, col, "priority: %s", m.text)
	}
	return c
}

// FormatOrder gives an order as JSON in the keys of the file, for processes that have not read its file.
func FormatOrder(o gantry.Order) string {
	var windows []string
	for _, w := range o.OffPeak {
		windows = append(windows, w.String())
	}
	out := map[string]any{}
	if o.Ranking != nil {
		out["priority"] = o.Ranking.String()
	}
	if o.FinishFirst {
		out["order"] = "finish_first"
	}
	if len(windows) > 0 {
		out["offpeak"] = windows
	}
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	if err := e.Encode(out); err != nil {
		panic(fmt.Sprintf("pipeline: write an order: %v", err)) // texts
	}
	return strings.TrimSpace(b.String())
}

// ParseOrder reads what FormatOrder gives; an empty text is the order of a file that says nothing about it. What does
// not fit the grammar of this release gives Problems.
func ParseOrder(text string) (gantry.Order, error) {
	if text == "" {
		text = "{}"
	}
	r := newReport("order", []byte(text))
	d := newDecoder(r, nil)
	d.resolved = true
	var o ordering
	var rank *ranking
	if r.tree([]byte(text), maxResolved) != nil {
		d.object(r.root, "", reflect.ValueOf(&o).Elem(), "")
		rank = d.compileRanking(o)
	}
	return o.build(rank), r.err()
}

// ranking is a compiled expression that gives a priority. It holds nothing of an evaluation.
type ranking struct {
	text    string
	program *vm.Program
}

// String gives the expression as it stands in the file.
func (r *ranking) String() string { return r.text }

const errNoPriority = unfit("what it gives is neither urgent, normal or offpeak nor a whole number from 0 to 9")

// Of gives the priority for variables; package doc says which. ok is false where the expression gives nothing.
func (r *ranking) Of(vars map[string]any) (p int16, ok bool, err error) {
	v, err := evaluate(r.program, vars)
	if err != nil {
		return 0, false, err
	}
	if v == nil || v == "" {
		return 0, false, nil
	}
	if name, is := v.(string); is {
		if p, ok = priorityNames[name]; ok {
			return p, true, nil
		}
	}
	if f, is := asNumber(v); is && f >= 0 && f <= float64(gantry.LeastUrgent) && f == float64(int16(f)) {
		return int16(f), true, nil
	}
	return 0, false, gantry.Errorf(gantry.Illegal, CodeBadExpression, "evaluate expression: %w", errNoPriority)
}

// compileRanking checks an expression that gives a priority against what it may know.
func compileRanking(src string, env shape) (*ranking, []mistake) {
	tree, mistakes := checked(src, env, false)
	if len(mistakes) > 0 {
		return nil, mistakes
	}
	if mistakes := badPriorities(tree.Node); len(mistakes) > 0 {
		return nil, mistakes
	}
	program, err := rewrittenAs(src, false)
	if err != nil {
		return nil, []mistake{located(err)}
	}
	return &ranking{src, program}, nil
}

// badPriorities finds among what an expression may give, as far as it stands there in so many words, what is no
// priority.
func badPriorities(n ast.Node) []mistake {
	at := n.Location().From
	switch n := n.(type) {
	case *ast.ConditionalNode:
		return append(badPriorities(n.Exp1), badPriorities(n.Exp2)...)
	case *ast.StringNode:
		if _, ok := priorityNames[n.Value]; !ok {
			names := slices.Sorted(maps.Keys(priorityNames))
			return []mistake{{at, short(n.Value) + " is not one of urgent, normal, offpeak" + didYouMean(nearest(n.Value, names))}}
		}
		return nil
	case *ast.IntegerNode:
		if n.Value < 0 || n.Value > int(gantry.LeastUrgent) {
			return []mistake{{at, fmt.Sprintf("%d is not between 0 and %d", n.Value, gantry.LeastUrgent)}}
		}
		return nil
	case *ast.NilNode:
		return nil
	}
	switch t := n.Type(); {
	case t == nil:
		return nil
	case t.Kind() == reflect.Bool:
		return []mistake{{at, "it gives true or false, not urgent, normal, offpeak or a number"}}
	case t.Kind() == reflect.Slice, t.Kind() == reflect.Map:
		return []mistake{{at, "it gives " + plainType(t.String()) + ", not urgent, normal, offpeak or a number"}}
	}
	return nil
}

// checked reads an expression and holds it to what it may know and, of a condition, to true or false.
func checked(src string, env shape, truth bool) (*parser.Tree, []mistake) {
	c := newConfig()
	if !truth {
		c.Expect, c.ExpectAny = reflect.Invalid, false
	}
	c.Env, c.Strict = env.typ().Nature(), true
	declare(c, true)
	tree, err := parser.ParseWithConfig(src, c)
	if err != nil {
		return nil, []mistake{located(err)}
	}
	l := &linter{env: env}
	ast.Walk(&tree.Node, l)
	if len(l.found) > 0 {
		slices.SortStableFunc(l.found, func(a, b mistake) int { return a.at - b.at })
		return nil, l.found
	}
	if _, err := checker.Check(tree, c); err != nil {
		return nil, []mistake{located(err)}
	}
	return tree, nil
}

// rewrittenAs compiles a checked expression with the operators of rewrite.go, as a condition or as what it is.
func rewrittenAs(src string, truth bool) (*vm.Program, error) {
	c := newConfig()
	if !truth {
		c.Expect, c.ExpectAny = reflect.Invalid, false
	}
	declare(c, false)
	tree, err := parser.ParseWithConfig(src, c)
	if err != nil {
		return nil, err
	}
	ast.Walk(&tree.Node, rewriter{})
	if truth {
		tree.Node = call("$truth", tree.Node)
	}
	if _, err := checker.Check(tree, c); err != nil {
		return nil, err
	}
	return compiler.Compile(tree, c)
}
