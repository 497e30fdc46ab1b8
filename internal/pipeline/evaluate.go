package pipeline

import (
	"cmp"
	"math"
	"reflect"
	"strings"

	"github.com/expr-lang/expr/builtin"
	"github.com/expr-lang/expr/conf"
)

// unfit is why an evaluation ended; it says nothing of the values.
type unfit string

// Error gives the reason.
func (e unfit) Error() string { return string(e) }

const (
	errNotBool  = unfit("something that is neither true nor false stands where one of them is wanted")
	errNoList   = unfit("something that is no list stands where one is wanted")
	errNoNumber = unfit("something that is no number stands where one is wanted")
	errNoText   = unfit("something that is no text stands where it is wanted")
	errOrder    = unfit("two values are compared that have no order")
	errDeep     = unfit("lists or objects are compared")
	errZero     = unfit("a number is divided by zero")
	errSteps    = unfit("it looks at too many elements of lists, or too much text")
)

// run is one evaluation.
type run struct{ steps int }

// textPerStep is how many bytes of text count as one element of a list.
const textPerStep = 256

const runName = "$run" // no identifier of the language

// charge counts n elements.
func (r *run) charge(n int) error {
	if r.steps += n; r.steps > maxSteps {
		return errSteps
	}
	return nil
}

// read counts what there is to read of a value that is a text.
func (r *run) read(v any) error {
	s, _ := v.(string)
	return r.charge(len(s) / textPerStep)
}

// held holds two values against one another, and counts what there is to read if both are texts.
func held(r *run, a, b any, by func(a, b any) (any, error)) (any, error) {
	s, _ := a.(string)
	t, _ := b.(string)
	if err := r.charge(min(len(s), len(t)) / textPerStep); err != nil {
		return nil, err
	}
	return by(a, b)
}

// internals are the functions that only the rewriter calls.
var internals = map[string]func(p []any) (any, error){
	"$get":     func(p []any) (any, error) { return get(p[1], p[2]), p[0].(*run).read(p[2]) },
	"$truth":   func(p []any) (any, error) { return truth(p[0]) },
	"$equal":   func(p []any) (any, error) { return held(p[0].(*run), p[1], p[2], equal) },
	"$order":   func(p []any) (any, error) { return held(p[0].(*run), p[2], p[3], orderedBy(p[1].(string))) },
	"$reckon":  func(p []any) (any, error) { return reckon(p[0].(string), p[1], p[2]) },
	"$textual": func(p []any) (any, error) { return textual(p[0].(*run), p[1]) },
	"$walk":    func(p []any) (any, error) { return walk(p[0].(*run), p[1]) },
	"$in":      func(p []any) (any, error) { return in(p[0].(*run), p[1], p[2]) },
	"$sum":     func(p []any) (any, error) { return overNumbers(sum)(p[0].(*run), p[1]) },
}

// declare makes the functions known: as they are written to the type checker, or as the rewriter
// calls them to the compiler.
func declare(c *conf.Config, asWritten bool) {
	for name, f := range functions {
		if asWritten {
			c.Functions[name] = &builtin.Function{Name: name, Func: func(...any) (any, error) { return nil, nil }, Types: []reflect.Type{reflect.TypeOf(f.typ).Elem()}}
			continue
		}
		c.Functions[name] = &builtin.Function{Name: name, Func: func(p ...any) (any, error) { return f.apply(p[0].(*run), p[1]) }}
	}
	for name, f := range internals {
		if !asWritten {
			c.Functions[name] = &builtin.Function{Name: name, Func: func(p ...any) (any, error) { return f(p) }}
		}
	}
}

// get gives a field of an object or an element of a list, from the end for numbers below zero; nil
// if there is none. An attribute that a DICOM file does not have is an empty text.
func get(of, key any) any {
	switch of := of.(type) {
	case map[string]any:
		if name, ok := key.(string); ok {
			return of[name]
		}
	case map[string]string:
		if name, ok := key.(string); ok {
			return of[name]
		}
	case []any:
		f, ok := asNumber(key)
		if i := int(f); ok && f == math.Trunc(f) && math.Abs(f) < 1e9 {
			if i < 0 {
				i += len(of)
			}
			if i >= 0 && i < len(of) {
				return of[i]
			}
		}
	}
	return nil
}

