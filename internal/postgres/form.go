package postgres

import (
	"fmt"
	"regexp"
	"strings"
)

// form is how a statement reads its rows out of their columns.
type form string

const (
	manyRows form = "many" // each column is an array and unnested; that makes a table of each, of 16 KiB and more
	fewRows  form = "few"  // arrays are read by place; the work grows with the square of the rows
	oneRow   form = "one"  // no arrays
)

// places are those of few rows.
var places = func() (all [64]int32) {
	for i := range all {
		all[i] = int32(i + 1)
	}
	return all
}()

var (
	columns  = regexp.MustCompile(`unnest\(([^()]+)\)\s+as (\w+)\s*\(([^()]+)\)`)
	numbered = regexp.MustCompile(`unnest\(([^()]+)\) with ordinality as (\w+)\s*\(([^()]+), n\)`)
)

// formFor is the one that costs least.
func formFor(all []section) form {
	most := 0
	for _, x := range all {
		most = max(most, x.rows)
	}
	switch {
	case most <= 1:
		return oneRow
	case most <= len(places):
		return fewRows
	}
	return manyRows
}

// text gives that of a section with params parameters this form.
func (f form) text(of string, params int) string {
	switch f {
	case oneRow:
		of = columns.ReplaceAllStringFunc(of, func(s string) string { return chosen(columns, s, scalar, "") })
		return numbered.ReplaceAllStringFunc(of, func(s string) string { return chosen(numbered, s, scalar, ", 1 as n") })
	case fewRows:
		return columns.ReplaceAllStringFunc(of, func(s string) string {
			n := columns.FindStringSubmatch(s)[2] + "_"
			return fmt.Sprintf("unnest($%d::int[]) as %s(n) cross join lateral %s", params+1, n,
				chosen(columns, s, func(array string) string { return "(" + array + ")[" + n + ".n]" }, ""))
		})
	}
	return of
}

func scalar(array string) string { return strings.TrimSuffix(array, "[]") }

// chosen reads one row of the columns that a text unnests.
func chosen(by *regexp.Regexp, text string, value func(array string) string, more string) string {
	m := by.FindStringSubmatch(text)
	arrays, names := strings.Split(m[1], ","), strings.Split(m[3], ",")
	list := make([]string, len(arrays))
	for i := range arrays {
		list[i] = value(strings.TrimSpace(arrays[i])) + " as " + strings.TrimSpace(names[i])
	}
	return fmt.Sprintf("(select %s%s) as %s", strings.Join(list, ", "), more, m[2])
}

// args gives those of a section this form; flat tells whether it unnests columns.
func (f form) args(x section, flat bool) []any {
	switch {
	case f == oneRow:
		all := make([]any, len(x.args))
		for i, a := range x.args {
			all[i] = first(a)
		}
		return all
	case f == fewRows && flat:
		return append(x.args[:len(x.args):len(x.args)], places[:x.rows])
	}
	return x.args
}

// first is the value of a column in its first row, nil if there is none. What is no column stays.
func first(column any) any {
	switch c := column.(type) {
	case []bool:
		return firstOf(c)
	case []int16:
		return firstOf(c)
	case []int32:
		return firstOf(c)
	case []int64:
		return firstOf(c)
	case []string:
		return firstOf(c)
	case []*string:
		return firstOf(c)
	case [][]byte:
		return firstOf(c)
	case [][16]byte:
		return firstOf(c)
	}
	return column
}

func firstOf[T any](c []T) any {
	if len(c) == 0 {
		return nil
	}
	return c[0]
}
