package pipeline

import (
	"fmt"
	"net"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestEveryType(t *testing.T) {
	t.Parallel()
	p := mustParse(t, sink(`text: b, flag: false, int: -5, long: 9000000000, float: 2.5, wait: 1d12h, size: 1GiB, rate: 30/m,
  secret: "${env:S}", addr: 10.0.0.1, list: [p, q], one: ../x, map: {b: c}, sub: {need: n}, subs: [{need: m, other: k}]`))
	want := &everything{Text: "b", Int: -5, Long: 9e9, Float: 2.5, Wait: 36 * time.Hour, Size: 1 << 30, Rate: 0.5, Secret: "${env:S}",
		Addr: net.IPv4(10, 0, 0, 1), List: []string{"p", "q"}, One: []string{"/etc/x"}, Map: map[string]string{"b": "c"},
		Sub: sub{"n", "o"}, Subs: []sub{{"m", "k"}}}
	if diff := cmp.Diff(want, p.Sinks[0].Config, cmp.Exporter(func(t reflect.Type) bool { return true })); diff != "" {
		t.Errorf("-want +got\n%s", diff)
	}
}

func TestDefaultsOfTypes(t *testing.T) {
	t.Parallel()
	p := mustParse(t, small+"sinks: {all: {kind: everything}}\n")
	want := &everything{Flag: true, Int: 7, Rate: 5, List: []string{"x", "y"}, Sub: sub{Other: "o"}}
	if diff := cmp.Diff(want, p.Sinks[0].Config, cmp.Exporter(func(t reflect.Type) bool { return true })); diff != "" {
		t.Errorf("-want +got\n%s", diff)
	}
}

// TestWrongTypes gives each type what it must refuse; the position is that of the value.
func TestWrongTypes(t *testing.T) {
	t.Parallel()
	for keys, want := range map[string]string{
		"text: 5":                           `text: "5" is not text; put it in quotes`,
		"text: true":                        `text: "true" is not text`,
		"text: 2001-01-01":                  `is not text`,
		"text: null":                        `text: want one value, have nothing`,
		"text: [a]":                         `text: want one value, have a list`,
		"text: {a: b}":                      `text: want one value, have a mapping`,
		"text: c":                           `text: "c" belongs to a later release`,
		"text: d":                           `text: "d" is not one of a, b`,
		"flag: yes":                         `flag: "yes" is neither true nor false`,
		`flag: "true"`:                      `flag: "true" is text; it stands here without quotes`,
		"flag: 1":                           `flag: "1" is neither`,
		"int: 1.0":                          `int: "1.0" is no whole number`,
		"int: 1_0":                          `int: "1_0" is no whole number`,
		"int: 0x1":                          `int: "0x1" is no whole number`,
		"int: +1":                           `int: "+1" is no whole number`,
		"int: 99999999999999999999":         `int: "99999999999999999999" is out of range`,
		"int: 10":                           `int: it must be at most 9`,
		"int: -6":                           `int: it must be at least -5`,
		"float: .inf":                       `float: ".inf" is no number`,
		"float: .nan":                       `float: ".nan" is no number`,
		"float: 1e999":                      `float: "1e999" is no number`,
		"float: 0x1p1":                      `float: "0x1p1" is no number`,
		"float: 2.6":                        `float: it must be at most 2.5`,
		"wait: 500ms":                       `wait: it must be at least 1s`,
		"wait: 31d":                         `wait: it must be at most 30d`,
		"size: 1TiB":                        `size: it must be at most 1GiB`,
		"addr: nowhere":                     `addr: invalid IP address`,
		"list: a":                           `list: want a list, have one value`,
		"list: [a, 5]":                      `list: "5" is not text`,
		"list: [a, b, a]":                   `list: "a" stands twice`,
		"one: {a: b}":                       `one: want a list, have a mapping`,
		"map: [a]":                          `map: want a mapping of keys to values, have a list`,
		"map: {a: [b]}":                     `a: want one value, have a list`,
		"map: {a: 5}":                       `a: "5" is not text`,
		"sub: x":                            `sub: want a mapping`,
		"sub: {other: x}":                   `need is missing in sinks.all.sub`,
		"sub: {need: ''}":                   `need: it is empty`,
		"sub: {need: a, othr: x}":           `unknown key "othr" (did you mean "other"?)`,
		"sub: {need: wrong}":                `5:33: sub: the whole is wrong`,
		"sub: {need: other, other: x}":      `5:52: other: is wrong with this`,
		"sub: {need: other}":                `5:33: other: is wrong with this`,
		"subs: [{need: a}, {other: x}]":     `need is missing in sinks.all.subs[1]`,
		"soon: 5":                           `key "soon" belongs to a later release`,
		"hidden: 5":                         `unknown key "hidden"`,
		`text: "a\0"`:                       `text: it holds a control character`,
		`map: {"a\0": b}`:                   `a key is one line of text`,
		`map: {"a\nb": b}`:                  `a key is one line of text`,
		`map: {"": b}`:                      `a key is one line of text`,
		"map: {? [a] : b}":                  `a key is one line of text`,
		"map: {a: b, a: c}":                 `key "a" stands twice, first in line 5`,
		"one: [~]":                          `one: want one value, have nothing`,
		"one: ~/x":                          `one: ~ is not expanded here`,
		"secret: hunter2":                   `secret: a secret stands here as a reference`,
		"secret: 5":                         `secret: a secret stands here as a reference`,
		"secret: [a]":                       `secret: a secret stands here as a reference`,
		`secret: "${env:A} "`:               `secret: a secret stands here as a reference`,
		`secret: "${env:A}${env:B}"`:        `secret: a secret stands here as a reference`,
		`secret: "${env:A-B}"`:              `secret: a secret stands here as a reference`,
		`secret: "${file:rel/ative}"`:       `secret: a secret stands here as a reference`,
		`secret: "${file:/run/../etc/pwd}"`: `secret: a secret stands here as a reference`,
		`secret: "${vault:/x}"`:             `secret: a secret stands here as a reference`,
	} {
		t.Run(keys, func(t *testing.T) {
			t.Parallel()
			wantMistake(t, sink(keys), want)
		})
	}
}

// TestCounts checks the caps on what one file may hold.
func TestCounts(t *testing.T) {
	t.Parallel()
	numbered := func(n int, format string) string {
		var b strings.Builder
		for i := range n {
			fmt.Fprintf(&b, format, i)
		}
		return b.String()
	}
	wantMistake(t, sink("list: ["+numbered(maxEntries, "a%d, ")+"]"), "")
	wantMistake(t, sink("list: ["+numbered(maxEntries+1, "a%d, ")+"]"), "list: 1001 entries, more than the 1000 allowed")
	wantMistake(t, sink("map: {"+numbered(maxEntries, "a%d: b, ")+"}"), "")
	wantMistake(t, sink("map: {"+numbered(maxEntries+1, "a%d: b, ")+"}"), "1001 keys, more than the 1000 allowed")
	wantMistake(t, sink("map: {"+strings.Repeat("k", maxKey)+": b}"), "")
	wantMistake(t, sink("map: {"+strings.Repeat("k", maxKey+1)+": b}"), "a key is one line of text of 1 to 256 bytes")
}

// TestProgrammersMistakes: a struct that cannot be a config is found by the first test that uses it.
func TestProgrammersMistakes(t *testing.T) {
	t.Parallel()
	for name, f := range map[string]func(){
		"type":    func() { setText(reflect.ValueOf(new(complex128)).Elem(), "1") },
		"default": func() { setDefault(field{"x", reflect.ValueOf(new(int)).Elem(), `default:"five"`}) },
		"bound":   func() { checkRange(reflect.ValueOf(new(int)).Elem(), `min:"five"`) },
		"role":    func() { boundary("door") },
	} {
		func() {
			defer func() {
				if recover() == nil {
					t.Errorf("%s: no panic", name)
				}
			}()
			f()
		}()
	}
}

// TestGrammarTags reads every default and bound of the grammar, and wants each key explained.
func TestGrammarTags(t *testing.T) {
	t.Parallel()
	seen := 0
	var walk func(v reflect.Value, path string)
	walk = func(v reflect.Value, path string) {
		for _, f := range schemaOf(v).fields {
			seen++
			at := join(path, f.name)
			if doc := f.tag.Get("doc"); !strings.HasSuffix(doc, ".") {
				t.Errorf("%s: doc %q", at, doc)
			}
			setDefault(f)
			if scalar(f.v.Type()) && f.tag.Get("default") != "" && f.v.Kind() != reflect.String {
				if err := checkRange(f.v, f.tag); err != nil {
					t.Errorf("%s: its default: %v", at, err)
				}
			}
			switch f.v.Kind() {
			case reflect.Struct:
				walk(f.v, at)
			case reflect.Map, reflect.Slice:
				if e := f.v.Type().Elem(); e.Kind() == reflect.Struct {
					walk(reflect.New(e).Elem(), at)
				}
			}
		}
	}
	walk(reflect.ValueOf(new(file)).Elem(), "")
	walk(reflect.ValueOf(new(bearer)).Elem(), "bearer")
	walk(reflect.ValueOf(new(basic)).Elem(), "basic")
	walk(reflect.ValueOf(new(headerAuth)).Elem(), "header")
	if seen < 45 {
		t.Errorf("only %d keys", seen)
	}
}
