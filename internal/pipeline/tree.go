package pipeline

import (
	"bytes"
	"errors"
	"io"
	"strings"
	"unicode/utf8"

	"go.yaml.in/yaml/v4"
	"go.yaml.in/yaml/v4/plugin/loaderlimits"
)

// Limits on what is read at all. YAML is parsed by recursion and by the byte.
const (
	maxFile     = 1 << 20  // bytes of a pipeline file
	maxResolved = 16 << 20 // bytes of a resolved pipeline, into which variables were put
	maxDepth    = 16       // nesting; the grammar needs 6
	maxEntries  = 1000     // keys of one mapping, entries of one list
	maxKey      = 256      // bytes of a key
)

// tree reads one YAML document into nodes, which know their places. Anything of YAML that a
// pipeline file has no use for (anchors, aliases, merge keys, tags, further documents, control
// characters) is a mistake. It gives nil if there is nothing to decode.
func (r *report) tree(src []byte, limit int) *yaml.Node {
	if len(src) > limit {
		r.add(0, 0, "the file has %d bytes, more than the %d allowed", len(src), limit)
		return nil
	}
	if !r.checkText(src) {
		return nil
	}
	l, err := yaml.NewLoader(bytes.NewReader(src), yaml.WithV4Defaults(), yaml.WithPlugin(loaderlimits.New(loaderlimits.DepthValue(maxDepth))))
	if err != nil {
		r.add(0, 0, "set up the YAML reader: %v", err)
		return nil
	}
	var doc, second yaml.Node
	if err := l.Load(&doc); errors.Is(err, io.EOF) {
		r.add(1, 1, "the file is empty; it begins with gantry: v1")
		return nil
	} else if err != nil {
		r.syntax(err)
		return nil
	}
	switch err := l.Load(&second); {
	case err == nil:
		n := &second
		if len(n.Content) > 0 {
			n = n.Content[0]
		}
		r.at(n, "a second document begins here; a file holds one pipeline")
	case !errors.Is(err, io.EOF):
		r.syntax(err)
		return nil
	}
	if len(doc.Content) == 0 {
		r.add(1, 1, "the file is empty; it begins with gantry: v1")
		return nil
	}
	r.root = doc.Content[0]
	r.checkPlain(r.root)
	return r.root
}

// checkText finds what no text editor shows: broken UTF-8, NUL and other control characters.
func (r *report) checkText(src []byte) bool {
	line, col := 1, 1
	for i := 0; i < len(src); {
		c, n := utf8.DecodeRune(src[i:])
		switch {
		case c == utf8.RuneError && n <= 1:
			r.add(line, col, "byte 0x%02x is not UTF-8", src[i])
			return false
		case c == '\ufeff' && i == 0:
			i += n
			continue
		case c == '\n', c == '\r' && !bytes.HasPrefix(src[i:], []byte("\r\n")):
			line, col, i = line+1, 1, i+n
			continue
		case !printable(c) && c != '\r':
			r.add(line, col, "control character %U", c)
			return false
		}
		col, i = col+1, i+n
	}
	return true
}

// printable tells whether a character may stand in a file and in a value: no controls but tab and
// newline, no line separators that only YAML counts as such, no byte order mark, no noncharacters.
func printable(c rune) bool {
	switch {
	case c == '\t', c == '\n':
		return true
	case c < ' ', c >= 0x7f && c <= 0x9f, c == '\u2028', c == '\u2029', c == '\ufeff', c == '\ufffe', c == '\uffff':
		return false
	}
	return true
}

// syntax notes why the text is no YAML.
func (r *report) syntax(err error) {
	var e *yaml.LoadError
	if !errors.As(err, &e) {
		r.add(1, 1, "not YAML: %v", err)
		return
	}
	line, col := max(e.Mark.Line, 1), max(e.Mark.Column, 1)
	text := e.Message
	if line <= len(r.lines) {
		source := []rune(r.lines[line-1])
		switch {
		case col <= len(source) && source[col-1] == '\t':
			text = "a tab in the indentation; YAML wants spaces"
		case strings.Contains(e.ContextMsg, "flow") && strings.Contains(r.lines[line-1], "${"):
			text += `; inside { } and [ ] a reference wants quotes: "${env:NAME}"`
		}
	}
	r.add(line, col, "not YAML: %s", text)
}

// checkPlain reports the parts of YAML that pipeline files do without.
func (r *report) checkPlain(n *yaml.Node) {
	switch {
	case n.Kind == yaml.AliasNode:
		r.at(n, "alias *%s: pipeline files have no aliases", n.Value)
	case n.Anchor != "":
		r.at(n, "anchor &%s: pipeline files have no anchors", n.Anchor)
	}
	if tagged(n) {
		r.at(n, "tag %s: pipeline files have no tags", n.Tag)
	}
	for _, c := range n.Content {
		r.checkPlain(c)
	}
}

// tagged tells whether somebody wrote a tag before the node.
func tagged(n *yaml.Node) bool {
	return n.Style&yaml.TaggedStyle != 0 || n.Tag == "!"
}
