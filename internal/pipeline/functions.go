package pipeline

import (
	"math"
	"slices"
	"strings"
	"unicode/utf8"
)

// functions are those that a file may call, beside predicates. Each takes one value, and gives nil
// for nil.
var functions = map[string]struct {
	apply func(r *run, v any) (any, error)
	typ   any // for the type checker
	doc   string
}{
	"number": {toNumber, new(func(any) any), "the number that a text holds, such as a DICOM decimal; nothing if it holds none"},
	"len":    {length, new(func(any) any), "how many elements or characters"},
	"mean":   {overNumbers(mean), new(func(any) any), "the mean of a list of numbers"},
	"min":    {overNumbers(least), new(func(any) any), "the least of a list of numbers"},
	"max":    {overNumbers(most), new(func(any) any), "the largest of a list of numbers"},
	"abs":    {onNumber(math.Abs), new(func(any) any), "a number without its sign"},
	"round":  {onNumber(math.Round), new(func(any) any), "the nearest whole number"},
	"lower":  {onText(strings.ToLower), new(func(any) string), "a text in small letters"},
	"upper":  {onText(strings.ToUpper), new(func(any) string), "a text in capitals"},
	"trim":   {onText(strings.TrimSpace), new(func(any) string), "a text without blanks around it"},
}

func toNumber(r *run, v any) (any, error) {
	if err := r.read(v); err != nil {
		return nil, err
	}
	s, ok := v.(string)
	if !ok {
		if f, ok := asNumber(v); ok {
			return f, nil
		}
		return nil, nil
	}
	f, err := parseNumber(strings.TrimSpace(s))
	if err != nil {
		return nil, nil
	}
	return f, nil
}

func length(r *run, v any) (any, error) {
	switch v := v.(type) {
	case nil:
		return nil, nil
	case []any:
		return len(v), nil
	case string:
		return utf8.RuneCountInString(v), r.read(v)
	case map[string]any:
		return len(v), nil
	}
	return nil, errNoList
}

func onNumber(f func(float64) float64) func(*run, any) (any, error) {
	return func(_ *run, v any) (any, error) {
		if v == nil {
			return nil, nil
		}
		x, ok := asNumber(v)
		if !ok {
			return nil, errNoNumber
		}
		return f(x), nil
	}
}

func onText(f func(string) string) func(*run, any) (any, error) {
	return func(r *run, v any) (any, error) {
		if v == nil {
			return nil, nil
		}
		if _, err := textual(r, v); err != nil {
			return nil, err
		}
		return f(v.(string)), nil
	}
}

// overNumbers makes a function of a list of numbers from one that takes them alone. A missing list
// gives nil.
func overNumbers(f func([]float64) any) func(*run, any) (any, error) {
	return func(r *run, v any) (any, error) {
		if v == nil {
			return nil, nil
		}
		list, err := walk(r, v)
		if err != nil {
			return nil, err
		}
		numbers := make([]float64, 0, len(list.([]any)))
		for _, x := range list.([]any) {
			n, ok := asNumber(x)
			if !ok {
				return nil, errNoNumber
			}
			numbers = append(numbers, n)
		}
		return f(numbers), nil
	}
}

func sum(numbers []float64) any {
	total := 0.0
	for _, n := range numbers {
		total += n
	}
	return total
}

func mean(numbers []float64) any {
	if len(numbers) == 0 {
		return nil
	}
	return sum(numbers).(float64) / float64(len(numbers))
}

func least(numbers []float64) any {
	if len(numbers) == 0 {
		return nil
	}
	return slices.Min(numbers)
}

func most(numbers []float64) any {
	if len(numbers) == 0 {
		return nil
	}
	return slices.Max(numbers)
}