// truth is what a value means where true or false is wanted; nil does not hold.
func truth(v any) (any, error) {
	switch v := v.(type) {
	case nil:
		return false, nil
	case bool:
		return v, nil
	}
	return nil, errNotBool
}

// equal compares scalars; values of two types are not equal.
func equal(a, b any) (any, error) {
	if x, ok := asNumber(a); ok {
		y, ok := asNumber(b)
		return ok && x == y, nil
	}
	switch a.(type) {
	case nil, string, bool:
		switch b.(type) {
		case nil, string, bool:
			return a == b, nil
		}
		return false, nil
	}
	switch b.(type) {
	case nil, string, bool:
		return false, nil
	}
	if _, ok := asNumber(b); ok {
		return false, nil
	}
	return nil, errDeep
}

func orderedBy(op string) func(a, b any) (any, error) {
	return func(a, b any) (any, error) { return order(op, a, b) }
}

// order compares two numbers or two texts; false if one of them is missing.
func order(op string, a, b any) (any, error) {
	if a == nil || b == nil {
		return false, nil
	}
	var c int
	x, isNumber := asNumber(a)
	y, areNumbers := asNumber(b)
	s, isText := a.(string)
	t, areTexts := b.(string)
	switch {
	case isNumber && areNumbers:
		if math.IsNaN(x) || math.IsNaN(y) {
			return false, nil
		}
		c = cmp.Compare(x, y)
	case isText && areTexts:
		c = strings.Compare(s, t)
	default:
		return nil, errOrder
	}
	switch op {
	case "<":
		return c < 0, nil
	case "<=":
		return c <= 0, nil
	case ">":
		return c > 0, nil
	}
	return c >= 0, nil
}

// reckon does arithmetic; nil if one of the numbers is missing.
func reckon(op string, a, b any) (any, error) {
	if a == nil || b == nil {
		return nil, nil
	}
	x, ok := asNumber(a)
	y, both := asNumber(b)
	if !ok || !both {
		return nil, errNoNumber
	}
	switch op {
	case "+":
		return x + y, nil
	case "-":
		return x - y, nil
	case "*":
		return x * y, nil
	}
	if y == 0 {
		return nil, errZero
	}
	if op == "/" {
		return x / y, nil
	}
	return math.Mod(x, y), nil
}

// textual lets a text or nil pass, and counts what there is to read.
func textual(r *run, v any) (any, error) {
	if _, ok := v.(string); !ok && v != nil {
		return nil, errNoText
	}
	return v, r.read(v)
}

// walk lets a list pass and counts its elements, since something is going to look at each.
func walk(r *run, v any) (any, error) {
	list, ok := v.([]any)
	if !ok {
		return nil, errNoList
	}
	return list, r.charge(len(list))
}

// in tells whether a list has a value, an object a field, or an attribute a DICOM file.
func in(r *run, v, of any) (any, error) {
	switch of := of.(type) {
	case nil:
		return false, nil
	case map[string]any:
		name, ok := v.(string)
		_, has := of[name]
		return ok && has, r.read(v)
	case map[string]string:
		name, ok := v.(string)
		_, has := of[name]
		return ok && has, r.read(v)
	}
	list, err := walk(r, of)
	if err != nil {
		return nil, err
	}
	for _, x := range list.([]any) {
		same, err := held(r, v, x, equal)
		if err != nil {
			return nil, err
		}
		if same == true {
			return true, nil
		}
	}
	return false, nil
}

// asNumber gives the value of any number.
func asNumber(v any) (float64, bool) {
	switch v := v.(type) {
	case float64:
		return v, true
	case int:
		return float64(v), true
	case int64:
		return float64(v), true
	case int32:
		return float64(v), true
	}
	return 0, false
}
