package pipeline

import (
	"fmt"
	"slices"
	"strings"
	"unicode"

	"go.yaml.in/yaml/v4"
)

// Problem is one mistake in a pipeline file.
type Problem struct {
	File      string
	Line, Col int    // from 1, in characters; 0 if the whole file is meant
	Text      string // what is wrong and, where there is one, the nearest right name
	Source    string // the line, or a window of it if it is long; literal secrets are masked
	Caret     int    // how many characters of Source stand before the mistake
}

// String gives `file:line:col: text`, and below it the source line and a caret.
func (p Problem) String() string {
	if p.Line == 0 {
		return p.File + ": " + p.Text
	}
	s := fmt.Sprintf("%s:%d:%d: %s", p.File, p.Line, p.Col, p.Text)
	if strings.TrimSpace(p.Source) == "" {
		return s
	}
	pad := strings.Map(func(r rune) rune {
		if r == '\t' {
			return r
		}
		return ' '
	}, string([]rune(p.Source)[:p.Caret]))
	return s + "\n    " + p.Source + "\n    " + pad + "^"
}

// Problems are all mistakes of one or several files, in the order of their places. It is never
// returned empty.
type Problems []Problem

// Error gives every problem with its source line and caret.
func (p Problems) Error() string {
	all := make([]string, len(p))
	for i, x := range p {
		all[i] = x.String()
	}
	return strings.Join(all, "\n")
}

// maxProblems is where a report ends: a file with more mistakes is no pipeline file.
const maxProblems = 100

// report collects the mistakes of one file.
type report struct {
	file  string
	lines []string
	root  *yaml.Node // nil until the text is known to be YAML
	list  Problems
	full  bool
	mask  []*yaml.Node // literals that stand where a secret belongs
}

func newReport(file string, src []byte) *report {
	text := strings.TrimPrefix(string(src), "\ufeff")
	text = strings.NewReplacer("\r\n", "\n", "\r", "\n").Replace(text)
	return &report{file: file, lines: strings.Split(text, "\n")}
}

// at notes a mistake at a node.
func (r *report) at(n *yaml.Node, format string, args ...any) {
	r.add(n.Line, n.Column, format, args...)
}

func (r *report) add(line, col int, format string, args ...any) {
	if len(r.list) < maxProblems {
		r.list = append(r.list, Problem{File: r.file, Line: line, Col: col, Text: fmt.Sprintf(format, args...)})
		return
	}
	r.full = true
}

// problems gives what was collected, in order of place and with the source lines; nil if the file
// is right.
func (r *report) problems() Problems {
	slices.SortStableFunc(r.list, func(a, b Problem) int {
		if a.Line != b.Line {
			return a.Line - b.Line
		}
		return a.Col - b.Col
	})
	if len(r.list) == 0 {
		return nil
	}
	r.maskSecrets()
	for i := range r.list {
		p := &r.list[i]
		p.Source, p.Caret = r.excerpt(p.Line, p.Col)
	}
	if r.full {
		r.list = append(r.list, Problem{File: r.file, Text: fmt.Sprintf("more than %d mistakes; the others are not shown", maxProblems)})
	}
	return r.list
}

// err is problems as an error: a nil slice must not become an error that is not nil.
func (r *report) err() error {
	if p := r.problems(); p != nil {
		return p
	}
	return nil
}

// excerptWidth is how much of a long line is shown, in characters.
const excerptWidth = 120

// excerpt gives the source line around a column, and how many characters stand before the caret.
// What a terminal might act on is replaced.
func (r *report) excerpt(line, col int) (string, int) {
	if line < 1 || line > len(r.lines) {
		return "", 0
	}
	text := []rune(r.lines[line-1])
	caret := max(0, min(col-1, len(text)))
	from := max(0, caret-excerptWidth/2)
	if len(text) <= excerptWidth {
		from = 0
	}
	part := slices.Clone(text[from:min(len(text), from+excerptWidth)])
	for i, c := range part {
		if c != '\t' && !unicode.IsPrint(c) {
			part[i] = '\ufffd'
		}
	}
	return string(part), caret - from
}

// maskSecrets puts asterisks over literals in places of secrets, since the mistake that they are,
// or another one in the same line, would print them.
func (r *report) maskSecrets() {
	if r.root == nil {
		r.hideSecretLines()
		return
	}
	hidden := map[*yaml.Node]bool{}
	for _, n := range r.mask {
		hidden[n] = true
	}
	type place struct {
		line, col int
		hidden    bool
	}
	var places []place
	var walk func(n *yaml.Node, hide bool)
	walk = func(n *yaml.Node, hide bool) {
		hide = hide || hidden[n]
		places = append(places, place{n.Line, n.Column, hide})
		for i, c := range n.Content {
			named := n.Kind == yaml.MappingNode && i%2 == 1 && secretName(n.Content[i-1].Value)
			walk(c, hide || named && c.Kind == yaml.ScalarNode && !isReference(c.Value))
		}
	}
	walk(r.root, false)
	end := place{line: len(r.lines) + 1, col: 1}
	for i, p := range places {
		next := end
		if i+1 < len(places) {
			next = places[i+1]
		}
		for line := p.line; p.hidden && line <= min(next.line, len(r.lines)); line++ {
			from, to := 1, 1<<30
			if line == p.line {
				from = p.col
			}
			if line == next.line {
				to = next.col
			}
			r.lines[line-1] = asterisks(r.lines[line-1], from, to)
		}
	}
}

// asterisks masks the columns from (included) to to (excluded), but for blanks.
func asterisks(line string, from, to int) string {
	text := []rune(line)
	for i := max(0, from-1); i < min(to-1, len(text)); i++ {
		if text[i] != ' ' && text[i] != '\t' {
			text[i] = '*'
		}
	}
	return string(text)
}

// hideSecretLines serves text that is not YAML: nobody knows where a value ends there, so lines
// that name a secret, and the one after each, are left out.
func (r *report) hideSecretLines() {
	hide := false
	for i, line := range r.lines {
		named := secretName(line)
		if named || hide {
			r.lines[i] = ""
		}
		hide = named
	}
}

// secretName tells whether a key sounds like one of a secret.
func secretName(s string) bool {
	s = strings.ToLower(s)
	return !strings.HasSuffix(s, "url") && slices.ContainsFunc([]string{"token", "passw", "secret", "authorization", "api-key", "api_key", "apikey"},
		func(w string) bool { return strings.Contains(s, w) })
}
