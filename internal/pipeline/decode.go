package pipeline

import (
	"errors"
	"fmt"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/gantry-imaging/gantry/internal/gantry"
	"go.yaml.in/yaml/v4"
)

// decoder fills structs from nodes. It notes every mistake and goes on, so what it filled is of
// use only if its report stays empty.
type decoder struct {
	*report
	kinds      kinds
	env        func(string) (string, bool)
	dir        string // the folder that paths are relative to
	resolved   bool   // the text is a resolved pipeline: nothing is expanded, and rules were checked when it was written
	places     map[string]place
	conditions map[string]*condition   // by their paths
	facts      map[string]gantry.Facts // of those that are rules
	ranking    *ranking                // of priority; nil if that is a word
	meant      map[string]bool         // paths that an unknown key beside them was probably meant to be
}

func newDecoder(r *report, k Kinds) *decoder {
	return &decoder{report: r, kinds: kinds{k}, places: map[string]place{}, meant: map[string]bool{},
		conditions: map[string]*condition{}, facts: map[string]gantry.Facts{}}
}

// value decodes one node into a field. A node that checkPlain refused is left alone.
func (d *decoder) value(n *yaml.Node, path string, f field) {
	if n.Kind == yaml.AliasNode || tagged(n) {
		return
	}
	switch t := f.v.Type(); {
	case t == secretRefType:
		d.secret(n, path, f)
	case t == expressionType:
		d.expression(n, path, f)
	case t == anyType:
		if v := d.answer(n, path); v != nil {
			f.v.Set(reflect.ValueOf(v))
		}
	case scalar(t):
		d.scalar(n, path, f)
	case t.Kind() == reflect.Struct:
		d.object(n, path, f.v, f.tag.Get("role"))
	case t.Kind() == reflect.Slice:
		d.sequence(n, path, f)
	default:
		d.mapping(n, path, f)
	}
}

// scalar decodes one word.
func (d *decoder) scalar(n *yaml.Node, path string, f field) {
	if !d.is(n, path, yaml.ScalarNode) {
		return
	}
	quoted := n.Style&(yaml.SingleQuotedStyle|yaml.DoubleQuotedStyle|yaml.LiteralStyle|yaml.FoldedStyle) != 0
	switch {
	case f.v.Kind() == reflect.String && n.Tag != "!!str":
		d.at(n, "%s: %s is not text; put it in quotes", last(path), short(n.Value))
	case quoted && bare(f.v.Type()):
		d.at(n, "%s: %s is text; it stands here without quotes", last(path), short(n.Value))
	default:
		if err := d.set(f, n.Value); err != nil {
			d.at(n, "%s: %v", last(path), err)
		}
	}
}

// set puts a scalar's text into a field and holds it against the field's tags.
func (d *decoder) set(f field, text string) error {
	if f.v.Kind() != reflect.String {
		if err := setText(f.v, text); err != nil {
			return err
		}
		return checkRange(f.v, f.tag)
	}
	if !d.resolved {
		var err error
		if text, err = expand(text, d.env); err != nil {
			return err
		}
	}
	if i := strings.IndexFunc(text, func(c rune) bool { return !printable(c) }); i >= 0 || !utf8.ValidString(text) {
		return errors.New("it holds a control character or bytes that are not UTF-8")
	}
	if text == "" && (f.tag.Get("required") == "true" || f.tag.Get("filled") == "true") {
		return errors.New("it is empty")
	}
	if err := checkOne(text, f.tag); err != nil {
		return err
	}
	if f.tag.Get("path") == "true" && !d.resolved && text != "" && !(f.tag.Get("bucket") == "true" && strings.HasPrefix(text, "s3://")) {
		if text == "~" || strings.HasPrefix(text, "~/") {
			return errors.New("~ is not expanded here; write the whole path or ${env:HOME}")
		}
		if !filepath.IsAbs(text) {
			text = filepath.Join(d.dir, text)
		}
		text = filepath.Clean(text)
	}
	return setText(f.v, text)
}

// secret decodes a reference to a secret. What else stands there may be the secret, so it is
// neither quoted nor shown in the source line.
func (d *decoder) secret(n *yaml.Node, path string, f field) {
	if n.Kind != yaml.ScalarNode || !isReference(n.Value) {
		d.mask = append(d.mask, n)
		d.at(n, "%s: %v", last(path), errLiteral)
		return
	}
	f.v.SetString(n.Value)
}

// expression decodes the text of an expression. No variables are put into it: what an environment
// says must not become code.
func (d *decoder) expression(n *yaml.Node, path string, f field) {
	if !d.is(n, path, yaml.ScalarNode) {
		return
	}
	switch {
	case n.Tag != "!!str":
		d.at(n, "%s: %s is not text; put it in quotes", last(path), short(n.Value))
	case strings.TrimSpace(n.Value) == "":
		d.at(n, "%s: it is empty", last(path))
	case len(n.Value) > maxExpression:
		d.at(n, "%s: %d bytes, more than the %d of an expression", last(path), len(n.Value), maxExpression)
	case strings.ContainsFunc(n.Value, func(c rune) bool { return !printable(c) }):
		d.at(n, "%s: it holds a control character", last(path))
	case strings.Contains(n.Value, "${"):
		d.at(n, "%s: no variables are put into expressions", last(path))
	default:
		f.v.SetString(n.Value)
	}
}

