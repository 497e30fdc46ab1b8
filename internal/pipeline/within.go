package pipeline

import (
	"strings"

	"go.yaml.in/yaml/v4"
)

// within gives the place in the file of a character of a text, counted from 0. Where the text is
// folded or escaped in ways that hide it, it is where the text begins.
func (r *report) within(n *yaml.Node, at int) (line, col int) {
	if n.Line < 1 || n.Line > len(r.lines) {
		return n.Line, n.Column
	}
	source := []rune(r.lines[n.Line-1])
	switch {
	case n.Style&yaml.LiteralStyle != 0:
		return r.withinLiteral(n, at)
	case n.Style&yaml.FoldedStyle != 0 || n.Column > len(source):
		return n.Line, n.Column
	}
	rest, value := source[n.Column-1:], []rune(n.Value)
	if n.Style&(yaml.SingleQuotedStyle|yaml.DoubleQuotedStyle) != 0 {
		rest = rest[1:]
	}
	i := 0
	for k := range min(at, len(value)) {
		w := width(rest[i:], n.Style)
		if w == 1 && rest[i] != value[k] || i+w >= len(rest) {
			return n.Line, n.Column
		}
		i += w
	}
	return n.Line, n.Column + len(source[n.Column-1:]) - len(rest) + i
}

// width is how many characters of the file the next one of a text takes.
func width(rest []rune, style yaml.Style) int {
	switch {
	case len(rest) < 2:
	case style&yaml.SingleQuotedStyle != 0 && rest[0] == '\'':
		return 2
	case style&yaml.DoubleQuotedStyle != 0 && rest[0] == '\\':
		return max(2, map[rune]int{'x': 4, 'u': 6, 'U': 10}[rest[1]])
	}
	return 1
}

// withinLiteral looks for a place in a block whose lines are indented alike.
func (r *report) withinLiteral(n *yaml.Node, at int) (line, col int) {
	before := string([]rune(n.Value)[:min(at, len([]rune(n.Value)))])
	line = n.Line + 1 + strings.Count(before, "\n")
	if line > len(r.lines) {
		return n.Line, n.Column
	}
	first := r.lines[n.Line]
	indent := len(first) - len(strings.TrimLeft(first, " "))
	return line, indent + len([]rune(before[strings.LastIndexByte(before, '\n')+1:])) + 1
}