// sequence decodes a list of words or structs.
func (d *decoder) sequence(n *yaml.Node, path string, f field) {
	elem := f.v.Type().Elem()
	nodes := n.Content
	if n.Kind == yaml.ScalarNode && n.Tag != "!!null" && f.tag.Get("single") == "true" {
		nodes = []*yaml.Node{n}
	} else if !d.is(n, path, yaml.SequenceNode) {
		return
	}
	if len(nodes) > maxEntries {
		d.at(n, "%s: %d entries, more than the %d allowed", last(path), len(nodes), maxEntries)
		return
	}
	if len(nodes) == 0 && f.tag.Get("required") == "true" {
		d.at(n, "%s: it is empty", last(path))
	}
	if _, hasDefault := f.tag.Lookup("default"); len(nodes) == 0 && !hasDefault {
		return // as good as absent
	}
	out := reflect.MakeSlice(f.v.Type(), len(nodes), len(nodes))
	for i, c := range nodes {
		at, before := fmt.Sprintf("%s[%d]", path, i), len(d.list)
		d.places[at] = place{nil, c}
		d.value(c, at, field{f.name, out.Index(i), f.tag})
		if len(d.list) == before && elem.Kind() == reflect.String && slices.ContainsFunc(nodes[:i], func(b *yaml.Node) bool { return b.Value == c.Value }) {
			d.at(c, "%s: %s stands twice", last(path), short(c.Value))
		}
	}
	f.v.Set(out)
}

// mapping decodes a map from names, or from any text, to words or structs.
func (d *decoder) mapping(n *yaml.Node, path string, f field) {
	if !d.is(n, path, yaml.MappingNode) {
		return
	}
	if len(n.Content) == 0 {
		return // as good as absent
	}
	t := f.v.Type()
	out := reflect.MakeMap(t)
	for _, p := range d.pairs(n, path) {
		if f.tag.Get("names") == "true" && !isName(p.name) {
			d.at(p.key, "%s: %s is no name; a name has 1 to 63 of a-z, 0-9 and -", last(path), short(p.name))
		}
		v := reflect.New(t.Elem()).Elem()
		d.value(p.value, join(path, p.name), field{p.name, v, f.tag})
		out.SetMapIndex(reflect.ValueOf(p.name), v)
	}
	f.v.Set(out)
}

// object decodes a mapping into a struct, and into the config that its key kind asks for.
func (d *decoder) object(n *yaml.Node, path string, v reflect.Value, role string) {
	if !d.is(n, path, yaml.MappingNode) {
		return
	}
	before := len(d.list)
	pairs := d.pairs(n, path)
	s := schemaOf(v)
	open := s.kind.IsValid() && !d.chooseKind(s.kind, pairs, role)
	s = schemaOf(v)
	for _, p := range pairs {
		if _, ok := s.field(p.name); !ok && !open {
			d.unknown(p, path, s)
		}
	}
	for _, f := range s.fields {
		i := slices.IndexFunc(pairs, func(p pair) bool { return p.name == f.name })
		switch {
		case i >= 0:
			d.value(pairs[i].value, join(path, f.name), f)
		case d.meant[join(path, f.name)]:
		case f.tag.Get("required") == "true":
			d.at(d.keyOf(path), "%s is missing%s", f.name, of(path))
		default:
			setDefault(f)
		}
	}
	if len(d.list) == before && !d.resolved {
		d.check(path, s, v)
	}
}

// chooseKind makes the config that goes with the value of the key kind. If that is wrong, nobody
// knows which other keys are right.
func (d *decoder) chooseKind(config reflect.Value, pairs []pair, role string) bool {
	i := slices.IndexFunc(pairs, func(p pair) bool { return p.name == "kind" })
	if i < 0 {
		return false // reported as missing
	}
	n := pairs[i].value
	if n.Kind != yaml.ScalarNode || n.Tag != "!!str" || n.Value == "" {
		return false // reported as no text
	}
	c, ok := d.kinds.config(role, n.Value)
	if ok {
		config.Set(reflect.ValueOf(c))
		return true
	}
	names := d.kinds.names(role)
	switch {
	case slices.Contains(laterKinds(role), n.Value):
		d.at(n, "kind: %s %s belongs to a later release", role, short(n.Value))
	default:
		d.at(n, "kind: %s is no kind of %s; there is %s%s", short(n.Value), role, strings.Join(names, ", "), didYouMean(nearest(n.Value, names)))
	}
	return false
}

// check runs the rules that the struct, and the config inside it, have beyond types.
func (d *decoder) check(path string, s schema, v reflect.Value) {
	rules := []any{v.Addr().Interface()}
	if s.kind.IsValid() && !s.kind.IsNil() {
		rules = append(rules, s.kind.Interface())
	}
	for _, r := range rules {
		c, ok := r.(gantry.Checked)
		if !ok {
			continue
		}
		for _, p := range c.Check() {
			if p.Key == "" {
				d.at(d.keyOf(path), "%s%s", prefix(last(path)), p.Text)
				continue
			}
			d.at(d.keyOf(join(path, p.Key)), "%s: %s", p.Key, p.Text)
		}
	}
}

// unknown reports a key that its mapping does not have.
func (d *decoder) unknown(p pair, path string, s schema) {
	if slices.Contains(s.later, p.name) {
		d.at(p.key, "key %s belongs to a later release", short(p.name))
		return
	}
	hint := nearest(p.name, s.names())
	if f, ok := s.field(hint); ok && f.v.Type() == secretRefType && !isReference(p.value.Value) {
		d.mask = append(d.mask, p.value)
	}
	d.at(p.key, "unknown key %s%s", short(p.name), didYouMean(hint))
	if hint != "" {
		d.meant[join(path, hint)] = true
	}
}
